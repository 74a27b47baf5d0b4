"""Active-set polish: from an iterate to the exact solution of the constraints that it shows to be active, and its factored KKT
system.

Rows with z > s, and bounds with z_lb > x - lb or z_ub > ub - x (each over its own scale), are held with equality. What remains,

    [Q   A'  G_a'  I_f'] [x]     [-p ]
    [A                 ] [y]     [b  ]            a: active rows,  f: variables at a bound
    [G_a               ] [z_a] = [h_a]
    [I_f               ] [w]     [x_f]            w: the multiplier of the bound, z_ub - z_lb

is solved by a few steps of refinement from the iterate. The factor is kept: it is the system of the derivative. An interior-point
factor would not do: with D = z/s it loses digits as the solve gets better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import kkt
from .products import matvec, vecmat
from .residuals import Point
from .scaled import Scaled
from .screen import Clean

# The residual of rows at an angle of e is e times what is missing of x, and e² times what is missing of their multipliers: 1e-10
# is proof of nothing there. But what is missing shrinks by 1/(1 + e²/delta) with each refinement, so it shows in the last of them.
STEADY = {torch.float64: 1e-6, torch.float32: 1e-1}


@dataclass(frozen=True)
class Active:
    """What is held with equality: rows of [A; G] (B,k+m), and variables at a lower or at an upper bound (B,n)."""

    rows: Tensor
    lower: Tensor
    upper: Tensor


@dataclass(frozen=True)
class Factor:
    """The factored KKT system of an active set, in the units of the problem: plain tensors that every derivative reuses.

    (Q + W'DW)^-1 is ``scale`` (U'U)^-1 ``scale`` on the free variables; ``scale`` (B,n) is 0 on those at a bound. ``weight``
    (B,k+m) is D, 0 on inactive rows; ``unit`` (B,1) is the size of the objective; ``flat`` (B,1) is the least eigenvalue of U'U
    where a direction has neither curvature nor a row that holds it, else 0; ``lower`` and ``upper`` (B,n) mark the bounds. Where
    Q is diagonal, a two-dimensional U stands for the system in the multipliers: ``dense`` makes one as described.
    """

    U: Tensor
    scale: Tensor
    weight: Tensor
    unit: Tensor
    flat: Tensor
    lower: Tensor
    upper: Tensor

    def apply(self, r_x: Tensor, r_w: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """An approximate solution (u_x, u_w) of the system, exact up to the proximal terms of ``kkt``."""
        weighted = self.weight * r_w
        u_x = self.scale * kkt.solve(self.U, (self.scale * (r_x + vecmat(weighted, W))).unsqueeze(1)).squeeze(1)
        return u_x, self.weight * matvec(W, u_x) - weighted


def factorize(qp: Scaled, active: Active, d: Tensor, e: Tensor, softness: float = 1.0) -> tuple[Factor, Tensor]:
    """Factor the system of an active set, and whether the factor exists. ``softness``: multiple of the usual regularisation."""
    dtype = qp.Q.dtype
    free = ~(active.lower | active.upper)
    Q, W, Wt = qp.Q, qp.W, qp.Wt
    if qp.coefficients:
        W, Wt = W * free.unsqueeze(1), Wt * free.unsqueeze(2)
        Q = Q * free.unsqueeze(1) * free.unsqueeze(2)
    unit = qp.unit.squeeze(2)
    D = active.rows * (unit / kkt.DELTA[dtype])
    work = kkt.Workspace(len(D), qp.n, W.shape[1], D)
    # A box of 1e-9 makes multipliers, and with them ``unit``, a billion times what Q is: that much would drown a small p_j.
    held = active.rows.any(1, keepdim=True)
    rho = softness * kkt.RHO[dtype] * qp.curvature.squeeze(2) + torch.where(held, kkt.rounding(qp.n, dtype) * unit, 0)
    rho = torch.where(free, rho, unit)
    U, exists = work.factor(Q, W, Wt, D.unsqueeze(1), rho.unsqueeze(1))
    return Factor(U, d * free, D * e * e, unit, kkt.flat(U, unit), active.lower, active.upper), exists


def dense(factor: Factor, Q: Tensor, W: Tensor) -> Factor:
    """A factor whose U is that of the system in the multipliers (``cpu/dual.py``), two-dimensional, as all others are."""
    if factor.U.dim() == 3:
        return factor
    dtype, unit, S = Q.dtype, factor.unit, factor.scale
    scaled = S.unsqueeze(2) * ((Q + Q.mT) / 2) * S.unsqueeze(1)
    rows = W * S.unsqueeze(1)
    held = (factor.weight > 0).any(1, keepdim=True)
    curvature = scaled.abs().amax((1, 2)).unsqueeze(1)
    added = kkt.RHO[dtype] * torch.where(curvature > 0, curvature, unit) + torch.where(
        held, kkt.rounding(Q.shape[2], dtype) * unit, 0
    )
    H = scaled + (rows * factor.weight.unsqueeze(2)).mT @ rows + torch.diag_embed(torch.where(S > 0, added, unit))
    return replace(factor, U=torch.linalg.cholesky_ex(H).L.mT.contiguous())


def polish(
    clean: Clean,
    factor: Factor,
    point: Point,
    refinements: int,
    apply: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
) -> tuple[Point, Tensor]:
    """The solution of the active set's system, refined from ``point``; multipliers clamped to >= 0, x to its bounds. And whether
    the last refinement left the multipliers where they were, (B,).

    A refinement wins about six digits (1/delta) on a regular problem. ``apply`` solves for (u_x, u_w); the factor's own by default.
    """
    at = [(bound, mask) for bound, mask in ((clean.lower, factor.lower), (clean.upper, factor.upper)) if bound is not None]
    x = point.x
    for bound, mask in at:
        x = torch.where(mask, bound.value, x)
    w = torch.where(factor.weight > 0, point.w, 0)
    for _ in range(refinements):
        r_x = -(vecmat(x, clean.Q) + clean.p + vecmat(w, clean.W))
        r_w = clean.rhs - matvec(clean.W, x)
        u_x, u_w = factor.apply(r_x, r_w, clean.W) if apply is None else apply(r_x, r_w)
        x, w = x + u_x, w + u_w
    steady = _steady(clean, factor, w, u_w)
    w = torch.cat([w[:, : clean.k], w[:, clean.k :].clamp(min=0)], 1)
    if not at:
        return Point(x, w, point.z_lb, point.z_ub), steady
    x = clean.clamp(x)
    reduced = vecmat(x, clean.Q) + clean.p + vecmat(w, clean.W)
    z_lb = torch.where(factor.lower, reduced, 0).clamp(min=0)
    z_ub = torch.where(factor.upper, -reduced, 0).clamp(min=0)
    return Point(x, w, z_lb, z_ub), steady


def _steady(clean: Clean, factor: Factor, w: Tensor, u_w: Tensor) -> Tensor:
    """Whether an update of the multipliers is small beside them, or beside p, in the units of the equilibration."""
    row_unit = (factor.weight * factor.unit * kkt.DELTA[w.dtype]).sqrt()
    inverse = torch.where(row_unit > 0, 1 / row_unit, 0)
    cost = (clean.p * factor.scale).abs().amax(1)
    size = torch.where(cost > 0, cost, 1) / factor.unit.squeeze(1)
    if not w.shape[1]:
        return torch.ones_like(size, dtype=torch.bool)
    update, held = ((part * inverse).abs().amax(1) for part in (u_w, w))
    return update <= STEADY[w.dtype] * torch.maximum(size, held)
