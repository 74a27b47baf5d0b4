"""Equality-constrained problems that share their matrices: one factorization, held against NumPy's dense solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends import shared

F = torch.float64
SIZES = [(2, 0), (7, 2), (30, 5), (64, 64), (90, 12)]
B = 9


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that took the plan; every batch may."""
    seen: list[int] = []
    original = shared.find

    def told(data: kr.QPData, options: kr.Options) -> object:
        seen.append(data.batch)
        return original(data, options)

    monkeypatch.setattr(shared, "WORTH", -1.0)
    monkeypatch.setattr(shared, "find", told)
    return seen


def problem(n: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(n + k)
    M = rng.normal(size=(n, n))
    Q, A = M @ M.T / n + 0.1 * np.eye(n), rng.normal(size=(k, n))
    return tuple(torch.tensor(part) for part in (Q, rng.normal(size=(B, n)), A, rng.normal(size=(B, k))))  # type: ignore[return-value]  # four


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_against_a_dense_solve(n: int, k: int, engine: str, asked: list[int]) -> None:
    """K (x, y) = (-p, b) and, for gradients g, K l = g: dp = -l_x, db = l_y, dQ and dA as sums over the batch."""
    leaves = [t.requires_grad_() for t in problem(n, k)]
    Q, p, A, b = (t.detach().numpy() for t in leaves)
    solution = kr.solve_qp(leaves[0], leaves[1], A=leaves[2], b=leaves[3])
    assert asked == ([B] if engine == "cpu" else [])
    assert (solution.status == kr.Status.SOLVED).all()
    assert float(solution.residuals.worst.max()) <= 1e-10
    K = np.block([[Q, A.T], [A, np.zeros((k, k))]])
    found = np.linalg.solve(K, np.hstack([-p, b]).T).T
    x, y = found[:, :n], found[:, n:]
    scale = np.abs(found).max()
    assert np.abs(solution.x.detach().numpy() - x).max() <= 1e-9 * scale
    assert np.abs(solution.y.detach().numpy() - y).max(initial=0) <= 1e-9 * scale
    g = np.linspace(-1, 1, n + k)
    torch.autograd.backward((solution.x, solution.y), [torch.tensor(g[:n]).expand(B, n), torch.tensor(g[n:]).expand(B, k)])
    one = np.linalg.solve(K, g)
    l_x, l_y = np.tile(one[:n], (B, 1)), np.tile(one[n:], (B, 1))
    expected = -(l_x.T @ x + x.T @ l_x) / 2, -l_x, -(l_y.T @ x + y.T @ l_x), l_y
    for leaf, own in zip(leaves, expected, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.numpy(), own, rtol=1e-8, atol=1e-8 * max(1, np.abs(own).max(initial=0)))


def test_not_where_something_is_not_shared(asked: list[int]) -> None:
    Q, p, A, b = problem(7, 2)
    kr.solve_qp(Q.expand(B, 7, 7).clone(), p, A=A, b=b)
    kr.solve_qp(Q, p, A=A.expand(B, 2, 7).clone(), b=b)
    kr.solve_qp(Q, p, A=A, b=b, lb=-9.0)
    kr.solve_qp(Q, p, A=A, b=b, batch_invariant=True)
    assert asked == []


def test_mates_that_fail(engine: str) -> None:
    """NaN in one item, and a right-hand side that repeated rows contradict in another."""
    Q, p, A, b = problem(12, 3)
    A, b = torch.cat([A, A[:1]]), torch.cat([b, b[:, :1]], 1)
    healthy = kr.solve_qp(Q, p, A=A, b=b)
    p, b = p.clone(), b.clone()
    p[2, 5], b[6, 3] = torch.nan, b[6, 3] + 1
    leaves = [t.requires_grad_() for t in (Q, p, A, b)]
    solution = kr.solve_qp(leaves[0], leaves[1], A=leaves[2], b=leaves[3], on_failure="return")
    keep = [0, 1, 3, 4, 5, 7, 8]
    assert solution.status[2] == kr.Status.INVALID_INPUT
    assert solution.status[6] == kr.Status.PRIMAL_INFEASIBLE
    assert (solution.status[keep] == kr.Status.SOLVED).all()
    if engine == "cpu":  # products of torch round by the size of the batch
        assert torch.equal(solution.x[keep], healthy.x[keep])
    solution.x.sin().sum().backward()
    assert p.grad is not None
    assert not p.grad[[2, 6]].any()
    assert p.grad[keep].isfinite().all()


@pytest.mark.parametrize("kind", ["singular", "nonconvex"])
def test_matrices_that_the_plan_is_not_for(kind: str) -> None:
    Q, p, A, b = problem(8, 2)
    Q = Q.clone()
    Q[0, :], Q[:, 0] = 0, 0
    A, p = A.clone(), p.clone()
    A[:, 0], p[:, 0] = 0, 0
    if kind == "nonconvex":
        Q[0, 0] = -1
    solution = kr.solve_qp(Q, p.requires_grad_(), A=A, b=b, on_failure="return")
    expected = kr.Status.SOLVED if kind == "singular" else kr.Status.NONCONVEX
    assert (solution.status == expected).all()
    if kind == "singular":  # the gradient of least norm leaves out the direction that nothing holds
        solution.x[:, 1:].sum().backward()
        assert p.grad is not None
        assert float(p.grad[:, 0].abs().max()) <= 1e-12


def test_derivatives_of_every_kind() -> None:
    leaves = [t.requires_grad_() for t in problem(7, 2)]

    def solved(Q: Tensor, p: Tensor, A: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        solution = kr.solve_qp(Q @ Q.mT, p, A=A, b=b)
        return solution.x, solution.y

    few = [leaves[0], leaves[1][:3].detach().requires_grad_(), leaves[2], leaves[3][:3].detach().requires_grad_()]
    assert torch.autograd.gradcheck(solved, few)
    assert torch.autograd.gradgradcheck(solved, few)
