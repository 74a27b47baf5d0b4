"""Kernels run over blocks of problems: on the caller's thread, and on others where that pays."""

from __future__ import annotations

import os
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from . import machine

# Nanoseconds of work below which handing over to another thread costs more than it brings. It takes 50 µs, and twice as much where
# idle threads of another library spin on the core: of 240 µs nothing was gained.
WORTH_A_THREAD = 400_000


class Work(NamedTuple):
    """A kernel, the blocks of problems it runs over, the bytes it works in, and whether another thread is worth its while."""

    kernel: machine.Kernel
    blocks: int
    room: int
    shared: bool


def pays(blocks: int, nanoseconds: float) -> bool:
    """Whether another thread is worth its while, for so many blocks of so long each."""
    return blocks > 1 and blocks * nanoseconds >= WORTH_A_THREAD


def run(work: Work, words: array[int], numbers: array[float]) -> None:
    """Call a kernel for all its blocks, on several threads where that pays."""
    kernel, blocks, size, shared = work
    first, second = words.buffer_info()[0], numbers.buffer_info()[0]
    threads = min(torch.get_num_threads(), blocks) if shared else 1
    if threads == 1:
        kernel(first, second, _scratch(size), 0, blocks)
        _tidy(size)
        return
    step = max(1, blocks // (8 * threads))
    tickets = count()

    def share() -> None:
        """Blocks by small shares, so that a thread that is held up holds up nothing."""
        place = _scratch(size)
        while (start := next(tickets) * step) < blocks:
            kernel(first, second, place, start, min(start + step, blocks))
        _tidy(size)

    helpers = [_pool(threads - 1, os.getpid()).submit(share) for _ in range(threads - 1)]
    share()
    for helper in helpers:
        helper.result()


_local = threading.local()
KEPT = 64 * 2**20  # bytes of working memory that a thread keeps for its next call


def _scratch(size: int) -> int:
    """Where ``size`` bytes begin, at a cache line, which are the thread's own until its next call, or until it is tidied."""
    kept: tuple[int, int, Tensor] | None = getattr(_local, "memory", None)
    if kept is not None and kept[1] >= size:
        return kept[0]
    room = torch.empty(size + 64, dtype=torch.uint8, device="cpu")
    address = room.data_ptr()
    _local.memory = kept = address + -address % 64, size, room
    return kept[0]


def _tidy(size: int) -> None:
    """Keep what the next call can use, if it is not too much."""
    if size > KEPT:
        _local.memory = None


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One for each process: a fork has the pool of its parent, but none of its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="karush")
