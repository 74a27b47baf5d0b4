"""At what kind of point a gradient was taken: computed when asked, from the unregularised problem.

weakly_active    s_i and z_i both vanish against their own terms: x has a kink here, the gradient is one of several
licq             active rows are linearly dependent: multipliers are not unique, and x may have a kink where the rows move apart
nonunique        a flat direction lies in the active constraints: x is not unique, the gradient is the one of least norm
ill_conditioned  active rows or reduced curvatures are within sqrt(eps) of losing rank, relative to the largest
masked           the item failed: its gradient is zero

Flags are answers; the two numbers behind them say how far a point is from the next one. With the active rows C on the free
variables F brought to unit length, and Q divided by its largest entry there,

    K = [Q_FF  C']      rcond = min |eigenvalue| / max |eigenvalue|     0: licq or nonunique      margin: the least, over all
        [C     0 ]                                                      inequalities, of max(s_i, z_i), each over its own terms

No regularisation enters K: a regularised system never looks singular. Of a compiled problem, flat directions that leave the user's
variables in place do not count: t >= |x| where t costs nothing is no defect of x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntFlag

import torch
from torch import Tensor

from .data import QPData, QPSolution
from .minimum_norm import DEPENDENT, curved
from .options import EPS
from .products import matvec


class GradientFlag(IntFlag):
    """Bits of ``gradient_flags``; 0 is a regular point."""

    weakly_active = 1
    licq = 2
    nonunique = 4
    ill_conditioned = 8
    masked = 16


@dataclass(frozen=True)
class Conditioning:
    """How regular the points are at which gradients were taken: one entry per item, detached; NaN where the item failed.

    ``flags``: bitmask of ``GradientFlag``, int64. ``rcond``: reciprocal condition number, 0 to 1, of the optimality system that a
    derivative solves, rows and objective scaled to one, nothing added to it. ``margin``: strict complementarity, the least over all
    inequalities of the larger of slack and multiplier, relative to their own terms; inf where there is no inequality.
    """

    flags: Tensor
    rcond: Tensor
    margin: Tensor


def conditioning(data: QPData, solution: QPSolution, own: Tensor | None = None) -> Conditioning:
    """Flags, reciprocal condition number and margin of each item, (B,). ``own``: the columns that count, all by default."""
    failed, nan = ~solution.ok, torch.nan
    flags, spare = _flags(data, solution, own)
    rcond, margin = _rcond(data, solution, spare), _margin(data, solution)
    return Conditioning(flags, rcond.masked_fill(failed, nan), margin.masked_fill(failed, nan))


def gradient_flags(data: QPData, solution: QPSolution, own: Tensor | None = None) -> Tensor:
    """Bitmask of ``GradientFlag`` for each item, int64 (B,). ``own``: the columns that count, all by default."""
    return _flags(data, solution, own)[0]


@torch.no_grad()
def _margin(data: QPData, solution: QPSolution) -> Tensor:
    """min over inequalities of max(s_i / its terms, pull of z_i / pull of the objective), (B,); inf where there are none.

    A multiplier is small if its pull on x is small beside the pull of the objective. At the apex of a cone, p = 0 and x = 0, both
    are rounding; so a pull that moves x by less than eps of its size, which no solution knows, is small as well.
    """
    Q, G, h = (part.nan_to_num(0, 0, 0) for part in ((data.Q + data.Q.mT) / 2, data.G, data.h))
    x, z, s = (part.nan_to_num(0) for part in (solution.x, solution.z, solution.s))
    size, p = x.abs(), data.p.nan_to_num(0, 0, 0).abs().amax(1)
    largest = Q.abs().flatten(1).amax(1)
    unknown = math.sqrt(EPS[Q.dtype]) * largest * _typical(data, p, largest)
    gradient = torch.maximum(matvec(Q, x).abs().amax(1) + p, torch.where(largest + p > 0, unknown, 1))
    gradient = gradient.clamp(min=1e-300).unsqueeze(1)
    length = torch.linalg.vector_norm(G, dim=2)
    slack = s.abs() / (length.clamp(max=1) + h.abs() + matvec(G.abs(), size)).clamp(min=1e-300)
    larger = torch.maximum(slack, z * length / gradient)
    parts = [torch.where(torch.isfinite(data.h) & (length > 0), larger, torch.inf)]
    for bound, multiplier in ((data.lb, solution.z_lb), (data.ub, solution.z_ub)):
        if bound is not None:
            value = bound.nan_to_num(0, 0, 0)
            away = (x - value).abs() / (1 + value.abs() + size)
            larger = torch.maximum(away, multiplier.nan_to_num(0) / gradient)
            parts.append(torch.where(torch.isfinite(bound), larger, torch.inf))
    parts.append(torch.full_like(x[:, :1], torch.inf))
    return torch.cat(parts, 1).amin(1)


def _typical(data: QPData, p: Tensor, Q: Tensor) -> Tensor:
    """The size of x that the data suggest, at most 1: right-hand sides over their rows, and the largest p over that of Q; (·)."""
    sides = [(data.h, data.G), (data.b, data.A), (data.lb, None), (data.ub, None)]
    found = torch.where(Q > 0, p / torch.where(Q > 0, Q, 1), 0)
    for side, rows in sides:
        if side is not None and side.shape[1]:
            value = side.nan_to_num(0, 0, 0).abs()
            length = value.new_ones(()) if rows is None else rows.nan_to_num(0, 0, 0).abs().amax(2)
            ratio = torch.where(length > 0, value / torch.where(length > 0, length, 1), 0)
            found = torch.maximum(found, ratio.amax(1))
    return torch.where(found > 0, found.clamp(max=1), 1)


@torch.no_grad()
def _rcond(data: QPData, solution: QPSolution, spare: Tensor) -> Tensor:
    """min |eigenvalue| / max |eigenvalue| of K, (B,); 1 where nothing is free and nothing active.

    Items differ in how many rows and variables take part: those that do not stand as zeros, and as many zero eigenvalues are not
    counted; nor are the ``spare`` flat directions (B,) that move nothing of interest.
    """
    B, n = solution.x.shape
    k = data.sizes[2]
    free = ~(solution.active.lb | solution.active.ub)
    Q = ((data.Q + data.Q.mT) / 2).nan_to_num(0, 0, 0) * free.unsqueeze(2) * free.unsqueeze(1)
    largest = Q.abs().flatten(1).amax(1)[:, None, None]
    Q = Q / torch.where(largest > 0, largest, 1)
    active = solution.active.rows
    count = int(active.sum(1).max()) if active.numel() else 0
    chosen = active.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    taken = active.gather(1, chosen)
    G = data.G.nan_to_num(0, 0, 0).expand(B, -1, -1).gather(1, chosen.unsqueeze(2).expand(-1, -1, n)) * taken.unsqueeze(2)
    C = torch.cat([data.A.nan_to_num(0, 0, 0).expand(B, -1, -1), G], 1)
    wanted = torch.linalg.vector_norm(C, dim=2, keepdim=True)
    C = C * free.unsqueeze(1)
    C = C * (torch.linalg.vector_norm(C, dim=2, keepdim=True) > DEPENDENT[C.dtype] * wanted)  # else all of it is at bounds
    length = torch.linalg.vector_norm(C, dim=2, keepdim=True)
    C = C / torch.where(length > 0, length, 1)
    r = C.shape[1]
    K = torch.cat([torch.cat([Q, C.mT], 2), torch.cat([C, C.new_zeros(B, r, r)], 2)], 1)
    if not K.shape[1] or not B:
        return Q.new_ones(B)
    size = torch.linalg.eigvalsh(K).abs().sort(1).values
    idle = (n - free.sum(1)) + (r - k - taken.sum(1)) + spare
    least = torch.cat([size, size.new_full((B, 1), torch.inf)], 1).gather(1, idle.unsqueeze(1)).squeeze(1)
    return torch.where(idle < n + r, least / size[:, -1].clamp(min=torch.finfo(size.dtype).tiny), 1.0)


@torch.no_grad()
def _flags(data: QPData, solution: QPSolution, own: Tensor | None) -> tuple[Tensor, Tensor]:
    """Flags of each item, and how many flat directions leave ``own`` in place, both int64 (B,)."""
    dtype = data.Q.dtype
    near = math.sqrt(EPS[dtype])
    Q = ((data.Q + data.Q.mT) / 2).nan_to_num(0, 0, 0)
    G, A = data.G.nan_to_num(0, 0, 0), data.A.nan_to_num(0, 0, 0)
    B, n = solution.x.shape
    x = solution.x
    weak = _margin(data, solution) <= near

    at_bound = solution.active.lb | solution.active.ub
    rows = torch.cat([A.expand(B, -1, -1), (G * solution.active.rows.unsqueeze(2)).expand(B, -1, -1)], 1)
    # A variable at a bound drops out; rows that have nothing else left depend on the bounds.
    wanted = torch.linalg.vector_norm(rows, dim=2)
    rows = rows / torch.where(wanted > 0, wanted, 1).unsqueeze(2)
    is_row = torch.cat([torch.ones(B, A.shape[1], dtype=torch.bool, device=x.device), solution.active.rows], 1)
    C = rows * ~at_bound.unsqueeze(1)
    S = torch.linalg.svdvals(C) if C.shape[1] else x.new_zeros(B, 0)
    largest = S.amax(1, keepdim=True).clamp(min=torch.finfo(dtype).tiny) if S.shape[1] else x.new_ones(B, 1)
    count = is_row.sum(1)
    rank = (DEPENDENT[dtype] * largest < S).sum(1)
    licq = rank < count
    ill = (DEPENDENT[dtype] * largest < S) & (near * largest > S)

    _, _, Vt = torch.linalg.svd(torch.cat([C, torch.diag_embed(at_bound.to(dtype))], 1), full_matrices=False)
    combined = torch.linalg.svdvals(torch.cat([C, torch.diag_embed(at_bound.to(dtype))], 1))
    kept = combined > DEPENDENT[dtype] * combined.amax(1, keepdim=True)
    null = torch.eye(n, dtype=dtype, device=x.device) - Vt.mT @ (Vt * kept.unsqueeze(2))
    reduced = null @ Q @ null
    reduced = (reduced + reduced.mT) / 2
    curvature, V = torch.linalg.eigh(reduced)
    scale = torch.linalg.matrix_norm(Q, ord=torch.inf).unsqueeze(1)
    free = n - kept.sum(1)
    bends = curved(curvature, V, Q)
    flat = free - bends.sum(1)
    moving = flat if own is None else _moving(Q, reduced, null, scale, own)
    nonunique = moving > 0
    low = bends & (curvature < near * scale)

    masked = ~solution.ok
    flags = torch.zeros(B, dtype=torch.int64, device=x.device)
    found = ((weak, 1), (licq, 2), (nonunique, 4), (ill.any(1) | low.any(1), 8))
    for condition, bit in found:
        flags = flags | torch.where(condition & ~masked, bit, 0)
    return flags | torch.where(masked, int(GradientFlag.masked), 0), (flat - moving).clamp(min=0)


def _moving(Q: Tensor, reduced: Tensor, null: Tensor, scale: Tensor, own: Tensor) -> Tensor:
    """How many flat directions, seen in the columns ``own`` alone, are left: the rank of that part of a basis; (B,)."""
    dtype = reduced.dtype
    scale = torch.where(scale > 0, scale, 1)
    eye = torch.eye(reduced.shape[1], dtype=dtype, device=reduced.device)
    curvature, V = torch.linalg.eigh(reduced + scale.unsqueeze(2) * (eye - null))  # directions across rows are not flat
    part = V[:, own] * ~curved(curvature, V, Q).unsqueeze(1)
    rank: Tensor = (torch.linalg.svdvals(part) > math.sqrt(EPS[dtype])).sum(1)
    return rank
