"""From one item to its solution and the factored system of its active set.

    equilibrate -> interior point -> polish -> residuals -> (another attempt) -> status

As in ``backends.engine``: the iteration ends as soon as the active set can be expected to show; what proves an answer is the
polished point. What is not proved is polished otherwise, iterated further, and attempted again with careful steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..status import Status
from . import interior_point
from .active import FROM_NOTHING, PATIENT, REFINEMENTS, Active, Held, factorize, identified, polish
from .interior_point import Iterate, Scaled
from .item import Floats, Item, equilibrate, scaled
from .residuals import Floors, Measure, Point, Residuals

SURE = 1e-2  # a polished point with residuals below SURE * eps is the optimum, however it was found
EARLY = 1e-5  # where the active set shows, but for a few places
SECOND = 1e-4  # times eps: the gap of the second attempt
UNDECIDED = 1e-3  # rows with z/s within this factor of the dividing line are tried on both sides of it
LOOSE = 1e-4
CORRECTIONS = 6  # of an active set
WARM_ITERATIONS = 12


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was found for one item."""

    point: Point
    residuals: Residuals
    held: Held
    status: Status
    iterations: int


@dataclass(frozen=True, eq=False)
class _Attempt:
    point: Point
    held: Held
    residuals: Residuals
    sure: bool


def run(item: Item, eps: float, eps_abs: float | None, max_iter: int, start: Point | None = None) -> Outcome:
    """Solve one item, whose data are finite and convex."""
    search = _Search(item, eps, max_iter)
    found = search.found(start)
    status = judge(found.residuals, search.iterations, eps, eps_abs, max_iter)
    return Outcome(found.point, found.residuals, found.held, status, search.iterations)


def judge(residuals: Residuals, iterations: int, eps: float, eps_abs: float | None, max_iter: int) -> Status:
    """The status that follows from residuals alone."""
    relative, absolute = float(residuals.scaled.max()), float(residuals.absolute.max())
    bound = math.inf if eps_abs is None else eps_abs
    if relative <= eps and absolute <= bound:
        return Status.SOLVED
    if relative <= math.sqrt(eps) and absolute <= math.sqrt(bound):
        return Status.SOLVED_INACCURATE
    return Status.MAX_ITERATIONS if iterations >= max_iter else Status.NUMERICAL_ERROR


