"""The sparse engine finds what the dense ones find: solutions, multipliers, objectives, and all gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends.sparse.data import SparseData
from sparse.models import MODELS, factor_portfolio

TOLERANCE = 1e-7  # of gradients: both engines refine theirs to ten digits or more


def everything(solution: kr.Solution) -> list[Tensor]:
    context = solution.context
    names = [v.name for v in context.qp.variables]
    return [*(solution[name] for name in names), *(solution.dual(m.name) for m in context.qp.multipliers), solution.objective]


def outcome(layer: Any, values: dict[str, Tensor]) -> tuple[kr.Solution, list[Tensor], list[Tensor]]:
    """The solution, all that is asked of it, and gradients of one projection of all that."""
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    solution = layer(leaves)
    parts = everything(solution)
    generator = torch.Generator().manual_seed(3)
    total = torch.stack([(part * torch.randn(part.shape, generator=generator, dtype=part.dtype)).sum() for part in parts]).sum()
    return solution, [part.detach() for part in parts], list(torch.autograd.grad(total, list(leaves.values())))


@pytest.mark.parametrize("name", MODELS)
def test_sparse_agrees_with_dense(name: str) -> None:
    problem, values = MODELS[name]()
    solution, ours, gradients = outcome(kr.compile(problem, backend="sparse"), values)
    assert isinstance(solution.data, SparseData)
    assert int(solution.status) == kr.Status.SOLVED
    _, theirs, expected = outcome(kr.compile(problem, backend="torch"), values)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    for a, b in zip(gradients, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE * float(b.abs().max()))


def test_ten_thousand_variables() -> None:
    """Forward and backward, chosen by itself; the optimality conditions are those of the reported residuals."""
    problem, values = factor_portfolio(10_000, 100)
    values["mu"].requires_grad_()
    solution = kr.compile(problem)(values)
    assert isinstance(solution.data, SparseData)
    assert int(solution.status) == kr.Status.SOLVED
    assert float(solution.residuals.worst) <= 1e-8
    x = solution["x"]
    assert float((x.sum() - 1).detach().abs()) <= 1e-10
    assert float(x.detach().min()) >= 0
    (x * torch.linspace(0, 1, 10_000, dtype=torch.float64)).sum().backward()
    gradient = values["mu"].grad
    assert gradient is not None
    assert float(gradient.sum().abs()) <= 1e-9  # adding a constant to mu moves nothing
    assert float(gradient.abs().max()) > 0
