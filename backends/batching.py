"""vmap: a mapped dimension is folded into the batch axis, solved in one call, and unfolded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def fold(
    function: Callable[..., Any], size: int, in_dims: Sequence[int | None], inputs: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Call ``function`` on inputs of which some have a mapped dimension of ``size`` besides their batch axis of size B or 1.

    An input without the mapped dimension stays shared if its batch axis is 1 and is repeated otherwise.
    """
    moved = [
        value if dim is None or not isinstance(value, Tensor) else value.movedim(dim, 0)
        for value, dim in zip(inputs, in_dims, strict=True)
    ]
    mapped = [isinstance(value, Tensor) and dim is not None for value, dim in zip(inputs, in_dims, strict=True)]
    sizes = {
        value.shape[1 if is_mapped else 0] for value, is_mapped in zip(moved, mapped, strict=True) if isinstance(value, Tensor)
    }
    B = 0 if 0 in sizes else max(sizes)

    def flat(value: Any, is_mapped: bool) -> Any:
        if not isinstance(value, Tensor):
            return value
        if is_mapped:
            tail = value.shape[2:]
            return value.expand(size, B, *tail).reshape(size * B, *tail)
        if value.shape[0] == 1:
            return value
        return value.expand(size, *value.shape).reshape(size * B, *value.shape[1:])

    outputs = function(*(flat(value, is_mapped) for value, is_mapped in zip(moved, mapped, strict=True)))
    unfolded = tuple(output.reshape(size, B, *output.shape[1:]) for output in outputs)
    return unfolded, (0,) * len(unfolded)


def transformed() -> bool:
    """Whether vmap, grad or another transform of torch.func is at work; assumed where torch does not say."""
    return bool(getattr(torch._C, "_are_functorch_transforms_active", lambda: True)())
