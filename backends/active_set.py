"""Primal-dual active sets: from a candidate to the constraints that its own errors name, and again.

    a row joins if it is violated, and leaves if its multiplier came out negative
    a bound holds where x was cut at it and the reduced gradient Qx + p + W'w still pulls that way
    named twice in a row, they leave a direction without curvature: x goes on along it, to the next constraint in its way

This is the semismooth Newton method on the optimality conditions (Hintermüller, Ito and Kunisch, SIAM Journal on Optimization 13,
2002). It knows nothing of a central path, and so it ends where interior points cannot: a variable whose cost is a billionth of the
others' hardly moves against the regularisation, and all slacks are gone before it arrives. Nothing promises that it ends. Its
points prove themselves by their residuals, as all others do.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from .polish import Active, Factor, factorize, polish
from .products import matvec, vecmat
from .residuals import SURE, Measure, Point
from .scaled import Scaled
from .screen import Clean

ROUNDS = 12
SOFTER = 1e-4  # of the usual regularisation
BEYOND = 1e-6  # of the way to a constraint, so that it is met and named
REFINEMENTS = 3

Tensors = TypeVar("Tensors", Point, Factor)


def solve(
    clean: Clean, qp: Scaled, measure: Measure, scales: tuple[Tensor, Tensor], point: Point, active: Active, eps: float
) -> tuple[Point, Factor, Tensor]:
    """The point and factor of every item, and whether it is proved, (B,). ``scales``: d, e.

    Proved is what has residuals of at most ``eps`` SURE. So many points are tried that one whose gap is nothing but rounding would
    be among them by chance: what rounding alone may do has to be below ``eps``, too.
    """
    d, e = scales
    kept: tuple[Point, Factor] | None = None
    proved = torch.zeros(clean.batch, dtype=torch.bool, device=clean.p.device)
    for _ in range(ROUNDS):
        last, active = active, revised(clean, point, active)
        factor, exists = factorize(qp, active, d, e, SOFTER)
        before = point.x
        point, steady = polish(clean, factor, point, REFINEMENTS)
        now = exists & steady & (measure.residuals(point, measure.fair).worst <= SURE * eps)
        now = now & (measure.doubt(point, measure.fair) <= eps)
        # Where the factor broke down nothing is known; zeros are as good a place as any to go on from.
        point = Point(*(part.nan_to_num(0, 0, 0) for part in (point.x, point.w, point.z_lb, point.z_ub)))
        if kept is None:
            kept = point, factor
        else:
            first = (now & ~proved).nonzero().squeeze(1)
            kept = _put(kept[0], point, first), _put(kept[1], factor, first)
        proved = proved | now
        if bool(proved.all()):
            break
        again = (last.rows == active.rows).all(1) & (last.lower == active.lower).all(1) & (last.upper == active.upper).all(1)
        point = replace(point, x=torch.where(again.unsqueeze(1), _onwards(clean, point.x, point.x - before, active), point.x))
    assert kept is not None
    return *kept, proved


def revised(clean: Clean, point: Point, active: Active) -> Active:
    """The constraints that the errors of a point name."""
    k = clean.k
    reduced = vecmat(point.x, clean.Q) + clean.p + vecmat(point.w, clean.W)
    violated = matvec(clean.W, point.x) > clean.rhs
    rows = torch.where(active.rows, point.w > 0, violated)
    rows[:, :k] = True
    none = torch.zeros_like(point.x, dtype=torch.bool)
    lower = none if clean.lower is None else clean.lower.present & (point.x <= clean.lower.value) & (reduced > 0)
    upper = none if clean.upper is None else clean.upper.present & (point.x >= clean.upper.value) & (reduced < 0)
    return Active(rows, lower, upper & ~lower)


def _onwards(clean: Clean, x: Tensor, direction: Tensor, active: Active) -> Tensor:
    """x, gone on until just beyond the nearest constraint that is not held; x itself if nothing is in the way."""
    k = clean.k
    speed, room = matvec(clean.W, direction), clean.rhs - matvec(clean.W, x)
    towards = (speed > 0) & ~active.rows
    towards[:, :k] = False
    steps = [torch.where(towards, room.clamp(min=0) / speed, torch.inf)]
    for bound, sign in ((clean.lower, -1.0), (clean.upper, 1.0)):
        if bound is not None:
            towards = bound.present & (sign * direction > 0) & (sign * (bound.value - x) > 0)
            steps.append(torch.where(towards, (bound.value - x) / direction, torch.inf))
    step = torch.cat(steps, 1).amin(1, keepdim=True) * (1 + BEYOND)
    return clean.clamp(x + torch.where(torch.isfinite(step), step, 0) * direction)


def _put(whole: Tensors, part: Tensors, items: Tensor) -> Tensors:
    """``whole`` with ``part`` at some items, field by field."""
    pairs = ((getattr(whole, field.name), getattr(part, field.name)) for field in fields(whole))
    return type(whole)(*(ours.index_copy(0, items, theirs[items]) for ours, theirs in pairs))
