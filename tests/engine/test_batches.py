"""A batch is a loop of singles: no item feels its mates, whatever is wrong with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import random_batch
from karush.backends import find

ILLS = {
    "infeasible": (kr.Status.PRIMAL_INFEASIBLE, "G", "h"),
    "unbounded": (kr.Status.DUAL_INFEASIBLE, "Q", "p"),
    "nan": (kr.Status.INVALID_INPUT, "p", ""),
    "nonconvex": (kr.Status.NONCONVEX, "Q", ""),
}


def sick(kind: str, position: int) -> list[Tensor]:
    """Five problems, one of which has no solution."""
    Q, p, G, h, A, b = random_batch(5, 4, 6, 1, seed=9)
    if kind == "infeasible":
        G[position, 1], h[position, :2] = -G[position, 0], torch.tensor([-1.0, -1.0])
    if kind == "unbounded":
        Q[position], p[position], G[position] = 0, torch.ones(4), 0
        h[position], A[position], b[position] = 1, 0, 0
    if kind == "nan":
        p[position, 2] = torch.nan
    if kind == "nonconvex":
        Q[position] -= 10 * torch.eye(4)
    return [Q, p, G, h, A, b]


@pytest.mark.parametrize("kind", ILLS)
@pytest.mark.parametrize("position", range(5))
def test_mates_of_a_sick_item_are_unharmed(kind: str, position: int) -> None:
    problem = sick(kind, position)
    leaves = [t.clone().requires_grad_() for t in problem]
    solution = kr.solve_qp(*leaves, on_failure="return")
    healthy = [i for i in range(5) if i != position]
    assert solution.status.tolist() == [ILLS[kind][0] if i == position else kr.Status.SOLVED for i in range(5)]
    weight = torch.randn_like(solution.x)
    weight[position] = torch.nan  # an upstream gradient that must be dropped
    solution.x.backward(weight)
    for i in healthy:
        single = [t[i].clone().requires_grad_() for t in problem]
        alone = kr.solve_qp(*single)
        torch.testing.assert_close(solution.x[i], alone.x, rtol=1e-12, atol=1e-12)
        assert solution.iterations[i] == alone.iterations
        alone.x.backward(weight[i])
        for leaf, own in zip(leaves, single, strict=True):
            assert leaf.grad is not None
            assert own.grad is not None
            torch.testing.assert_close(leaf.grad[i], own.grad, rtol=1e-10, atol=1e-11)
    for leaf in leaves:
        assert leaf.grad is not None
        assert (leaf.grad[position] == 0).all()


@pytest.mark.parametrize(("n", "m", "k"), [(3, 0, 1), (5, 10, 0), (10, 20, 5)])
def test_batch_equals_loop(n: int, m: int, k: int) -> None:
    problem = random_batch(9, n, m, k)
    together = kr.solve_qp(*problem)
    for i in range(9):
        alone = kr.solve_qp(*(t[i] for t in problem))
        for name in ("x", "y", "z", "s"):
            torch.testing.assert_close(getattr(together, name)[i], getattr(alone, name), rtol=1e-12, atol=1e-12)
        assert together.status[i] == alone.status
        assert together.iterations[i] == alone.iterations


def test_order_within_a_batch_does_not_matter() -> None:
    problem = random_batch(8, 6, 9, 2)
    order = torch.randperm(8)
    x, permuted = kr.solve_qp(*problem).x, kr.solve_qp(*(t[order] for t in problem)).x
    assert torch.equal(x[order], permuted)


def test_inputs_are_not_modified_and_may_be_views() -> None:
    problem = random_batch(3, 4, 5, 1)
    copies = [t.clone() for t in problem]
    x = kr.solve_qp(*problem).x
    assert all(torch.equal(t, copy) for t, copy in zip(problem, copies, strict=True))
    strided = [t.mT.contiguous().mT if t.dim() == 3 else t.repeat(1, 2)[:, : t.shape[1]] for t in problem]
    torch.testing.assert_close(kr.solve_qp(*strided).x, x, rtol=0, atol=1e-12)


def test_results_share_no_memory_with_inputs() -> None:
    problem = random_batch(3, 4, 5, 1)
    solution = kr.solve_qp(*problem)
    before = solution.x.clone()
    for tensor in problem:
        tensor.zero_()
    assert torch.equal(solution.x, before)


def test_same_bits_every_time() -> None:
    problem = random_batch(6, 8, 12, 2)
    first, second = kr.solve_qp(*problem), kr.solve_qp(*problem)
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.z, second.z)


def test_large_batches_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = [t.requires_grad_() for t in random_batch(11, 6, 9, 2)]
    whole = kr.solve_qp(*problem)
    expected = torch.autograd.grad(whole.x.sum(), problem)
    monkeypatch.setattr(find, "CACHE", 3 * (4 * 36 + 3 * 6 * 11) * 8)  # three items at a time
    parts = kr.solve_qp(*problem)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-12)
    assert torch.equal(parts.iterations, whole.iterations)
    for ours, theirs in zip(torch.autograd.grad(parts.x.sum(), problem), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
