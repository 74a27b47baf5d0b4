"""What torch sees of the CPU engine: ``find`` solves a batch, ``derive`` runs the backward pass.

Both fill a table of addresses and call compiled code, blocks of problems at a time, on as many threads as torch has. Items that the
solve leaves without proof are the torch engine's: it decides what they are.
"""

from __future__ import annotations

import math
import os
import threading
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor, empty_like

from ..data import QPData, WarmStart
from ..engine import EARLY, FROM_NOTHING, LOOSE, PATIENT, REFINEMENTS, SECOND, UNDECIDED, WARM_ITERATIONS
from ..found import Found
from ..options import Options
from ..polish import Factor
from . import buffers, derivative, machine, solve
from .dual import kept_size
from .problem import DENSE, DIAGONAL, Sizes

# Variables from which W problems side by side are slower than one after the other. Below, it takes W n / LARGE of them to pay.
LARGE = 56
LARGEST = 1000  # beyond, the blocked factorizations of torch's libraries win
# Nanoseconds of work below which handing over to another thread costs more than it brings.
WORTH_A_THREAD = 200_000
FLOPS_PER_NS = 8.0
NOTHING = (None,) * 5
NOWHERE = (0, 0)
NO_NUMBERS = array("d", [0.0])


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


def is_dual(Q: Tensor, rows: int) -> bool:
    """Whether the system in the multipliers (see ``dual``) is the cheaper one: Q is diagonal, and rows are few.

    Asked of a Q that all items share, so that the plan of an item does not depend on its mates.
    """
    return len(Q) == 1 and dual_pays(Q.shape[2], rows) and _diagonal(Q[0])


@lru_cache(maxsize=256)
def dual_pays(n: int, K: int) -> bool:
    """By counted operations of an iteration. Side by side, W small problems take about the time of two."""
    dual = K * K * n + K**3 / 3 + 10 * n * K + 40 * n
    return n > K and dual <= (K * n * n + n**3 / 3) / (4 if n < LARGE else 2)


def _diagonal(Q: Tensor) -> bool:
    Q = Q.detach()
    return float(Q[0, 1]) == 0 and int(torch.count_nonzero(Q)) == int(torch.count_nonzero(Q.diagonal()))


def find(data: QPData, options: Options, warm: WarmStart | None = None) -> tuple[Found, Tensor | None]:
    """Solve a batch as far as proof goes, and which items are proved, (B,) bool, None for all; the rows of others are void."""
    Q, B = data.Q, data.batch
    n, m, k = data.sizes
    lower, upper = (0 if bound is None else n for bound in (data.lb, data.ub))
    empty, flags = Q.new_empty, torch.bool
    x, y, z, weight, scaled, unit = (empty((B, size)) for size in (n, k, m, m + k, 4, 1))
    z_lb, z_ub, scale, s, absolute, flat = (empty_like(like) for like in (x, x, x, z, scaled, unit))
    dual = is_dual(Q, m + k)
    shape = machine.alone() if dual else layout(n, B, options)
    U = buffers.empty((B, kept_size(n, m + k, shape.along)) if dual else (B, n, n))
    status, proved = Q.new_zeros(B, dtype=torch.int8), Q.new_zeros(B, dtype=flags)
    taken, rows = empty(B, dtype=torch.int32), empty((B, m), dtype=flags)
    no_x, no_y, no_z, nowhere = _nothing(B, n, m, k)
    at_lower, at_upper = (empty((B, n), dtype=flags) if there else nowhere for there in (lower, upper))
    written = (x, y, z, z_lb, z_ub, s, scaled, absolute, taken, proved, U, scale, weight, unit, flat, rows)

    words = [B, m, k, lower, upper, 0, 0]
    before = NOTHING if warm is None else (warm.x, warm.y, warm.z, warm.z_lb, warm.z_ub)
    held = addressed((Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub, *before), words)
    words += [result.data_ptr() for result in written]
    words += at_lower.data_ptr() if lower else 0, at_upper.data_ptr() if upper else 0
    tried, numbers = attempts(options.tolerance(Q.dtype), options.max_iter, m + lower + upper > 0, warm is not None)
    table = array("q", words + tried)
    run(_work("solve_diagonal" if dual else "solve", shape, B, n, m, k, lower, upper), table, numbers)
    del held  # until here, what was read had to live
    return Found(
        x, y, z, z_lb, z_ub, s, status, taken, scaled, absolute, rows, no_x, no_y, no_z, no_x, no_x,
        U, scale, weight, unit, flat, at_lower, at_upper, proved,
    ), proved if table[solve.LEFT] else None  # fmt: skip


_NUMBER, _FLAG = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)


