"""A batch by the compiled programs of ``backends.cpu``, problems side by side, as far as proof goes.

The method and its constants are those for dense matrices; what is sparse are its products and its factorization, which go by the
tables of the structure. Nothing is done item by item here; what is not proved is left to ``find``.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..cpu import derivative, machine, solve, threads
from ..cpu.engine import NO_NUMBERS, attempts, read
from ..cpu.patterned import Places
from ..cpu.problem import SPARSE, Sizes
from ..cpu.threads import Work
from ..data import Active, QPSolution, Ray, Residuals, WarmStart
from ..options import Options
from ..status import Status
from . import costs
from .data import SparseData
from .symbolic import address
from .tables import Tables, counted, tables


@dataclass(frozen=True)
class Kept:
    """What the derivative needs: the factors, for the items that are ``proved``, and the active sets. Results are not among them:
    these would hold what holds them, and a field that somebody writes to must not reach a gradient.
    """

    at: Tables
    shape: machine.Layout
    factor: tuple[Tensor, ...]  # L, scale, weight, unit, flat
    proved: Tensor
    active: Active


def find(data: SparseData, options: Options, warm: WarmStart | None, keep: bool) -> tuple[QPSolution, Kept] | None:
    """Solve a batch, as if all were proved; the rows of those that are not are void. ``keep``: whether the factors are wanted.

    None if one by one they are faster, or the structure does not suit.
    """
    if not _pays(data, options):
        return None
    at = tables(data.structure)
    if at is None:
        return None
    B = data.batch
    n, m, k = data.sizes
    lower, upper = (0 if bound is None else n for bound in (data.lb, data.ub))
    empty, flags = data.p.new_empty, torch.bool
    x, z_lb, z_ub = (empty((B, n)) for _ in range(3))
    y, z, s, scaled, absolute = (empty((B, size)) for size in (k, m, m, 4, 4))
    factor = tuple(empty((B, size)) for size in (at.places.stored, n, m + k, 1, 1)) if keep else ()
    proved, taken = torch.zeros(B, dtype=flags, device="cpu"), torch.empty(B, dtype=torch.int32, device="cpu")
    rows, at_lower, at_upper = (torch.zeros((B, size), dtype=flags, device="cpu") for size in (m, n, n))
    solution, marks = (x, y, z, z_lb, z_ub, s, scaled, absolute, taken, proved), (rows, at_lower, at_upper)

    before = (None,) * 5 if warm is None else (warm.x, warm.y, warm.z, warm.z_lb, warm.z_ub)
    given = data.Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub, *before
    words = [B, m, k, lower, upper, address(at.words), 0, *_strides(given)]
    words += [result.data_ptr() for result in solution]
    words += [part.data_ptr() for part in factor] or [0] * 5
    words += [mark.data_ptr() for mark in marks]
    tried, numbers = attempts(options.tolerance(data.p.dtype), options.max_iter, m + lower + upper > 0, warm is not None)
    table = array("q", words + tried)
    held = read(given, B, table, solve.LEFT + 1)
    # The steps are the same side by side or alone, and so is their rounding.
    shape = machine.alone() if B == 1 else machine.lanes()
    threads.run(_work("solve_sparse", at.places, at.products, shape, B, m, k, lower, upper), table, numbers)
    del held  # until here, what was read had to live
    none = [torch.zeros(B, size, dtype=x.dtype, device="cpu") for size in (n, k, m, n, n)]
    status = torch.full((B,), int(Status.SOLVED), dtype=torch.int8, device="cpu")
    kept = Kept(at, shape, factor, proved.clone(), Active(*(mark.clone() for mark in marks)))
    points = x, y, z, z_lb, z_ub, s
    return QPSolution(*points, status, proved, taken, Residuals(scaled, absolute), Active(*marks), Ray(*none)), kept


def derive(data: SparseData, kept: Kept, r: Sequence[Tensor]) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """u = K^-1 r, r = (r_x, r_y, r_z, r_w), with the kept factors: (u_x, u_y, u_z, u_w), zero for items that are not proved.

    And the items whose system is singular, (B,).
    """
    at, B = kept.at, data.batch
    n, m, k = data.sizes
    empty = data.p.new_empty
    d_x, l_y, l_z, l_w = (empty((B, size)) for size in (n, k, m, n))
    lost = torch.zeros(B, dtype=torch.bool, device="cpu")
    given = data.Q, data.G, data.A, *r, *kept.factor, None, None, None  # x, y, z: gradients of matrices are made elsewhere
    results = kept.proved, d_x, l_y, l_z, l_w, lost
    words = [B, m, k, address(at.words), 0, *_strides(given), *(result.data_ptr() for result in results), 0, 0, 0]
    table = array("q", words)
    held = read(given, B, table, derivative.LOST + 1)
    threads.run(_work("derivative_sparse", at.places, at.products, kept.shape, B, m, k, 0, 0), table, NO_NUMBERS)
    del held
    return (d_x.neg_(), l_y, l_z, l_w), lost


def _strides(tensors: Sequence[Tensor | None]) -> list[int]:
    """Room for the address of each tensor, and the doubles from one problem to the next."""
    words = []
    for tensor in tensors:
        words += [0, tensor.shape[1] if tensor is not None and len(tensor) > 1 else 0]
    return words


def _pays(data: SparseData, options: Options) -> bool:
    """Whether so many problems are faster together than one by one."""
    if options.batch_invariant or not data.batch:
        return data.batch > 0
    rows, most = sum(data.sizes), data.batch * costs.BY_ITEM
    if costs.block(0, rows) > most:  # whatever the pattern
        return False
    system = counted(data.structure)
    return system is not None and costs.block(system.products, rows) <= most


@lru_cache(maxsize=256)
def _work(
    program: str, places: Places, products: int, shape: machine.Layout, batch: int, m: int, k: int, lower: int, upper: int
) -> Work:
    n = places.n
    sizes = Sizes(n, m, k, lower, upper, SPARSE, shape.along, places)
    # A backward pass is a tenth of a solve.
    each = costs.together(products, places.stored + places.q + places.w + n + m + k)
    if program.startswith("solve"):
        scratch = solve.scratch_size(sizes)
    else:
        scratch, each = derivative.scratch_size(sizes), each / 10
    blocks = -(-batch // shape.W)
    shared = threads.pays(blocks, shape.W * each)
    return Work(machine.kernel(program, 0, shape), blocks, 8 * shape.W * scratch, shared)
