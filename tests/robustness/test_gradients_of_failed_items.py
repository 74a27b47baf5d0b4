"""An item without a solution has no gradient, and its mates, their losses and their gradients do not notice: not by a bit."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import random_batch
from robustness.conftest import Backend

NAMES = "QpGhAb"
ILL = 2
Policy = Literal["return", "nan"]


def batch(kind: str) -> tuple[list[Tensor], kr.Status]:
    """Five problems, the third of which has no solution, and why; "healthy" has all."""
    Q, p, G, h, A, b = (t.clone() for t in random_batch(5, 4, 6, 1, seed=9))
    status = kr.Status.SOLVED
    if kind == "infeasible":
        G[ILL, 1], h[ILL, :2], status = -G[ILL, 0], torch.tensor([-1.0, -1.0]), kr.Status.PRIMAL_INFEASIBLE
    if kind == "unbounded":
        Q[ILL], p[ILL], G[ILL], A[ILL], b[ILL], status = 0, 1, 0, 0, 0, kr.Status.DUAL_INFEASIBLE
        h[ILL] = 1
    if kind == "NaN":
        G[ILL, 3, 1], status = torch.nan, kr.Status.INVALID_INPUT
    if kind == "not convex":
        Q[ILL], status = Q[ILL] - 10 * torch.eye(4), kr.Status.NONCONVEX
    return [Q, p, G, h, A, b], status


def loss_of(kind: str, policy: Policy, backend: Backend) -> tuple[kr.QPSolution, Tensor, list[Tensor]]:
    """The solution, a loss of the mates alone, and all gradients; NaN arrives upstream at the item that failed."""
    leaves = [t.requires_grad_() for t in batch(kind)[0]]
    solution = kr.solve_qp(*leaves, on_failure=policy, backend=backend)
    mates = [i for i in range(5) if i != ILL]
    loss = (solution.x[mates].sin().sum() + solution.z[mates].sum() + solution.s[mates].sum()).detach()
    upstream = solution.x.detach().cos()
    upstream[ILL] = torch.nan
    ones = torch.ones_like(solution.z)
    ones[ILL] = torch.nan
    return solution, loss, list(torch.autograd.grad((solution.x, solution.z), leaves, (upstream, ones)))


@pytest.mark.parametrize("kind", ["infeasible", "unbounded", "NaN", "not convex"])
@pytest.mark.parametrize("policy", ["return", "nan"])
def test_no_gradient_for_the_item_and_the_same_bits_for_its_mates(kind: str, policy: Policy, backend: Backend) -> None:
    healthy, expected, gradients = loss_of("healthy", policy, backend)
    assert healthy.status.tolist() == [kr.Status.SOLVED] * 5
    solution, loss, found = loss_of(kind, policy, backend)
    status = batch(kind)[1]
    assert solution.status.tolist() == [status if i == ILL else kr.Status.SOLVED for i in range(5)]
    assert bool(solution.x[ILL].isnan().all()) == (policy == "nan")
    assert bool(solution.x[ILL].isfinite().all()) == (policy == "return")
    assert torch.equal(loss, expected)
    for name, ours, theirs in zip(NAMES, found, gradients, strict=True):
        for i in range(5):
            assert torch.equal(ours[i], torch.zeros_like(ours[i]) if i == ILL else theirs[i]), (name, i)


@pytest.mark.parametrize("kind", ["infeasible", "unbounded", "NaN", "not convex"])
def test_raising_names_the_item(kind: str, backend: Backend) -> None:
    tensors, status = batch(kind)
    with pytest.raises(kr.SolveError) as caught:
        kr.solve_qp(*tensors, backend=backend)
    assert caught.value.indices == [ILL]
    assert caught.value.status == [status]
