"""Limits that are there to say that there is none, multipliers that do nothing, and gradients of multipliers of bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import Problem, clarabel_solution, random_batch

F = torch.float64
B = 12


def degenerate(seed: int, *, linear: bool) -> Problem:
    """Feasible, with a known solution; a linear program, or a Q that sees half of the variables."""
    rng = np.random.default_rng(seed)
    n, m, k = 6, 9, 1
    x, G, A, y = rng.normal(size=n), rng.normal(size=(m, n)), rng.normal(size=(k, n)), rng.normal(size=k)
    s = np.where(rng.random(m) < 0.5, 0, rng.uniform(0, 2, m))
    z = np.where(s == 0, rng.uniform(0, 2, m), 0)
    Q = np.zeros((n, n)) if linear else np.diag((rng.random(n) < 0.5).astype(float))
    return Problem(Q, -(Q @ x + G.T @ z + A.T @ y), G, G @ x + s, A, A @ x, x=x, y=y, z=z)


def stacked(problems: list[Problem]) -> list[Tensor]:
    return [torch.tensor(np.stack([getattr(p, name) for p in problems])) for name in ("Q", "p", "G", "h", "A", "b")]


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("far", [1e4, 1e6, 1e8, 1e10, 1e15, 1e20, 1e300])
def test_far_limits_change_nothing(far: float, linear: bool, backend: str) -> None:
    """As upper bounds, on both sides, as a row of ones or of zeros: solved, with the objective of Clarabel without them."""
    problems = [degenerate(i, linear=linear) for i in range(B)]
    data = stacked(problems)
    Q, p, G, h, A, b = data
    ones, zeros, limit = torch.ones(B, 1, 6, dtype=F), torch.zeros(B, 1, 6, dtype=F), torch.full((B, 1), far, dtype=F)
    forms: list[tuple[list[Tensor], dict[str, float]]] = [
        (data, {"ub": far}), (data, {"lb": -far, "ub": far}),
        ([Q, p, torch.cat([G, ones], 1), torch.cat([h, limit], 1), A, b], {}),
        ([Q, p, torch.cat([zeros, G], 1), torch.cat([limit, h], 1), A, b], {}),
    ]  # fmt: skip
    expected = []
    for problem in problems:
        best, _, _ = clarabel_solution(problem)
        expected.append(problem.p @ best + best @ problem.Q @ best / 2)
    for tensors, bounds in forms:
        solution = kr.solve_qp(*tensors, **bounds, backend=backend, on_failure="return")  # type: ignore[arg-type]  # by name
        assert (solution.status == kr.Status.SOLVED).all()
        x = solution.x
        found = (p * x).sum(1) + torch.einsum("bi,bij,bj->b", x, Q, x) / 2
        np.testing.assert_allclose(found.numpy(), expected, rtol=2e-6, atol=2e-6)
        slack = tensors[3] - (tensors[2] @ x.unsqueeze(2)).squeeze(2)
        torch.testing.assert_close(solution.s, slack, rtol=1e-9, atol=1e-9 * max(1, min(far, 1e10)))


def test_a_far_limit_that_is_meant() -> None:
    """x >= 1 is minimised downwards to 1, and upwards to a limit of a million."""
    Q, G = torch.zeros(1, 1, dtype=F), torch.tensor([[-1.0], [1.0]], dtype=F)
    h = torch.tensor([-1.0, 1e6], dtype=F)
    for sign, x in ((1.0, 1.0), (-1.0, 1e6)):
        solution = kr.solve_qp(Q, torch.tensor([sign], dtype=F), G, h)
        assert solution.x.item() == pytest.approx(x, rel=1e-8)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("max_iter", [1, 2, 4, 50])
def test_multipliers_of_nothing_are_zero(max_iter: int, backend: str) -> None:
    """Rows that are absent or have no coefficients; and the two bounds of a variable never push against each other."""
    Q, p, G, h, A, b = random_batch(B, 6, 9, 1, seed=5)
    h, G = h.clone(), G.clone()
    h[:, 1], G[:, 4], h[:, 4] = torch.inf, 0, 1.0
    lb, ub = torch.full((6,), -2.0, dtype=F), torch.full((6,), 2.0, dtype=F)
    lb[2] = ub[2] = 0.1
    solution = kr.solve_qp(Q, p, G, h, A, b, lb=lb, ub=ub, max_iter=max_iter, on_failure="return", backend=backend)  # type: ignore[arg-type]  # by name
    assert not solution.z[:, [1, 4]].any()
    assert not torch.minimum(solution.z_lb, solution.z_ub).any()


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-8, 1e-12])
def test_gradients_of_bounds_multipliers_follow_the_units_of_the_objective(size: float, backend: str) -> None:
    """Scaling the objective scales multipliers, and their derivative by p not at all."""
    Q, p, G, h, A, b = random_batch(B, 8, 4, 1, seed=6)
    start = kr.solve_qp(Q, p, G, h, A, b).x
    p, lb, ub = -3 * p, start - 0.3, start + 0.4

    def gradient(size: float) -> Tensor:
        leaf = (p * size).requires_grad_()
        s = kr.solve_qp(Q * size, leaf, G, h, A, b, lb=lb, ub=ub, on_failure="return", backend=backend)  # type: ignore[arg-type]  # by name
        assert s.ok.all()
        assert (s.active.lb | s.active.ub).any(1).all()
        weight = torch.linspace(-1, 2, 8, dtype=F)
        (found,) = torch.autograd.grad(((s.z_lb - 2 * s.z_ub) * weight).sum() + s.z.sum(), leaf)
        return found

    torch.testing.assert_close(gradient(size), gradient(1.0), rtol=1e-8, atol=1e-8)


def test_views_that_promise_a_sign() -> None:
    """torch keeps the imaginary part of a conjugate as a view whose memory has the other sign."""
    z = torch.complex(torch.randn(4, dtype=F), torch.randn(4, dtype=F))
    for p in (z.conj().imag, torch._neg_view(torch.randn(4, dtype=F))):
        assert p.is_neg()
        torch.testing.assert_close(kr.solve_qp(torch.eye(4, dtype=F), p).x, -p.resolve_neg())
