"""The system of an active set: polish, and the derivative's linear solve.

    [Q   A'  G_a'  I_f'] [x]     [-p ]
    [A                 ] [y]     [b  ]            a: active rows,  f: variables at a bound
    [G_a               ] [z_a] = [h_a]            w: the multiplier of the bound, z_ub - z_lb
    [I_f               ] [w]     [x_f]

It is ``kkt``'s matrix with enormous weights on what is not active and on what stands still. The factor solves a softened system,
rho on the diagonal of Q and delta on rows; refinement against the system itself takes the softening away.

**No or many solutions.** K is singular only through flat directions (v, 0) with Qv = 0, Av = 0, G_a v = 0, and through dependent
rows (0, u) with A'u_y + G_a'u_z = 0. With R = diag(rho, -delta) the softened matrix is K + R, and R (K + R)^-1 leaves such
directions as they are while it shrinks all others by rho or delta over what is there. A few times applied to a right-hand side it
therefore leaves the part that no solution can match; without that part refinement converges, to the solution of least norm in the
units of the equilibration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .interior_point import Iterate, Scaled
from .item import Floats, Item
from .kkt import KKT
from .multifrontal import Factorization
from .residuals import Point

Mask = NDArray[np.bool_]

ENORMOUS = 1e20  # weight of what is not there, over the size of the objective or its inverse
RHO, DELTA = 1e-8, 1e-8
REFINEMENTS, FROM_NOTHING, PATIENT = 2, 3, 12
VIOLATED = 1e-12  # by this much, over the size of its terms, a row is violated
STEADY = 1e-6  # an update of multipliers over themselves, in the last refinement of a polish
LINEAR_REFINEMENTS, ACCURATE, CONSISTENT, SETTLED = 12, 1e-13, 1e-9, 1e-8
FILTERS = 4  # times that a right-hand side is cleared of what no solution matches


@dataclass(frozen=True, eq=False)
class Active:
    """What is held with equality: rows of [A; G], and variables at a lower or an upper bound; bool."""

    rows: Mask
    lower: Mask
    upper: Mask

    def changes(self, other: Active) -> int:
        """In how many places two sets differ."""
        pairs = (self.rows, other.rows), (self.lower, other.lower), (self.upper, other.upper)
        return sum(int((ours != theirs).sum()) for ours, theirs in pairs)


@dataclass(frozen=True, eq=False)
class Held:
    """The factored system of an active set in the units of the problem: (d, e) are the scales of the equilibration."""

    active: Active
    kkt: KKT
    d: Floats
    e: Floats
    rho: float
    delta: float
    kept: Factorization | None = None

    @property
    def F(self) -> Factorization:
        """The factors; made again if they are not kept."""
        if self.kept is not None:
            return self.kept
        unit = self.kkt.unit
        x = np.where(self.still, ENORMOUS * unit, self.rho)
        return self.kkt.factor(x, np.where(self.active.rows, self.delta, ENORMOUS / unit))

    def with_factor(self) -> Held:
        return replace(self, kept=self.F)

    def without_factor(self) -> Held:
        return replace(self, kept=None)

    @property
    def still(self) -> Mask:
        found: Mask = self.active.lower | self.active.upper
        return found

    def apply(self, r_x: Floats, r_w: Floats) -> tuple[Floats, Floats]:
        """An approximate solution (u_x, u_w); zero on variables at a bound and inactive rows, whose r is not read."""
        n = len(r_x)
        free, rows = ~self.still, self.active.rows
        r = np.concatenate([np.where(free, self.d * r_x, 0), np.where(rows, self.e * r_w, 0)])
        u = self.F.solve(r)
        return np.where(free, self.d * u[:n], 0), np.where(rows, self.e * u[n:], 0)


def identified(qp: Scaled, v: Iterate, d: Floats, e: Floats, item: Item, bias: float) -> tuple[Point, Active]:
    """The iterate in the units of the problem, and what it shows to be active: z > s in the units of the objective."""
    k, scaled = qp.k, qp.item
    n, lower = qp.n, len(scaled.lower)
    holds, holds_b = v.w[k:] > bias * qp.unit * v.s, v.z_b > bias * qp.unit * v.s_b
    masks, multipliers = [], []
    for at, part in ((scaled.lower, slice(None, lower)), (scaled.upper, slice(lower, None))):
        mask, z = np.zeros(n, dtype=bool), np.zeros(n)
        mask[at], z[at] = holds_b[part], v.z_b[part]
        masks.append(mask)
        multipliers.append(z / d)
    rows = np.concatenate([np.ones(k, dtype=bool), holds])
    # Where both bounds seem to hold, as they do if they are equal, the larger multiplier tells.
    above = masks[1] & ~(masks[0] & (multipliers[0] >= multipliers[1]))
    return Point(item.clamp(v.x * d), v.w * e, *multipliers), Active(rows, masks[0] & ~above, above)


def factorize(qp: Scaled, active: Active, d: Floats, e: Floats) -> Held:
    return Held(active, qp.kkt, d, e, RHO * qp.curvature, DELTA / qp.unit).with_factor()


def polish(item: Item, held: Held, point: Point, refinements: int) -> tuple[Point, bool, Active]:
    """The solution of the active set's system, refined from ``point``; whether the last refinement left multipliers alone; and the
    active set that the solution suggests: without what has a negative multiplier, with what is violated.
    """
    k, active = item.structure.k, held.active
    x = np.where(active.lower, item.lb, np.where(active.upper, item.ub, point.x))
    w = np.where(active.rows, point.w, 0)
    u_w = w
    for _ in range(refinements):
        r_x = -(item.times_Q(x) + item.p + item.times_Wt(w))
        u_x, u_w = held.apply(r_x, item.rhs - item.times_W(x))
        x, w = x + u_x, w + u_w
    inverse = 1 / held.e
    size = float(np.abs(w * inverse).max(initial=0))
    cost = float(np.abs(item.p * held.d).max(initial=0))
    steady = float(np.abs(u_w * inverse).max(initial=0)) <= STEADY * max(size, cost or 1.0)
    over = item.times_W(x) - item.rhs > VIOLATED * (np.abs(item.rhs) + item.magnitude.times_W(np.abs(x)))
    over[:k] = True
    gradient = item.times_Q(x) + item.p + item.times_Wt(w)
    beyond = VIOLATED * np.abs(x)
    suggested = Active(
        np.where(active.rows, (w > 0) | (np.arange(len(w)) < k), over),
        np.where(active.lower, gradient > 0, x < item.lb - beyond),
        np.where(active.upper, gradient < 0, x > item.ub + beyond),
    )
    w = np.concatenate([w[:k], np.maximum(w[k:], 0)])
    x = item.clamp(x)
    reduced = item.times_Q(x) + item.p + item.times_Wt(w)
    z_lb = np.where(active.lower, np.maximum(reduced, 0), 0)
    z_ub = np.where(active.upper, np.maximum(-reduced, 0), 0)
    return Point(x, w, z_lb, z_ub), steady, suggested


def linear_solve(item: Item, held: Held, r_x: Floats, r_w: Floats, r_bound: Floats) -> tuple[Floats, Floats, Floats, bool]:
    """(u_x, u_w, u_bound) of the system with this right-hand side, of least norm where there are many or none; and whether it is
    regular, so that this is all there is to say.
    """
    held = held.with_factor()
    still, rows = held.still, held.active.rows
    u_bound = np.where(still, r_bound, 0)
    right_x = np.where(still, 0, r_x - item.times_Q(u_bound))
    right_w = np.where(rows, r_w - item.times_W(u_bound), 0)
    u_x, u_w, settled = _refined(item, held, right_x, right_w)
    if not settled:
        lost_x, lost_w = unmatched(held, right_x, right_w)
        u_x, u_w, _ = _refined(item, held, right_x - lost_x, right_w - lost_w)
        # What was left of the lost part by rounding is back, 1/rho times as large.
        for _ in range(2):
            along_x, along_w = _singular_part(held, u_x, u_w)
            u_x, u_w = u_x - along_x, u_w - along_w
    u_x = u_x + u_bound
    left = r_x - item.times_Q(u_x) - item.times_Wt(u_w)
    return u_x, u_w, np.where(still, left, 0), settled


def _refined(item: Item, held: Held, right_x: Floats, right_w: Floats) -> tuple[Floats, Floats, bool]:
    """Refinement from zero; whether it arrived."""
    free, rows, d, e = ~held.still, held.active.rows, held.d, held.e

    def length(x: Floats, w: Floats, d: Floats, e: Floats) -> float:
        return max(float(np.abs(x * d).max(initial=0)), float(np.abs(w * e).max(initial=0)))

    u_x, u_w = np.zeros_like(right_x), np.zeros_like(right_w)
    left_x, left_w = right_x, right_w
    first = best = length(right_x, right_w, d, e)
    kept = u_x, u_w
    update, size = 0.0, 1.0
    for _ in range(LINEAR_REFINEMENTS):
        if best <= ACCURATE * first:
            break
        du_x, du_w = held.apply(left_x, left_w)
        u_x, u_w = u_x + du_x, u_w + du_w
        left_x = np.where(free, right_x - item.times_Q(u_x) - item.times_Wt(u_w), 0)
        left_w = np.where(rows, right_w - item.times_W(u_x), 0)
        error = length(left_x, left_w, d, e)
        update, size = length(du_x, du_w, 1 / d, 1 / e), length(u_x, u_w, 1 / d, 1 / e)
        if not error < best:
            break
        best, kept = error, (u_x, u_w)
    return *kept, best <= CONSISTENT * first and (best <= ACCURATE * first or update <= SETTLED * size)


def _singular_part(held: Held, u_x: Floats, u_w: Floats) -> tuple[Floats, Floats]:
    """The part of a solution along flat directions and dependent rows: of R u, R times that is ``unmatched``."""
    R_x, R_w = held.rho / held.d**2, -held.delta / held.e**2
    lost_x, lost_w = unmatched(held, R_x * u_x, R_w * u_w)
    return lost_x / R_x, lost_w / R_w


def unmatched(held: Held, r_x: Floats, r_w: Floats) -> tuple[Floats, Floats]:
    """The part of a right-hand side along flat directions and dependent rows."""
    for _ in range(FILTERS):
        u_x, u_w = held.apply(r_x, r_w)
        r_x, r_w = held.rho * u_x / held.d**2, -held.delta * u_w / held.e**2
    return r_x, r_w
