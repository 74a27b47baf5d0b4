"""Mehrotra's predictor-corrector method on one scaled sparse problem.

The iteration is that of ``backends.interior_point``, and its derivation stands there:  C = [G; bounds], M rows, slacks s,

    r_x = Qx + p + A'y + C'z        r_y = Ax - b        r_z = Cx + s - h        mu = s'z / M

A Newton step for s z = q s, where q is z for the predictor and z + (ds dz - sigma mu)/s for the corrector. Here the rows of G stay
in the system, which keeps it sparse; bounds, whose rows are unit vectors, go onto its diagonal:

    [Q + rho + Z_b/S_b   A'         G'      ] [dx]     [-r_x - C_b'(Z_b/S_b r_b - q_b)]
    [A                  -delta              ] [dy]  =  [-r_y                          ]
    [G                          -S/Z - delta] [dz]     [-r_z + q s/z                  ]

    dz_b = z_b/s_b (C_b dx + r_b) - q_b               ds = -s (q + dz)/z

rho and delta are proximal terms: what they leave is in the residuals of the next iteration. *Careful* steps are refined against the
system without them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .item import Floats, Item, dot
from .kkt import KKT
from .multifrontal import Factorization

STEP = 0.999  # of the way to the boundary
TRUSTED = 0.3  # length of the predictor's step from which its second-order term is used in full
NEAR, SHORTER, CUTS = 1e-3, 0.8, 6  # every product s_i z_i stays above NEAR times their mean, or the step is cut
STALL, FAR = 8, 30  # iterations without a better iterate before giving up, plain and careful
RHO, DELTA = 1e-8, 1e-8
REFINEMENTS = 3  # of a careful step
LEAST = 1e-3  # slack of a warm start, over the size of right-hand sides; its multiplier likewise


@dataclass(frozen=True, eq=False)
class Scaled:
    """An equilibrated item and its measures; ``floor_x``, ``floor_w``, ``floor_b`` and ``gap_floor`` normalise residuals."""

    item: Item
    floor_x: Floats
    floor_w: Floats
    floor_b: Floats
    gap_floor: float
    unit: float
    curvature: float
    theta: float

    @cached_property
    def kkt(self) -> KKT:
        return KKT(self.item, self.unit)

    @property
    def n(self) -> int:
        return self.item.structure.n

    @property
    def k(self) -> int:
        return self.item.structure.k

    @property
    def M(self) -> int:
        """Inequalities: rows of G, then lower, then upper bounds."""
        return len(self.h)

    @cached_property
    def h(self) -> Floats:
        item = self.item
        return np.concatenate([item.rhs[self.k :], -item.lb[item.lower], item.ub[item.upper]])

    def bounds_of(self, x: Floats) -> Floats:
        """C_b x."""
        return np.concatenate([-x[self.item.lower], x[self.item.upper]])

    def to_x(self, z: Floats) -> Floats:
        """C_b' z."""
        found = np.zeros(self.n)
        lower = len(self.item.lower)
        found[self.item.lower] -= z[:lower]
        found[self.item.upper] += z[lower:]
        return found

    def onto_diagonal(self, weight: Floats) -> Floats:
        found = np.zeros(self.n)
        lower = len(self.item.lower)
        found[self.item.lower] += weight[:lower]
        found[self.item.upper] += weight[lower:]
        return found


@dataclass(frozen=True, eq=False)
class Iterate:
    """x, w = (y, z of G), z_b of bounds, and slacks of G and of bounds."""

    x: Floats
    w: Floats
    z_b: Floats
    s: Floats
    s_b: Floats


