"""Solutions and multipliers agree with Clarabel, with the point they were built from, and with the optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import karush as kr
from engine.problems import Problem, built, clarabel_solution, worst_residual

SHAPES = [(1, 0, 0), (1, 2, 0), (3, 0, 2), (4, 9, 0), (6, 4, 3), (8, 20, 2), (15, 15, 5), (20, 40, 10)]


def solved(problem: Problem, regularize: float = 0.0) -> kr.QPSolution:
    (Q, p, G, h, A, b), bounds = problem.arguments()
    return kr.solve_qp(Q, p, G, h, A, b, lb=bounds.get("lb"), ub=bounds.get("ub"), regularize=regularize)


def check_residual(problem: Problem, solution: kr.QPSolution) -> None:
    parts = (part.numpy() for part in (solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub))
    assert worst_residual(problem, *parts) <= 1e-8  # the promise of SOLVED


@pytest.mark.parametrize(("n", "m", "k"), SHAPES)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_clarabel_and_with_construction(n: int, m: int, k: int, seed: int) -> None:
    problem = built(seed, n, m, k)
    solution = solved(problem)
    x, y, z = clarabel_solution(problem)
    assert solution.status == kr.Status.SOLVED
    for found, other, true in zip((solution.x, solution.y, solution.z), (x, y, z), (problem.x, problem.y, problem.z), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-6, atol=1e-6)  # Clarabel's own accuracy
        np.testing.assert_allclose(found, true, rtol=1e-7, atol=1e-7)
    check_residual(problem, solution)


@pytest.mark.parametrize("rank", [0, 1, 4])
@pytest.mark.parametrize("seed", range(6))
def test_singular_hessian_and_linear_programs(rank: int, seed: int) -> None:
    """With n active rows the vertex is the solution whatever the rank of Q."""
    problem = built(seed, 8, 12, 2, rank=rank, active=6)
    solution = solved(problem)
    np.testing.assert_allclose(solution.x.numpy(), problem.x, atol=1e-7)
    np.testing.assert_allclose(solution.z.numpy(), problem.z, atol=1e-7)
    check_residual(problem, solution)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["both", "lower", "upper", "mixed"])
def test_bounds(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    problem = built(seed, 7, 5, 2)
    lb, ub = problem.x - rng.uniform(0.01, 1, 7), problem.x + rng.uniform(0.01, 1, 7)
    if kind == "mixed":
        lb[rng.random(7) < 0.5] = -np.inf
        ub[rng.random(7) < 0.5] = np.inf
    problem.lb, problem.ub = (lb if kind != "upper" else None), (ub if kind != "lower" else None)
    problem.p = problem.p + rng.normal(size=7)
    solution = solved(problem)
    x, y, z = clarabel_solution(problem)
    np.testing.assert_allclose(solution.x.numpy(), x, atol=1e-6)
    np.testing.assert_allclose(solution.y.numpy(), y, atol=2e-6)
    np.testing.assert_allclose(solution.z.numpy(), z, atol=2e-6)
    for bound, sign in ((problem.lb, 1), (problem.ub, -1)):
        assert bound is None or (sign * (solution.x.numpy() - bound) >= 0).all()  # bounds hold exactly
    check_residual(problem, solution)


def test_variables_fixed_by_their_bounds() -> None:
    problem = built(0, 5, 4, 1)
    problem.lb, problem.ub = problem.x - 1, problem.x + 1
    problem.lb[2] = problem.ub[2] = problem.x[2] + 0.1
    solution = solved(problem)
    np.testing.assert_allclose(solution.x.numpy(), clarabel_solution(problem)[0], atol=1e-6)
    assert solution.x[2] == problem.lb[2]


def test_absent_rows_leave_the_reduced_problem() -> None:
    problem = built(3, 6, 8, 2)
    reduced = Problem(problem.Q, problem.p, problem.G[:5], problem.h[:5], problem.A, problem.b)
    problem.h[5:] = np.inf
    whole, part = solved(problem), solved(reduced)
    np.testing.assert_allclose(whole.x, part.x, atol=1e-9)
    assert (whole.z[5:] == 0).all()
    assert (whole.s[5:] == torch.inf).all()


def test_standard_form_has_the_same_solution() -> None:
    problem = built(1, 5, 4, 2)
    problem.lb, problem.ub = problem.x - 0.2, problem.x + 0.3
    problem.lb[1], problem.p = -np.inf, problem.p + 1
    arguments, bounds = problem.arguments()
    data = kr.QPData(*(part.unsqueeze(0) for part in arguments), **{name: bound.unsqueeze(0) for name, bound in bounds.items()})
    literal = data.to_standard_form()
    assert literal.sizes == (5, 4 + 4 + 5, 2)
    assert literal.lb is None
    assert literal.ub is None
    x = kr.solve_qp(literal.Q[0], literal.p[0], literal.G[0], literal.h[0], literal.A[0], literal.b[0]).x
    np.testing.assert_allclose(x, solved(problem).x, atol=1e-9)


@pytest.mark.parametrize("power", [-12, -8, -4, 4, 8, 12])
def test_units_of_the_objective(power: int) -> None:
    """qpth is wrong in the first digit from 1e4 on."""
    problem = built(5, 10, 20, 3)
    problem.Q, problem.p = problem.Q * 10.0**power, problem.p * 10.0**power
    solution = solved(problem)
    np.testing.assert_allclose(solution.x.numpy(), problem.x, atol=1e-7)
    np.testing.assert_allclose(solution.z.numpy() / 10.0**power, problem.z, atol=1e-6)


@pytest.mark.parametrize("spread", [3, 6])
def test_units_of_rows_and_variables(spread: int) -> None:
    rng = np.random.default_rng(spread)
    problem = built(2, 8, 12, 2)
    row, column = 10.0 ** rng.uniform(-spread, spread, 14), 10.0 ** rng.uniform(-spread, spread, 8)
    scaled = Problem(
        problem.Q * column[:, None] * column, problem.p * column, problem.G * row[:12, None] * column, problem.h * row[:12],
        problem.A * row[12:, None] * column, problem.b * row[12:],
    )  # fmt: skip
    np.testing.assert_allclose(solved(scaled).x.numpy() * column, problem.x, atol=1e-6)


def test_mixed_scale_hessian() -> None:
    Q = torch.diag(torch.tensor([1e-6, 1e6], dtype=torch.float64))
    A, b = torch.ones(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    p = -Q @ torch.tensor([0.5, 0.5], dtype=torch.float64)
    x = kr.solve_qp(Q, p, A=A, b=b, lb=0.0).x
    np.testing.assert_allclose(x, [0.5, 0.5], atol=1e-8)


@pytest.mark.parametrize("rows", ["zero", "duplicate", "multiple", "split equality"])
def test_redundant_rows(rows: str) -> None:
    problem = built(4, 6, 5, 2)
    extra = {
        "zero": (np.zeros((1, 6)), np.ones(1)),
        "duplicate": (problem.G[:1], problem.h[:1]),
        "multiple": (1e6 * problem.G[:1], 1e6 * problem.h[:1]),
        "split equality": (np.vstack([problem.A[:1], -problem.A[:1]]), np.array([problem.b[0], -problem.b[0]])),
    }[rows]
    larger = Problem(
        problem.Q, problem.p, np.vstack([problem.G, extra[0]]), np.concatenate([problem.h, extra[1]]), problem.A, problem.b
    )
    solution = solved(larger)
    np.testing.assert_allclose(solution.x.numpy(), problem.x, atol=1e-7)
    check_residual(larger, solution)


@pytest.mark.parametrize("row", ["duplicate", "zero"])
def test_dependent_equalities(row: str) -> None:
    problem = built(6, 6, 4, 2)
    a, b = (problem.A[:1], problem.b[:1]) if row == "duplicate" else (np.zeros((1, 6)), np.zeros(1))
    larger = Problem(problem.Q, problem.p, problem.G, problem.h, np.vstack([problem.A, a]), np.concatenate([problem.b, b]))
    solution = solved(larger)
    np.testing.assert_allclose(solution.x.numpy(), problem.x, atol=1e-7)
    check_residual(larger, solution)


def test_more_active_rows_than_variables() -> None:
    """Three rows meet in one vertex of the plane."""
    G = torch.tensor([[1.0, 0], [0, 1], [1, 1]], dtype=torch.float64)
    h = torch.tensor([1.0, 1, 2], dtype=torch.float64)
    solution = kr.solve_qp(torch.eye(2, dtype=torch.float64), torch.full((2,), -5.0, dtype=torch.float64), G, h)
    np.testing.assert_allclose(solution.x.numpy(), [1, 1], atol=1e-8)
    np.testing.assert_allclose(G.T @ solution.z, [4, 4], atol=1e-7)


def test_asymmetric_hessian_is_read_as_its_symmetric_part() -> None:
    problem = built(7, 5, 6, 1)
    skew = np.triu(np.random.default_rng(0).normal(size=(5, 5)), 1)
    problem.Q = problem.Q + skew - skew.T
    np.testing.assert_allclose(solved(problem).x.numpy(), problem.x, atol=1e-7)


def test_regularize_adds_to_the_objective() -> None:
    problem = built(8, 5, 6, 1, rank=2)
    regular = Problem(problem.Q + 0.1 * np.eye(5), problem.p, problem.G, problem.h, problem.A, problem.b)
    np.testing.assert_allclose(solved(problem, regularize=0.1).x, solved(regular).x, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_projections_have_closed_forms(seed: int) -> None:
    """ReLU, and the projection onto the simplex by sorting."""
    u = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    eye = torch.eye(9, dtype=torch.float64)
    np.testing.assert_allclose(kr.solve_qp(eye, -u, lb=0.0).x, torch.relu(u), atol=1e-12)
    ordered = u.sort(descending=True).values
    thresholds = (ordered.cumsum(0) - 1) / torch.arange(1, 10)
    theta = thresholds[(ordered > thresholds).nonzero().max()]
    x = kr.solve_qp(eye, -u, A=torch.ones(1, 9, dtype=torch.float64), b=torch.ones(1, dtype=torch.float64), lb=0.0).x
    np.testing.assert_allclose(x, (u - theta).clamp(min=0), atol=1e-12)


def test_float32_inputs_keep_their_dtype_and_float64_accuracy() -> None:
    problem = built(9, 10, 20, 3)
    arguments, _ = problem.arguments()
    single = kr.solve_qp(*(part.float() for part in arguments))
    assert single.x.dtype == torch.float32
    np.testing.assert_allclose(single.x, problem.x, atol=1e-4)  # rounding of the data times the condition of Q


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_rows_with_small_slack_and_small_multiplier_are_decided(size: float) -> None:
    """The relative gap is met long before such a row is known to be active or not; x and the derivative depend on it."""
    problem = built(11, 20, 30, 3, active=8)
    problem.z[0] = size
    problem.h[8] = (problem.G @ problem.x)[8] + size
    problem.p = -(problem.Q @ problem.x + problem.G.T @ problem.z + problem.A.T @ problem.y)
    solution = solved(problem)
    assert solution.active.rows.tolist() == [True] * 8 + [False] * 22
    np.testing.assert_allclose(solution.x.numpy(), problem.x, atol=1e-9)


def test_random_problems_that_made_the_method_cycle() -> None:
    """Without damping, Mehrotra's corrector cycles on one of a few hundred such problems."""
    generator = torch.Generator().manual_seed(0)
    U, G, p, x, A = (
        torch.randn(384, *shape, 10, dtype=torch.float64, generator=generator) for shape in ((10,), (20,), (), (), (5,))
    )
    h = (G @ x.unsqueeze(2)).squeeze(2) + torch.rand(384, 20, dtype=torch.float64, generator=generator)
    Q = U.abs().mT @ U.abs() + 1e-3 * torch.eye(10, dtype=torch.float64)
    solution = kr.solve_qp(Q, p, G, h, A, (A @ x.unsqueeze(2)).squeeze(2))
    assert solution.iterations.max() <= 20  # typical: 8
    assert solution.residuals.worst.max() <= 1e-8


@pytest.mark.parametrize("objective", [1e-12, 1e-8, 1e-4, 1e6, 1e10])
@pytest.mark.parametrize("size", [1e-8, 1e-4, 1.0, 1e6])
def test_answers_and_gradients_follow_the_units(objective: float, size: float) -> None:
    """x is homogeneous in the size of (p, h) and ignores that of (Q, p): so do its active set and its derivative."""
    generator = torch.Generator().manual_seed(0)
    G, p = (torch.randn(200, *shape, generator=generator, dtype=torch.float64) for shape in ((8, 5), (5,)))
    h = torch.rand(200, 8, generator=generator, dtype=torch.float64)

    def answer(objective: float, size: float) -> tuple[torch.Tensor, torch.Tensor]:
        cost = p.clone().requires_grad_()
        eye = torch.eye(5, dtype=torch.float64)
        x = kr.solve_qp(objective * eye, objective * size * cost, G, size * h).x / size
        return x.detach(), torch.autograd.grad(x.square().sum(), cost)[0]

    # Two polished optima agree to rounding, unless a row was told wrongly: that costs an error of order 1 in the gradient.
    for scaled, plain in zip(answer(objective, size), answer(1.0, 1.0), strict=True):
        torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-9)
