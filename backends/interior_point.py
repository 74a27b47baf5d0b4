"""Mehrotra's predictor-corrector method on a batch of scaled quadratic programs.

    minimize 1/2 x'Qx + p'x   subject to   Ax = b,  Cx + s = h,  s >= 0;      C = [G; bounds],  W = [A; G]

    r_x = Qx + p + A'y + C'z        r_y = Ax - b        r_z = Cx + s - h        mu = s'z / M

A Newton step for s z = q s, where q is z for the predictor and z + (ds dz - sigma mu)/s for the corrector, eliminates ds and
d(y,z) with the weights D = (1/delta, z/s) of ``kkt``:

    t  =  D (r_y, r_z) - (0, q)         (Q + rho + [A;C]' D [A;C]) dx  =  -r_x - [A;C]' t
    d(y,z)  =  t + D [A;C] dx           ds  =  -s q/z - s dz/z

ds comes from the complementarity row: from the primal row, ds = -r_z - C dx, it loses all digits near a solution. One step length for
primal and dual. Items that are done are frozen by selection; nothing an item does reaches its mates.

Mehrotra, On the implementation of a primal-dual interior point method, 1992; the batch form follows OptNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kkt
from .products import vecmat

STEP = 0.99  # of the way to the boundary
STALL = 8  # iterations without a better iterate before an item gives up
READ_BACK = 4  # iterations between looks at a device that is not the CPU


@dataclass(frozen=True)
class Scaled:
    """An equilibrated problem, W = [A; G]; Wt is W' laid out by rows, for products from either side.

    ``coefficients``: for each kind of bound, (·,n) with -1 (lower) or 1 (upper), 0 where absent. ``cost`` is (p, -b, -h), so that
    the duality gap is x'Qx + p'x - cost'(0,y,z). ``floor``: least normalisers of the residuals (r_x, r_y, r_z), and of the gap.
    ``unit`` (B,1): size of the objective, which regularisation is relative to; ``theta`` (B,1): ratio of
    multipliers to slacks to be expected.
    """

    Q: Tensor
    W: Tensor
    Wt: Tensor
    coefficients: tuple[Tensor, ...]
    cost: Tensor
    floor: Tensor
    gap_floor: Tensor
    unit: Tensor
    theta: Tensor
    k: int

    @property
    def n(self) -> int:
        return self.Q.shape[2]

    @property
    def inequalities(self) -> int:
        """M: rows of G and bounds."""
        return self.cost.shape[1] - self.n - self.k

    def rows(self, x: Tensor) -> Tensor:
        """(Ax, Cx)."""
        Wx = vecmat(x, self.Wt)
        return torch.cat([Wx, *(e * x for e in self.coefficients)], 1) if self.coefficients else Wx

    def columns(self, w: Tensor) -> Tensor:
        """A'y + C'z for w = (y, z)."""
        rows = self.W.shape[1]
        if not self.coefficients:
            return vecmat(w, self.W)
        result = vecmat(w[:, :rows], self.W)
        for i, e in enumerate(self.coefficients):
            result = torch.addcmul(result, e, w[:, rows + i * self.n : rows + (i + 1) * self.n])
        return result

    def diagonal(self, D: Tensor) -> Tensor:
        """The diagonal that joins Q + W'DW: regularisation, and the weights of bounds."""
        total = kkt.rho(self.n, self.k > 0, D.dtype) * self.unit
        for i, e in enumerate(self.coefficients):
            first = self.W.shape[1] + i * self.n
            total = torch.addcmul(total, D[:, first : first + self.n], e.abs())
        return total

    def select(self, items: Tensor) -> Scaled:
        """The problems of these items alone; what is shared stays shared."""

        def take(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor.index_select(0, items)

        parts = (take(part) for part in (self.Q, self.W, self.Wt))
        rest = (take(part) for part in (self.cost, self.floor, self.gap_floor, self.unit, self.theta))
        return Scaled(*parts, tuple(take(e) for e in self.coefficients), *rest, self.k)


def solve(qp: Scaled, eps: float, max_iter: int) -> tuple[Tensor, Tensor]:
    """The best iterate v = (x, y, z, s) of every item, and the iterations it took."""
    n, k = qp.n, qp.k
    last = n + k + qp.inequalities
    work = kkt.Workspace(qp.cost.shape[0], n, qp.W.shape[1], qp.cost)
    v = _start(qp, work)
    D = (qp.unit / kkt.DELTA[v.dtype]).repeat(1, last - n)
    best, merit = v, v.new_full((len(v),), torch.inf)
    active = torch.ones_like(merit, dtype=torch.bool)
    iterations = torch.zeros_like(merit, dtype=torch.int32)
    stalled = torch.zeros_like(iterations)
    for iteration in range(max_iter + 1):
        x, z, s = v[:, :n], v[:, n + k : last], v[:, last:]
        Qx, Wx = vecmat(x, qp.Q), qp.rows(x)
        r_x = Qx + qp.cost[:, :n] + qp.columns(v[:, n:last])
        r_w = Wx + qp.cost[:, n:]
        r_w[:, k:] += s
        now = _merit(qp, v, Qx, Wx, r_x, r_w)
        better = active & (now < merit)
        merit = torch.where(better, now, merit)
        best = torch.where(better.unsqueeze(1), v, best)
        stalled = torch.where(better, 0, stalled + 1)
        active = active & (now > eps) & (stalled < STALL)
        if iteration == max_iter or ((v.is_cpu or iteration % READ_BACK == 0) and not bool(active.any())):
            break

        torch.div(z, s, out=D[:, k:])
        L, exists = work.factor(qp.Q, qp.W, qp.Wt, D[:, : qp.W.shape[1]], qp.diagonal(D))
        Dr = D * r_w
        mu = torch.linalg.vecdot(s, z).unsqueeze(1) / s.shape[1]

        _, dw, ds = _newton(qp, L, D, Dr, r_x, z, z, s)
        alpha = _step(z, s, dw[:, k:], ds, 1.0)
        mu_affine = torch.linalg.vecdot(s + alpha * ds, z + alpha * dw[:, k:]).unsqueeze(1) / s.shape[1]
        sigma = (mu_affine / mu) ** 3

        q = z + (ds * dw[:, k:] - sigma * mu) / s
        dx, dw, ds = _newton(qp, L, D, Dr, r_x, q, z, s)
        alpha = _step(z, s, dw[:, k:], ds, STEP)
        moved = torch.addcmul(v, alpha, torch.cat([dx, dw, ds], 1))
        v = torch.where(active.unsqueeze(1), moved, v)
        # A factorization that broke down gave a meaningless step: its item keeps the best that it has.
        active = active & exists
        iterations += active
    return best, iterations


def _newton(
    qp: Scaled, L: Tensor, D: Tensor, Dr: Tensor, r_x: Tensor, q: Tensor, z: Tensor, s: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The step (dx, d(y,z), ds) towards s z = 0 shifted to s q: see the module's derivation."""
    t = Dr.clone()
    t[:, qp.k :] -= q
    dx = kkt.solve(L, (r_x + qp.columns(t)).neg_())
    dw = torch.addcmul(t, D, qp.rows(dx))
    ds = -(q + dw[:, qp.k :]) * s / z
    return dx, dw, ds


def _step(z: Tensor, s: Tensor, dz: Tensor, ds: Tensor, fraction: float) -> Tensor:
    """The longest step, at most 1, that goes ``fraction`` of the way to the nearest boundary; (B, 1)."""
    fastest = torch.minimum(dz / z, ds / s).amin(1, keepdim=True)
    return -fraction / fastest.clamp_(max=-fraction)


def _merit(qp: Scaled, v: Tensor, Qx: Tensor, Wx: Tensor, r_x: Tensor, r_w: Tensor) -> Tensor:
    """Largest residual, each over the size of its own terms, which are bounded from below without products of absolute values."""
    n, last = qp.n, qp.cost.shape[1]
    rows = (torch.cat([r_x, r_w], 1) / (qp.floor + torch.cat([Qx, Wx], 1).abs())).abs().amax(1)
    xQx = torch.linalg.vecdot(v[:, :n], Qx)
    px = torch.linalg.vecdot(qp.cost[:, :n], v[:, :n])
    gap = xQx + px - torch.linalg.vecdot(qp.cost[:, n:], v[:, n:last])
    objective = xQx / 2 + px
    size = qp.gap_floor + objective.abs() + (objective - gap).abs()
    return torch.maximum(rows, gap.abs() / size)


def _start(qp: Scaled, work: kkt.Workspace) -> Tensor:
    """Mehrotra's starting point: least squares for s = -z/theta, then both shifted into the interior.

    theta makes the start follow the units of objective and constraints.
    """
    n, k, M = qp.n, qp.k, qp.inequalities
    p, rhs = qp.cost[:, :n], -qp.cost[:, n:]
    unit = size_of(rhs)
    theta = torch.maximum(qp.theta, 1e-6 * qp.unit)
    D = torch.cat([(qp.unit / kkt.DELTA[p.dtype]).expand(-1, k), theta.expand(-1, M)], 1)
    L, _ = work.factor(qp.Q, qp.W, qp.Wt, D[:, : qp.W.shape[1]], qp.diagonal(D))
    x = kkt.solve(L, qp.columns(D * rhs) - p)
    residual = qp.rows(x) - rhs
    y, s = D[:, :k] * residual[:, :k], -residual[:, k:]
    z = -theta * s
    s = s + (-1.5 * s.amin(1, keepdim=True)).clamp_(min=0)
    z = z + (-1.5 * z.amin(1, keepdim=True)).clamp_(min=0)
    tiny = torch.finfo(p.dtype).tiny
    product = torch.linalg.vecdot(s, z).unsqueeze(1)
    ds = (product / 2 / z.sum(1, keepdim=True).clamp_(min=tiny)).maximum(1e-2 * unit)
    dz = (product / 2 / s.sum(1, keepdim=True).clamp_(min=tiny)).maximum(1e-2 * theta * unit)
    return torch.cat([x, y, z + dz, s + ds], 1)


def size_of(v: Tensor, of_zero: float = 1.0) -> Tensor:
    """Largest entry of each item, ``of_zero`` if all are zero; (B, 1)."""
    if not v.shape[1]:
        return v.new_full((len(v), 1), of_zero)
    largest = torch.linalg.vector_norm(v, ord=torch.inf, dim=1, keepdim=True)
    return torch.where(largest > 0, largest, of_zero)
