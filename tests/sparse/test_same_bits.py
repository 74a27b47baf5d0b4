"""An item has the same bits in any company, on any number of threads, and whichever way its mates go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends.sparse import find, lanes, solve
from sparse.models import MODELS, Values, batch
from sparse.ways import HANDS_OVER, SIDE_BY_SIDE


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def outcome(layer: Any, given: Values, items: slice | list[int]) -> list[Tensor]:
    """All variables of these items, their objectives, and gradients in every parameter."""
    leaves = {name: value[items].clone().requires_grad_() for name, value in given.items()}
    solution = layer(leaves)
    found = [solution[variable.name] for variable in solution.context.qp.variables]
    weighted = [(part.sin() * torch.linspace(-1, 1, part[0].numel()).reshape(part.shape[1:])).sum() for part in found]
    loss = torch.stack([*weighted, solution.objective.sum()]).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return [*(part.detach() for part in found), solution.objective.detach(), *gradients]


def many(name: str, B: int) -> tuple[kr.Problem, Values]:
    """Every parameter has its own values for each item; the matrix of a system that is steered stays one that can be."""
    problem, values = MODELS[name]()
    given = batch(values, B)
    return problem, given | {name: values[name].expand(B, -1, -1) for name in values if name == "F"}


@SIDE_BY_SIDE
@pytest.mark.parametrize("name", MODELS)
def test_mates_change_no_bit(name: str) -> None:
    problem, given = many(name, 9)
    layer = kr.compile(problem, backend="sparse", batch_invariant=True)
    whole = outcome(layer, given, slice(None))
    for items in (slice(0, 1), slice(3, 5), slice(8, 9)):
        for ours, theirs in zip(outcome(layer, given, items), whole, strict=True):
            assert torch.equal(ours, theirs[items])


@SIDE_BY_SIDE
@HANDS_OVER
def test_mates_that_go_the_other_way_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items with limits so far away that the programs prove nothing are solved one by one; all are as they are alone."""
    left: list[int] = []

    def told(*arguments: Any) -> Any:
        left[:] = arguments[-1]
        return find.find(*arguments)

    monkeypatch.setattr(solve, "find", told)
    problem, given = many("scattered", 6)
    given["h"][1, 5] = given["h"][4, 9] = 1e13
    layer = kr.compile(problem, backend="sparse", batch_invariant=True)
    whole = outcome(layer, given, slice(None))
    assert left == [1, 4]
    for i in range(6):
        for ours, theirs in zip(outcome(layer, given, [i]), whole, strict=True):
            assert torch.equal(ours[0], theirs[i])


@pytest.mark.usefixtures("threads")
def test_threads_change_no_bit(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shared: list[bool] = []
    original = lanes._work

    def told(*arguments: Any) -> Any:
        work = original(*arguments)
        shared.append(work.shared)
        return work

    monkeypatch.setattr(lanes, "_work", told)
    B = 160 if way == "side by side" else 8
    problem, given = many("scattered", B)
    layer = kr.compile(problem, backend="sparse")
    torch.set_num_threads(1)
    one = outcome(layer, given, slice(None))
    torch.set_num_threads(2)
    assert all(torch.equal(*pair) for pair in zip(outcome(layer, given, slice(None)), one, strict=True))
    assert shared == ([True] * 4 if way == "side by side" else [])  # forward and backward, twice
