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
    """An equilibrated problem. T = [Q; A; G] and its transpose, both laid out by rows.

    ``coefficients``: for each kind of bound, (·,n) with -1 (lower) or 1 (upper), 0 where absent. ``cost`` is (p, -b, -h), so that
    the duality gap is x'Qx + p'x - cost'(0,y,z). ``floor``: least normalisers of the residuals (r_x, r_y, r_z), and of the gap.
    """

    T: Tensor
    Tt: Tensor
    coefficients: tuple[Tensor, ...]
    cost: Tensor
    floor: Tensor
    gap_floor: Tensor
    n: int
    k: int

    @property
    def inequalities(self) -> int:
        """M: rows of G and bounds."""
        return self.cost.shape[1] - self.n - self.k

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """(Qx, Ax, Cx) from component ``first`` on."""
        Tx = vecmat(x, self.Tt[:, :, first:])
        return torch.cat([Tx, *(e * x for e in self.coefficients)], 1) if self.coefficients else Tx

    def adjoint(self, w: Tensor, first: int = 0) -> Tensor:
        """Qx + A'y + C'z for w = (x, y, z), or A'y + C'z for w = (y, z) with ``first`` = n."""
        rows = self.T.shape[1] - first
        result = vecmat(w[:, :rows], self.T[:, first:])
        for i, e in enumerate(self.coefficients):
            result = torch.addcmul(result, e, w[:, rows + i * self.n : rows + (i + 1) * self.n])
        return result


