"""Mehrotra's predictor-corrector method on a batch of scaled quadratic programs.

    minimize 1/2 x'Qx + p'x   subject to   Ax = b,  Cx + s = h,  s >= 0;      C = [G; bounds],  W = [A; G]

    r_x = Qx + p + A'y + C'z        r_y = Ax - b        r_z = Cx + s - h        mu = s'z / M

A Newton step for s z = q s, where q is z for the predictor and z + (ds dz - sigma mu)/s for the corrector, eliminates ds and
d(y,z) with the weights D = (1/delta, z/s) of ``kkt``:

    t  =  D (r_y, r_z) - (0, q)         (Q + rho + [A;C]' D [A;C]) dx  =  -r_x - [A;C]' t
    d(y,z)  =  t + D [A;C] dx           ds  =  -s q/z - s dz/z

*Careful* steps are for the few problems whose weights z/s span more than the numbers do. They add a proximal term of the method of
multipliers to the inequalities as well, D = 1/(s/z + delta), which bounds the weights, and q becomes q (s/z) D in t. Steps are
refined against the system without rho:

    (Q  + 0) dx + [A;C]' d(y,z) = -r_x            [A;C] dx - (0, s/z) d(y,z) = -(r_y, r_z - q s/z)

ds comes from the complementarity row: from the primal row, ds = -r_z - C dx, it loses all digits near a solution. One step length
for primal and dual. Items that are done are frozen by selection; nothing an item does reaches its mates.

Mehrotra, On the implementation of a primal-dual interior point method, 1992; the batch form follows OptNet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kkt
from .kkt import dot, rowmat
from .scaled import Scaled, size_of

STEP = 0.999  # of the way to the boundary
TRUSTED = 0.3  # length of the predictor's step from which its second-order term is used in full
# Every product s_i z_i stays above NEAR times their mean, or the step is cut: the wide neighbourhood of the central path.
# Without it one box with redundant rows in a thousand went round in circles (Cartis 2009), and all took more iterations.
NEAR, SHORTER, CUTS = 1e-3, 0.8, 6
NEARLY = 10  # times the centre that is aimed at: from there plain Newton steps go
LEAST = 1e-3  # slack of a warm start, over the size of right-hand sides; its multiplier likewise
STALL = 8  # iterations without a better iterate before an item gives up
FAR = 30  # the same for careful steps: an optimum at 1e8 is reached by doubling x, and nothing gets better on the way
CAREFUL = {torch.float64: 1e-8, torch.float32: 1e-4}  # delta of inequalities in careful steps, over the size of the objective
REFINEMENTS = 2  # of a careful step
READ_BACK = 4  # iterations between looks at a device that is not the CPU


def solve(
    qp: Scaled,
    eps: float,
    gap_eps: float,
    max_iter: int,
    start: Tensor | None = None,
    *,
    careful: bool = False,
    center: float | None = None,
    limits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The best iterate v = (x, y, z, s) of every item, (B, n+k+2M), and the iterations it took from ``start``.

    No item takes more than ``max_iter`` iterations, nor more than its own of ``limits``, int (B,). Done is an item whose residuals
    are at most ``eps`` and whose relative duality gap is at most ``gap_eps``. With ``center`` the iteration ends at the point of
    the central path where every s_i z_i is ``center``, and the gap is the distance from that.
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
    stall = FAR if careful else STALL
    for iteration in range(max_iter + 1):
        x, _, z, s = v.split([n, k, M, M], 2)
        Tx = torch.cat([rowmat(x, qp.Q), qp.rows(x)], 2)
        r = Tx + qp.cost
        r_x, r_w = r[:, :, :n], r[:, :, n:]
        r_x += qp.columns(v[:, :, n:last])
        r[:, :, n + k :] += s
        now = _merit(qp, v, x, Tx, r, eps) if center is None else _off_center(qp, z, s, Tx, r, eps, center)
        better = (now < merit).logical_and_(active)
        merit = torch.where(better, now, merit)
        best = torch.where(better, v, best)
        improved.masked_fill_(better, iteration)
        active = active & (now > gap_eps) & (improved > iteration - stall)
        if limits is not None:
            active = active & (limits > iteration)[:, None, None]
        if iteration == max_iter or ((v.is_cpu or iteration % READ_BACK == 0) and not bool(active.any())):
            break

        ratio = s / z
        D = 1 / (ratio + CAREFUL[v.dtype] / qp.unit) if careful else z / s
        D = torch.cat([equality_weight, D], 2) if k else D
        U, exists = work.factor(qp.Q, qp.W, qp.Wt, D[:, :, : qp.W.shape[1]], rho + qp.bound_weights(D))
        mu = dot(s, z) / M
        newton = _Newton(qp, U, D, ratio, r_x, r_w, z, s, REFINEMENTS if careful else 0)

        _, dw, ds = newton.step(z)
        dz = dw[:, :, k:]
        alpha = _step(z, s, dz, ds, 1.0)
        mu_affine = dot(torch.addcmul(s, alpha, ds), torch.addcmul(z, alpha, dz)) / M
        sigma_mu = mu_affine**3 / mu**2

        # Where the predictor hardly gets anywhere its second-order term is noise, and Mehrotra's method can cycle (Cartis 2009):
        # one random problem in a thousand did.
        trust = (alpha / TRUSTED).clamp_(max=1).square_()
        if center is not None:
            trust = torch.where(mu > NEARLY * center, trust, 0)
            sigma_mu = sigma_mu.clamp(min=center)
        q = z + (trust * ds * dz - sigma_mu) / s
        dx, dw, ds = newton.step(q)
        alpha = _central(z, s, dw[:, :, k:], ds, _step(z, s, dw[:, :, k:], ds, STEP))
        # Where the factorization broke down the step is meaningless: the item stays, and tries again with more regularisation.
        exists = exists[:, None, None]
        v = torch.where(active & exists, torch.addcmul(v, alpha, torch.cat([dx, dw, ds], 2)), v)
        rho = torch.where(exists, rho, 100 * rho)
        iterations.masked_fill_(active, iteration + 1)
    return best.squeeze(1), iterations.flatten()


@dataclass(frozen=True)
class _Newton:
    """The system of one iteration: see the module's derivation. ``ratio`` is s/z."""

    qp: Scaled
    U: Tensor
    D: Tensor
    ratio: Tensor
    r_x: Tensor
    r_w: Tensor
    z: Tensor
    s: Tensor
    refinements: int

    def step(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The step (dx, d(y,z), ds) towards s z = 0 shifted to s q."""
        qp, k = self.qp, self.qp.k
        if self.refinements:
            right = self.r_w - self._inequalities(self.ratio * q)
            dx, dw = self._solve(self.r_x, right)
            for _ in range(self.refinements):
                left_x = self.r_x + rowmat(dx, qp.Q) + qp.columns(dw)
                left_w = right + qp.rows(dx) - self._inequalities(self.ratio * dw[:, :, k:])
                more_x, more_w = self._solve(left_x, left_w)
                dx, dw = dx + more_x, dw + more_w
        else:
            t = self.D * self.r_w - self._inequalities(q)
            dx = kkt.solve(self.U, (self.r_x + qp.columns(t)).neg_())
            dw = torch.addcmul(t, self.D, qp.rows(dx))
        ds = (q + dw[:, :, k:]).mul_(self.s).div_(self.z).neg_()
        return dx, dw, ds

    def _solve(self, r_x: Tensor, r_w: Tensor) -> tuple[Tensor, Tensor]:
        """(dx, dw) with right-hand side -(r_x, r_w)."""
        t = self.D * r_w
        dx = kkt.solve(self.U, (r_x + self.qp.columns(t)).neg_())
        return dx, torch.addcmul(t, self.D, self.qp.rows(dx))

    def _inequalities(self, values: Tensor) -> Tensor:
        """Values of the inequalities beside zeros for the equalities."""
        return torch.nn.functional.pad(values, (self.qp.k, 0)) if self.qp.k else values


def _step(z: Tensor, s: Tensor, dz: Tensor, ds: Tensor, fraction: float) -> Tensor:
    """The longest step, at most 1, that goes ``fraction`` of the way to the nearest boundary; (B, 1, 1)."""
    fastest = torch.minimum(dz / z, ds / s).amin(2, keepdim=True)
    return -fraction / fastest.clamp_(max=-fraction)


def _central(z: Tensor, s: Tensor, dz: Tensor, ds: Tensor, alpha: Tensor) -> Tensor:
    """The longest of alpha, 0.8 alpha, ... that ends near the central path, or the last of them; (B, 1, 1)."""
    steps = alpha * SHORTER ** torch.arange(CUTS + 1, dtype=alpha.dtype, device=alpha.device)[:, None]
    products = torch.addcmul(s, steps, ds).mul_(torch.addcmul(z, steps, dz))
    near = products.amin(2, keepdim=True) >= NEAR * products.mean(2, keepdim=True)
    near[:, -1] = True
    return steps.gather(1, near.to(torch.uint8).argmax(1, keepdim=True))


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


def _off_center(qp: Scaled, z: Tensor, s: Tensor, Tx: Tensor, r: Tensor, eps: float, center: float) -> Tensor:
    """The larger of the relative distance of s z from ``center`` and of residuals, as in ``_merit``."""
    rows = (r / (qp.floor + Tx.abs())).abs_().amax(2, keepdim=True)
    distance = (s * z / center - 1).abs_().amax(2, keepdim=True)
    return torch.maximum(torch.nn.functional.threshold(rows, eps, 0.0), distance)


def warm_start(qp: Scaled, v: Tensor) -> Tensor:
    """(B, n+k+2M) from the solution (x, y, z) of a similar problem, (B, n+k+M), in the units of the equilibration.

    Slacks are those of the problem at hand; both sides of a complementary pair are moved into the interior.
    """
    n, k, M = qp.n, qp.k, qp.inequalities
    size = size_of(qp.cost[:, :, n:])
    x, y, z = v.unsqueeze(1).split([n, k, M], 2)
    s = torch.maximum(-qp.cost[:, :, n + k :] - qp.rows(x)[:, :, k:], LEAST * size)
    return torch.cat([x, y, torch.maximum(z, LEAST * qp.theta * size), s], 2).squeeze(1)


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
