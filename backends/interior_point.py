"""Mehrotra's predictor-corrector method on a batch of scaled quadratic programs.

    minimize 1/2 x'Qx + p'x   subject to   Ax = b,  Cx + s = h,  s >= 0;      C = [G; bounds],  W = [A; G]

    r_x = Qx + p + A'y + C'z        r_y = Ax - b        r_z = Cx + s - h        mu = s'z / M

A Newton step for s z = q s, where q is z for the predictor and z + (ds dz - sigma mu)/s for the corrector, eliminates ds and
d(y,z) with the weights D = (1/delta, z/s) of ``kkt``:

    t  =  D (r_y, r_z) - (0, q)         (Q + rho + [A;C]' D [A;C]) dx  =  -r_x - [A;C]' t
    d(y,z)  =  t + D [A;C] dx           ds  =  -s q/z - s dz/z

ds comes from the complementarity row: from the primal row, ds = -r_z - C dx, it loses all digits near a solution. One step length
for primal and dual. Items that are done are frozen by selection; nothing an item does reaches its mates.

Mehrotra, On the implementation of a primal-dual interior point method, 1992; the batch form follows OptNet.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import kkt
from .kkt import dot, rowmat
from .scaled import Scaled, size_of

STEP = 0.999  # of the way to the boundary
TRUSTED = 0.3  # length of the predictor's step from which its second-order term is used in full
STALL = 8  # iterations without a better iterate before an item gives up
READ_BACK = 4  # iterations between looks at a device that is not the CPU


def solve(qp: Scaled, eps: float, gap_eps: float, max_iter: int, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The best iterate v = (x, y, z, s) of every item, (B, n+k+2M), and the iterations it took from ``start``.

    Done is an item whose residuals are at most ``eps`` and whose relative duality gap is at most ``gap_eps``.
    """
    n, k, M = qp.n, qp.k, qp.inequalities
    last = n + k + M
    work = kkt.Workspace(qp.cost.shape[0], n, qp.W.shape[1], qp.cost)
    v = _start(qp, work) if start is None else start.unsqueeze(1)
    equality_weight = (qp.unit / kkt.DELTA[v.dtype]).expand(-1, 1, k)
    rho = qp.rho
    best, merit = v, torch.full_like(v[:, :, :1], torch.inf)
    active = torch.ones_like(merit, dtype=torch.bool)
    iterations = torch.zeros_like(merit, dtype=torch.int32)
    improved = torch.zeros_like(iterations)
    for iteration in range(max_iter + 1):
        x, _, z, s = v.split([n, k, M, M], 2)
        Tx = torch.cat([rowmat(x, qp.Q), qp.rows(x)], 2)
        r = Tx + qp.cost
        r_x, r_w = r[:, :, :n], r[:, :, n:]
        r_x += qp.columns(v[:, :, n:last])
        r[:, :, n + k :] += s
        now = _merit(qp, v, x, Tx, r, eps)
        better = (now < merit).logical_and_(active)
        merit = torch.where(better, now, merit)
        best = torch.where(better, v, best)
        improved.masked_fill_(better, iteration)
        active = active & (now > gap_eps) & (improved > iteration - STALL)
        if iteration == max_iter or ((v.is_cpu or iteration % READ_BACK == 0) and not bool(active.any())):
            break

        D = z / s
        D = torch.cat([equality_weight, D], 2) if k else D
        U, exists = work.factor(qp.Q, qp.W, qp.Wt, D[:, :, : qp.W.shape[1]], rho + qp.bound_weights(D))
        Dr = D * r_w
        mu = dot(s, z) / M

        _, dw, ds = _newton(qp, U, D, Dr, r_x, z, z, s)
        dz = dw[:, :, k:]
        alpha = _step(z, s, dz, ds, 1.0)
        mu_affine = dot(torch.addcmul(s, alpha, ds), torch.addcmul(z, alpha, dz)) / M
        sigma_mu = mu_affine**3 / mu**2

        # Where the predictor hardly gets anywhere its second-order term is noise, and Mehrotra's method can cycle (Cartis 2009):
        # one random problem in a thousand did.
        trust = (alpha / TRUSTED).clamp_(max=1).square_()
        q = z + (trust * ds * dz - sigma_mu) / s
        dx, dw, ds = _newton(qp, U, D, Dr, r_x, q, z, s)
        alpha = _step(z, s, dw[:, :, k:], ds, STEP)
        # Where the factorization broke down the step is meaningless: the item stays, and tries again with more regularisation.
        exists = exists[:, None, None]
        v = torch.where(active & exists, torch.addcmul(v, alpha, torch.cat([dx, dw, ds], 2)), v)
        rho = torch.where(exists, rho, 100 * rho)
        iterations.masked_fill_(active, iteration + 1)
    return best.squeeze(1), iterations.flatten()


