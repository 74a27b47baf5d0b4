"""Scaling laws: a change of units changes the numbers and nothing else, or the item is not called solved."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import karush as kr
from engine.problems import Array, Problem, built
from robustness.conftest import Backend, Solver
from robustness.judges import Worst, objective, residual, status_of


def in_units(problem: Problem, objective: float = 1.0, rows: Array | float = 1.0, variables: Array | float = 1.0) -> Problem:
    """The problem with f' = objective f, row' = rows row, x = variables x'. Its solution is built along."""
    n, m, k = len(problem.p), len(problem.h), len(problem.b)
    d, r = np.broadcast_to(variables, n), np.broadcast_to(rows, m + k)
    return Problem(
        objective * problem.Q * d[:, None] * d, objective * problem.p * d,
        problem.G * r[:m, None] * d, problem.h * r[:m], problem.A * r[m:, None] * d, problem.b * r[m:],
        None if problem.lb is None else problem.lb / d, None if problem.ub is None else problem.ub / d,
        problem.x / d, objective * problem.y / r[m:], objective * problem.z / r[:m],
    )  # fmt: skip


def base(seed: int, kind: str) -> Problem:
    rank = {"definite": 6, "singular": 3, "linear": 0}[kind]
    return built(seed, 6, 8, 2, rank=rank, active=4 if rank < 6 else 2)


def check(worst: Worst, label: object, scaled: Problem, variables: Array | float, solution: kr.QPSolution) -> bool:
    """If it is called solved, the residuals are small and x is the one the problem was built from."""
    if status_of(solution) is not kr.Status.SOLVED:
        return False
    worst.see("residual", residual(scaled, solution), label)
    unscaled, true = solution.x.numpy() * variables, scaled.x * variables
    worst.see("x", np.abs(unscaled - true).max() / np.abs(true).max(), label)
    return True


@pytest.mark.parametrize("kind", ["definite", "singular", "linear"])
def test_units_of_objective_and_rows(solve: Solver, backend: Backend, kind: str) -> None:
    worst, solved, drawn = Worst(f"objective and rows, {kind}, {backend}"), 0, 0
    for seed, power, spread in itertools.product(range(3), (-12, -6, 0, 6, 12), (0, 4, 8)):
        rng = np.random.default_rng(seed)
        scaled = in_units(base(seed, kind), 10.0**power, 10 ** rng.uniform(-spread, spread, 10))
        drawn += 1
        solved += check(worst, (seed, power, spread), scaled, 1.0, solve(scaled))
    worst.within(residual=1e-8, x=1e-6)
    assert solved == drawn


@pytest.mark.parametrize("kind", ["definite", "singular", "linear"])
@pytest.mark.parametrize("spread", [3, 6, 9])
def test_units_of_variables(solve: Solver, backend: Backend, kind: str, spread: int) -> None:
    """Success with wrong numbers is the failure that matters; at 10^±9 giving up is allowed."""
    worst, solved = Worst(f"variables 10^±{spread}, {kind}, {backend}"), 0
    for seed in range(12):
        d = 10 ** np.random.default_rng(seed).uniform(-spread, spread, 6)
        scaled = in_units(base(seed, kind), variables=d)
        solved += check(worst, seed, scaled, d, solve(scaled))
    assert solved >= (12 if spread < 9 else 6), solved
    worst.within(residual=1e-8, x=1e-6)


@pytest.mark.parametrize("small", [1e-2, 1e-6, 1e-10, 1e-14])
def test_hessians_of_mixed_scale(solve: Solver, backend: Backend, small: float) -> None:
    """diag(small, 1/small), also seen through another scale of rows: x = (1/small, small) without constraints."""
    Q, p = np.diag([small, 1 / small]), np.array([-1.0, -1.0])
    free = Problem(Q, p, np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), np.zeros(0))
    solution = solve(free)
    if status_of(solution) is kr.Status.SOLVED:
        np.testing.assert_allclose(solution.x.numpy() * [small, 1 / small], 1, rtol=1e-6)
    else:
        assert small < 1e-6, status_of(solution).name
    one = Problem(Q, -Q @ np.array([0.5, 0.5]), np.zeros((0, 2)), np.zeros(0), np.ones((1, 2)), np.ones(1), np.zeros(2))
    solution = solve(one)
    if status_of(solution) is kr.Status.SOLVED:
        np.testing.assert_allclose(solution.x.numpy(), 0.5, rtol=1e-6)
    else:
        assert small < 1e-6, status_of(solution).name


@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10, 1e14])
def test_condition_of_the_hessian(solve: Solver, backend: Backend, condition: float) -> None:
    """Dense Hessians with a log-uniform spectrum: the objective is right whenever the item is called solved."""
    worst, solved = Worst(f"condition {condition:.0e}, {backend}"), 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        problem = built(seed, 6, 8, 1, active=2)
        U = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        Q = U @ np.diag(np.logspace(0, -np.log10(condition), 6)) @ U.T
        problem.Q = (Q + Q.T) / 2
        problem.p = -(problem.Q @ problem.x + problem.G.T @ problem.z + problem.A.T @ problem.y)
        solution = solve(problem)
        if status_of(solution) is not kr.Status.SOLVED:
            continue
        solved += 1
        worst.see("residual", residual(problem, solution), seed)
        f, true = (objective(problem, v) for v in (solution.x.numpy(), problem.x))
        worst.see("objective", abs(f - true) / (1 + abs(true)), seed)
    assert solved >= 9
    worst.within(residual=1e-8, objective=1e-7)


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e9, 1e12])
def test_boxes_of_any_size(solve: Solver, size: float) -> None:
    """min |x|²/2 - p'x in [-size, size]: clip(p)."""
    p = np.array([-3.0, 0.2, 1.0, 1e-10]) * max(size, 1.0)
    lb = np.full(4, -size)
    problem = Problem(np.eye(4), p, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)), np.zeros(0), lb, -lb)
    solution = solve(problem)
    assert status_of(solution) is kr.Status.SOLVED
    np.testing.assert_allclose(solution.x.numpy(), np.clip(-p, -size, size), rtol=1e-8, atol=1e-8 * size)


