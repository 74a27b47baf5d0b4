"""One item after the other, for ``batch_invariant``.

What torch computes by products of matrices rounds by the size of the batch, and by where in a cache line memory begins. So every
item is computed in a batch of its own, in memory of its own; what flows back into it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import batching


def item(tensor: Tensor, i: int) -> Tensor:
    """Item i of a batch, or what is shared, in memory of its own."""
    return (tensor if len(tensor) == 1 else tensor[i : i + 1]).clone()


def each(function: Callable[..., Sequence[Tensor]], *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """``function`` of one item after the other, its results laid together. Tensors with a batch axis of size 1 are shared."""
    sizes = [len(tensor) for tensor in tensors if tensor is not None]
    if 0 in sizes:
        return tuple(function(*tensors))
    parts = [function(*(None if tensor is None else item(tensor, i) for tensor in tensors)) for i in range(max(sizes))]
    return tuple(joined(column) for column in zip(*parts, strict=True))


def joined(parts: Sequence[Any]) -> Any:
    """Results of items, or of dataclasses and lists of them, along one batch axis."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat([_whole(part) for part in parts])
    if isinstance(first, list):
        return [joined(column) for column in zip(*parts, strict=True)]
    return type(first)(*(joined([getattr(part, field.name) for part in parts]) for field in fields(first)))


def _whole(part: Tensor) -> Tensor:
    if not part.requires_grad or batching.transformed():
        return part
    kept: Tensor = _Whole.apply(part)
    return kept


class _Whole(Function):
    """The same; what flows back comes out of a larger tensor, and is given memory of its own."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        return part.view_as(part)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clone(memory_format=torch.contiguous_format)
