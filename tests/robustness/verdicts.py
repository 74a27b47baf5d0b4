"""Problems that are infeasible, unbounded or thin because they were built so, and a linear-programming solver that says the same.

Nothing here imports karush. A family draws its problem from a seed; its truth comes from the construction, and ``adjudged`` asks
HiGHS (scipy.optimize.linprog) for a second opinion:

    infeasible   min 0 over the constraints has no solution
    unbounded    min p'd over the recession cone Qd = 0, Gd <= 0, Ad = 0, |d| <= 1 is negative, and the constraints have a solution
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog

from engine.problems import Array, Problem

INFEASIBLE, UNBOUNDED, SOLVABLE = "infeasible", "unbounded", "solvable"


def rows_of(problem: Problem) -> tuple[Array, Array]:
    """G and h with the finite bounds among the rows, and without rows that are absent."""
    G, h, eye = [problem.G], [problem.h], np.eye(len(problem.p))
    for bound, sign in ((problem.lb, -1.0), (problem.ub, 1.0)):
        if bound is not None:
            G.append(sign * eye)
            h.append(sign * bound)
    stacked, right = np.vstack(G), np.concatenate(h)
    return stacked[np.isfinite(right)], right[np.isfinite(right)]


def adjudged(problem: Problem) -> str:
    """The verdict of HiGHS. Rows are brought to unit length: its tolerances are absolute."""
    n = len(problem.p)
    G, h = rows_of(problem)
    A, b = problem.A, problem.b
    lengths = [np.linalg.norm(M, axis=1) for M in (G, A)]
    g, a = (np.where(length > 0, length, 1) for length in lengths)
    G, h, A, b = G / g[:, None], h / g, A / a[:, None], b / a
    free = (None, None)
    found = linprog(np.zeros(n), G, h, A, b, bounds=free, method="highs")
    if found.status == 2:
        return INFEASIBLE
    assert found.status == 0, found.message
    size = np.abs(problem.Q).max() or 1.0
    flat = np.vstack([problem.Q / size, A])
    cost = problem.p / (np.abs(problem.p).max() or 1.0)
    ray = linprog(cost, G, np.zeros(len(h)), flat, np.zeros(len(flat)), bounds=(-1, 1), method="highs")
    assert ray.status == 0, ray.message
    return UNBOUNDED if ray.fun < -1e-6 else SOLVABLE


def _curved(rng: np.random.Generator, n: int, flat: Array | None = None) -> Array:
    """A Hessian of random rank, zero along ``flat``."""
    F = rng.normal(size=(rng.integers(0, n + 1), n))
    if flat is not None:
        F = F - np.outer(F @ flat, flat) / (flat @ flat)
    return F.T @ F / n


def _rescaled(problem: Problem, rng: np.random.Generator, decades: float) -> Problem:
    """The same problem with rows in other units."""
    for matrix, right in ((problem.G, problem.h), (problem.A, problem.b)):
        unit = 10 ** rng.uniform(-decades, decades, len(right))
        matrix *= unit[:, None]
        right *= unit
    return problem


def contradiction(seed: int) -> Problem:
    """Some rows add up to 0'x <= -margin; equalities and bounds may take part."""
    rng = np.random.default_rng(seed)
    n, m, k = int(rng.integers(2, 9)), int(rng.integers(2, 14)), int(rng.integers(0, 3))
    r = int(rng.integers(1, min(m, n) + 1))  # rows that take part, the last of G among them
    x = rng.normal(size=n)
    G, A = rng.normal(size=(m, n)), rng.normal(size=(k, n))
    h, b = G @ x + rng.uniform(0, 1, m), A @ x
    z, y = rng.uniform(0.3, 2, r), rng.normal(size=k) * rng.integers(0, 2)
    at = rng.choice(m, r, replace=False)
    G[at[-1]] = -(z[:-1] @ G[at[:-1]] + y @ A) / z[-1]
    h[at[-1]] = -(z[:-1] @ h[at[:-1]] + y @ b + 10 ** rng.uniform(-2, 1)) / z[-1]
    problem = Problem(_curved(rng, n), rng.normal(size=n), G, h, A, b)
    return _rescaled(problem, rng, 2)


