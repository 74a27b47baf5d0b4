"""Mehrotra's predictor-corrector method in the lanes; ``backends/interior_point.py`` has the derivation, term by term.

D = (unit/delta, z/s)       t = D (r_y, r_z) - (0, q)       (Q + rho + [A;C]' D [A;C]) dx = -r_x - [A;C]' t
d(y,z) = t + D [A;C] dx     ds = -s q/z - s dz/z            q: z, then z + (ds dz - sigma mu)/s
"""

from __future__ import annotations

from typing import Any

from . import problem
from .constants import CUTS, DELTA, NEAR, SHORTER, STALL, STEP, TRUSTED
from .llvm import Lanes
from .problem import Fields, Problem, Scales, Sizes
from .values import Array, Cell, Index, Num


class Iterate:
    """x, w = (y, z) and s of a block, the best of them so far, and room for a step. z is w from entry k on."""

    def __init__(self, memory: Any, qp: Problem) -> None:
        s = qp.sizes
        n, all_, M = s.n, s.multipliers, s.inequalities
        # changes with every step
        self.x: Array = memory.array(n)
        self.w: Array = memory.array(all_)
        self.s: Array = memory.array(M)
        # changes when an iterate is better than all before
        self.best_x: Array = memory.array(n)
        self.best_w: Array = memory.array(all_)
        self.best_s: Array = memory.array(M)
        # of one iteration
        self.r_x: Array = memory.array(n)
        self.r_w: Array = memory.array(all_)
        self.Qx: Array = memory.array(n)
        self.dx: Array = memory.array(n)
        self.dw: Array = memory.array(all_)
        self.ds: Array = memory.array(M)
        self.t: Array = memory.array(all_)
        self.q: Array = memory.array(M)
        self.inverse_z: Array = memory.array(M)
        self.inverse_s: Array = memory.array(M)


def start(t: Lanes, qp: Problem, it: Iterate, scales: Scales, rho: Num) -> None:
    """Mehrotra's starting point: least squares for s = -z/theta, then both shifted into the interior."""
    s = qp.sizes
    n, k = s.n, s.k
    theta = t.max(scales.theta, scales.unit * 0.1)
    for i in t.range(k):
        qp.D[i] = scales.unit / DELTA
    for i in t.range(s.inequalities):
        qp.D[k + i] = theta
    _factor(t, qp, rho)
    for i in t.range(s.multipliers):
        it.t[i] = qp.D[i] * qp.rhs[i]
    for j in t.range(n):
        it.x[j] = -qp.p[j]
    problem.columns(t, qp, it.t, it.x)
    qp.system.solve(t, it.x)
    problem.rows(t, qp, it.x, it.w)
    for i in t.range(k):
        it.w[i] = qp.D[i] * (it.w[i] - qp.rhs[i])
    least_s, least_z = t.cell(0.0), t.cell(0.0)
    for i in t.range(s.inequalities):
        slack = qp.rhs[k + i] - it.w[k + i]
        it.s[i] = slack
        it.w[k + i] = -theta * slack
        least_s.value = t.min(least_s.value, slack)
        least_z.value = t.min(least_z.value, -theta * slack)
    shift_s, shift_z = least_s.value * -1.5, least_z.value * -1.5
    product, sum_s, sum_z = t.cell(0.0), t.cell(1e-300), t.cell(1e-300)
    for i in t.range(s.inequalities):
        slack, z = it.s[i] + shift_s, it.w[k + i] + shift_z
        it.s[i], it.w[k + i] = slack, z
        product.value = t.fma(slack, z, product.value)
        sum_s.value, sum_z.value = sum_s.value + slack, sum_z.value + z
    more_s = t.max(product.value * 0.5 / sum_z.value, scales.rhs_size * 1e-2)
    more_z = t.max(product.value * 0.5 / sum_s.value, theta * scales.rhs_size * 1e-2)
    for i in t.range(s.inequalities):
        it.s[i] = it.s[i] + more_s
        it.w[k + i] = it.w[k + i] + more_z


def warm_start(t: Lanes, qp: Problem, it: Iterate, scales: Scales, f: Fields, floor: float) -> None:
    """The solution of a similar problem, with slacks and multipliers of at least ``floor`` in the units of the problem."""
    s = qp.sizes
    n, k, K = s.n, s.k, s.rows
    least_s, least_z = scales.rhs_size * floor, scales.rhs_size * scales.theta * floor
    for j in t.range(n):
        it.x[j] = f.x0[j] / qp.d[j]
    problem.rows(t, qp, it.x, it.w)
    for i in t.range(s.inequalities):
        it.s[i] = t.max(qp.rhs[k + i] - it.w[k + i], least_s)
    for i in t.range(k):
        it.w[i] = f.y0[i] / qp.e[i]
    for i in t.range(s.m):
        it.w[k + i] = t.max(f.z0[i] / qp.e[k + i], least_z)
    for j in t.range(s.nl):
        it.w[K + j] = t.max(f.z_lb0[j] * qp.d[j], least_z)
    for j in t.range(s.nu):
        it.w[K + s.nl + j] = t.max(f.z_ub0[j] * qp.d[j], least_z)


