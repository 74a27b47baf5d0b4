"""What torch sees of the CPU engine: ``find`` solves a batch, ``derive`` runs the backward pass.

Both fill a table of addresses and call compiled code, blocks of problems at a time, on as many threads as torch has. Items that the
solve leaves without proof are the torch engine's: it decides what they are.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import torch
from torch import Tensor

from ..data import QPData, WarmStart
from ..engine import EARLY, FROM_NOTHING, LOOSE, PATIENT, REFINEMENTS, SECOND, UNDECIDED, WARM_ITERATIONS
from ..found import Found
from ..options import Options
from . import derivative, machine, solve

# Variables from which W problems side by side are slower than one after the other. Below, it takes W n / LARGE of them to pay.
LARGE = 56
LARGEST = 1000  # beyond, the blocked factorizations of torch's libraries win
# Nanoseconds of work below which handing over to another thread costs more than it brings.
WORTH_A_THREAD = 200_000
FLOPS_PER_NS = 8.0


def serves(data: QPData, options: Options) -> bool:
    """Whether this engine is asked, and can be: float64 on a CPU, dense and not too large."""
    return (
        options.backend != "torch"
        and data.Q.is_cpu
        and data.Q.dtype == torch.float64
        and data.sizes[0] <= LARGEST
        and data.batch > 0
    )


def layout(n: int, batch: int, options: Options) -> machine.Layout:
    """How problems lie in registers: side by side, unless they are few, or so large that W of them leave the cache."""
    lanes = machine.lanes()
    if n >= LARGE or (not options.batch_invariant and batch <= max(1, lanes.W * n // LARGE)):
        return machine.alone()
    return lanes


def find(data: QPData, options: Options, warm: WarmStart | None = None) -> tuple[Found, Tensor]:
    """Solve a batch as far as proof goes, and which items are proved, (B,) bool; the rows of all others are void."""
    n, m, k = data.sizes
    eps, max_iter = options.tolerance(data.Q.dtype), options.max_iter
    B = data.batch
    lower, upper = (0 if bound is None else n for bound in (data.lb, data.ub))
    inequalities = m + lower + upper
    empty = data.Q.new_empty
    x, z_lb, z_ub, scale = (empty((B, n)) for _ in range(4))
    y, z, s, weight, U = (empty(shape) for shape in ((B, k), (B, m), (B, m), (B, m + k), (B, n, n)))
    scaled, absolute, unit = (empty((B, size)) for size in (4, 4, 1))
    taken, proved = empty(B, dtype=torch.int32), data.Q.new_zeros(B, dtype=torch.bool)
    rows, at_lower, at_upper = (empty((B, size), dtype=torch.bool) for size in (m, n, n))
    results = (x, y, z, z_lb, z_ub, s, scaled, absolute, taken, proved, U, scale, weight, unit, rows, at_lower, at_upper)

    words = [B, m, k, lower, upper]
    before = (None,) * 5 if warm is None else (warm.x, warm.y, warm.z, warm.z_lb, warm.z_ub)
    tensors = [_rows(t) for t in (data.Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub, *before)]
    for tensor in tensors:
        words += _address(tensor)
    words += [result.data_ptr() for result in results]
    attempts, numbers = _attempts(eps, max_iter, inequalities > 0, warm is not None)
    words += attempts
    work = 10 * ((m + k) * n * n + n**3 / 3 + 20 * n * (n + m + k)) + 1000 * (n + inequalities)
    _run("solve", n, words, numbers, layout(n, B, options), B, solve.scratch_size(n, m, k, lower, upper), work)
    ray_x, ray_y, ray_z, ray_lb, ray_ub = data.Q.new_zeros(1, 3 * n + m + k).expand(B, -1).split((n, k, m, n, n), 1)
    return Found(
        x, y, z, z_lb, z_ub, s,
        proved.new_zeros(B, dtype=torch.int8), taken, scaled, absolute, rows, ray_x, ray_y, ray_z, ray_lb, ray_ub,
        U, scale, weight, unit, at_lower, at_upper, proved,
    ), proved  # fmt: skip


@lru_cache(maxsize=64)
def _attempts(eps: float, max_iter: int, inequalities: bool, warm: bool) -> tuple[list[int], list[float]]:
    """The attempts of ``solve`` as it reads them.

    As in the torch engine: from the gap at which the active set shows; with a longer polish; with undecided rows taken for active,
    then for inactive; and from a sharper gap. Before them, from a similar problem: with its active set, then from its iterate.
    """
    early = max(eps, min(EARLY, math.sqrt(eps))) / 2
    again = max_iter if eps <= LOOSE else 0
    attempts: list[tuple[int, int, int, bool, float, float, float]] = [
        (max_iter, REFINEMENTS if inequalities else FROM_NOTHING, solve.COLD, False, early, early, 1.0),
        (0, PATIENT, solve.WHERE_IT_IS, False, early, early, 1.0),
        (0, REFINEMENTS, solve.WHERE_IT_IS, False, early, early, UNDECIDED),
        (0, REFINEMENTS, solve.WHERE_IT_IS, False, early, early, 1 / UNDECIDED),
        (again, PATIENT, solve.WHERE_IT_IS, False, eps / 2, SECOND * eps, 1.0),
    ]
    if warm and inequalities:
        few = min(WARM_ITERATIONS, max_iter)
        attempts = [
            (0, FROM_NOTHING, solve.AS_IT_WAS, True, early, early, 1.0),
            (few, REFINEMENTS, solve.WARM, True, early, early, 1.0),
            *attempts,
        ]
    words, numbers = [len(attempts)], [eps]
    for budget, refinements, where, all_go_on, *tolerances in attempts:
        words += [budget, refinements, where, all_go_on]
        numbers += tolerances
    return words, numbers


def derive(
    options: Options,
    matrices: tuple[Tensor, Tensor, Tensor],
    gradients: Sequence[Tensor],
    factor: Sequence[Tensor],
    point: Sequence[Tensor],
    needs: Sequence[bool],
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor, list[Tensor | None]]:
    """The backward pass for (Q, G, A), (g_x, g_y, g_z, g_w), (U, scale, weight, unit, ok), (x, y, z).

    (l_x, l_y, l_z, l_w), the items (B,) whose system is singular, and the gradients of Q, G, A that are needed.
    """
    Q, G, A = matrices
    n, m, k = Q.shape[2], G.shape[1], A.shape[1]
    B = len(factor[0])
    results = [Q.new_empty(B, size) for size in (n, k, m, n, 1)]
    outer = [Q.new_empty(B, rows, n) if need else None for rows, need in zip((n, m, k), needs, strict=True)]
    words = [B, m, k]
    tensors = [_rows(t) for t in (*matrices, *gradients, *factor, *point)]
    for tensor in tensors:
        words += _address(tensor)
    words += [result.data_ptr() for result in results]
    words += [0 if result is None else result.data_ptr() for result in outer]
    work = 20 * n * (n + m + k)
    _run("derivative", n, words, [], layout(n, B, options), B, derivative.scratch_size(n, m, k), work)
    l_x, l_y, l_z, l_w, lost = results
    return (l_x, l_y, l_z, l_w), lost.squeeze(1) > 0, outer


def _rows(tensor: Tensor | None) -> Tensor | None:
    """The tensor with each problem's entries in one piece."""
    if tensor is None or tensor.is_contiguous():
        return tensor
    if tensor.stride(0) == 0:
        return tensor[:1].contiguous()
    return tensor.contiguous()


