"""Infeasible, unbounded, and what only looks so: a verdict needs a proof, and no option may create one."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Literal

import numpy as np
import pytest

import karush as kr
from engine.problems import Array, Problem, random_batch
from robustness.conftest import Solver
from robustness.judges import residual, status_of
from robustness.verdicts import rows_of

NOTHING = np.zeros((0, 2)), np.zeros(0)


def plane(
    Q: Array | None = None,
    p: tuple[float, float] = (1.0, 1.0),
    G: object = None,
    h: object = None,
    A: object = None,
    b: object = None,
    lb: object = None,
    ub: object = None,
) -> Problem:
    """A problem in two variables; without Q, the nearest point to the origin and then some."""
    given = zip((G, h, A, b), NOTHING * 2, strict=True)
    parts = [empty if value is None else np.array(value, dtype=float) for value, empty in given]
    bounds = [None if bound is None else np.array(bound, dtype=float) for bound in (lb, ub)]
    return Problem(np.eye(2) if Q is None else Q, np.array(p), *parts, *bounds)


def proves_infeasible(problem: Problem, solution: kr.QPSolution, directional: ModuleType) -> bool:
    """The ray, checked by the independent oracle with bounds as rows, in units of the right-hand sides: its floor is absolute."""
    sides = [side for side in (problem.h, problem.b, problem.lb, problem.ub) if side is not None]
    unit = max(np.abs(side[np.isfinite(side)]).max(initial=0) for side in sides)
    G, h = problem.G, problem.h / unit
    z = solution.ray.z.numpy()
    for bound, sign, multiplier in ((problem.lb, -1.0, solution.ray.z_lb), (problem.ub, 1.0, solution.ray.z_ub)):
        if bound is not None:
            keep = np.isfinite(bound)
            G, h = np.vstack([G, sign * np.eye(len(problem.p))[keep]]), np.concatenate([h, sign * bound[keep] / unit])
            z = np.concatenate([z, multiplier.numpy()[keep]])
    return bool(directional.certify_infeasible(G, h, problem.A, problem.b / unit, z, solution.ray.y.numpy()))


GAPS = [1.0, 1e-4, 1e-8, 1e-12, 0.0]  # 0 stands for one unit in the last place


@pytest.mark.parametrize("at", [1.0, -1e9, 1e-9])
@pytest.mark.parametrize("gap", GAPS)
def test_contradictions_of_any_size(solve: Solver, directional: ModuleType, at: float, gap: float) -> None:
    """Rows, bounds and equalities that leave a gap: a proof of infeasibility, or a point within tolerance; never unbounded."""
    above = at + gap * abs(at) if gap else float(np.nextafter(at, np.inf))
    e = [[1.0, 0.0], [-1.0, 0.0]]
    cases = {
        "rows": plane(G=e, h=[at, -above]),
        "bounds": plane(lb=[above, -np.inf], ub=[at, np.inf]),
        "equalities": plane(A=[[1.0, 1.0], [2.0, 2.0]], b=[at, 2 * above]),
        "row and bound": plane(G=e[:1], h=[at], lb=[above, 0.0]),
        "falling objective": plane(np.zeros((2, 2)), (0.0, -1.0), G=e, h=[at, -above]),
    }
    for name, problem in cases.items():
        solution = solve(problem)
        status = status_of(solution)
        if status is kr.Status.PRIMAL_INFEASIBLE:
            assert proves_infeasible(problem, solution, directional), name
        elif name == "bounds":
            pytest.fail(f"crossed bounds are infeasible by definition, not {status.name}")
        elif status in (kr.Status.SOLVED, kr.Status.SOLVED_INACCURATE):
            assert residual(problem, solution) <= (1e-8 if status is kr.Status.SOLVED else 1e-4), name
        else:
            # Within tolerance there are points, and then a falling objective is unbounded; a gap that can be seen comes first.
            assert gap < 1e-4, (name, status.name)
            assert status is not kr.Status.DUAL_INFEASIBLE or name == "falling objective", (name, status.name)


@pytest.mark.parametrize("company", ["alone", "equalities", "rows", "falling objective"])
def test_a_row_without_coefficients_that_cannot_hold(solve: Solver, directional: ModuleType, company: str) -> None:
    """0'x <= -1 was lost among the rounding of its neighbours' multipliers, and then called unbounded."""
    rng = np.random.default_rng(0)
    x, n = rng.normal(size=4), 4
    G = np.vstack([rng.normal(size=(3, n)), np.zeros((1, n))]) if company != "alone" else np.zeros((1, n))
    h = np.r_[G[:-1] @ x + 1, -1.0]
    A = rng.normal(size=(2, n)) if company == "equalities" else np.zeros((0, n))
    Q = np.zeros((n, n)) if company == "falling objective" else np.eye(n)
    problem = Problem(Q, -G[:-1].sum(0) if len(G) < 2 else G[0], G, h, A, A @ x)
    solution = solve(problem)
    assert status_of(solution) is kr.Status.PRIMAL_INFEASIBLE
    assert proves_infeasible(problem, solution, directional)


@pytest.mark.parametrize("right", [-1e-17, -1e-300, 1e-17])
def test_rounding_in_a_row_without_coefficients(solve: Solver, right: float) -> None:
    """0'x <= -1e-17 occurs in real data; it is no contradiction."""
    x = np.array([-1.0, -1.0])
    for problem in (plane(G=np.zeros((1, 2)), h=[right]), plane(A=np.zeros((1, 2)), b=[right])):
        solution = solve(problem)
        assert status_of(solution) is kr.Status.SOLVED
        np.testing.assert_allclose(solution.x.numpy(), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("M", [1e4, 1e6, 1e8, 1e10, 1e12])
def test_far_optimum_beside_a_bound(solve: Solver, M: float) -> None:
    """-x + x²/2M is least at x = M, however far that is."""
    empty = np.zeros((0, 1)), np.zeros(0)
    for lb in (0.0, -np.inf):
        problem = Problem(np.array([[1 / M]]), np.array([-1.0]), *empty, *empty, np.array([lb]))
        solution = solve(problem)
        assert status_of(solution) is kr.Status.SOLVED
        np.testing.assert_allclose(solution.x.numpy(), [M], rtol=1e-6)


@pytest.mark.parametrize("M", [1e4, 1e6, 1e8, 1e10, 1e12])
def test_far_optimum_behind_a_row(solve: Solver, M: float) -> None:
    """The same with -x <= 0 as a row: no unit of x can be read from the bound."""
    problem = Problem(np.array([[1 / M]]), np.array([-1.0]), np.array([[-1.0]]), np.zeros(1), np.zeros((0, 1)), np.zeros(0))
    solution = solve(problem)
    assert status_of(solution) is kr.Status.SOLVED
    np.testing.assert_allclose(solution.x.numpy(), [M], rtol=1e-6)


def turned(seed: int, n: int = 5) -> Array:
    U: Array = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    return U


@pytest.mark.parametrize("M", [1e6, 1e8, 1e9, 1e10, 1e11])
def test_little_curvature_is_not_none(solve: Solver, M: float) -> None:
    """Curvature 1/M along the only direction of descent, seen from turned axes: not unbounded, though the optimum is at M."""
    for seed in range(10):
        U = turned(seed)
        Q = U @ np.diag([1 / M, 1, 1, 2, 3]) @ U.T
        problem = Problem(Q, -U[:, 0], -U[:, :1].T, np.zeros(1), np.zeros((0, 5)), np.zeros(0))
        solution = solve(problem)
        status = status_of(solution)
        assert status not in (kr.Status.DUAL_INFEASIBLE, kr.Status.PRIMAL_INFEASIBLE), (seed, status.name)
        assert status is kr.Status.SOLVED or M > 1e8, (seed, status.name)
        if status is kr.Status.SOLVED:
            np.testing.assert_allclose(solution.x.numpy() @ U[:, 0], M, rtol=1e-6)


@pytest.mark.parametrize("M", [1e4, 1e6, 1e8, 1e9, 1e10, 1e11])
def test_a_wedge_that_opens_slowly_is_not_empty(solve: Solver, M: float) -> None:
    """u'x + v'x/M <= -1 and u'x >= 0 hold from v'x = -M on."""
    for seed in range(10):
        U = turned(seed)
        u, v = U[:, 0], U[:, 1]
        problem = Problem(np.eye(5), np.zeros(5), np.vstack([u + v / M, -u]), np.array([-1.0, 0.0]), np.zeros((0, 5)), np.zeros(0))
        solution = solve(problem)
        status = status_of(solution)
        assert status is not kr.Status.PRIMAL_INFEASIBLE, seed
        assert status is not kr.Status.DUAL_INFEASIBLE, seed
        if status is kr.Status.SOLVED:
            np.testing.assert_allclose(solution.x.numpy() @ v, -M, rtol=1e-6)


def test_forty_rows_that_leave_one_point(solve: Solver) -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    problem = plane(G=np.stack([np.cos(angles), np.sin(angles)], 1), h=np.zeros(40))
    solution = solve(problem)
    assert status_of(solution) is kr.Status.SOLVED
    np.testing.assert_allclose(solution.x.numpy(), 0, atol=1e-8)


WITHOUT = {
    "infeasible": plane(G=[[1.0, 1.0], [-1.0, -1.0]], h=[-1.0, 0.0]),
    "infeasible by bounds": plane(G=[[1.0, 1.0]], h=[-0.5], lb=[0.0, 0.0]),
    "unbounded": plane(np.diag([1.0, 0.0]), (1.0, 1.0)),
    "unbounded LP": plane(np.zeros((2, 2)), (-1.0, -1.0), G=[[1.0, -1.0]], h=[1.0]),
    "solvable": plane(G=[[1.0, 2.0]], h=[-1.0], lb=[-3.0, -3.0]),
    "thin": plane(G=[[1.0, 2.0], [-1.0, -2.0]], h=[1.0, -1.0]),
    "far": plane(np.diag([1e-6, 1.0]), (-1.0, 0.0), lb=[0.0, 0.0]),
}
TRUE = {"infeasible": kr.Status.PRIMAL_INFEASIBLE, "unbounded": kr.Status.DUAL_INFEASIBLE}
ACCEPT: tuple[Literal["solved", "inaccurate"], ...] = ("solved", "inaccurate")
OPEN = {kr.Status.MAX_ITERATIONS, kr.Status.NUMERICAL_ERROR, kr.Status.SOLVED_INACCURATE}


@pytest.mark.parametrize("name", WITHOUT)
def test_verdicts_never_cross(solve: Solver, name: str) -> None:
    """Whatever the tolerances, limits and switches: the truth, or undecided."""
    problem = WITHOUT[name]
    truth = TRUE.get(name.split()[0], kr.Status.SOLVED)
    assert status_of(solve(problem)) is truth
    for eps, max_iter, accept in itertools.product((1e-2, 1e-5, 1e-8, 1e-12), (1, 2, 5, 50), ACCEPT):
        solution = solve(problem, eps=eps, max_iter=max_iter, accept=accept)
        status = status_of(solution)
        assert status in OPEN | {truth}, (name, eps, max_iter, accept, status.name)
        accepted = status is kr.Status.SOLVED or (accept == "inaccurate" and status is kr.Status.SOLVED_INACCURATE)
        assert bool(solution.ok) == accepted
        if status is kr.Status.SOLVED:
            assert residual(problem, solution) <= eps * (1 + 1e-9)
    for delta in (1e-9, 1e-3, 1.0):  # regularised, everything that has a point has a solution
        status = status_of(solve(problem, regularize=delta))
        expected = truth if truth is kr.Status.PRIMAL_INFEASIBLE else kr.Status.SOLVED
        assert status in OPEN | {expected}, (name, delta, status.name)


def test_rows_of_a_problem_include_its_bounds() -> None:
    """The oracle's own view: a bound at infinity is no row."""
    G, h = rows_of(plane(G=[[1.0, 2.0]], h=[3.0], lb=[-np.inf, 4.0], ub=[5.0, np.inf]))
    np.testing.assert_array_equal(G, [[1, 2], [0, -1], [1, 0]])
    np.testing.assert_array_equal(h, [3, -4, 5])


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-6])
def test_a_contradiction_beside_small_right_hand_sides(solve: Solver, size: float, directional: ModuleType) -> None:
    """g'x <= -1 and g'x >= 1, all other data ``size`` times as large: the multipliers of the others have to vanish."""
    blocks = [tensor.numpy() for tensor in random_batch(20, 6, 8, 2, seed=3)]
    for Q, p, G, h, A, b in zip(*blocks, strict=True):
        G, h = G.copy(), size * h
        G[1], h[:2] = -G[0], -1.0
        problem = Problem(Q, size * p, G, h, A, size * b)
        solution = solve(problem)
        assert status_of(solution) is kr.Status.PRIMAL_INFEASIBLE
        assert proves_infeasible(problem, solution, directional)