def solve(qp: Scaled, eps: float, max_iter: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best iterate v = (x, y, z, s) of every item, its merit (largest scaled residual), and iterations taken."""
    n, k, M = qp.n, qp.k, qp.inequalities
    dtype = qp.T.dtype
    W, Wt = qp.T[:, n:], qp.Tt[:, :, n:]
    Q = qp.T[:, :n] + kkt.RHO[dtype] * torch.eye(n, dtype=dtype, device=qp.T.device)
    v = _start(qp, Q, W, Wt)
    B = v.shape[0]
    D = v.new_full((B, k + M), 1 / kkt.DELTA[dtype])
    best = v
    merit = v.new_full((B,), torch.inf)
    active = torch.ones(B, dtype=torch.bool, device=v.device)
    iterations = torch.zeros(B, dtype=torch.int32, device=v.device)
    stalled = torch.zeros_like(iterations)
    for iteration in range(max_iter + 1):
        x, w, z, s = v[:, :n], v[:, n : n + k + M], v[:, n + k : n + k + M], v[:, n + k + M :]
        Tx = qp.forward(x)
        r_x = qp.adjoint(v[:, : n + k + M]) + qp.cost[:, :n]
        r_w = Tx[:, n:] + qp.cost[:, n:]
        r_w[:, k:] += s
        now = _merit(qp, v, Tx, r_x, r_w)
        better = active & (now < merit)
        merit = torch.where(better, now, merit)
        best = torch.where(better.unsqueeze(1), v, best)
        stalled = torch.where(better, 0, stalled + 1)
        active = active & (now > eps) & (stalled < STALL)
        if iteration == max_iter or ((v.is_cpu or iteration % READ_BACK == 0) and not bool(active.any())):
            break

        torch.div(z, s, out=D[:, k:])
        L, exists = kkt.factor(Q, W, Wt, D[:, : W.shape[1]], _diagonal(qp, D))
        Dr = D * r_w
        mu = torch.linalg.vecdot(s, z).unsqueeze(1) / M

        dw, ds, dx = _newton(qp, L, D, Dr, r_x, z, z, s)
        dz = dw[:, k:]
        alpha = _step(z, s, dz, ds, 1.0)
        mu_affine = torch.linalg.vecdot(torch.addcmul(s, alpha, ds), torch.addcmul(z, alpha, dz)).unsqueeze(1) / M
        sigma = (mu_affine / mu) ** 3

        q = z + (ds * dz - sigma * mu) / s
        dw, ds, dx = _newton(qp, L, D, Dr, r_x, q, z, s)
        alpha = _step(z, s, dw[:, k:], ds, STEP)
        moved = torch.addcmul(v, alpha, torch.cat([dx, dw, ds], 1))
        v = torch.where(active.unsqueeze(1), moved, v)
        # A factorization that broke down gave a meaningless step: its item keeps what it has found.
        active = active & exists
        iterations += active
    return best, merit, iterations


def _newton(
    qp: Scaled, L: Tensor, D: Tensor, Dr: Tensor, r_x: Tensor, q: Tensor, z: Tensor, s: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The step (d(y,z), ds, dx) towards s z = 0 shifted to s q: see the module's derivation."""
    t = Dr.clone()
    t[:, qp.k :] -= q
    dx = kkt.solve(L, -(r_x + qp.adjoint(t, qp.n)))
    dw = torch.addcmul(t, D, qp.forward(dx, qp.n))
    ds = -(q + dw[:, qp.k :]) * s / z
    return dw, ds, dx


def _step(z: Tensor, s: Tensor, dz: Tensor, ds: Tensor, fraction: float) -> Tensor:
    """The longest step, at most 1, that goes ``fraction`` of the way to the nearest boundary; (B, 1)."""
    fastest = torch.maximum(-dz / z, -ds / s).amax(1, keepdim=True)
    return fraction / fastest.clamp_(min=fraction)


def _diagonal(qp: Scaled, D: Tensor) -> Tensor | None:
    """What bounds add to the diagonal."""
    rows = qp.T.shape[1] - qp.n
    total = None
    for i, e in enumerate(qp.coefficients):
        own = D[:, rows + i * qp.n : rows + (i + 1) * qp.n] * e.abs()
        total = own if total is None else total + own
    return total


def _merit(qp: Scaled, v: Tensor, Tx: Tensor, r_x: Tensor, r_w: Tensor) -> Tensor:
    """Largest residual, each over the size of its own terms, which are bounded from below without products of absolute values."""
    n = qp.n
    rows = (torch.cat([r_x, r_w], 1) / (qp.floor + Tx.abs())).abs().amax(1)
    xQx = torch.linalg.vecdot(v[:, :n], Tx[:, :n])
    px = torch.linalg.vecdot(qp.cost[:, :n], v[:, :n])
    gap = xQx + px - torch.linalg.vecdot(qp.cost[:, n:], v[:, n : qp.cost.shape[1]])
    objective = xQx / 2 + px
    size = qp.gap_floor + objective.abs() + (objective - gap).abs()
    return torch.maximum(rows, gap.abs() / size)


def _start(qp: Scaled, Q: Tensor, W: Tensor, Wt: Tensor) -> Tensor:
    """Mehrotra's starting point: least squares for s = -z/theta, then both shifted into the interior.

    theta, the ratio of multipliers to slacks to be expected, makes the start follow the units of objective and constraints.
    """
    n, k, M = qp.n, qp.k, qp.inequalities
    p, rhs = qp.cost[:, :n], -qp.cost[:, n:]
    theta = (_size(p) / _size(rhs)).clamp_(1e-6, 1e6)
    D = torch.cat([torch.full_like(rhs[:, :k], 1 / kkt.DELTA[Q.dtype]), theta.expand(-1, M)], 1)
    L, _ = kkt.factor(Q, W, Wt, D[:, : W.shape[1]], _diagonal(qp, D))
    x = kkt.solve(L, qp.adjoint(D * rhs, n) - p)
    residual = qp.forward(x, n) - rhs
    y, s = D[:, :k] * residual[:, :k], -residual[:, k:]
    z = -theta * s
    s = s + (-1.5 * s.amin(1, keepdim=True)).clamp_(min=0)
    z = z + (-1.5 * z.amin(1, keepdim=True)).clamp_(min=0)
    tiny = torch.finfo(Q.dtype).tiny
    product = torch.linalg.vecdot(s, z).unsqueeze(1)
    unit = _size(rhs)
    ds = (product / 2 / z.sum(1, keepdim=True).clamp_(min=tiny)).clamp(min=1e-2 * unit)
    dz = (product / 2 / s.sum(1, keepdim=True).clamp_(min=tiny)).clamp(min=1e-2 * theta * unit)
    return torch.cat([x, y, z + dz, s + ds], 1)


def _size(v: Tensor) -> Tensor:
    """Largest entry of each item, 1 if all are zero; (B, 1)."""
    if not v.shape[1]:
        return v.new_ones(v.shape[0], 1)
    largest = torch.linalg.vector_norm(v, ord=torch.inf, dim=1, keepdim=True)
    return torch.where(largest > 0, largest, 1)
