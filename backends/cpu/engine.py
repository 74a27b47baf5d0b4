"""What torch sees of the CPU engine: ``find`` solves a batch, ``derive`` runs the backward pass.

Both fill a table of addresses and call compiled code, blocks of problems at a time, on as many threads as torch has. Items that the
solve leaves without proof are the torch engine's: it decides what they are.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data import Frame, WarmStart
from ..engine import EARLY, FROM_NOTHING, LOOSE, PATIENT, REFINEMENTS, SECOND, UNDECIDED, WARM_ITERATIONS
from ..options import Options
from . import buffers, derivative, machine, solve, threads
from .buffers import like
from .dual import kept_size
from .outcome import FACTOR, OUTCOME, Held, Outcome, Places, Rest, places
from .problem import DENSE, DIAGONAL, Sizes
from .threads import Work

# Variables from which W problems side by side are slower than one after the other. Below, it takes W n / LARGE of them to pay.
LARGE = 56
LARGEST = 1000  # beyond, the blocked factorizations of torch's libraries win
FLOPS_PER_NS = 50.0  # of native code by one thread with AVX-512; 23 to 61 are reached
F = torch.float64
PACKED = 2048  # doubles up to which one problem's results lie together: whoever keeps one of them keeps all
# Places in the tables of ``solve`` and ``derivative``.
RESULTS = solve.LEFT + 1 + 2 * len(solve.TENSORS)  # addresses of results, which end where attempts begin
ATTEMPTS = solve.WORDS
GIVEN = derivative.LOST + 1  # addresses of tensors, each with its stride; of them the factor, the point; then flags, and results
KEPT, POINT = (GIVEN + 2 * derivative.TENSORS.index(name) for name in ("U", "x"))
FLAGS = GIVEN + 2 * len(derivative.TENSORS)
VECTORS, LOST, MATRICES = (FLAGS + 1 + derivative.RESULTS.index(name) for name in ("d_x", "lost", "dQ"))
NO_NUMBERS = array("d", [0.0])


def serves(Q: Tensor, n: int, batch: int, options: Options) -> bool:
    """Whether this engine is asked, and can be: float64 on a CPU, dense and not too large."""
    return options.backend != "torch" and Q.is_cpu and Q.dtype == torch.float64 and n <= LARGEST and batch > 0


def layout(n: int, batch: int, invariant: bool) -> machine.Layout:
    """How problems lie in registers: side by side, unless they are few, or so large that W of them leave the cache."""
    lanes = machine.lanes()
    if n >= LARGE or (not invariant and batch <= max(1, lanes.W * n // LARGE)):
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


class _Solve(NamedTuple):
    """All of a call that does not depend on numbers, made once for all calls of one kind.

    ``words`` lack addresses. ``likes``: tensors of the shapes of a solution's. The results of one small problem lie together: then
    there is one such tensor, ``parts`` says how it is split, and ``packed`` where the results begin in it, in bytes.
    """

    work: Work
    words: array[int]
    numbers: array[float]
    likes: tuple[Tensor, ...]
    parts: tuple[int, ...]
    packed: tuple[int, ...]
    places: Places
    keep: bool


@lru_cache(maxsize=256)
def _solve(frame: Frame, eps: float, max_iter: int, invariant: bool, dual: bool, warm: bool, keep: bool) -> _Solve:
    n, m, k, B = *frame.sizes, frame.B
    lower, upper = (n if there else 0 for there in (frame.lower, frame.upper))
    shape = machine.alone() if dual else layout(n, B, invariant)
    program = "solve_diagonal" if dual else "solve"
    each = n * n, n, m * n, m, k * n, k, lower, upper
    before = (n, k, m, n, n) if warm else (0,) * 5
    strides = [size * own for size, own in zip(each, frame.own, strict=True)] + [size * (B > 1) for size in before]
    words = [B, m, k, lower, upper, 0, 0]
    for stride in strides:
        words += 0, stride
    tried, numbers = attempts(eps, max_iter, m + lower + upper > 0, warm)
    words += [0] * len(solve.RESULTS) + tried
    factor = (kept_size(n, m + k, shape.along),) if dual else (n, n)
    size = {"x": n, "y": k, "z": m, "s": m, "z_lb": n, "z_ub": n}
    own = [size[name] for name in frame.names]
    where = places(B, frame.sizes, factor, True)
    total = sum(own) + where.factor + n  # multipliers of absent bounds are written, too: behind all else
    together = B == 1 and total <= PACKED
    packed: list[int] = []
    if together:
        start = dict(zip(frame.names, (8 * at for at in accumulate(own, initial=0)), strict=False))
        start |= {name: 8 * sum(own) + at for name, at in where.start.items()}
        packed = [start.get(name, 8 * (total - n)) for name in solve.RESULTS]
        likes = [like((*frame.batch, total))]
        own.append(where.factor + n)
    else:
        where = places(B, frame.sizes, factor, False)
        likes = [like((*frame.batch, count)) for count in own]
    work = _work(program, shape, B, n, m, k, lower, upper)
    return _Solve(work, array("q", words), numbers, tuple(likes), tuple(own), tuple(packed), where, keep)


def find(tensors: Sequence[Any], frame: Frame, options: Options, warm: WarmStart | None = None, keep: bool = True) -> Outcome:
    """Solve a batch as far as proof goes.

    ``tensors``: Q, p, G, h, A, b, lb, ub, of any number of batch dimensions or none, which ``frame`` describes. ``keep``: whether
    the factor is wanted.
    """
    n, rows = frame.n, frame.m + frame.k
    eps, max_iter, invariant = options.tolerance(F), options.max_iter, options.batch_invariant
    # A single problem does not tell whether its Q is that of a batch: plans that are one for all batches cannot ask.
    dual = n > rows and not frame.own[0] and not invariant and is_dual(tensors[0].reshape(1, n, n), rows)
    ready = _solve(frame, eps, max_iter, invariant, dual, warm is not None, keep)
    table = ready.words[:]
    held = read(tensors, frame.B, table, solve.LEFT + 1)
    if warm is not None:
        before = (warm.x, warm.y, warm.z, warm.z_lb, warm.z_ub)
        held += read(before, frame.B, table, solve.LEFT + 1 + 2 * len(tensors))
    if ready.packed:
        room = torch.empty_like(ready.likes[0])
        *solution, memory = room.unsafe_split_with_sizes(ready.parts, -1)
        base = room.data_ptr()
        table[RESULTS:ATTEMPTS] = array("q", [base + at for at in ready.packed])
        rest = Rest(memory, None, ready.places, frame)
    else:
        solution = [torch.empty_like(one) for one in ready.likes]
        rest = _scattered(table, frame, solution, ready)
    threads.run(ready.work, table, ready.numbers)
    del held  # until here, what was read had to live
    return Outcome(tuple(solution), rest, table[solve.LEFT] != 0)


def _scattered(table: array[int], frame: Frame, solution: Sequence[Tensor], ready: _Solve) -> Rest:
    """Where everything goes that does not lie together."""
    at = ready.places
    addresses = {name: tensor.data_ptr() for name, tensor in zip(frame.names, solution, strict=True)}
    outcome = buffers.empty(like((at.outcome,)))
    begins = outcome.data_ptr()
    addresses |= {name: begins + at.start[name] for name in OUTCOME}
    ctypes.memset(addresses["sure"], 0, frame.B)  # items that are left are not written
    factor = None
    if ready.keep:
        factor = buffers.empty(like((at.factor,)))
        begins = factor.data_ptr()
        addresses |= {name: begins + at.start[name] for name in FACTOR}
    for place, name in enumerate(solve.RESULTS, RESULTS):
        table[place] = addresses.get(name, 0)
    return Rest(outcome, factor, at, frame)


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


class _Derive(NamedTuple):
    """As ``_Solve``; ``likes``: first of vectors, then of matrices, None where they are not needed."""

    work: Work
    words: array[int]
    likes: tuple[Tensor | None, ...]
    empty: Callable[[Tensor], Tensor]


@lru_cache(maxsize=256)
def _derive(frame: Frame, invariant: bool, dual: bool, needs: tuple[bool, ...]) -> _Derive:
    n, m, k, B = *frame.sizes, frame.B
    shape = machine.alone() if dual else layout(n, B, invariant)
    heights = n, m, k
    own = frame.own[0], frame.own[2], frame.own[4]
    U = kept_size(n, m + k, shape.along) if dual else n * n
    strides = [height * n * differs for height, differs in zip(heights, own, strict=True)]
    strides += [size * (B > 1) for size in (n, k, m, n, U, n, m + k, 1, 1, n, k, m)]
    words = [B, m, k, 0, 0]
    for stride in strides:
        words += 0, stride
    words += [0] * (derivative.WORDS - len(words))
    work = _work("derivative_diagonal" if dual else "derivative", shape, B, n, m, k)
    # Of a single problem, what is found is what is wanted: gradients have the axes of their tensors.
    axes = frame.axes if B == 1 and frame.axes else (frame.batch,) * len(frame.own)
    vectors = [like((*axes[i], size)) for i, size in ((1, n), (5, k), (3, m))]
    each = zip((0, 2, 4), heights, needs, strict=False)
    matrices = [like((*axes[i], height, n)) if need else None for i, height, need in each]
    small = 8 * B * n * max(heights) < buffers.LARGE  # what ``buffers`` would find at every call
    likes = *vectors, like((*frame.batch, n)) if needs[3] else None, *matrices
    return _Derive(work, array("q", words), likes, torch.empty_like if small else buffers.empty)


def derive(
    options: Options,
    frame: Frame,
    matrices: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    kept: Rest | Held,
    point: Sequence[Tensor],
    needs: tuple[bool, ...],
) -> tuple[list[Any], Tensor | None]:
    """The backward pass for (Q, G, A), (g_x, g_y, g_z, g_w), the kept factor with the items that it holds for, and (x, y, z).

    [d_x, l_y, l_z, l_w, dQ, dG, dA], d_x = -l_x, the last four None where they are not needed; and the items (B,) whose system is
    singular, None if there is none. ``needs``: for Q, G, A and l_w.
    """
    B = frame.B
    ready = _derive(frame, options.batch_invariant, kept.dual, needs)
    table = ready.words[:]
    table.frombytes(bytes(8 * -(-B // 8)))  # behind all else, whether an item is lost
    held = read((*matrices, *gradients), B, table, GIVEN)
    if isinstance(kept, Rest):
        memory, start = kept.factor_memory.data_ptr(), kept.places.start
        for i, name in enumerate(FACTOR):
            table[KEPT + 2 * i] = memory + start[name]
        table[FLAGS] = kept.outcome.data_ptr() + start["sure"]
    else:
        held += read(kept[: len(FACTOR)], B, table, KEPT)
        table[FLAGS] = kept.ok.data_ptr()
    held += read(point, B, table, POINT)
    made = [None if one is None else ready.empty(one) for one in ready.likes]
    table[VECTORS:LOST] = array("q", [0 if one is None else one.data_ptr() for one in made[:4]])
    table[MATRICES : MATRICES + 3] = array("q", [0 if one is None else one.data_ptr() for one in made[4:]])
    table[LOST] = table.buffer_info()[0] + 8 * derivative.WORDS
    threads.run(ready.work, table, NO_NUMBERS)
    del held
    lost = torch.frombuffer(table, dtype=torch.bool, count=B, offset=8 * derivative.WORDS) if table[derivative.LOST] else None
    return made, lost


def read(tensors: Sequence[Tensor | None], B: int, table: array[int], first: int) -> list[Tensor]:
    """Say from place ``first`` on where tensors begin; strides are there. What is not laid out problem by problem is copied.

    The list keeps the copies alive.
    """
    copies = []
    for place, tensor in enumerate(tensors):
        if tensor is None:
            continue
        at = first + 2 * place
        if not tensor.is_contiguous() or tensor.is_neg():  # a view that promises minus what its memory holds
            tensor = tensor.detach().resolve_neg()
            if table[at + 1] and tensor.shape[0] == B and not tensor.stride(0):
                tensor, table[at + 1] = tensor[:1], 0
            tensor = tensor.contiguous()
            copies.append(tensor)
        try:
            table[at] = tensor.data_ptr()
        except RuntimeError:  # a wrapper without memory, escaped from a transform of torch.func; what is computed of it is none
            copies.append(tensor.clone())
            table[at] = copies[-1].data_ptr()
    return copies


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
    shared = threads.pays(blocks, shape.W * flops / FLOPS_PER_NS)
    return Work(machine.kernel(program, n, shape), blocks, 8 * shape.W * scratch, shared)