def _address(tensor: Tensor | None) -> list[int]:
    """Where a tensor begins, and the doubles from one problem to the next."""
    if tensor is None:
        return [0, 0]
    return [tensor.data_ptr(), tensor.stride(0) if tensor.shape[0] > 1 else 0]


# Threads


def _run(
    program: str, n: int, words: list[int], numbers: list[float], shape: machine.Layout, batch: int, scratch: int, flops: float
) -> None:
    """Call a kernel for all blocks of problems, on several threads where the ``flops`` of each are worth it."""
    kernel = machine.kernel(program, n, shape)
    blocks = -(-batch // shape.W)
    table = (ctypes.c_int64 * len(words))(*words)
    values = (ctypes.c_double * max(1, len(numbers)))(*numbers)
    first, second = ctypes.addressof(table), ctypes.addressof(values)
    size = 8 * shape.W * scratch
    threads = min(torch.get_num_threads(), blocks)
    if threads == 1 or blocks * shape.W * flops / FLOPS_PER_NS < WORTH_A_THREAD:
        room = _scratch(size)
        kernel(first, second, _aligned(room), 0, blocks)
        return
    step = max(1, blocks // (8 * threads))
    tickets = count()

    def work() -> None:
        """Blocks by small shares, so that a thread that is held up holds up nothing."""
        room = _scratch(size)
        place = _aligned(room)
        while (start := next(tickets) * step) < blocks:
            kernel(first, second, place, start, min(start + step, blocks))

    helpers = [_pool(threads - 1, os.getpid()).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        helper.result()


_local = threading.local()
KEPT = 64 * 2**20  # bytes of working memory that a thread keeps for its next call


def _scratch(size: int) -> Tensor:
    """``size`` bytes and a cache line; the thread's own until its next call, if they are not too many to be kept."""
    held: Tensor | None = getattr(_local, "memory", None)
    if held is None or len(held) < size + 64:
        held = torch.empty(size + 64, dtype=torch.uint8)
        if size <= KEPT:
            _local.memory = held
    return held


def _aligned(room: Tensor) -> int:
    """The first address in it at the beginning of a cache line."""
    address = room.data_ptr()
    return address + -address % 64


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One for each process: a fork has the pool of its parent, but none of its threads."""
    return ThreadPoolExecutor(threads, thread_name_prefix="karush")
