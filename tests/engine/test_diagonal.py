"""A diagonal Q and few rows: the system in the multipliers, beside Clarabel, a dense adjoint, closed forms and differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import Problem, clarabel_solution, dense_adjoint, worst_residual
from karush.backends.cpu import engine as cpu

# torch's own forward mode loads a module of its decompositions that says this.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

F = torch.float64
SIZES = [(9, 0, 0), (11, 1, 0), (24, 0, 1), (33, 5, 2), (40, 9, 3), (100, 3, 1), (120, 30, 7)]


def diagonal(seed: int, n: int, m: int, k: int) -> Problem:
    """Strictly convex, feasible, with a diagonal Q; about half of the rows of G active."""
    rng = np.random.default_rng(seed)
    G, A, x = rng.normal(size=(m, n)), rng.normal(size=(k, n)), rng.uniform(0.1, 1, n)
    h = G @ x + np.where(rng.random(m) < 0.5, 0.01, 1.0)
    return Problem(np.diag(rng.uniform(0.5, 2, n)), 2 * rng.normal(size=n), G, h, A, A @ x)


def batch_of(problems: list[Problem]) -> list[Tensor]:
    """Q of the first problem, shared; all else with a batch axis."""
    Q = torch.tensor(problems[0].Q)
    return [Q, *(torch.tensor(np.stack([getattr(p, name) for p in problems])) for name in ("p", "G", "h", "A", "b"))]


@pytest.fixture
def served(engine: str, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was decided for each solve of the compiled engine; every size that can take the plan takes it."""
    seen: list[bool] = []
    decide = cpu.is_dual

    def told(Q: Tensor, rows: int) -> bool:
        seen.append(decide(Q, rows))
        return seen[-1]

    monkeypatch.setattr(cpu, "dual_pays", lambda n, rows: rows < n)
    monkeypatch.setattr(cpu, "is_dual", told)
    return seen


def test_the_plan_is_chosen_by_what_it_costs() -> None:
    eye = torch.eye(100, dtype=F)[None]
    assert cpu.is_dual(eye, 1)
    assert not cpu.is_dual(eye, 100)
    assert not cpu.is_dual(eye[:, :8, :8], 1)  # side by side is faster
    assert not cpu.is_dual(eye.expand(3, -1, -1), 1)
    for place in ((0, 1), (99, 3)):
        dense = eye.clone()
        dense[0, *place] = 1e-300
        assert not cpu.is_dual(dense, 1)


@pytest.mark.parametrize("bounds", [False, True])
@pytest.mark.parametrize(("n", "m", "k"), SIZES)
def test_solutions_and_gradients(n: int, m: int, k: int, bounds: bool, engine: str, served: list[bool]) -> None:
    problems = [replace(diagonal(10 * i + n, n, m, k), Q=diagonal(n, n, m, k).Q) for i in range(4)]
    leaves = [t.requires_grad_() for t in batch_of(problems)]
    kw = {"lb": 0.0, "ub": torch.full((n,), 1.5, dtype=F)} if bounds else {}
    solution = kr.solve_qp(*leaves, **kw)  # type: ignore[arg-type]  # keywords by name
    assert served == ([True] if engine == "cpu" else [])
    g = [torch.linspace(-1, 2, part.shape[1], dtype=F) for part in (solution.x, solution.y, solution.z)]
    torch.autograd.backward((solution.x, solution.y, solution.z), [part.expand(4, -1) for part in g])
    total = np.zeros((n, n))
    for i, problem in enumerate(problems):
        problem = replace(problem, lb=np.zeros(n), ub=np.full(n, 1.5)) if bounds else problem
        x, y, z, low, high = (
            part[i].detach().numpy() for part in (solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub)
        )
        assert np.abs(x - clarabel_solution(problem)[0]).max() <= 2e-5  # Clarabel stops at a gap
        assert worst_residual(problem, x, y, z, low, high) <= 1e-10
        G, h, w = problem.G, problem.h, z
        if bounds:
            G, h, w = np.vstack([G, -np.eye(n), np.eye(n)]), np.r_[h, np.zeros(n), np.full(n, 1.5)], np.r_[z, low, high]
        g_z = np.r_[g[2].numpy(), np.zeros(len(w) - m)]
        expected = dense_adjoint(replace(problem, G=G, h=h), x, y, w, g[0].numpy(), g[1].numpy(), g_z)
        total += expected["Q"]
        for name, leaf in zip(("p", "G", "h", "A", "b"), leaves[1:], strict=True):
            assert leaf.grad is not None
            own = expected[name][:m] if name in ("G", "h") else expected[name]
            np.testing.assert_allclose(leaf.grad[i].numpy(), own, rtol=1e-9, atol=1e-9 * max(1, np.abs(own).max(initial=0)))
    assert leaves[0].grad is not None
    np.testing.assert_allclose(leaves[0].grad.numpy(), total, rtol=1e-9, atol=1e-9 * max(1, np.abs(total).max()))


def test_the_simplex(engine: str) -> None:
    """Projection onto the probability simplex, whose solution is known by sorting; the derivative is that of its support."""
    n, B = 200, 6
    y = torch.randn(B, n, dtype=F, generator=torch.Generator().manual_seed(1)).requires_grad_()
    x = kr.solve_qp(torch.eye(n, dtype=F), -y, A=torch.ones(1, n, dtype=F), b=torch.ones(1, dtype=F), lb=0.0).x
    falling = y.detach().sort(1, descending=True).values
    sums = falling.cumsum(1) - 1
    count = (falling * torch.arange(1, n + 1) > sums).sum(1, keepdim=True)
    expected = (y.detach() - sums.gather(1, count - 1) / count).clamp(min=0)
    torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-11)
    weight = torch.linspace(-1, 1, n, dtype=F).expand(B, n)
    (grad,) = torch.autograd.grad(x, y, weight)
    support = (expected > 0).double()
    torch.testing.assert_close(grad, support * (weight - (support * weight).sum(1, keepdim=True) / count), rtol=0, atol=1e-11)


