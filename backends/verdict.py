"""What is known about one item of a solution: why there is none, or what kind of point it is. Computed when asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..dsl.render import listed
from ..dsl.sign import Attributes
from .conflict import NEGLIGIBLE, Conflict, Part, conflict
from .data import QPSolution
from .entries import Array, Item, Owners, index_in
from .failure import OUTCOMES, SolveError, input_error
from .flags import GradientFlag
from .plan import Built, plan_of
from .sparse.data import SparseData
from .status import Status

if TYPE_CHECKING:
    from .solution import Solution

EXPLAINED = 3  # failed items whose causes an error spells out
LINES = 12  # of a table
DIGITS = 6
SPREAD = 1e8  # of row lengths or curvatures that is worth a word

REGULAR = GradientFlag(0)
GRADIENT = {
    GradientFlag.weakly_active: "an active constraint has a zero multiplier: x has a kink, its gradient is one of several",
    GradientFlag.licq: "active constraints depend on each other: multipliers are not unique, nor gradients that move these apart",
    GradientFlag.nonunique: "x is not unique: it is one optimal point, and its gradient the one of least norm",
    GradientFlag.ill_conditioned: "active constraints or curvatures are close to losing rank: the gradient is large or inaccurate",
    GradientFlag.masked: "the item failed: its gradient is zero",
}


@dataclass(frozen=True)
class Direction:
    """A direction along which the objective improves without end: values by variable, 0 where a variable does not move.

    The largest component is 1. ``slope``: what the user's objective changes by per unit along it.
    """

    values: Mapping[str, Array]
    slope: float


@dataclass(frozen=True)
class Verdict:
    """What ``solution.explain(i)`` returns: facts to read in code, that print as text.

    ``index``: the item, as indices into the batch; ``status``. Then what there is to say, None or empty where it does not apply:
    ``conflict`` of constraints, ``direction`` of endless improvement, ``faults`` of the data, the largest scaled ``residuals`` and
    where they are, ``active`` constraints with their multipliers as weights, ``flags``, ``rcond`` and ``margin`` of the gradient
    (``solution.conditioning``), and ``hints``.
    """

    index: tuple[int, ...]
    status: Status
    conflict: Conflict | None = None
    direction: Direction | None = None
    faults: tuple[str, ...] = ()
    residuals: tuple[tuple[str, float, str], ...] = ()
    active: tuple[Part, ...] = ()
    flags: GradientFlag = REGULAR
    rcond: float = math.nan
    margin: float = math.nan
    hints: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"item {', '.join(map(str, self.index))}: " if self.index else ""
        lines = [f"{where}{self.status.name}"]
        if self.conflict:
            lines[0] += f": no point satisfies {listed(self.conflict.constraints)} together"
            lines += _table(self.conflict.parts, "times")
            lines += [f"  added up, the left sides cancel and leave  0 <= {self.conflict.right:.{DIGITS}g}"]
        if self.direction:
            moving = {name: d for name, d in self.direction.values.items() if d.any()}
            lines[0] += f": the objective improves without end along {listed(moving)}"
            lines += [f"  {name} moves by {_short(d)}" for name, d in moving.items()]
            lines += [f"  the objective changes by {self.direction.slope:.{DIGITS}g} per unit, and no constraint stops it"]
        lines += [f"  {fault}" for fault in self.faults]
        lines += [f"  {name:<12} {value:.1e}{f'  at {at}' if at else ''}" for name, value, at in self.residuals]
        if self.status in (Status.SOLVED, Status.SOLVED_INACCURATE):
            lines += ["  active constraints and their multipliers" if self.active else "  nothing is active"]
            lines += _table(self.active, "") if self.active else []
            lines += [f"  gradient: {self._gradient()}"]
            lines += [f"    {GRADIENT[flag]}" for flag in GradientFlag if flag in self.flags]
        lines += [f"  {hint}" for hint in self.hints]
        return "\n".join(lines)

    __repr__ = __str__

    def _gradient(self) -> str:
        told = ", ".join(str(flag.name) for flag in GradientFlag if flag in self.flags) or "a regular point"
        return f"{told}; rcond {self.rcond:.1e}, margin {self.margin:.1e}"


def explain(solution: Solution, item: int | tuple[int, ...] | None) -> Verdict:
    """The verdict on one item; InputError where there is none of that index."""
    batch = solution.context.batch
    index = place_in(batch, item, "explain")
    flat = int(np.ravel_multi_index(index, batch)) if batch else 0
    status = Status(int(solution.raw.status[flat]))
    if status in (Status.INVALID_INPUT, Status.NONCONVEX):
        return Verdict(index, status, faults=_faults(solution, flat, status), hints=_advice(status))
    own, owners = Item.of(solution.data, flat), owners_of(solution)
    if status is Status.PRIMAL_INFEASIBLE:
        found = conflict(own, solution.raw.ray, flat, owners)
        return Verdict(index, status, conflict=found, hints=_advice(status))
    if status is Status.DUAL_INFEASIBLE:
        return Verdict(index, status, direction=_direction(solution, own, flat), hints=_advice(status))
    residuals = _residuals(solution, own, flat, owners)
    if status in (Status.MAX_ITERATIONS, Status.NUMERICAL_ERROR):
        return Verdict(index, status, residuals=residuals, hints=(*_advice(status), *_spread(own, owners)))
    regular = solution.conditioning
    flags, rcond, margin = (part.reshape(-1)[flat].item() for part in (regular.flags, regular.rcond, regular.margin))
    inaccurate = status is Status.SOLVED_INACCURATE
    return Verdict(
        index, status,
        residuals=residuals,
        active=_active(solution, own, flat, owners),
        flags=GradientFlag(int(flags)), rcond=float(rcond), margin=float(margin),
        hints=_spread(own, owners) if inaccurate else (),
    )  # fmt: skip


def named(error: SolveError, solution: Solution) -> SolveError:
    """The engine's error in the user's words: which parameter, which constraints. Values stay out of it."""
    details: list[tuple[int, str]] = []
    owners = owners_of(solution)
    for index, status in list(zip(error.indices, error.status, strict=True))[:EXPLAINED]:
        if status in (Status.INVALID_INPUT, Status.NONCONVEX):
            details += [(index, cause) for cause in _blame(solution, index)]
        if status is Status.PRIMAL_INFEASIBLE:
            small = not isinstance(solution.data, SparseData) or solution.data.small
            found = conflict(Item.of(solution.data, index), solution.raw.ray, index, owners) if small else None
            told = found.constraints if found else ()
            details.append((index, f"no point satisfies {listed(told) if told else 'the constraints'} together"))
        if status is Status.DUAL_INFEASIBLE:
            moving = [name for name, d in _values(solution, index).items() if d.any()]
            details.append((index, f"the objective improves without end along {listed(moving)}"))
    return SolveError(solution, error.indices, error.status, details, error.span)


def owners_of(solution: Solution) -> Owners:
    """Whose the rows of a solution's problem are."""
    context = solution.context
    return Owners(context.qp, context.constraints, context.leaves, context.spans)


