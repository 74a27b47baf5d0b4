"""u = K^-1 r for the KKT system of an active set (see ``adjoint``), refined against the system itself.

The factor solves a softened system. Each refinement shrinks the error by the ratio of what was softened to what was there, so
that a regular system takes two or three. An item whose residual does not vanish has no or many solutions: it is given the
least-squares solution of least norm, from its own data.

A residual of 1e-9 says little where rows are nearly parallel: for A = [[1, 0], [1, e]] the part of A^-T w that is still missing
leaves e² times itself, and shrinks by 1/(1 + e²/delta) at a time. What shows it is that the updates do not fade. So an item that
falls short of ``ACCURATE`` counts as solved only if its last update was at most ``STEADY``; rounding alone makes it 1e-10.

A right-hand side that a flat direction v does not see has solutions, and refinement ends at the one of least norm in the units of
the equilibration. In those of the problem its norm may be a thousand times the least: Q = uu', u = (1, 1000), r_x = u. So an item
with a flat direction is looked at again: with M = U'U, and M v = rho v, M^-1 makes v of whatever there is of v in u_x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import kkt
from .alone import each
from .minimum_norm import solve as minimum_norm
from .polish import Factor, dense
from .products import matvec, vecmat

REFINEMENTS = 8
ACCURATE = {torch.float64: 1e-13, torch.float32: 1e-6}
CONSISTENT = {torch.float64: 1e-9, torch.float32: 1e-3}
STEADY = {torch.float64: 1e-8, torch.float32: 1e-2}  # an update over the solution
SEEN = 1e-6  # of a flat direction in a solution, over the solution

Parts = tuple[Tensor, Tensor, Tensor, Tensor]


def solve(Q: Tensor, G: Tensor, A: Tensor, r: Parts, factor: Factor, ok: Tensor, give: Tensor | None = None) -> Parts:
    """(u_x, u_y, u_z, u_w) with u_z = 0 on inactive rows and u_w = 0 on free variables; 0 for items that are not ``ok``.

    ``give`` (B,k+m): how far rows give way, W u_x - give u_w = r_w; None where they are held.
    """
    k, dtype = A.shape[1], Q.dtype
    sizes = [part.shape[0] for part in (*r, ok, Q, G, A)]
    B = max(sizes) if all(sizes) else 0
    Q = (Q + Q.mT) / 2
    W = _stack(A, G)
    factor = dense(factor, Q, W)
    at_bound = factor.lower | factor.upper
    r_x, r_y, r_z, r_bound = (part.expand(B, -1) for part in r)
    r_w = torch.where(factor.weight > 0, torch.cat([r_y, r_z], 1), 0)
    u_x = torch.where(at_bound, r_bound, 0)
    # Lengths in the units of the factor, for which all rows and variables are alike.
    row_unit = (factor.weight * factor.unit * kkt.DELTA[dtype]).sqrt()
    u_w = torch.zeros_like(r_w)
    left_x, left_w = r_x, r_w
    first = _length(left_x, left_w, factor.scale, row_unit)
    if bool(at_bound.any()):
        terms = vecmat(u_x.abs(), Q.abs()), matvec(W.abs(), u_x.abs())
        first = torch.maximum(first, _length(*terms, factor.scale, row_unit))
        left_x, left_w = r_x - vecmat(u_x, Q), r_w - matvec(W, u_x)
    # An item that is done stays as it is: how long the others take must not reach it.
    going = ok
    for _ in range(REFINEMENTS):
        du_x, du_w = factor.apply(left_x, left_w, W)
        more = going.unsqueeze(1)
        u_x, u_w = torch.where(more, u_x + du_x, u_x), torch.where(more, u_w + du_w, u_w)
        left_x = r_x - vecmat(u_x, Q) - vecmat(u_w, W)
        left_w = r_w - matvec(W, u_x) + (0 if give is None else give * u_w)
        error = _length(left_x, left_w, factor.scale, row_unit)
        going = going & (error > ACCURATE[dtype] * first)
        if not bool(going.any()):
            break
    u_bound = torch.where(at_bound, left_x, 0)
    lost = ok & ~(error <= CONSISTENT[dtype] * first)
    if bool(going.any()):
        inverse, inverse_row = (torch.where(unit > 0, 1 / unit, 0) for unit in (factor.scale, row_unit))
        update, size = (_length(*u, inverse, inverse_row) for u in ((du_x, du_w), (u_x, u_w)))
        lost = lost | (going & ~(update <= STEADY[dtype] * size))
    lost = lost | (ok & _sees_flat(u_x, factor))
    if give is None and bool(lost.any()):
        items = lost.expand(B).nonzero().squeeze(1)
        parts = (Q, W, r_x, r_w, r_bound, factor.weight > 0, at_bound)
        found = minimum_norm(*(part if part.shape[0] == 1 else part[items] for part in parts))
        u_x, u_w, u_bound = (u.index_copy(0, items, new) for u, new in zip((u_x, u_w, u_bound), found, strict=True))
    keep = ok.unsqueeze(1)
    u_x, u_w, u_bound = (torch.where(keep, u, 0) for u in (u_x, u_w, u_bound))
    return u_x, u_w[:, :k], u_w[:, k:], u_bound


def solved(alone: bool, Q: Tensor, G: Tensor, A: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
    """``solve`` for (r_x, r_y, r_z, r_w), the tensors of a factor, and ok; for one item after the other if ``alone``."""

    def whole(Q: Tensor, G: Tensor, A: Tensor, r_x: Tensor, r_y: Tensor, r_z: Tensor, r_w: Tensor, *rest: Tensor) -> Parts:
        *factor, ok = rest
        return solve(Q, G, A, (r_x, r_y, r_z, r_w), Factor(*factor), ok)

    return each(whole, Q, G, A, *rest) if alone else whole(Q, G, A, *rest)


def _length(left_x: Tensor, left_w: Tensor, scale: Tensor, row_unit: Tensor) -> Tensor:
    return torch.cat([left_x * scale, left_w * row_unit], 1).abs().amax(1)


def _sees_flat(u_x: Tensor, factor: Factor) -> Tensor:
    """Whether u_x has a part along a direction without curvature that no row holds, (B,)."""
    there = factor.flat.squeeze(1) > 0
    if not bool(there.any()):
        return there
    scaled = factor.scale * u_x
    along = kkt.solve(factor.U, scaled.unsqueeze(1)).squeeze(1)
    return there & (along.abs().amax(1) * factor.flat.squeeze(1) > SEEN * scaled.abs().amax(1))


def _stack(A: Tensor, G: Tensor) -> Tensor:
    if not A.shape[1] or not G.shape[1]:
        return A if A.shape[1] else G
    B = max(A.shape[0], G.shape[0])
    return torch.cat([A.expand(B, -1, -1), G.expand(B, -1, -1)], 1)