def against_bounds(seed: int) -> Problem:
    """A row, or an equality, that the box cannot reach."""
    rng = np.random.default_rng(seed)
    n, m, k = int(rng.integers(1, 9)), int(rng.integers(1, 8)), int(rng.integers(0, 3))
    lb, ub = -rng.uniform(0, 1, n), rng.uniform(0, 1, n)
    x = lb + (ub - lb) * rng.random(n)
    G, A = rng.normal(size=(m, n)), rng.normal(size=(k, n))
    h, b = G @ x + rng.uniform(0, 1, m), A @ x
    beyond = 10 ** rng.uniform(-2, 1)
    if k and rng.random() < 0.5:
        b[0] = np.maximum(A[0] * lb, A[0] * ub).sum() + beyond
    else:
        h[0] = np.minimum(G[0] * lb, G[0] * ub).sum() - beyond
    problem = Problem(_curved(rng, n), rng.normal(size=n), G, h, A, b, lb, ub)
    return _rescaled(problem, rng, 2)


def dependent_equalities(seed: int) -> Problem:
    """More equalities than rank, one of which disagrees."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    k = int(rng.integers(2, n + 3))
    rank = int(rng.integers(1, min(n, k - 1) + 1))
    A = rng.normal(size=(k, rank)) @ rng.normal(size=(rank, n))
    b = A @ rng.normal(size=n)
    # off the range of A, so that no x comes near
    U, _, _ = np.linalg.svd(A)
    b = b + 10 ** rng.uniform(-2, 1) * U[:, rank:] @ rng.normal(size=k - rank)
    G = rng.normal(size=(3, n))
    return Problem(_curved(rng, n), rng.normal(size=n), G, rng.uniform(0, 1, 3), A, b)


def endless_descent(seed: int) -> Problem:
    """A feasible point, and a direction along which the objective falls for ever."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 9)), int(rng.integers(0, 12))
    k = int(rng.integers(0, n))
    d = rng.normal(size=n)
    kind = int(rng.integers(0, 3))
    if kind == 1:
        d = d * (rng.random(n) < 0.5)
        d[0] = 1.0
    A = rng.normal(size=(k, n))
    A -= np.outer(A @ d, d) / (d @ d)
    G = rng.normal(size=(m, n))
    G *= -np.sign(G @ d)[:, None]
    along = rng.random(m) < 0.3
    G[along] -= np.outer(G[along] @ d, d) / (d @ d)
    x = rng.normal(size=n)
    p = rng.normal(size=n)
    p -= (p @ d + 10 ** rng.uniform(-1, 1)) / (d @ d) * d
    problem = Problem(_curved(rng, n, d), p, G, G @ x + rng.uniform(0, 1, m), A, A @ x)
    if kind == 1:
        problem.lb = np.where(d >= 0, x - 1, -np.inf)
        problem.ub = np.where(d <= 0, x + 1, np.inf)
    return _rescaled(problem, rng, 2)


def thin(seed: int) -> Problem:
    """A set without interior, or as thin as 1e-8: a point, a segment, a sheet. Its objective is bounded below."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    x = rng.normal(size=n)
    pairs = int(rng.integers(1, n + 1))
    width = rng.choice([0.0, 1e-8, 1e-4])
    C = rng.normal(size=(pairs, n))
    G = np.vstack([C, -C, rng.normal(size=(2, n))])
    h = G @ x + np.r_[np.full(pairs, width), np.zeros(pairs), rng.uniform(0, 1, 2)]
    k = int(rng.integers(0, 2)) if n > 1 else 0
    A = rng.normal(size=(k, n))
    Q = _curved(rng, n) + 0.1 * np.eye(n)
    return Problem(Q, rng.normal(size=n), G, h, A, A @ x)


def almost_unbounded(seed: int) -> Problem:
    """A direction of descent that ends far away: by little curvature, or at a row or a bound."""
    rng = np.random.default_rng(seed)
    problem = endless_descent(seed + 1)
    n = len(problem.p)
    if rng.random() < 0.5:
        problem.Q = problem.Q + 10 ** rng.uniform(-4, 0) * np.eye(n)
    else:
        inside = linprog(np.zeros(n), *rows_of(problem), problem.A, problem.b, bounds=(None, None), method="highs").x
        far = 10 ** rng.uniform(1, 4)
        problem.lb, problem.ub = inside - far, inside + far
    return problem


FAMILIES: dict[str, tuple[Callable[[int], Problem], str]] = {
    "contradiction": (contradiction, INFEASIBLE),
    "against bounds": (against_bounds, INFEASIBLE),
    "dependent equalities": (dependent_equalities, INFEASIBLE),
    "endless descent": (endless_descent, UNBOUNDED),
    "thin": (thin, SOLVABLE),
    "almost unbounded": (almost_unbounded, SOLVABLE),
}