def place_in(batch: tuple[int, ...], item: int | tuple[int, ...] | None, what: str) -> tuple[int, ...]:
    """The indices of an item into the batch dimensions; ``what`` was asked for it."""
    if item is None and math.prod(batch) == 1:
        return (0,) * len(batch)
    index = () if item is None else (item,) if isinstance(item, int) else tuple(item)
    fits = len(index) == len(batch) and all(-size <= i < size for i, size in zip(index, batch, strict=False))
    if not fits:
        why = f"the solution has batch shape {batch}" if batch else "the solution is of one problem"
        mend = "give one index for each batch dimension" if batch else "leave the index out"
        raise input_error("I12", f"{what}: no item {'without an index' if item is None else item}", why, mend)
    return tuple(i % size for i, size in zip(index, batch, strict=True))


# Data that cannot be used


def _given(solution: Solution) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in solution.given.items()}


def _built(solution: Solution) -> Built:
    """What the plan made of the inputs as they were given: a failed item may have borrowed those of a mate since."""
    context = solution.context
    sparse = isinstance(solution.data, SparseData)
    with torch.no_grad():
        return plan_of(context.qp).build(_given(solution), context.functions, solution.raw.x, context.dtype, sparse)


def _blame(solution: Solution, index: int) -> list[str]:
    return plan_of(solution.context.qp).blame(_given(solution), _built(solution), index, solution.context.dtype)