def test_every_derivative(served: list[bool]) -> None:
    """First and second, forward and backward: what the compiled engine keeps serves them all."""
    problems = [replace(diagonal(i, 7, 3, 1), Q=diagonal(0, 7, 3, 1).Q) for i in range(2)]
    leaves = [t.requires_grad_() for t in batch_of(problems)]

    def solved(*tensors: Tensor) -> tuple[Tensor, ...]:
        solution = kr.solve_qp(*tensors, lb=0.0)
        return solution.x, solution.z, solution.s, solution.z_lb

    assert torch.autograd.gradcheck(solved, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *t: solved(*t)[:2], leaves)


def test_mates_without_a_solution(engine: str, served: list[bool]) -> None:
    """What the compiled engine leaves goes to the other one; factors of both kinds serve one backward pass."""
    problem = batch_of([diagonal(i, 30, 4, 1) for i in range(5)])
    whole = kr.solve_qp(*problem)
    G, h, p = problem[2].clone(), problem[3].clone(), problem[1].clone()
    G[1, 1], h[1, :2] = -G[1, 0], -1.0
    p[3, 0] = torch.nan
    leaves = [t.clone().requires_grad_() for t in (problem[0], p, G, h, *problem[4:])]
    solution = kr.solve_qp(*leaves, on_failure="return")
    named = kr.Status.SOLVED, kr.Status.PRIMAL_INFEASIBLE, kr.Status.SOLVED, kr.Status.INVALID_INPUT, kr.Status.SOLVED
    assert solution.status.tolist() == [int(status) for status in named]
    healthy = [0, 2, 4]
    assert torch.equal(solution.x[healthy], whole.x[healthy])
    solution.x.sin().sum().backward()
    alone = [t.clone().requires_grad_() for t in problem]
    kr.solve_qp(*alone).x[healthy].sin().sum().backward()
    for ours, theirs in zip(leaves, alone, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        if ours.dim() == problem[0].dim():  # Q: a sum
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-9)
        else:
            torch.testing.assert_close(ours.grad[healthy], theirs.grad[healthy], rtol=1e-9, atol=1e-9)
            assert not ours.grad[[1, 3]].any()


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_scales_and_degenerate_rows(size: float, served: list[bool]) -> None:
    """Duplicate rows of A and G, a zero row, weights of Q over eight decades; objective and data in other units."""
    rng = np.random.default_rng(4)
    base = diagonal(3, 24, 4, 2)
    G, h = np.vstack([base.G, base.G[:1], np.zeros((1, 24))]), np.r_[base.h, base.h[:1], 1.0]
    A, b = np.vstack([base.A, base.A[:1]]), np.r_[base.b, base.b[:1]]
    problem = Problem(np.diag(10.0 ** rng.uniform(-4, 4, 24)) * size, base.p * size, G, h, A, b)
    solution = kr.solve_qp(*(torch.tensor(getattr(problem, name)) for name in ("Q", "p", "G", "h", "A", "b")))
    x, y, z, low, high = (part.numpy() for part in (solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub))
    assert worst_residual(problem, x, y, z, low, high) <= 1e-8
    unscaled = replace(problem, Q=problem.Q / size, p=problem.p / size)
    assert np.abs(x - clarabel_solution(replace(unscaled, A=base.A, b=base.b))[0]).max() <= 1e-6 * np.abs(x).max()


def test_variables_without_curvature(served: list[bool]) -> None:
    """Zeros on the diagonal: such a problem is a linear program in those variables."""
    problem = diagonal(5, 30, 6, 2)
    Q = problem.Q.copy()
    Q[:10, :10] = 0
    problem = replace(problem, Q=Q, lb=np.zeros(30), ub=np.full(30, 2.0))
    arguments, bounds = problem.arguments()
    solution = kr.solve_qp(*arguments, **bounds)  # type: ignore[arg-type]  # keywords by name
    assert solution.status == kr.Status.SOLVED
    assert np.abs(solution.x.numpy() - clarabel_solution(problem)[0]).max() <= 1e-6


def test_warm_starts_and_many_threads(engine: str, served: list[bool]) -> None:
    problem = batch_of([diagonal(i, 90, 3, 2) for i in range(64)])
    cold = kr.solve_qp(*problem)
    moved = [problem[0], problem[1] + 1e-3, *problem[2:]]
    warm, again = kr.solve_qp(*moved, warm_start=cold), kr.solve_qp(*moved)
    torch.testing.assert_close(warm.x, again.x, rtol=0, atol=1e-9)
    assert int(warm.iterations.sum()) < int(again.iterations.sum())
    for i in (0, 63) if engine == "cpu" else ():
        one = kr.solve_qp(problem[0], *(t[i] for t in problem[1:]))
        assert torch.equal(one.x, cold.x[i])


def test_a_layer_says_so() -> None:
    x, y = kr.Variable(100, name="x", nonneg=True), kr.Parameter(100, name="y")

    def told(objective: kr.Minimize) -> str:
        return str(kr.compile(kr.Problem(objective, [kr.sum(x) == 1]), backend="cpu").explain())

    assert "with a diagonal Q on a CPU, 1 x 1" in told(kr.Minimize(kr.sum_squares(x - y)))
    weighted = kr.Minimize(kr.sum_squares(kr.multiply(y, x)) + kr.sum(x))  # a Q of its own for each item
    assert "diagonal Q" not in told(weighted)