def solve(qp: Scaled, eps: float, gap_eps: float, max_iter: int, start: Iterate | None, careful: bool) -> tuple[Iterate, int]:
    """The best iterate, and the iterations it took. Done: residuals at most ``eps``, relative gap at most ``gap_eps``."""
    item, k, M = qp.item, qp.k, qp.M
    m = len(item.rhs) - k
    v = _start(qp) if start is None else start
    rho, delta = RHO * qp.unit, DELTA / qp.unit
    best, merit, improved, iteration = v, np.inf, 0, 0
    h, p, rhs, h_b = qp.h, item.p, item.rhs, qp.h[m:]
    held = np.full(k, delta)
    for iteration in range(max_iter + 1):
        Qx, Wx = item.times_Q(v.x), item.times_W(v.x)
        r_x = Qx + p + item.times_Wt(v.w) + qp.to_x(v.z_b)
        r_w = Wx - rhs
        r_w[k:] += v.s
        r_b = qp.bounds_of(v.x) + v.s_b - h_b
        z, s = np.concatenate([v.w[k:], v.z_b]), np.concatenate([v.s, v.s_b])
        now = _merit(qp, v, z, Qx, Wx, r_x, r_w, r_b, eps, h)
        if now < merit:
            best, merit, improved = v, now, iteration
        if now <= gap_eps or iteration - improved >= (FAR if careful else STALL) or iteration == max_iter or not np.isfinite(now):
            break
        ratio = s / z
        F = qp.kkt.factor(rho + qp.onto_diagonal(1 / ratio[m:]), np.concatenate([held, ratio[:m] + delta]), passing=True)
        if F.bumped:
            rho, delta = 10 * rho, 10 * delta
            held = np.full(k, delta)
        newton = _Newton(qp, F, ratio, r_x, r_w, r_b, z, s, REFINEMENTS if careful else 0)
        mu = dot(s, z) / M
        _, _, dz, ds = newton.step(z)
        alpha = _step(z, s, dz, ds, 1.0)
        mu_affine = dot(s + alpha * ds, z + alpha * dz) / M
        sigma_mu = mu_affine * np.float64(mu_affine / np.float64(mu)) ** 2  # Python's numbers would raise where these overflow
        trust = min(1.0, alpha / TRUSTED) ** 2
        dx, dw, dz, ds = newton.step(z + (trust * ds * dz - sigma_mu) / s)
        alpha = _central(z, s, dz, ds, _step(z, s, dz, ds, STEP))
        w = v.w + alpha * dw
        v = Iterate(v.x + alpha * dx, w, v.z_b + alpha * dz[m:], v.s + alpha * ds[:m], v.s_b + alpha * ds[m:])
    return best, iteration