def restart(t: Lanes, qp: Problem, it: Iterate) -> None:
    """The best iterate so far."""
    _copy(t, it.best_x, it.x, qp.sizes.n)
    _copy(t, it.best_w, it.w, qp.sizes.multipliers)
    _copy(t, it.best_s, it.s, qp.sizes.inequalities)


def iterate(
    t: Lanes,
    qp: Problem,
    it: Iterate,
    scales: Scales,
    rho: Cell,
    wanted: Num,
    eps: Num,
    gap_eps: Num,
    max_iter: Index,
    limit: Num,
    taken: Cell,
    merit: Cell,
) -> None:
    """Go on from (x, w, s) until residuals are at most ``eps`` and the relative gap ``gap_eps``, for lanes ``wanted``.

    The best iterate is left in best_x, best_w, best_s, what it is worth in ``merit``; ``taken`` counts iterations, of which no
    lane has more than ``limit`` in all.
    """
    s = qp.sizes
    n, k, M = s.n, s.k, s.inequalities
    improved, active = t.cell(0.0), t.cell(wanted)
    merit.value = t.where(wanted > 0.0, t.num(float("inf")), merit.value)
    count = t.cell(0.0)
    _copy(t, it.x, it.best_x, n)
    _copy(t, it.w, it.best_w, s.multipliers)
    _copy(t, it.s, it.best_s, M)
    for iteration in t.range(max_iter + 1):
        now = _residuals(t, qp, it, scales, eps)
        running = active.value > 0.0
        better = (now < merit.value) & running
        merit.value = t.where(better, now, merit.value)
        improved.value = t.where(better, count.value, improved.value)
        with t.if_any(better):
            for array, best, length in ((it.x, it.best_x, n), (it.w, it.best_w, s.multipliers), (it.s, it.best_s, M)):
                for i in t.range(length):
                    best[i] = t.where(better, array[i], best[i])
        running = running & (now > gap_eps) & (improved.value > count.value - STALL) & (taken.value < limit)
        active.value = t.where(running, 1.0, 0.0)
        t.leave(~running)
        t.leave_at(iteration, max_iter)

        # Weights, and their factorization
        for i in t.range(k):
            qp.D[i] = scales.unit / DELTA
        mu = t.cell(0.0)
        for i in t.range(M):
            z, slack = it.w[k + i], it.s[i]
            inverse_s = 1.0 / slack
            it.inverse_s[i] = inverse_s
            it.inverse_z[i] = 1.0 / z
            qp.D[k + i] = z * inverse_s
            mu.value = t.fma(z, slack, mu.value)
        _factor(t, qp, rho.value)
        exists = qp.system.good[0] > 0.0

        # Predictor: towards s z = 0
        for i in t.range(M):
            it.q[i] = it.w[k + i]
        _newton(t, qp, it)
        alpha = _step(t, s, it, 1.0)
        mu_affine = t.cell(0.0)
        for i in t.range(M):
            mu_affine.value = t.fma(t.fma(alpha, it.ds[i], it.s[i]), t.fma(alpha, it.dw[k + i], it.w[k + i]), mu_affine.value)
        ratio = mu_affine.value / mu.value
        sigma_mu = ratio * ratio * mu_affine.value / t.num(M)

        # Corrector. A predictor that hardly gets anywhere has a second-order term that is noise.
        trust = t.min(alpha / TRUSTED, 1.0)
        trust = trust * trust
        for i in t.range(M):
            it.q[i] = it.w[k + i] + (trust * it.ds[i] * it.dw[k + i] - sigma_mu) * it.inverse_s[i]
        _newton(t, qp, it)
        alpha = _central(t, s, it, _step(t, s, it, STEP))

        # Where the factorization broke down the step is meaningless: the item stays, and tries again with more regularisation.
        moves = running & exists
        for array, step, length in ((it.x, it.dx, n), (it.w, it.dw, s.multipliers), (it.s, it.ds, M)):
            for i in t.range(length):
                array[i] = t.where(moves, t.fma(alpha, step[i], array[i]), array[i])
        rho.value = t.where(exists, rho.value, rho.value * 100.0)
        count.value = count.value + 1.0
        taken.value = t.where(running, taken.value + 1.0, taken.value)