def _faults(solution: Solution, index: int, status: Status) -> tuple[str, ...]:
    """What is wrong, and by how much at worst."""
    built = _built(solution)
    plan = plan_of(solution.context.qp)
    found = []
    amounts = {text: (value, attributes) for text, value, attributes in plan.facts(_given(solution), built.slots)}
    for cause in plan.blame(_given(solution), built, index, solution.context.dtype):
        text = next((text for text in amounts if cause.startswith(f"{text} is not ")), None)
        if text is None:
            found.append(cause)
            continue
        value, attributes = amounts[text]
        found.append(f"{cause}: {_worst(value[min(index, value.shape[0] - 1)], attributes)}")
    if status is Status.NONCONVEX and not found:
        least = float(np.linalg.eigvalsh(Item.of(built.data, index).Q)[0])
        found.append(f"Q, the matrix of the quadratic terms, has the eigenvalue {least:.{DIGITS}g}")
    return tuple(found)


def _worst(value: Tensor, attributes: Attributes) -> str:
    """The entry or eigenvalue that breaks the declared attributes by most."""
    v = value.detach().cpu().double().numpy()

    def entry(amount: Array) -> str:
        at = np.unravel_index(int(np.argmax(amount)), v.shape) if v.shape else ()
        return f"its entry [{', '.join(map(str, at))}] is {v[at]:.{DIGITS}g}" if v.shape else f"it is {float(v):.{DIGITS}g}"

    if attributes.square and v.size:
        gap = np.abs(v - v.T)
        if attributes.diag and (v - np.diag(np.diag(v))).any():
            return entry(np.abs(v - np.diag(np.diag(v))))
        if gap.max() > 1e-5 * np.abs(v).max():
            i, j = np.unravel_index(int(gap.argmax()), v.shape)
            return f"its entries [{i}, {j}] and [{j}, {i}] differ by {gap[i, j]:.{DIGITS}g}"
        if attributes.PSD or attributes.NSD:
            eigenvalues = np.linalg.eigvalsh((v + v.T) / 2)
            return f"it has the eigenvalue {eigenvalues[0 if attributes.PSD else -1]:.{DIGITS}g}"
    amounts = [np.zeros(v.shape)]
    if attributes.nonneg or attributes.pos:
        amounts.append(-v)
    if attributes.nonpos or attributes.neg:
        amounts.append(v)
    if attributes.boolean:
        amounts.append(np.minimum(np.abs(v), np.abs(v - 1)))
    if attributes.sparsity is not None:
        amounts.append(np.where(np.asarray(attributes.sparsity.array, dtype=bool).reshape(v.shape), 0, np.abs(v)))
    if attributes.bounds is not None:
        low, high = attributes.bounds.low, attributes.bounds.high
        amounts += [] if low is None else [np.broadcast_to(low.array, v.shape) - v]
        amounts += [] if high is None else [v - np.broadcast_to(high.array, v.shape)]
    return entry(np.maximum.reduce(amounts[1:] or amounts))


# Rays


def _values(solution: Solution, index: int) -> dict[str, Array]:
    """The direction of descent by variable; negligible parts are zero, the largest component is 1."""
    qp = solution.context.qp
    ray = solution.raw.ray.x[index].detach().cpu().double().numpy()
    size = np.abs(ray).max(initial=0.0)
    ray = np.where(np.abs(ray) > NEGLIGIBLE * size, ray / (size or 1.0), 0.0)
    values = {}
    for v in qp.variables:
        own = ray[v.start : v.start + v.size]
        full = own if v.source is None else np.append(own, 0.0)[v.source.array]
        values[v.name] = full.reshape(v.shape)
    return values


def _direction(solution: Solution, own: Item, index: int) -> Direction:
    ray = solution.raw.ray.x[index].detach().cpu().double().numpy()
    slope = float(own.p @ ray) / (np.abs(ray).max(initial=0.0) or 1.0)
    return Direction(_values(solution, index), solution.context.qp.sign * slope)


# Points


def _point(raw: QPSolution, index: int) -> tuple[Array, Array]:
    """x, and multipliers of [A; G; lb; ub]; NaN, the answer of a failed item, reads as zero."""
    x, *z = (part[index].detach().cpu().double().nan_to_num().numpy() for part in (raw.x, raw.y, raw.z, raw.z_lb, raw.z_ub))
    return x, np.concatenate(z)


