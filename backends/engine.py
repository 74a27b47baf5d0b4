"""The torch engine: from data to solution and factored KKT system, without autograd.

screen -> equilibrate -> interior point -> polish -> residuals -> (active sets) -> status
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from . import active_set, interior_point, linear
from .data import QPData, Residuals, WarmStart
from .equilibrate import equilibrate
from .independent import turned
from .polish import Active, Factor, factorize, polish
from .products import matvec
from .residuals import SURE, Measure, Point
from .scaled import Scaled, scale
from .screen import Clean, screen
from .status import Status

# The iteration ends as soon as the active set can be expected to show; what proves an answer is the polished point: with residuals
# below SURE * eps it is the optimum, however it was found. What is not proved is attempted again, down to a gap of SECOND * eps:
# residuals may be small while a row with small slack and small multiplier is still undecided.
EARLY = 1e-6
SECOND = 1e-4
UNDECIDED = 1e-3  # rows with z/s within this factor of the dividing line and its inverse are tried on both sides of it
# From an iterate with eight digits two refinements reach rounding, from nothing it takes three; a flat direction takes more.
REFINEMENTS, FROM_NOTHING, PATIENT = 2, 3, 8
# Rows at an angle of e from each other take some 1e-6/e² refinements: below 1e-3 they never arrive. EXACT solves the system of the
# active set as it is, by the means of the derivative.
EXACT = 0
WARM_ITERATIONS = 12  # from the solution of a similar problem; whoever needs more starts anew
LOOSE = 1e-4  # who asks for less than this has no use for a second attempt

Tensors = TypeVar("Tensors", Point, Factor, Residuals)


@dataclass(frozen=True)
class Outcome:
    """What the engine found for every item."""

    clean: Clean
    point: Point
    factor: Factor
    residuals: Residuals
    status: Tensor
    iterations: Tensor

    def slack(self, data: QPData, x: Tensor) -> Tensor:
        """h - Gx with the h that was given, also where the row is absent: +inf stays."""
        G, h = self.clean.W[:, self.clean.k :], data.h
        finite = self.clean.rhs[:, self.clean.k :] - matvec(G, x)
        return torch.where((h > 0) & ~G.any(2), h, finite)


@dataclass(frozen=True)
class Attempt:
    """A candidate for every item, the factor of its active set, and the interior-point iterations that led to it.

    ``sure`` marks optima proved by the residuals of the polished point, whatever led to it. ``v`` is the last iterate, scaled; None
    if the problem has no inequalities.
    """

    point: Point
    factor: Factor
    residuals: Residuals
    iterations: Tensor
    sure: Tensor
    v: Tensor | None


def run(
    data: QPData,
    eps: float,
    eps_abs: float | None,
    max_iter: int,
    rejected: Tensor | None = None,
    *,
    careful: bool = False,
    warm: WarmStart | None = None,
) -> Outcome:
    """Solve a batch. No item raises; rejected ones carry the code they came with. ``careful``: slower steps for hard
    problems. ``warm``: solutions of similar ones; an item that gets nowhere from there starts anew.
    """
    clean = screen(data, rejected)
    # Half of what is wanted leaves room for the difference between the cheap test of the loop and the final one.
    first = max(eps, min(EARLY, math.sqrt(eps))) / 2
    if warm is None or (not data.sizes[1] and data.lb is None and data.ub is None):
        found = _attempt(clean, eps, first, first, max_iter, careful=careful)
    else:
        found = _attempt(clean, eps, first, first, min(WARM_ITERATIONS, max_iter), warm=warm)
        items = (~found.sure).nonzero().squeeze(1)
        if len(items):
            again = _attempt(clean.select(items), eps, first, first, max_iter)
            found = _merged(found, again, items, clean.batch)
            max_iter = max_iter + WARM_ITERATIONS  # in all: a start that leads nowhere takes nothing from the next
    worst = found.residuals.worst
    undecided = ~found.sure & (worst <= math.sqrt(eps)) & (found.iterations < max_iter)
    if found.v is None:
        undecided = ~found.sure  # nothing has to be identified: there is one system, and it can be solved
    if eps <= LOOSE and bool(undecided.any()):
        found = _improved(found, clean, undecided.nonzero().squeeze(1), eps, max_iter, careful)
    stuck = ~found.sure & (found.iterations < max_iter)  # a limit on iterations is meant
    if careful and eps <= LOOSE and bool(stuck.any()):
        found = _by_active_sets(found, clean, stuck.nonzero().squeeze(1), eps)
    status = judge(found.residuals, clean.rejected, found.iterations, eps, eps_abs, max_iter)
    return Outcome(clean, found.point, found.factor, found.residuals, status, found.iterations)


def judge(residuals: Residuals, rejected: Tensor, iterations: Tensor, eps: float, eps_abs: float | None, max_iter: int) -> Tensor:
    """Statuses from residuals alone; what is neither solved nor rejected stays open as MAX_ITERATIONS or NUMERICAL_ERROR."""
    scaled = residuals.scaled.amax(1)
    absolute = residuals.absolute.amax(1)
    bound = math.inf if eps_abs is None else eps_abs
    open_code = torch.where(iterations >= max_iter, int(Status.MAX_ITERATIONS), int(Status.NUMERICAL_ERROR))
    nearly = (scaled <= math.sqrt(eps)) & (absolute <= math.sqrt(bound))
    status = torch.where(nearly, int(Status.SOLVED_INACCURATE), open_code)
    status = torch.where((scaled <= eps) & (absolute <= bound), int(Status.SOLVED), status)
    return torch.where(rejected != 0, rejected, status).to(torch.int8)


def _attempt(
    clean: Clean,
    eps: float,
    loop_eps: float,
    gap_eps: float,
    max_iter: int,
    v: Tensor | None = None,
    bias: float = 1.0,
    refinements: int = REFINEMENTS,
    careful: bool = False,
    warm: WarmStart | None = None,
    limits: Tensor | None = None,
) -> Attempt:
    """Iterate until the loop's own test is met, polish, and keep whichever is better. Begins at ``v`` if given.

    ``loop_eps``, ``gap_eps``: residuals and relative gap at which the iteration ends; ``eps``: what the polished point is to have.
    ``bias``: below 1 takes undecided rows for active, above 1 for inactive. ``refinements``: of the polish; EXACT: no few will do.
    """
    measure = Measure(clean)
    d, e = equilibrate(clean.Q, clean.W)
    qp = scale(clean, measure.fair, d, e, careful=careful)
    if warm is not None:
        v = interior_point.warm_start(qp, _scaled(warm, d, e, clean))
    if qp.inequalities:
        if careful and qp.k:
            turn = turned(qp)
            v, iterations = interior_point.solve(
                turn.qp, loop_eps, gap_eps, max_iter, None if v is None else turn.there(v), careful=True, limits=limits
            )
            v = turn.back(v)
        else:
            v, iterations = interior_point.solve(qp, loop_eps, gap_eps, max_iter, v, careful=careful, limits=limits)
        start, active = _identified(clean, qp, v, d, e, bias)
        start = _tidied(start, measure)
    else:
        nothing = clean.p.new_zeros(clean.batch, qp.n)
        iterations = torch.zeros(clean.batch, dtype=torch.int32, device=nothing.device)
        start = Point(nothing, nothing.new_zeros(clean.batch, qp.k), nothing, nothing)
        active = Active(torch.ones_like(start.w, dtype=torch.bool), nothing.bool(), nothing.bool())
    factor, exists = factorize(qp, active, d, e)
    if refinements == EXACT:
        point, steady = polish(clean, factor, start, FROM_NOTHING, _exactly(clean, factor))
    else:
        point, steady = polish(clean, factor, start, refinements if qp.inequalities else FROM_NOTHING)
    residuals = measure.residuals(point, measure.fair)
    sure = exists & steady & (residuals.worst <= SURE * eps)
    if not (clean.p.is_cpu and bool(sure.all())):
        # Fair floors stay where they are proof enough: what is reported of an item must not depend on whether its mates need more.
        floors = measure.floors
        polished, before = measure.residuals(point, floors), measure.residuals(start, floors)
        polished = _combined(lambda fair, plain: torch.where(sure.unsqueeze(1), fair, plain), residuals, polished)
        keep = (sure | (exists & (polished.worst <= before.worst))).unsqueeze(1)

        def choose(polished: Tensor, unpolished: Tensor) -> Tensor:
            return torch.where(keep, polished, unpolished)

        point, residuals = _combined(choose, point, start), _combined(choose, polished, before)
    return Attempt(point, factor, residuals, iterations, sure, v)


def _tidied(point: Point, measure: Measure) -> Point:
    """Without multipliers that do nothing, but for hiding a gap among terms of 1e18: those of rows without coefficients, and what
    the two bounds of a variable have in common."""
    both = torch.minimum(point.z_lb, point.z_ub)
    w = torch.where(measure.rows > 0, point.w, 0) if point.w.shape[1] else point.w
    return Point(point.x, w, point.z_lb - both, point.z_ub - both)


def _exactly(clean: Clean, factor: Factor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """K^-1 for the active set of a factor, as the derivative has it: refined, and where that leads nowhere by singular values."""
    k, everyone = clean.k, torch.ones_like(factor.unit.squeeze(1), dtype=torch.bool)

    def apply(r_x: Tensor, r_w: Tensor) -> tuple[Tensor, Tensor]:
        parts = r_x, r_w[:, :k], r_w[:, k:], torch.zeros_like(r_x)
        u_x, u_y, u_z, _ = linear.solve(clean.Q, clean.W[:, k:], clean.W[:, :k], parts, factor, everyone)
        return u_x, torch.cat([u_y, u_z], 1)

    return apply


def _scaled(warm: WarmStart, d: Tensor, e: Tensor, clean: Clean) -> Tensor:
    """(x, y, z) in the units of the equilibration, (B, n+k+M)."""
    sides = [z * d for z, bound in ((warm.z_lb, clean.lower), (warm.z_ub, clean.upper)) if bound is not None]
    return torch.cat([warm.x / d, torch.cat([warm.y, warm.z], 1) / e, *sides], 1).nan_to_num(0, 0, 0)


def _improved(found: Attempt, clean: Clean, items: Tensor, eps: float, max_iter: int, careful: bool) -> Attempt:
    """``found`` with further attempts at ``items`` where these are better.

    A flat direction needs a longer polish, rows that are nearly parallel an exact one. Otherwise what keeps an item undecided is
    mostly one row that lags behind the others: it is tried as active and as inactive. Only then does the iteration go on, to a
    sharper gap; iterations count both, and are ``max_iter`` at most. Without inequalities there is but one active set.
    """
    attempts: tuple[tuple[int, float, int], ...] = ((0, 1.0, EXACT),)
    if found.v is not None:
        others = (0, UNDECIDED, REFINEMENTS), (0, 1 / UNDECIDED, REFINEMENTS), (max_iter, 1.0, PATIENT), (0, 1.0, EXACT)
        attempts = (0, 1.0, PATIENT), *attempts, *others
    for budget, bias, refinements in attempts:
        v = None if found.v is None else found.v[items]
        limits = max_iter - found.iterations[items]
        again = _attempt(clean.select(items), eps, eps / 2, SECOND * eps, budget, v, bias, refinements, careful, limits=limits)
        # An exact polish proves its item or says nothing: the least-squares solution of a system that has none looks nearly solved
        # where p is small, and the item may be unbounded.
        found = _merged(found, again, items, clean.batch, proved_only=refinements == EXACT)
        items = items[~again.sure]
        if not len(items):
            break
    return found


def _by_active_sets(found: Attempt, clean: Clean, items: Tensor, eps: float) -> Attempt:
    """``found`` with what the method of ``active_set`` proves of ``items``."""
    part = clean.select(items)
    measure = Measure(part)
    scales = equilibrate(part.Q, part.W)
    qp = scale(part, measure.fair, *scales, careful=True)

    def select(whole: Tensors) -> Tensors:
        return type(whole)(*(getattr(whole, field.name).expand(clean.batch, -1)[items] for field in fields(whole)))

    start, held = select(found.point), found.factor
    active = Active(*(mask[items] for mask in (held.weight > 0, held.lower, held.upper)))
    point, factor, proved = active_set.solve(part, qp, measure, scales, start, active, eps)
    residuals = measure.residuals(point, measure.fair)
    none = torch.zeros(len(items), dtype=torch.int32, device=items.device)
    return _merged(found, Attempt(point, factor, residuals, none, proved, None), items, clean.batch, proved_only=True)


def _merged(found: Attempt, again: Attempt, items: Tensor, B: int, *, proved_only: bool = False) -> Attempt:
    """``found`` with ``again``, an attempt at ``items``, in the places where that is better; or only where it is proved."""
    better = again.sure | (again.residuals.worst <= found.residuals.worst[items])
    better = again.sure if proved_only else better
    places = items[better]

    def put(whole: Tensor, part: Tensor) -> Tensor:
        return whole if whole.shape[0] != B else whole.index_copy(0, places, part[better])

    return Attempt(
        _combined(put, found.point, again.point),
        _combined(put, found.factor, again.factor),
        _combined(put, found.residuals, again.residuals),
        found.iterations.index_add(0, items, again.iterations),
        found.sure.index_copy(0, items, again.sure),
        found.v if found.v is None or again.v is None else found.v.index_copy(0, places, again.v[better]),
    )


def _combined(rule: Callable[[Tensor, Tensor], Tensor], ours: Tensors, theirs: Tensors) -> Tensors:
    """A dataclass of tensors, combined field by field."""
    return type(ours)(*(rule(getattr(ours, field.name), getattr(theirs, field.name)) for field in fields(ours)))


def _identified(clean: Clean, qp: Scaled, v: Tensor, d: Tensor, e: Tensor, bias: float) -> tuple[Point, Active]:
    """The iterate v in the units of the problem, and the constraints that it shows to be active: those with z > s in
    the units of the objective."""
    n, k, M = qp.n, qp.k, qp.inequalities
    x, y, z, s = v.split([n, k, M, M], 1)
    m = clean.W.shape[1] - k
    holds = z > bias * qp.unit.squeeze(2) * s
    rows = torch.cat([torch.ones_like(y, dtype=torch.bool), holds[:, :m]], 1)
    multipliers, masks = [], []
    first = m
    for bound in (clean.lower, clean.upper):
        if bound is None:
            multipliers.append(torch.zeros_like(x))
            masks.append(torch.zeros_like(x, dtype=torch.bool))
        else:
            multipliers.append(z[:, first : first + n] / d * bound.present)
            masks.append(holds[:, first : first + n] & bound.present)
            first += n
    w = torch.cat([y, z[:, :m]], 1) * e
    # A variable that is pinned between equal bounds is held by one of them: the one with the larger multiplier.
    above = masks[1] & ~(masks[0] & (multipliers[0] >= multipliers[1]))
    return Point(clean.clamp(x * d), w, *multipliers), Active(rows, masks[0] & ~above, above)