class _Search:
    """The attempts at one item."""

    def __init__(self, item: Item, eps: float, max_iter: int) -> None:
        self.item, self.eps, self.max_iter = item, eps, max_iter
        self.measure = Measure(item)
        self.d, self.e = equilibrate(item)
        self.iterations = 0

    def found(self, start: Point | None) -> _Attempt:
        qp = scale(self.item, self.measure.fair, self.d, self.e, careful=False)
        if not qp.M:
            only = self._polished(qp, None, 1.0, FROM_NOTHING)
            return only if only.sure else _better(only, self._polished(qp, None, 1.0, PATIENT))
        first = max(self.eps, EARLY) / 2
        best: _Attempt | None = None
        if start is not None:
            v = interior_point.warm_start(qp, start.x / self.d, start.w / self.e, start.z_lb * self.d, start.z_ub * self.d)
            v = self._iterated(qp, v, first, first, WARM_ITERATIONS, careful=False)
            best = self._polished(qp, v, 1.0, REFINEMENTS)
            if best.sure:
                return best
        v = self._iterated(qp, None, first, first, self.max_iter, careful=False)
        best = _better(best, self._polished(qp, v, 1.0, REFINEMENTS))
        if best.sure or (self.eps > LOOSE and best.residuals.worst <= self.eps):
            return best
        if best.residuals.worst <= math.sqrt(self.eps):
            best = self._otherwise(qp, v, best)
            if not best.sure:
                v = self._iterated(qp, v, self.eps / 2, SECOND * self.eps, self.max_iter, careful=False)
                best = self._otherwise(qp, v, best)
        if best.sure or best.residuals.worst <= self.eps or self.iterations >= self.max_iter:
            return best
        qp = scale(self.item, self.measure.fair, self.d, self.e, careful=True)
        v = self._iterated(qp, None, self.eps / 2, SECOND * self.eps, self.max_iter, careful=True)
        return self._otherwise(qp, v, best)

    def _iterated(self, qp: Scaled, v: Iterate | None, eps: float, gap_eps: float, most: int, *, careful: bool) -> Iterate:
        budget = min(most, self.max_iter - self.iterations)
        v, count = interior_point.solve(qp, eps, gap_eps, budget, v, careful)
        self.iterations += count
        return v

    def _otherwise(self, qp: Scaled, v: Iterate, best: _Attempt) -> _Attempt:
        """The iterate polished for longer, and with undecided rows on either side."""
        for bias, refinements in ((1.0, PATIENT), (UNDECIDED, REFINEMENTS), (1 / UNDECIDED, REFINEMENTS)):
            best = _better(best, self._polished(qp, v, bias, refinements))
            if best.sure:
                break
        return best

    def _polished(self, qp: Scaled, v: Iterate | None, bias: float, refinements: int) -> _Attempt:
        """The iterate, or the polished point where that is better, and the factor of the active set.

        A polished point that is not optimal mostly violates a few rows, or pulls at a few: the set is corrected by these as long as
        they become fewer, which costs as much as iterating and ends at once.
        """
        if v is None:
            nothing, rows = np.zeros(qp.n), np.ones(qp.k, dtype=bool)
            start, active = Point(nothing, np.zeros(qp.k), nothing, nothing), Active(rows, nothing > 0, nothing > 0)
        else:
            start, active = identified(qp, v, self.d, self.e, self.item, bias)
        first: _Attempt | None = None
        last, point = len(active.rows) + 2 * qp.n, start
        for _ in range(CORRECTIONS + 1):
            held = factorize(qp, active, self.d, self.e)
            point, steady, suggested = polish(self.item, held, point, refinements)
            residuals = self.measure.residuals(point, self.measure.fair)
            if steady and residuals.worst <= SURE * self.eps:
                return _Attempt(point, held, residuals, True)
            if first is None:
                first = _Attempt(point, held, self.measure.residuals(point, self.measure.plain), False)
            changes = active.changes(suggested)
            if not 0 < changes <= last / 2:
                break
            active, last = suggested, changes
        assert first is not None
        before = self.measure.residuals(start, self.measure.plain)
        return first if first.residuals.worst <= before.worst else _Attempt(start, first.held, before, False)


def _better(ours: _Attempt | None, theirs: _Attempt) -> _Attempt:
    if ours is None or theirs.sure or (not ours.sure and theirs.residuals.worst <= ours.residuals.worst):
        return theirs
    return ours


def scale(item: Item, floors: Floors, d: Floats, e: Floats, *, careful: bool) -> Scaled:
    """The problem in the units of the equilibration, with what residuals there are divided by at least."""
    own = scaled(item, d, e)
    rows = np.where(floors.rows > 0, floors.rows, 1)
    sides = np.concatenate([own.lb[own.lower], own.ub[own.upper]])
    raw = np.concatenate([item.lb[own.lower], item.ub[own.upper]])
    lengths = np.concatenate([d[own.lower], d[own.upper]])
    p_size, x_size = _size(own.p), _size(np.concatenate([own.rhs, sides]))
    Q_size = float(np.abs(own.Q).max(initial=0))
    if careful and Q_size > 0:
        x_size = max(x_size, p_size / Q_size)
    theta = p_size / x_size
    unit = max(Q_size, theta)
    return Scaled(
        own, d * (floors.columns + np.abs(item.p)), e * (rows + np.abs(item.rhs)), (1 + np.abs(raw)) / lengths,
        floors.objective, unit, Q_size if Q_size > 0 else unit, theta,
    )  # fmt: skip


def held_of(item: Item, active: Active) -> Held:
    """The factored system of an active set."""
    d, e = equilibrate(item)
    qp = scale(item, Measure(item).fair, d, e, careful=False)
    return factorize(qp, active, d, e)


def _size(v: Floats) -> float:
    return float(np.abs(v).max(initial=0)) or 1.0
