"""Where a constraint is active without a multiplier, x has a kink: the gradient is one of those on its sides, and it is said."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import karush as kr
from engine.problems import Problem
from robustness.conftest import Backend
from robustness.derivatives import flags_of, ours
from robustness.judges import Worst, as_rows, status_of

WEAK = kr.GradientFlag.weakly_active
BLOCKS = ("Q", "p", "G", "h", "A", "b")


def weakly_active(seed: int, bounds: bool) -> Problem:
    """Built from its solution: one to three rows, or bounds, hold with equality and push nothing."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    k = int(rng.integers(0, n // 2))
    weak = int(rng.integers(1, min(3, n - k) + 1))
    strong = int(rng.integers(0, n - k - weak + 1))
    m = strong + weak + int(rng.integers(0, 5))
    M = rng.normal(size=(n, n))
    Q, A, G = M @ M.T + 0.1 * np.eye(n), rng.normal(size=(k, n)), rng.normal(size=(m, n))
    x, y, z, s = rng.normal(size=n), rng.normal(size=k), np.zeros(m), np.zeros(m)
    z[:strong], s[strong + weak :] = rng.uniform(0.5, 2, strong), rng.uniform(0.5, 2, m - strong - weak)
    p = -(Q @ x + G.T @ z + A.T @ y)
    if not bounds:
        return Problem(Q, p, G, G @ x + s, A, A @ x, x=x, y=y, z=z)
    lb, ub = x - rng.uniform(0.5, 1, n), np.full(n, np.inf)
    lb[0] = x[0]
    keep = np.r_[np.ones(strong, bool), np.zeros(weak, bool), np.ones(m - strong - weak, bool)]  # the weak one is the bound
    return Problem(Q, p, G[keep], (G @ x + s)[keep], A, A @ x, lb, ub, x, y, np.r_[z[keep], np.zeros(n)])


@pytest.mark.parametrize(("bounds", "seeds"), [(False, 200), (True, 50)], ids=["rows", "bounds"])
def test_weakly_active_by_construction(backend: Backend, directional: ModuleType, bounds: bool, seeds: int) -> None:
    """<gradient, change> lies between the extreme derivatives of all ways to decide the weak rows, and every item is flagged."""
    worst = Worst(f"kinks, {'bounds' if bounds else 'rows'}, {backend}")
    for seed in range(seeds):
        problem = weakly_active(seed, bounds)
        rng = np.random.default_rng(1000 + seed)
        w = rng.normal(size=len(problem.p))
        solution, found = ours(problem, w, backend)
        assert status_of(solution) is kr.Status.SOLVED, seed
        assert flags_of(problem, solution) & WEAK, seed
        rows = as_rows(problem)
        change = {name: rng.normal(size=getattr(problem, name).shape) for name in BLOCKS}
        change["Q"] = change["Q"] + change["Q"].T
        inner = sum((found[name] * change[name]).sum() for name in BLOCKS)
        if bounds:  # as rows they do not move
            change["G"] = np.vstack([change["G"], np.zeros((len(rows.h) - len(problem.h), len(problem.p)))])
            change["h"] = np.concatenate([change["h"], np.zeros(len(rows.h) - len(problem.h))])
        along = {f"d{name}": value for name, value in change.items()}
        point = (rows.Q, rows.p, rows.G, rows.h, rows.A, rows.b, problem.x, problem.z, problem.y)
        least, largest = directional.gradient_range(w, *point, **along)
        assert largest > least or len(problem.p) < 2, seed
        worst.see("outside", max(least - inner, inner - largest, 0) / (1 + max(abs(least), abs(largest))), seed)
    worst.within(outside=1e-6)


def test_several_weak_rows_at_an_apex(backend: Backend) -> None:
    """Nothing pulls and nothing pushes, p = 0 and h = 0: all there is, is rounding, and is not taken for a decision."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        M, G, A = rng.normal(size=(4, 4)), rng.normal(size=(3, 4)), rng.normal(size=(1, 4))
        Q = M @ M.T + 0.1 * np.eye(4)
        problem = Problem(Q, np.zeros(4), G, np.zeros(3), A, np.zeros(1))
        solution, found = ours(problem, np.ones(4), backend)
        assert status_of(solution) is kr.Status.SOLVED
        assert flags_of(problem, solution) & WEAK, seed
        assert all(np.isfinite(block).all() for block in found.values())


def near_a_kink(distance: float, seed: int, bound: bool) -> tuple[Problem, np.ndarray]:
    """A problem whose first row, or bound, is inactive by ``distance`` or, if that is negative, has such a multiplier; dx/dp."""
    rng = np.random.default_rng(seed)
    n = 3
    M = rng.normal(size=(n, n))
    Q, x = M @ M.T + np.eye(n), rng.normal(size=n)
    g = np.eye(n)[0] if bound else rng.normal(size=n)
    s, z = max(distance, 0), max(-distance, 0)
    p = -(Q @ x + z * g)
    empty = np.zeros((0, n)), np.zeros(0)
    held = (g[None], np.array([g @ x + s]))
    ub = np.full(n, np.inf)
    ub[0] = x[0] + s
    problem = Problem(Q, p, *empty, *empty, None, ub) if bound else Problem(Q, p, *held, *empty)
    inverse = np.linalg.inv(Q)
    inward = inverse @ g
    return problem, -inverse + (np.outer(inward, inward) / (g @ inward) if z else 0)


@pytest.mark.parametrize("eps", [1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_distance_to_the_kink(backend: Backend, eps: float) -> None:
    """1e-1 to 1e-10, on both sides: right as soon as residuals of size ``eps`` tell the sides apart, before that one of the two.

    A distance of a hundredth of eps is where the engine takes a residual for proof, so a tenth must be decided. Peers answer with
    the mean of both sides from 1e-6 on.
    """
    worst = Worst(f"distance to the kink at {eps:.0e}, {backend}")
    for power in range(1, 11):
        for side in (1, -1):
            for seed in range(2):
                for bound in (False, True):
                    distance = side * 10.0**-power
                    problem, J = near_a_kink(distance, seed, bound)
                    w = np.random.default_rng(seed).normal(size=3)
                    solution, found = ours(problem, w, backend, eps=eps)
                    assert status_of(solution) is kr.Status.SOLVED
                    flag = flags_of(problem, solution)
                    assert power <= 4 or flag & WEAK, (distance, flag)
                    assert power >= 3 or not flag, (distance, flag)
                    if abs(distance) >= eps / 10:
                        worst.see("gradient", np.abs(found["p"] - J @ w).max(), (distance, seed, bound))
                    else:
                        other = near_a_kink(-distance, seed, bound)[1]
                        nearer = min(np.abs(found["p"] - either @ w).max() for either in (J, other))
                        worst.see("either side", nearer, (distance, seed, bound))
    worst.within(**dict.fromkeys(worst.figures, 1e-6))
