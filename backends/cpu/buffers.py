"""Memory for large results, used again once nobody holds them.

The first touch of fresh pages costs more than what is written there: of a backward pass over 128 problems of 50 variables it took
half the time. Allocators give large pieces back to the system as soon as they are free; these are kept for the next call.
"""

from __future__ import annotations

import threading
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LARGE = 2**18  # bytes from which allocators ask the system for pages
KEPT = 2**26  # bytes that are kept at most

_lock = threading.RLock()  # a tensor may die, and give its memory back, while its own thread is in here
_free: dict[int, list[NDArray[np.float64]]] = {}
_held = 0


_ONE = torch.zeros(1, dtype=torch.float64, device="cpu")


def like(shape: tuple[int, ...]) -> Tensor:
    """What ``empty`` is given: it takes no memory, and half the time that torch takes to read a shape."""
    return _ONE.expand(shape)


def empty(like: Tensor) -> Tensor:
    """An uninitialised float64 tensor on the CPU, of that shape."""
    size = like.numel()
    if 8 * size < LARGE:
        return torch.empty_like(like)
    memory = _taken(size)
    if memory is None:
        memory = np.empty(size)
    lent = memory[:]  # the tensor holds this view; when both are gone, nobody reads the memory any more
    weakref.finalize(lent, _back, memory).atexit = False
    return torch.from_numpy(lent).view(like.shape)


def _taken(size: int) -> NDArray[np.float64] | None:
    global _held
    with _lock:
        kept = _free.get(size)
        if not kept:
            return None
        _held -= 8 * size
        memory = kept.pop()
        if not kept:
            del _free[size]
        return memory


def _back(memory: NDArray[np.float64]) -> None:
    """Keep what is free, instead of what has been free for long, if both are too much."""
    global _held
    size = memory.size
    if 8 * size > KEPT:
        return
    with _lock:
        _free.setdefault(size, []).append(memory)
        _held += 8 * size
        while _held > KEPT:  # the sizes first kept go first, the one that came last
            oldest = next((other for other in _free if other != size), size)
            pieces = _free[oldest]
            _held -= 8 * oldest
            pieces.pop()
            if not pieces:
                del _free[oldest]
