"""At what kind of point a gradient was taken: computed when asked, from the unregularised problem.

weakly_active    s_i and z_i both vanish against their own terms: x has a kink here, the gradient is one of several
licq             active rows are linearly dependent: multipliers are not unique
nonunique        a flat direction lies in the active constraints: x is not unique, the gradient is the one of least norm
ill_conditioned  active rows or reduced curvatures are within sqrt(eps) of losing rank, relative to the largest
masked           the item failed: its gradient is zero
"""

from __future__ import annotations

import math
from enum import IntFlag

import torch
from torch import Tensor

from .data import QPData, QPSolution
from .minimum_norm import DEPENDENT, FLAT
from .options import EPS
from .products import matvec


class GradientFlag(IntFlag):
    """Bits of ``gradient_flags``; 0 is a regular point."""

    weakly_active = 1
    licq = 2
    nonunique = 4
    ill_conditioned = 8
    masked = 16


@torch.no_grad()
def gradient_flags(data: QPData, solution: QPSolution) -> Tensor:
    """Bitmask of ``GradientFlag`` for each item, int64 (B,)."""
    dtype = data.Q.dtype
    near = math.sqrt(EPS[dtype])
    Q = ((data.Q + data.Q.mT) / 2).nan_to_num(0, 0, 0)
    G, A = data.G.nan_to_num(0, 0, 0), data.A.nan_to_num(0, 0, 0)
    B, n = solution.x.shape
    x, z, s = (part.nan_to_num(0) for part in (solution.x, solution.z, solution.s))
    size = x.abs()
    h = data.h.nan_to_num(0, 0, 0)
    gradient = matvec(Q, x).abs().amax(1) + data.p.nan_to_num(0, 0, 0).abs().amax(1)
    row_length = torch.linalg.vector_norm(G, dim=2)
    row_terms = row_length.clamp(max=1) + h.abs() + matvec(G.abs(), size)
    # A multiplier is small if its pull on x is small beside the pull of the objective.
    pull = z * row_length
    weak = (s.abs() <= near * row_terms) & (pull <= near * gradient.clamp(min=1e-300).unsqueeze(1)) & (row_length > 0)
    weak = (weak & torch.isfinite(data.h)).any(1)
    for bound, multiplier in ((data.lb, solution.z_lb), (data.ub, solution.z_ub)):
        if bound is not None:
            value = bound.nan_to_num(0, 0, 0)
            close = ((x - value).abs() <= near * (1 + value.abs() + size)) & torch.isfinite(bound)
            weak = weak | (close & (multiplier <= near * gradient.unsqueeze(1))).any(1)

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
    curvature = torch.linalg.eigvalsh((reduced + reduced.mT) / 2)
    scale = torch.linalg.matrix_norm(Q, ord=torch.inf).unsqueeze(1)
    free = n - kept.sum(1)
    curved = (curvature > FLAT[dtype] * scale).sum(1)
    nonunique = curved < free
    low = (curvature > FLAT[dtype] * scale) & (curvature < near * scale)

    masked = ~solution.ok
    flags = torch.zeros(B, dtype=torch.int64, device=x.device)
    found = ((weak, 1), (licq, 2), (nonunique, 4), (ill.any(1) | low.any(1), 8))
    for condition, bit in found:
        flags = flags | torch.where(condition & ~masked, bit, 0)
    return flags | torch.where(masked, int(GradientFlag.masked), 0)
