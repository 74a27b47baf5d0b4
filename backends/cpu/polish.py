"""Active-set polish in the lanes, and how good its point is; ``backends/polish.py`` and ``backends/residuals.py`` explain both."""

from __future__ import annotations

from typing import Any

from .constants import DELTA, RHO, STEADY_POLISH, STRIDE
from .interior_point import Iterate
from .llvm import Lanes
from .problem import Problem, Scales
from .values import Array, Index, Mask, Num


class Candidate:
    """The polished point, in the units of the equilibration until ``finish``; what it holds active; its residuals."""

    def __init__(self, memory: Any, qp: Problem) -> None:
        s = qp.sizes
        n, K = s.n, s.rows
        self.x: Array = memory.array(n)
        self.w: Array = memory.array(K)
        self.z_lb: Array = memory.array(n)
        self.z_ub: Array = memory.array(n)
        self.held: Array = memory.array(K)
        self.lower: Array = memory.array(n)
        self.upper: Array = memory.array(n)
        self.slack: Array = memory.array(K)
        self.scaled: Array = memory.array(4)
        self.absolute: Array = memory.array(4)
        # the factor in the units of the problem
        self.scale: Array = memory.array(n)
        self.weight: Array = memory.array(K)
        self.unit: Array = memory.array(1)
        # of one refinement
        self.r_x: Array = memory.array(n)
        self.r_w: Array = memory.array(K)
        self.u_x: Array = memory.array(n)
        self.along: Array = memory.array(K)
        self.across: Array = memory.array(n)


def polish(t: Lanes, qp: Problem, it: Iterate, c: Candidate, scales: Scales, bias: Num, refinements: Index) -> Mask:
    """The solution of the constraints that the best iterate shows to be active: those with z > bias s, in the objective's units.
    And where the last refinement left the multipliers where they were."""
    s = qp.sizes
    n, k, K = s.n, s.k, s.rows
    dividing = bias * scales.unit
    held = t.cell(0.0)
    for i in t.range(k):
        qp.D[i] = scales.unit / DELTA
        held.value = 1.0
    for i in t.range(s.m):
        holds = it.best_w[k + i] > dividing * it.best_s[i]
        qp.D[k + i] = t.where(holds, scales.unit / DELTA, 0.0)
        held.value = t.where(holds, 1.0, held.value)
    rho = scales.curvature * RHO + held.value * scales.unit * s.rounding(t)
    for j in t.range(n):
        x = it.best_x[j]
        c.lower[j], c.upper[j] = 0.0, 0.0
        c.x[j] = x
    for j in t.range(s.nl):
        holds = (it.best_w[K + j] > dividing * it.best_s[s.m + j]) & (qp.lower[j] > 0.0)
        lb = -qp.rhs[K + j]
        c.lower[j] = t.where(holds, 1.0, 0.0)
        c.x[j] = t.where(holds | ((qp.lower[j] > 0.0) & (c.x[j] < lb)), lb, c.x[j])
    for j in t.range(s.nu):
        z_ub = it.best_w[K + s.nl + j]
        holds = (z_ub > dividing * it.best_s[s.m + s.nl + j]) & (qp.upper[j] > 0.0)
        # Where both seem to hold, as they do if they are equal, the larger multiplier tells. Without lower bounds there is none.
        holds = holds & ((c.lower[j] < 0.5) | (z_ub > it.best_w[K + j]))
        ub = qp.rhs[K + s.nl + j]
        c.lower[j] = t.where(holds, 0.0, c.lower[j])
        c.upper[j] = t.where(holds, 1.0, 0.0)
        c.x[j] = t.where(holds | ((qp.upper[j] > 0.0) & (c.x[j] > ub)), ub, c.x[j])
    for j in t.range(n):
        free = 1.0 - (c.lower[j] + c.upper[j])
        qp.system.free[j] = free
        qp.system.diagonal[j] = t.where(free > 0.0, rho, scales.unit)
    qp.system.factor(t, s.k, qp.D)
    for i in t.range(K):
        c.w[i] = t.where(qp.D[i] > 0.0, it.best_w[i], 0.0)

    update, size = t.cell(0.0), t.cell(0.0)
    for _ in t.range(refinements):
        qp.W.times(t, c.x, c.r_w)
        for i in t.range(K):
            weighted = qp.D[i] * (qp.rhs[i] - c.r_w[i])
            c.r_w[i] = weighted
            c.along[i] = weighted - c.w[i]
        for j in t.range(n):
            c.r_x[j] = -qp.p[j]
            c.u_x[j] = 0.0
        qp.Q.times(t, c.x, c.u_x)
        qp.W.across(t, c.along, c.r_x)
        for j in t.range(n):
            c.u_x[j] = qp.system.free[j] * (c.r_x[j] - c.u_x[j])
        qp.system.solve(t, c.u_x)
        for j in t.range(n):
            u = qp.system.free[j] * c.u_x[j]
            c.u_x[j] = u
            c.x[j] = c.x[j] + u
        qp.W.times(t, c.u_x, c.along)
        update.value, size.value = 0.0, scales.theta * scales.rhs_size
        for i in t.range(K):
            u = qp.D[i] * c.along[i] - c.r_w[i]
            w = c.w[i] + u
            update.value, size.value = t.max(update.value, t.abs(u)), t.max(size.value, t.abs(w))
            c.w[i] = w

    for i in t.range(s.m):
        c.w[k + i] = t.max(c.w[k + i], 0.0)
    for j in t.range(s.nl):
        c.x[j] = t.where((qp.lower[j] > 0.0) & (c.x[j] < -qp.rhs[K + j]), -qp.rhs[K + j], c.x[j])
    for j in t.range(s.nu):
        ub = qp.rhs[K + s.nl + j]
        c.x[j] = t.where((qp.upper[j] > 0.0) & (c.x[j] > ub), ub, c.x[j])
    return update.value <= size.value * STEADY_POLISH