def _newton(
    qp: Scaled, U: Tensor, D: Tensor, Dr: Tensor, r_x: Tensor, q: Tensor, z: Tensor, s: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The step (dx, d(y,z), ds) towards s z = 0 shifted to s q: see the module's derivation."""
    t = Dr - torch.nn.functional.pad(q, (qp.k, 0)) if qp.k else Dr - q
    dx = kkt.solve(U, (r_x + qp.columns(t)).neg_())
    dw = torch.addcmul(t, D, qp.rows(dx))
    ds = (q + dw[:, :, qp.k :]).mul_(s).div_(z).neg_()
    return dx, dw, ds


def _step(z: Tensor, s: Tensor, dz: Tensor, ds: Tensor, fraction: float) -> Tensor:
    """The longest step, at most 1, that goes ``fraction`` of the way to the nearest boundary; (B, 1, 1)."""
    fastest = torch.minimum(dz / z, ds / s).amin(2, keepdim=True)
    return -fraction / fastest.clamp_(max=-fraction)


def _merit(qp: Scaled, v: Tensor, x: Tensor, Tx: Tensor, r: Tensor, eps: float) -> Tensor:
    """The larger of duality gap and residuals, each over the size of its own terms.

    Terms are bounded from below without products of absolute values. Residuals up to ``eps`` count as none: late in a solve they
    are rounding, and the iterate with the smaller gap is the one that knows its active set.
    """
    n, last = qp.n, qp.cost.shape[2]
    rows = (r / (qp.floor + Tx.abs())).abs_().amax(2, keepdim=True)
    xQx, px = dot(x, Tx[:, :, :n]), dot(x, qp.cost[:, :, :n])
    gap = xQx + px - dot(v[:, :, n:last], qp.cost[:, :, n:])
    objective = xQx / 2 + px
    size = qp.gap_floor + objective.abs() + (objective - gap).abs_()
    return torch.maximum(torch.nn.functional.threshold(rows, eps, 0.0), gap.abs_() / size)


def _start(qp: Scaled, work: kkt.Workspace) -> Tensor:
    """Mehrotra's starting point: least squares for s = -z/theta, then both shifted into the interior.

    theta makes the start follow the units of objective and constraints.
    """
    n, k, M = qp.n, qp.k, qp.inequalities
    p, rhs = qp.cost[:, :, :n], -qp.cost[:, :, n:]
    unit = size_of(rhs)
    theta = torch.maximum(qp.theta, 0.1 * qp.unit)
    D = torch.cat([(qp.unit / kkt.DELTA[p.dtype]).expand(-1, 1, k), theta.expand(-1, 1, M)], 2)
    U, _ = work.factor(qp.Q, qp.W, qp.Wt, D[:, :, : qp.W.shape[1]], qp.rho + qp.bound_weights(D))
    x = kkt.solve(U, qp.columns(D * rhs) - p)
    residual = qp.rows(x) - rhs
    y, s = D[:, :, :k] * residual[:, :, :k], -residual[:, :, k:]
    z = -theta * s
    s = s + (-1.5 * s.amin(2, keepdim=True)).clamp_(min=0)
    z = z + (-1.5 * z.amin(2, keepdim=True)).clamp_(min=0)
    tiny = torch.finfo(p.dtype).tiny
    product = dot(s, z)
    ds = (product / 2 / z.sum(2, keepdim=True).clamp_(min=tiny)).maximum(1e-2 * unit)
    dz = (product / 2 / s.sum(2, keepdim=True).clamp_(min=tiny)).maximum(1e-2 * theta * unit)
    return torch.cat([x, y, z + dz, s + ds], 2)