@dataclass(frozen=True, eq=False)
class _Newton:
    """The system of one iteration; ``ratio`` is s/z."""

    qp: Scaled
    F: Factorization
    ratio: Floats
    r_x: Floats
    r_w: Floats
    r_b: Floats
    z: Floats
    s: Floats
    refinements: int

    def step(self, q: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """The step (dx, dw, dz, ds) towards s z = 0 shifted to s q; dz of all inequalities, in dw for those of G as well."""
        qp, k, n = self.qp, self.qp.k, self.qp.n
        m = len(self.r_w) - k
        weight, shift = 1 / self.ratio[m:], self.ratio[:m] * q[:m]
        right = np.concatenate([-self.r_x - qp.to_x(weight * self.r_b - q[m:]), -self.r_w])
        right[n + k :] += shift
        found = self.F.solve(right)
        for _ in range(self.refinements):
            left = right - self._times(found, weight)
            found = found + self.F.solve(left)
        dx, dw = found[:n], found[n:]
        dz = np.concatenate([dw[k:], weight * (qp.bounds_of(dx) + self.r_b) - q[m:]])
        return dx, dw, dz, -self.ratio * (q + dz)

    def _times(self, u: Floats, weight: Floats) -> Floats:
        """The system without proximal terms, times u."""
        qp, n, k = self.qp, self.qp.n, self.qp.k
        u_x, u_w = u[:n], u[n:]
        upper = qp.item.times_Q(u_x) + qp.onto_diagonal(weight) * u_x + qp.item.times_Wt(u_w)
        lower = qp.item.times_W(u_x)
        lower[k:] -= self.ratio[: len(u_w) - k] * u_w[k:]
        return np.concatenate([upper, lower])


def _step(z: Floats, s: Floats, dz: Floats, ds: Floats, fraction: float) -> float:
    """The longest step, at most 1, that goes ``fraction`` of the way to the nearest boundary."""
    fastest = min(float((dz / z).min()), float((ds / s).min()))
    return 1.0 if fastest >= -fraction else -fraction / fastest


def _central(z: Floats, s: Floats, dz: Floats, ds: Floats, alpha: float) -> float:
    """The longest of alpha, 0.8 alpha, ... that ends near the central path, or the last of them."""
    for _ in range(CUTS):
        products = (s + alpha * ds) * (z + alpha * dz)
        if float(products.min()) >= NEAR * float(products.mean()):
            break
        alpha *= SHORTER
    return alpha


def _merit(
    qp: Scaled, v: Iterate, z: Floats, Qx: Floats, Wx: Floats, r_x: Floats, r_w: Floats, r_b: Floats, eps: float, h: Floats
) -> float:
    """The larger of duality gap and residuals, each over the size of its own terms; residuals up to ``eps`` count as none."""
    worst = float((np.abs(r_x) / (qp.floor_x + np.abs(Qx))).max())
    if len(r_w):
        worst = max(worst, float((np.abs(r_w) / (qp.floor_w + np.abs(Wx))).max()))
    if len(r_b):
        worst = max(worst, float((np.abs(r_b) / (qp.floor_b + np.abs(qp.bounds_of(v.x)))).max()))
    xQx, px, k = dot(v.x, Qx), dot(v.x, qp.item.p), qp.k
    gap = xQx + px + dot(v.w[:k], qp.item.rhs[:k]) + dot(z, h)
    objective = xQx / 2 + px
    size = qp.gap_floor + abs(objective) + abs(objective - gap)
    relative = abs(gap) / size
    if not math.isfinite(worst + relative):
        return math.inf
    return max(worst if worst > eps else 0.0, relative)


def _start(qp: Scaled) -> Iterate:
    """Mehrotra's starting point: least squares for s = -z/theta, then both shifted into the interior."""
    item, n, k, M = qp.item, qp.n, qp.k, qp.M
    m = len(item.rhs) - k
    unit = _size(np.concatenate([item.rhs[:k], qp.h]))
    theta = max(qp.theta, 0.1 * qp.unit)
    diagonal = RHO * qp.unit + qp.onto_diagonal(np.full(M - m, theta))
    F = qp.kkt.factor(diagonal, np.concatenate([np.full(k, DELTA / qp.unit), np.full(m, 1 / theta)]), passing=True)
    right = np.concatenate([qp.to_x(theta * qp.h[m:]) - item.p, item.rhs])
    found = F.solve(right)
    x, y = found[:n], found[n : n + k]
    s = qp.h - np.concatenate([item.times_W(x)[k:], qp.bounds_of(x)])
    z = -theta * s
    s = s + max(0.0, -1.5 * float(s.min()))
    z = z + max(0.0, -1.5 * float(z.min()))
    product = dot(s, z)
    ds = max(product / 2 / max(float(z.sum()), 1e-300), 1e-2 * unit)
    dz = max(product / 2 / max(float(s.sum()), 1e-300), 1e-2 * theta * unit)
    s, z = s + ds, z + dz
    return Iterate(x, np.concatenate([y, z[:m]]), z[m:], s[:m], s[m:])


def warm_start(qp: Scaled, x: Floats, w: Floats, z_lb: Floats, z_ub: Floats) -> Iterate:
    """From the solution of a similar problem, in the units of the equilibration: moved into the interior."""
    item, k = qp.item, qp.k
    m = len(item.rhs) - k
    size = _size(np.concatenate([item.rhs[:k], qp.h]))
    s = np.maximum(qp.h - np.concatenate([item.times_W(x)[k:], qp.bounds_of(x)]), LEAST * size)
    z = np.concatenate([w[k:], z_lb[item.lower], z_ub[item.upper]])
    z = np.maximum(z, LEAST * qp.theta * size)
    return Iterate(x, np.concatenate([w[:k], z[:m]]), z[m:], s[:m], s[m:])


def _size(v: Floats) -> float:
    """The largest entry, 1 if all are zero."""
    return float(np.abs(v).max(initial=0)) or 1.0
