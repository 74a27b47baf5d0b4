"""How good an answer is, on the original data; statuses are derived from nothing else.

With f = 1/2 x'Qx + p'x and d = -1/2 x'Qx - h'z - b'y + lb'z_lb - ub'z_ub:

    ineq_i = [G_i x - h_i]+ / (u_i + |h_i| + |G_i||x|)       eq_i  the same with A, b and both signs
    dual_j = |Qx + p + G'z + A'y - z_lb + z_ub|_j / (u_j + |Q_j||x| + |p_j| + |G_j|'z + |A_j|'|y| + z_lb_j + z_ub_j)
    gap    = |f - d| / (u_f + |f| + |d|)

    u_i = min(1, max|G_i|), 1 if that is 0     u_j = min(1, |p_j| + max|Q_j|), u_f if that is 0
    u_f = min(1, max|Q| + max|p|), 1 if that is 0

A row without coefficients has no units: real data contain 0'x <= -1e-17.

x lies within its bounds and multipliers are >= 0 when they come here. Each component is divided by the size of its own terms: one
global norm would accept anything in the rows that are small.

A floor of 1 still says nothing where the variables themselves are of size 1e-6. The engine therefore steers by *fair* floors, which
follow the units of x as well: with X = min(1, the size of x that right-hand sides and p/Q suggest),

    u_i = X min(1, max|G_i|)     u_j = min(1, |p_j| + X max|Q_j|)     u_f = min(1, X (X max|Q| + max|p|))

They are never larger, so that a residual by fair floors bounds the one by the definitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .data import Residuals
from .products import matvec, vecmat
from .screen import Clean

SURE = 1e-2  # a polished point with residuals below SURE * eps is the optimum, however it was found


@dataclass(frozen=True)
class Point:
    """A primal-dual candidate; ``w`` = (y, z)."""

    x: Tensor
    w: Tensor
    z_lb: Tensor
    z_ub: Tensor


@dataclass(frozen=True)
class Floors:
    """The u of the definitions: rows of W = [A; G], variables, objective (·,1)."""

    rows: Tensor
    columns: Tensor
    objective: Tensor


class Measure:
    """Measures candidates of one batch; what depends on the data alone is computed once."""

    def __init__(self, qp: Clean) -> None:
        self.qp = qp
        self.Q, self.W = qp.Q.abs(), qp.W.abs()
        self.p = qp.p.abs()
        self.largest = self.Q.amax(2)
        self.rows = self.W.amax(2) if self.W.shape[1] else self.W.new_zeros(self.W.shape[:2])
        self.fair = self._floors(self._typical())

    @property
    def floors(self) -> Floors:
        """The floors of the definitions."""
        return self._floors(1.0)

    def _floors(self, X: Tensor | float) -> Floors:
        objective = X * (X * self.largest.amax(1, keepdim=True) + self.p.amax(1, keepdim=True))
        objective = torch.where(objective > 0, objective.clamp(max=1), 1)
        columns = (X * self.largest + self.p).clamp_(max=1)
        columns = torch.where(columns > 0, columns, objective)
        rows = torch.where(self.rows > 0, X * self.rows.clamp(max=1), 1)
        return Floors(rows, columns, objective)

    def _typical(self) -> Tensor:
        """X: the size of x that the data suggest, at most 1; (·, 1)."""
        parts = [self.p.amax(1, keepdim=True) / self.largest.amax(1, keepdim=True)]
        if self.W.shape[1]:
            parts.append((self.qp.rhs.abs() / self.rows).nan_to_num(0, 0, 0).amax(1, keepdim=True))
        parts += [bound.value.abs().amax(1, keepdim=True) for bound in self.qp.bounds]
        size = parts[0].nan_to_num(0, 0, 0)
        for part in parts[1:]:
            size = torch.maximum(size, part)
        return torch.where(size > 0, size.clamp(max=1), 1)

    def residuals(self, point: Point, floors: Floors) -> Residuals:
        qp, x, w = self.qp, point.x, point.w
        k = qp.k
        size = x.abs()
        excess = matvec(qp.W, x) - qp.rhs
        excess = torch.cat([excess[:, :k].abs(), excess[:, k:].clamp(min=0)], 1)
        row_size = floors.rows + qp.rhs.abs() + matvec(self.W, size)
        row_size = torch.where(row_size > 0, row_size, 1)
        Qx = vecmat(x, qp.Q)
        dual = (Qx + qp.p + vecmat(w, qp.W) - point.z_lb + point.z_ub).abs()
        dual_size = floors.columns + vecmat(size, self.Q) + self.p + vecmat(w.abs(), self.W) + point.z_lb + point.z_ub
        xQx, px = torch.linalg.vecdot(x, Qx), torch.linalg.vecdot(x, qp.p)
        gap = xQx + px + torch.linalg.vecdot(w, qp.rhs)
        for bound, z in ((qp.lower, -point.z_lb), (qp.upper, point.z_ub)):
            gap = gap if bound is None else gap + torch.linalg.vecdot(bound.value, z)
        primal = xQx / 2 + px
        gap_size = floors.objective.squeeze(1) + primal.abs() + (primal - gap).abs()
        gap = gap.abs()
        scaled = (_worst((excess / row_size)[:, k:]), _worst((excess / row_size)[:, :k]), _worst(dual / dual_size), gap / gap_size)
        absolute = (_worst(excess[:, k:]), _worst(excess[:, :k]), _worst(dual), gap)
        return Residuals(torch.stack(scaled, 1), torch.stack(absolute, 1))

    def doubt(self, point: Point, floors: Floors) -> Tensor:
        """What rounding alone may make of the gap, over its size, (B,): |Q||x| may be a billion times what is left of it."""
        qp, size = self.qp, point.x.abs()
        terms = torch.linalg.vecdot(size, vecmat(size, self.Q)) + torch.linalg.vecdot(size, self.p)
        terms = terms + torch.linalg.vecdot(point.w.abs(), qp.rhs.abs())
        value = (torch.linalg.vecdot(point.x, vecmat(point.x, qp.Q)) / 2 + torch.linalg.vecdot(point.x, qp.p)).abs()
        doubt: Tensor = torch.finfo(terms.dtype).eps * terms / (floors.objective.squeeze(1) + value)
        return doubt


def _worst(r: Tensor) -> Tensor:
    return r.amax(1) if r.shape[1] else r.new_zeros(r.shape[0])
