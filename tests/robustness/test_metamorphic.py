"""Changes of a problem whose effect on the solution is known exactly: twenty bases, each changed in every way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import karush as kr
from engine.problems import Array, Problem, built
from robustness.conftest import Backend, Solver
from robustness.judges import Worst, status_of

N, M, K = 6, 8, 2
Draw = np.random.Generator
Expected = tuple[Array, Array, Array]  # x, y, z of the changed problem
Change = Callable[[Problem, Draw], tuple[Problem, Expected]]


def permuted(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """Variables, rows and equalities in another order."""
    i, j, e = rng.permutation(N), rng.permutation(M), rng.permutation(K)
    Q, G, A = problem.Q[i][:, i], problem.G[j][:, i], problem.A[e][:, i]
    return Problem(Q, problem.p[i], G, problem.h[j], A, problem.b[e]), (problem.x[i], problem.y[e], problem.z[j])


def objective_scaled(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    c = 10 ** rng.uniform(-3, 3)
    return _with(problem, Q=c * problem.Q, p=c * problem.p), (problem.x, c * problem.y, c * problem.z)


def rows_scaled(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    r, q = 10 ** rng.uniform(-2, 2, M), 10 ** rng.uniform(-2, 2, K) * rng.choice([-1, 1], K)
    changed = _with(problem, G=problem.G * r[:, None], h=problem.h * r, A=problem.A * q[:, None], b=problem.b * q)
    return changed, (problem.x, problem.y / q, problem.z / r)


def equality_added_to_objective(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """c (Ax - b) is zero: x stays and y moves by -c. c/2 |Ax - b|² is zero as well, and moves nothing."""
    c, w = rng.normal(size=K), rng.uniform(0, 1)
    Q, p = problem.Q + w * problem.A.T @ problem.A, problem.p + problem.A.T @ (c - w * problem.b)
    return _with(problem, Q=Q, p=p), (problem.x, problem.y - c, problem.z)


def equality_mixed(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """TAx = Tb for a regular T."""
    T = rng.normal(size=(K, K)) + 3 * np.eye(K)
    changed = _with(problem, A=T @ problem.A, b=T @ problem.b)
    return changed, (problem.x, np.linalg.solve(T.T, problem.y).astype(np.float64), problem.z)


def equality_split(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """One equality as two inequalities; only the difference of their multipliers is determined, so y of it is left out."""
    G = np.vstack([problem.G, problem.A[:1], -problem.A[:1]])
    h = np.concatenate([problem.h, problem.b[:1], -problem.b[:1]])
    changed = _with(problem, G=G, h=h, A=problem.A[1:], b=problem.b[1:])
    return changed, (problem.x, problem.y[1:], np.r_[problem.z, np.nan, np.nan])


def redundant_rows(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """Sums of rows with room added, a row without coefficients, and one that is absent."""
    w = rng.uniform(0, 1, (2, M))
    G = np.vstack([problem.G, w @ problem.G, np.zeros((1, N)), rng.normal(size=(1, N))])
    h = np.concatenate([problem.h, w @ problem.h + 0.5, [1.0, np.inf]])
    return _with(problem, G=G, h=h), (problem.x, problem.y, np.r_[problem.z, np.zeros(4)])


def unused_variable(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """A variable of its own, with its own curvature and cost."""
    a, c = rng.uniform(0.5, 2), rng.normal()
    Q = np.block([[problem.Q, np.zeros((N, 1))], [np.zeros((1, N)), np.array([[a]])]])
    G, A = (np.hstack([rows, np.zeros((len(rows), 1))]) for rows in (problem.G, problem.A))
    changed = Problem(Q, np.r_[problem.p, c], G, problem.h, A, problem.b)
    return changed, (np.r_[problem.x, -c / a], problem.y, problem.z)


def units(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    d = 10 ** rng.uniform(-2, 2, N)
    changed = _with(problem, Q=problem.Q * d[:, None] * d, p=problem.p * d, G=problem.G * d, A=problem.A * d)
    return changed, (problem.x / d, problem.y, problem.z)


def moved(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """x = x' + t."""
    t = 10 * rng.normal(size=N)
    changed = _with(problem, p=problem.p + problem.Q @ t, h=problem.h - problem.G @ t, b=problem.b - problem.A @ t)
    return changed, (problem.x - t, problem.y, problem.z)


def turned(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """x = Ux' for an orthogonal U."""
    U = np.linalg.qr(rng.normal(size=(N, N)))[0]
    changed = _with(problem, Q=U.T @ problem.Q @ U, p=U.T @ problem.p, G=problem.G @ U, A=problem.A @ U)
    return changed, (U.T @ problem.x, problem.y, problem.z)


def doubled(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """Every row of G twice: multipliers are shared somehow, x is not touched."""
    changed = _with(problem, G=np.vstack([problem.G] * 2), h=np.tile(problem.h, 2))
    return changed, (problem.x, problem.y, np.full(2 * M, np.nan))


def bounds_from_rows(problem: Problem, rng: Draw) -> tuple[Problem, Expected]:
    """Bounds that hold at x, some tight where their multiplier is to be positive: p pays for them."""
    lb, ub = problem.x - rng.uniform(0.1, 1, N), problem.x + rng.uniform(0.1, 1, N)
    lb[0], ub[1] = problem.x[0], problem.x[1]
    p = problem.p.copy()
    p[0] += 1.0  # z_lb
    p[1] -= 1.0  # z_ub
    return _with(problem, p=p, lb=lb, ub=ub), (problem.x, problem.y, problem.z)


def _with(problem: Problem, **changes: Array) -> Problem:
    blocks = {name: getattr(problem, name) for name in ("Q", "p", "G", "h", "A", "b", "lb", "ub")}
    return Problem(**blocks | changes)


CHANGES: tuple[Change, ...] = (
    permuted, objective_scaled, rows_scaled, equality_added_to_objective, equality_mixed, equality_split, redundant_rows,
    unused_variable, units, moved, turned, doubled, bounds_from_rows,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_known_effect(change: Change, solve: Solver, backend: Backend) -> None:
    worst = Worst(f"{change.__name__}, {backend}")
    for seed in range(20):
        base = built(seed, N, M, K, active=2)
        changed, expected = change(base, np.random.default_rng(seed))
        solution = solve(changed)
        assert status_of(solution) is kr.Status.SOLVED, seed
        for name, found, true in zip("xyz", (solution.x, solution.y, solution.z), expected, strict=True):
            known = ~np.isnan(true)
            size = 1 + np.abs(true[known]).max(initial=0)
            worst.see(name, np.abs(found.numpy() - true)[known].max(initial=0) / size, seed)
    worst.within(x=1e-8, y=1e-8, z=1e-8)