@lru_cache(maxsize=256)
def _nothing(B: int, n: int, m: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nothing for x, y and z of a certificate, and no variable at a bound: views of one zero, which nobody can write to."""
    return _NUMBER.expand(B, n), _NUMBER.expand(B, k), _NUMBER.expand(B, m), _FLAG.expand(B, n)


@lru_cache(maxsize=64)
def attempts(eps: float, max_iter: int, inequalities: bool, warm: bool) -> tuple[list[int], array[float]]:
    """The attempts of ``solve`` as it reads them.

    As in the torch engine: from the gap at which the active set shows; with a longer polish; with undecided rows taken for active,
    then for inactive; and from a sharper gap. Before them, from a similar problem: with its active set, then from its iterate.
    """
    early = max(eps, min(EARLY, math.sqrt(eps))) / 2
    again = max_iter if eps <= LOOSE else 0
    tried: list[tuple[int, int, int, bool, float, float, float]] = [
        (max_iter, REFINEMENTS if inequalities else FROM_NOTHING, solve.COLD, False, early, early, 1.0),
        (0, PATIENT, solve.WHERE_IT_IS, False, early, early, 1.0),
        (0, REFINEMENTS, solve.WHERE_IT_IS, False, early, early, UNDECIDED),
        (0, REFINEMENTS, solve.WHERE_IT_IS, False, early, early, 1 / UNDECIDED),
        (again, PATIENT, solve.WHERE_IT_IS, False, eps / 2, SECOND * eps, 1.0),
    ]
    if warm and inequalities:
        few = min(WARM_ITERATIONS, max_iter)
        tried = [
            (0, FROM_NOTHING, solve.AS_IT_WAS, True, early, early, 1.0),
            (few, REFINEMENTS, solve.WARM, True, early, early, 1.0),
            *tried,
        ]
    # A start that leads nowhere takes nothing from the next.
    words, numbers = [len(tried)], [eps, float(max_iter + (WARM_ITERATIONS if warm else 0))]
    for budget, refinements, where, all_go_on, *tolerances in tried:
        words += [budget, refinements, where, all_go_on]
        numbers += tolerances
    return words, array("d", numbers)


def derive(
    options: Options,
    matrices: tuple[Tensor, Tensor, Tensor],
    gradients: Sequence[Tensor | None],
    factor: Factor,
    ok: Tensor,
    point: Sequence[Tensor],
    needs: Sequence[bool],
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor | None], Tensor | None, list[Tensor | None]]:
    """The backward pass for (Q, G, A), (g_x, g_y, g_z, g_w), the kept factor, which items are ok, and (x, y, z).

    (d_x, l_y, l_z, l_w), d_x = -l_x, l_w None if it is not needed; the items (B,) whose system is singular, None if there is none;
    and the gradients of Q, G, A, None if not needed. ``needs``: for Q, G, A and l_w.
    """
    Q, G, A = matrices
    n, m, k = Q.shape[2], G.shape[1], A.shape[1]
    B = len(ok)
    empty = Q.new_empty
    d_x, l_y, l_z, l_w = empty((B, n)), empty((B, k)), empty((B, m)), empty((B, n)) if needs[3] else None
    lost = ok.new_empty(B)
    outer = [buffers.empty((B, rows, n)) if need else None for rows, need in zip((n, m, k), needs, strict=False)]
    words = [B, m, k, 0, 0]
    fields = factor.U, factor.scale, factor.weight, factor.unit, factor.flat
    held = addressed((*matrices, *gradients, *fields, *point), words)
    words += [0 if result is None else result.data_ptr() for result in (ok, d_x, l_y, l_z, l_w, lost, *outer)]
    table = array("q", words)
    dual = factor.U.dim() == 2
    shape = machine.alone() if dual else layout(n, B, options)
    run(_work("derivative_diagonal" if dual else "derivative", shape, B, n, m, k), table, NO_NUMBERS)
    del held
    return (d_x, l_y, l_z, l_w), lost if table[derivative.LOST] else None, outer


def addressed(tensors: Sequence[Tensor | None], words: list[int]) -> list[Tensor]:
    """Append where each tensor begins, and the doubles from one problem to the next; 0 and 0 for None.

    What is not laid out problem by problem is copied; the list keeps the copies alive.
    """
    copies = []
    for tensor in tensors:
        if tensor is None:
            words += NOWHERE
            continue
        if tensor.is_neg():  # a view that promises minus what its memory holds
            tensor = tensor.resolve_neg()
            copies.append(tensor)
        if not tensor.is_contiguous():
            shared = tensor.stride(0) == 0
            tensor = (tensor[:1] if shared else tensor).contiguous()
            copies.append(tensor)
        words += tensor.data_ptr(), tensor.stride(0) if tensor.shape[0] > 1 else 0
    return copies


# Threads


class Work(NamedTuple):
    """A kernel, the blocks of problems it runs over, the bytes it works in, and whether another thread is worth its while."""

    kernel: machine.Kernel
    blocks: int
    room: int
    shared: bool


@lru_cache(maxsize=256)
def _work(program: str, shape: machine.Layout, batch: int, n: int, m: int, k: int, lower: int = 0, upper: int = 0) -> Work:
    """Found once for all calls of one size."""
    dual, K = program.endswith("_diagonal"), m + k
    sizes = Sizes(n, m, k, lower, upper, DIAGONAL if dual else DENSE, shape.along)
    if program.startswith("solve"):
        scratch = solve.scratch_size(sizes)
        small, large = (K, n) if dual else (n, K)
        flops = 10 * (large * small * small + small**3 / 3 + 20 * n * (small + K)) + 1000 * (n + m + lower + upper)
    else:
        scratch, flops = derivative.scratch_size(sizes), 20 * n * ((0 if dual else n) + K)
    blocks = -(-batch // shape.W)
    shared = blocks > 1 and blocks * shape.W * flops / FLOPS_PER_NS >= WORTH_A_THREAD
    return Work(machine.kernel(program, n, shape), blocks, 8 * shape.W * scratch, shared)


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
    room = torch.empty(size + 64, dtype=torch.uint8)
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