def flat(t: Lanes, qp: Problem, c: Candidate, scales: Scales) -> Num:
    """The least eigenvalue of U'U if a direction has no curvature and no row that holds it, else 0; see ``kkt.flat``."""
    probe = t.cell(0.0)
    for j in t.range(qp.sizes.n):
        probe.value = probe.value + STRIDE
        probe.value = t.where(probe.value > 1.0, probe.value - 1.0, probe.value)
        c.u_x[j] = probe.value + 0.5
    sizes = []
    for _ in range(2):
        qp.system.solve(t, c.u_x)
        largest = t.cell(0.0)
        for j in t.range(qp.sizes.n):
            largest.value = t.max(largest.value, t.abs(c.u_x[j]))
        sizes.append(largest.value)
    least = sizes[0] / sizes[1]
    return t.where(least <= scales.unit * (2.0 * (RHO + qp.sizes.rounding(t))), least, 0.0)


def judge(t: Lanes, qp: Problem, c: Candidate, scales: Scales) -> Num:
    """The multipliers of the bounds, all residuals on the problem as it was given, by fair floors, and the worst of them."""
    s = qp.sizes
    n, k, K = s.n, s.k, s.rows
    for j in t.range(n):
        c.u_x[j] = 0.0
        c.r_x[j] = qp.p[j]
        c.across[j] = qp.column_floor[j] + t.abs(qp.p[j])
    for i in t.range(K):
        c.along[i] = qp.row_floor[i] + t.abs(qp.rhs[i])
    qp.Q.times(t, c.x, c.u_x)
    qp.W.across(t, c.w, c.r_x)
    qp.W.times(t, c.x, c.r_w)
    qp.W.sizes(t, c.x, c.w, c.along, c.across)
    qp.Q.sizes(t, c.x, c.across)
    worst = [t.cell(0.0) for _ in range(3)]
    absolute = [t.cell(0.0) for _ in range(3)]
    xQx, px, gap = t.cell(0.0), t.cell(0.0), t.cell(0.0)
    for j in t.range(n):
        Qx, x, d = c.u_x[j], c.x[j], qp.d[j]
        reduced = c.r_x[j] + Qx
        z_lb = t.where((c.lower[j] > 0.5) & (reduced > 0.0), reduced, 0.0)
        z_ub = t.where((c.upper[j] > 0.5) & (reduced < 0.0), -reduced, 0.0)
        dual = t.abs(reduced - z_lb + z_ub)
        worst[2].value = t.max(worst[2].value, dual / (c.across[j] + z_lb + z_ub))
        absolute[2].value = t.max(absolute[2].value, dual / d)
        xQx.value = t.fma(x, Qx, xQx.value)
        px.value = t.fma(x, qp.p[j], px.value)
        c.z_lb[j], c.z_ub[j] = z_lb, z_ub
    for j in t.range(s.nl):
        gap.value = t.fma(c.z_lb[j], qp.rhs[K + j], gap.value)
    for j in t.range(s.nu):
        gap.value = t.fma(c.z_ub[j], qp.rhs[K + s.nl + j], gap.value)
    for first, length, kind in ((0, k, 1), (k, s.m, 0)):
        for i in t.range(length):
            row = i + first
            excess = c.r_w[row] - qp.rhs[row]
            gap.value = t.fma(c.w[row], qp.rhs[row], gap.value)
            excess = t.abs(excess) if kind else t.max(excess, 0.0)
            size = c.along[row]
            worst[kind].value = t.max(worst[kind].value, excess / t.where(size > 0.0, size, 1.0))
            absolute[kind].value = t.max(absolute[kind].value, excess / qp.e[row])
    total = xQx.value + px.value + gap.value
    objective = xQx.value * 0.5 + px.value
    relative = t.abs(total) / (scales.gap_floor + t.abs(objective) + t.abs(objective - total))
    for i in range(3):
        c.scaled[i], c.absolute[i] = worst[i].value, absolute[i].value
    c.scaled[3], c.absolute[3] = relative, t.abs(total)
    return t.max(relative, t.max(worst[0].value, t.max(worst[1].value, worst[2].value)))


def finish(t: Lanes, qp: Problem, c: Candidate, scales: Scales, h: Any) -> tuple[Array, Any]:
    """Everything in the units of the problem, and the factor as ``polish.Factor`` describes it. U, and its size."""
    s = qp.sizes
    for j in t.range(s.n):
        d = qp.d[j]
        c.x[j] = c.x[j] * d
        c.z_lb[j], c.z_ub[j] = c.z_lb[j] / d, c.z_ub[j] / d
        c.scale[j] = d * qp.system.free[j]
    for i in t.range(s.rows):
        e = qp.e[i]
        c.w[i] = c.w[i] * e
        c.weight[i] = qp.D[i] * e * e
        c.held[i] = t.where(qp.D[i] > 0.0, 1.0, 0.0)
    for i in t.range(s.m):
        c.slack[i] = h[i] - c.r_w[s.k + i] / qp.e[s.k + i]  # an infinite h stays infinite
    c.unit[0] = scales.unit
    return qp.system.kept(t, qp.d)