@pytest.mark.parametrize("noise", [1e-30, 1e-17, -1e-17, 1e-12, 1e-8, -1e-8])
def test_right_hand_sides_that_are_rounding(solve: Solver, noise: float) -> None:
    """Zero, up to rounding, says nothing about the size of x; it was believed to, and nothing was solved."""
    p = np.array([-1.0, 2.0])
    empty = np.zeros((0, 2)), np.zeros(0)
    cases = {
        "equality": (Problem(np.eye(2), p, *empty, np.ones((1, 2)), np.array([noise])), [1.5, -1.5]),
        "cone": (Problem(np.eye(2), p, np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([noise, 0.0]), *empty), [1.0, -2.0]),
        "bounds": (Problem(np.eye(2), p, *empty, *empty, lb=np.full(2, noise)), [1.0, 0.0]),
        "linear": (Problem(np.zeros((2, 2)), -p * [1, -1], *empty, *empty, lb=np.full(2, noise)), [0.0, 0.0]),
    }
    for name, (problem, x) in cases.items():
        solution = solve(problem)
        assert status_of(solution) is kr.Status.SOLVED, name
        np.testing.assert_allclose(solution.x.numpy(), x, rtol=0, atol=1e-7, err_msg=name)


HUGE = [1e20, 1e100, 1e200, 1e300, 1.7e308]


@pytest.mark.parametrize("huge", [*HUGE, *(1 / value for value in HUGE)])
def test_numbers_at_the_end_of_the_range(solve: Solver, huge: float) -> None:
    """Overflow may cost the solution, never its truth: what is called solved fulfils its constraints and is the optimum."""
    empty = np.zeros((0, 2)), np.zeros(0)
    eye, p, up = np.eye(2), np.array([-1.0, -2.0]), np.array([0.5, 9.0])
    cases = {
        "objective": (Problem(huge * eye, huge * (p / 2), *empty, *empty, np.zeros(2), up / 2), [0.25, 1.0]),
        "a row and its side": (Problem(eye, p, np.array([[huge, 0.0]]), np.array([huge / 2]), *empty), [0.5, 2.0]),
        "a side": (Problem(eye, p, np.array([[1.0, 1.0]]), np.array([huge]), *empty), [1.0, 2.0] if huge > 3 else None),
        "an equality": (Problem(eye, p, *empty, np.array([[huge, 0.0]]), np.array([huge / 2])), [0.5, 2.0]),
        "bounds": (Problem(eye, p, *empty, *empty, np.full(2, -huge), np.full(2, huge)), [1.0, 2.0] if huge > 3 else [0.0, 0.0]),
    }
    for name, (problem, x) in cases.items():
        solution = solve(problem)
        status = status_of(solution)
        assert status not in (kr.Status.PRIMAL_INFEASIBLE, kr.Status.DUAL_INFEASIBLE, kr.Status.NONCONVEX), (name, status.name)
        assert np.isfinite(solution.x.numpy()).all(), name
        if status is kr.Status.SOLVED:
            assert residual(problem, solution) <= 1e-8, name
            if x is not None:
                np.testing.assert_allclose(solution.x.numpy(), x, rtol=0, atol=1e-6, err_msg=name)


def test_a_huge_finite_side_is_not_an_absent_one(solve: Solver) -> None:
    """2e300 x <= 1e300 is x <= 1/2. It was once taken for a row that is not there, and the answer called solved."""
    problem = Problem(np.eye(2), np.array([-1.0, -2.0]), np.array([[2e300, 0.0]]), np.array([1e300]), np.zeros((0, 2)), np.zeros(0))
    solution = solve(problem)
    assert status_of(solution) is not kr.Status.SOLVED or solution.x[0] <= 0.5 * (1 + 1e-8)


@pytest.mark.parametrize("cost", [10.0**-k for k in range(0, 15, 2)])
def test_a_cost_that_is_small_beside_the_others(solve: Solver, cost: float) -> None:
    """One variable, or the epigraph of three, costs next to nothing: it goes where it costs least all the same.

    The interior-point method is done with all others before it has moved.
    """
    none, inf = (np.zeros((0, 4)), np.zeros(0)), np.inf
    free = Problem(
        np.diag([0.0, 0.02, 0.0, 0.0]), np.array([0.0, -0.005, 0.012, cost]), np.array([[-5.5, 0, -1, 0], [1, 0, 0, 0]]),
        np.zeros(2), *none, np.array([-0.3, -1.2, -inf, 0.1]), np.full(4, inf),
    )  # fmt: skip
    bundle = Problem(
        np.diag([34.0, 34.0, 34.0, 0.0, 0.0]), np.array([4.5, 7.5, 1.0, 1.6, cost]), np.array([[0.33, 0.33, 0.33, 0, -1.0]]),
        np.zeros(1), np.array([[1.0, 1, 1, 0, 0]]), np.array([3.43]),
        np.array([0, 0, 0, 0, -inf]), np.array([0.4, 2.41, 0.66, inf, inf]),
    )  # fmt: skip
    for problem, x in ((free, [0, 0.25, 0, 0.1]), (bundle, [0.4, 2.37, 0.66, 0, 0.33 * 3.43])):
        solution = solve(problem)
        assert status_of(solution) is kr.Status.SOLVED
        np.testing.assert_allclose(solution.x.numpy(), x, rtol=0, atol=1e-9)