def _residuals(solution: Solution, own: Item, index: int, owners: Owners) -> tuple[tuple[str, float, str], ...]:
    """The scaled residuals that decided the status, and the constraint or variable where the largest of its kind is."""
    scaled = solution.raw.residuals.scaled[index].tolist()
    x, multipliers = _point(solution.raw, index)
    C, c = own.rows(np.arange(len(multipliers)))
    finite = np.isfinite(c)
    excess = np.where(finite, C @ x - np.where(finite, c, 0), 0)
    k, m = len(own.b), len(own.h)
    terms = np.minimum(np.abs(C).max(1, initial=0), 1) + np.where(finite, np.abs(c), 0) + np.abs(C) @ np.abs(x)
    share = np.where(np.arange(len(c)) < k, np.abs(excess), np.maximum(excess, 0)) / np.where(terms > 0, terms, 1)
    names = []
    for rows in (slice(k, k + m), slice(0, k)):
        worst = int(share[rows].argmax()) + rows.start if share[rows].size and share[rows].max() > 0 else None
        names.append("" if worst is None else _one(owners, worst, C[worst]))
    drift = np.abs(own.Q @ x + own.p + C.T @ multipliers)
    terms = np.abs(own.Q) @ np.abs(x) + np.abs(own.p) + np.abs(C).T @ np.abs(multipliers)
    j = int((drift / np.where(terms > 0, terms, 1)).argmax()) if drift.any() else None
    variable = next((v for v in owners.qp.variables if j is not None and v.start <= j < v.start + v.size), None)
    at = "" if variable is None or j is None else f"{variable.name}{list(index_in(variable, j - variable.start)) or ''}"
    kinds = ("inequalities", "equalities", "stationarity", "duality gap")
    return tuple((kind, value, name) for kind, value, name in zip(kinds, scaled, (*names, at, ""), strict=True))


def _one(owners: Owners, place: int, row: Array) -> str:
    entry = owners.entry(place, row)
    index = f"[{', '.join(map(str, entry.index))}]" if entry.index else ""
    return f"{entry.name or entry.text}{index}"


def _active(solution: Solution, own: Item, index: int, owners: Owners) -> tuple[Part, ...]:
    """Constraints that hold with equality, with the multipliers that the user knows."""
    active = solution.raw.active
    marks = (active.rows, active.lb, active.ub)
    holds = np.concatenate([np.ones(len(own.b), dtype=bool), *(mark[index].cpu().numpy() for mark in marks)])
    places = np.flatnonzero(holds).astype(np.int64)
    _, multipliers = _point(solution.raw, index)
    C, _ = own.rows(places)
    found = []
    for place, row in zip(places.tolist(), C, strict=True):
        entry = owners.entry(place, row)
        if entry.kind == "definition":
            continue
        one = _one(owners, place, row) if entry.name else f"{entry.text}{'' if not entry.index else ' ' + str(list(entry.index))}"
        found.append(Part(float(entry.weight * multipliers[place]), one, entry.text, entry.place, (entry,)))
    return tuple(found)


def _advice(status: Status) -> tuple[str, ...]:
    _, _, advice = status.message.partition(". ")
    return tuple((OUTCOMES[status][3] or advice[:1].lower() + advice[1:]).splitlines())


def _spread(own: Item, owners: Owners) -> tuple[str, ...]:
    """Where the data span too many orders of magnitude."""
    hints = []
    C, _ = own.rows(np.arange(len(own.b) + len(own.h)))
    length = np.linalg.norm(C, axis=1)
    there = np.flatnonzero(length)
    if len(there) and length[there].max() > SPREAD * length[there].min():
        small, large = there[length[there].argmin()], there[length[there].argmax()]
        told = (f"{_one(owners, int(row), C[row])} of size {length[row]:.0e}" for row in (small, large))
        hints.append(f"coefficients differ, {listed(told)}: give both the same units")
    curvature = np.abs(np.diag(own.Q))
    curvature = curvature[curvature > 0]
    if len(curvature) and curvature.max() > SPREAD * curvature.min():
        hints.append(f"curvatures span {curvature.min():.0e} to {curvature.max():.0e}: rescale the variables")
    return tuple(hints)


# Text


def _table(parts: Sequence[Part], times: str) -> list[str]:
    """One line for each part: its weight, what it is, its text where it has another name, and its place."""
    shown = parts[:LINES]
    rows = []
    for part in shown:
        weight = f"{part.weight:.{DIGITS}g} {times}".rstrip()
        rows.append((weight, part.label, "" if part.text in part.label else part.text, part.place))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"    {row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}".rstrip() for row in rows]
    return lines + ([f"    ... and {len(parts) - LINES} more"] if len(parts) > LINES else [])


def _short(d: Array) -> str:
    return np.array2string(d, precision=4, threshold=20, edgeitems=3, suppress_small=True).replace("\n", "\n    ")