def _residuals(t: Lanes, qp: Problem, it: Iterate, scales: Scales, eps: Num) -> Num:
    """r_x, r_w, and the larger of duality gap and residuals, each over the size of its own terms; residuals up to eps are none."""
    s = qp.sizes
    n, k = s.n, s.k
    for j in t.range(n):
        it.Qx[j] = 0.0
        it.r_x[j] = qp.p[j]
    qp.Q.times(t, it.x, it.Qx)
    problem.columns(t, qp, it.w, it.r_x)
    problem.rows(t, qp, it.x, it.r_w)
    worst, xQx, px, gap = t.cell(0.0), t.cell(0.0), t.cell(0.0), t.cell(0.0)
    for j in t.range(n):
        Qx, x = it.Qx[j], it.x[j]
        r = it.r_x[j] + Qx
        it.r_x[j] = r
        worst.value = t.max(worst.value, t.abs(r) / (qp.x_floor[j] + t.abs(Qx)))
        xQx.value = t.fma(x, Qx, xQx.value)
        px.value = t.fma(x, qp.p[j], px.value)
    for first, length, slack in ((0, k, None), (k, s.inequalities, it.s)):
        for i in t.range(length):
            Wx, rhs = it.r_w[i + first], qp.rhs[i + first]
            r = Wx - rhs if slack is None else Wx - rhs + slack[i]
            it.r_w[i + first] = r
            worst.value = t.max(worst.value, t.abs(r) / (qp.w_floor[i + first] + t.abs(Wx)))
            gap.value = t.fma(it.w[i + first], rhs, gap.value)
    total = xQx.value + px.value + gap.value
    objective = xQx.value * 0.5 + px.value
    relative = t.abs(total) / (scales.gap_floor + t.abs(objective) + t.abs(objective - total))
    rows = t.where(worst.value > eps, worst.value, 0.0)
    return t.where(relative >= rows, relative, t.where(relative < rows, rows, relative))  # NaN stays


def _factor(t: Lanes, qp: Problem, rho: Num) -> None:
    """The factor of Q + rho + [A;C]' D [A;C]: bounds add to its diagonal."""
    s, diagonal = qp.sizes, qp.system.diagonal
    for j in t.range(s.n):
        diagonal[j] = rho
    for first, count, present in ((s.rows, s.nl, qp.lower), (s.rows + s.nl, s.nu, qp.upper)):
        for j in t.range(count):
            diagonal[j] = t.fma(qp.D[first + j], present[j], diagonal[j])
    qp.system.factor(t, s.k, qp.D)


def _newton(t: Lanes, qp: Problem, it: Iterate) -> None:
    """dx, dw, ds for the right-hand side q."""
    s = qp.sizes
    n, k, M = s.n, s.k, s.inequalities
    for i in t.range(k):
        it.t[i] = qp.D[i] * it.r_w[i]
    for i in t.range(M):
        it.t[k + i] = qp.D[k + i] * it.r_w[k + i] - it.q[i]
    for j in t.range(n):
        it.dx[j] = it.r_x[j]
    problem.columns(t, qp, it.t, it.dx)
    for j in t.range(n):
        it.dx[j] = -it.dx[j]
    qp.system.solve(t, it.dx)
    problem.rows(t, qp, it.dx, it.dw)
    for i in t.range(k):
        it.dw[i] = t.fma(qp.D[i], it.dw[i], it.t[i])
    for i in t.range(M):
        dz = t.fma(qp.D[k + i], it.dw[k + i], it.t[k + i])
        it.dw[k + i] = dz
        it.ds[i] = -(it.q[i] + dz) * it.s[i] * it.inverse_z[i]


def _step(t: Lanes, s: Sizes, it: Iterate, fraction: float) -> Num:
    """The longest step, at most 1, that goes ``fraction`` of the way to the nearest boundary."""
    fastest = t.cell(-fraction)
    for i in t.range(s.inequalities):
        fastest.value = t.min(fastest.value, t.min(it.dw[s.k + i] * it.inverse_z[i], it.ds[i] * it.inverse_s[i]))
    return -fraction / fastest.value


def _central(t: Lanes, s: Sizes, it: Iterate, alpha: Num) -> Num:
    """The longest of alpha, 0.8 alpha, ... that ends near the central path, or the last of them."""
    step = t.cell(alpha)
    for _ in t.range(CUTS):
        least, total = t.cell(float("inf")), t.cell(0.0)
        for i in t.range(s.inequalities):
            product = t.fma(step.value, it.ds[i], it.s[i]) * t.fma(step.value, it.dw[s.k + i], it.w[s.k + i])
            least.value = t.min(least.value, product)
            total.value = total.value + product
        far = least.value < total.value * NEAR / t.num(s.inequalities)
        t.leave(~far)
        step.value = t.where(far, step.value * SHORTER, step.value)
    return step.value


def _copy(t: Lanes, source: Array, target: Array, length: Any) -> None:
    for i in t.range(length):
        target[i] = source[i]
