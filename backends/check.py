"""A layer held against an oracle that is not ours: solution, multipliers, objective, residuals and gradients of one item.

The canonical data of the item go to Clarabel; its x, y, z are read by the same way home as ours, so that each variable and each
constraint is compared. Residuals are recomputed in NumPy. For gradients, all outputs are drawn together into one number

    L = sum_i <g_i, output_i> / size of such outputs         g_i random, the same for both

and for every input the derivative of L along random directions d is compared with central differences of the *oracle*,
(L(p + t d) - L(p - t d)) / 2 t. No single t is right for all problems: large ones cross kinks, small ones drown in the accuracy of
the oracle. The best of three counts; a wrong derivative is near none of them. Directions keep the declared attributes: entries at a
bound stay, matrices on the border of the semidefinite cone turn and stretch, (I + tS) P (I + tS)'.

What is not unique is not compared: x where a flat direction is left, multipliers where active rows depend on each other, and at a
kink the gradient of anything but the objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..dsl.diagnostics import require
from ..dsl.sign import Attributes
from .data import QPData, QPSolution
from .entries import Item
from .flags import GradientFlag
from .inputs import Bound
from .options import Options
from .plan import plan_of
from .solution import Solution
from .status import Status
from .verdict import place_in

STEPS = (1e-3, 1e-4, 1e-5)  # t, relative to the size of an input
DIRECTIONS = 3  # of each input
FAINT = 1e-3  # of what the data suggest for a kind of output: the least that counts as its size
WEAK = 0.1  # the same where differences are taken, which lose what the oracle has no digits for
NOTHING = 1e-3  # derivatives below this share of the outputs themselves, per relative change of the input, count as zero
BORDER = 1e-3  # eigenvalues below this share of the largest: the matrix is on the border of the cone
ALLOWED = {"solution": 1e-6, "multiplier": 1e-5, "objective": 1e-7, "gradient": 1e-4}
LOOSE = 100.0  # times as much at a kink, and where the oracle itself is ill-conditioned


@dataclass(frozen=True)
class Comparison:
    """One line: what was compared, of which name, the worst relative error, and what is allowed.

    An error of None was not compared; ``note`` says why.
    """

    what: str
    name: str
    error: float | None
    allowed: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.error is None or self.error <= self.allowed


@dataclass(frozen=True)
class CheckReport:
    """What ``layer.check`` found for one item, against Clarabel; prints as a table.

    ``index``: the item, as indices into the batch. ``status`` is ours, ``oracle`` theirs. ``flags``, ``rcond``, ``margin`` say how
    regular the point is (``solution.conditioning``). ``ok``: the outcomes agree and every error is within what is allowed.
    """

    index: tuple[int, ...]
    status: Status
    oracle: Status
    flags: GradientFlag
    rcond: float
    margin: float
    comparisons: tuple[Comparison, ...]

    @property
    def regular(self) -> bool:
        """Whether x, multipliers and gradients are unique and well-conditioned."""
        return self.status <= Status.SOLVED_INACCURATE and not self.flags

    @property
    def ok(self) -> bool:
        solved = self.status <= Status.SOLVED_INACCURATE and self.oracle <= Status.SOLVED_INACCURATE
        return (solved or self.status == self.oracle) and all(line.ok for line in self.comparisons)

    def worst(self, what: str) -> float:
        """The largest error of a kind: "solution", "multiplier", "objective", "residual" or "gradient"; NaN if not compared."""
        return max((line.error for line in self.comparisons if line.what == what and line.error is not None), default=math.nan)

    def __str__(self) -> str:
        item = f" of item {', '.join(map(str, self.index))}" if self.index else ""
        flags = ", ".join(str(flag.name) for flag in GradientFlag if flag in self.flags)
        kind = "a regular point" if self.regular else f"not a regular point: {flags or 'no solution'}"
        numbers = f"; rcond {self.rcond:.1e}, margin {self.margin:.1e}" if self.status <= Status.SOLVED_INACCURATE else ""
        lines = [f"check{item}: {'ok' if self.ok else 'FAILED'}"]
        lines += [f"  {self.status.name}, by Clarabel {self.oracle.name}; {kind}{numbers}"]
        if self.comparisons:
            rows = [("", "", "worst error", "allowed", "")]
            for line in self.comparisons:
                error = "-" if line.error is None else f"{line.error:.1e}"
                rows.append((line.what, line.name, error, f"{line.allowed:.0e}", line.note if line.ok else f"FAILED {line.note}"))
            widths = [max(len(row[i]) for row in rows) for i in range(4)]
            lines += [
                f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
                for row in rows
            ]
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True)
class _Projection:
    """L: random weights for the outputs that are compared, each over the size of its output."""

    variables: Mapping[str, Tensor]
    duals: Mapping[str, Tensor]
    objective: float

    def __call__(self, solution: Solution) -> Tensor:
        total: Tensor = self.objective * solution.objective
        for name, weight in self.variables.items():
            total = total + (weight * solution[name]).sum()
        for name, weight in self.duals.items():
            total = total + (weight * solution.dual(name)).sum()
        return total


def check(
    solve: Callable[[Bound, dict[str, Tensor], Options], Solution],
    bound: Bound,
    inputs: Mapping[str, Tensor],
    options: Options,
    item: int | tuple[int, ...] | None,
) -> CheckReport:
    """Check one item of bound inputs, which have one leading axis. ``solve``: what the layer does with such inputs."""
    require("clarabel", "layer.check", "karush[cvxpy]")
    from . import oracle  # optional: clarabel is an extra

    item = (0,) * len(bound.batch) if item is None else item
    index = place_in(bound.batch, item, "check")
    flat = int(np.ravel_multi_index(index, bound.batch)) if bound.batch else 0
    options = replace(options, on_failure="return", smoothing=0.0)
    alone = Bound({}, (), bound.like.dtype, bound.like)
    own = {name: value[min(flat, value.shape[0] - 1)][None].detach().clone() for name, value in inputs.items()}

    def ours(values: dict[str, Tensor]) -> Solution:
        return solve(alone, values, options)

    def theirs(values: dict[str, Tensor]) -> Solution:
        with torch.no_grad():
            built = plan_of(found.context.qp).build(values, found.context.functions, bound.like, alone.dtype)
            raw = oracle.solve(cast(QPData, built.data).expanded_to(1), options.regularize)
        return Solution(raw, built.data, built.constant, built.slots, values, values, found.context)

    leaves = {name: value.requires_grad_() for name, value in own.items()}
    found = ours(leaves)
    status = Status(int(found.status))
    if status in (Status.INVALID_INPUT, Status.NONCONVEX):
        return CheckReport(index, status, status, GradientFlag.masked, math.nan, math.nan, ())
    other = theirs(own)
    agreed = CheckReport(index, status, Status(int(other.status)), GradientFlag.masked, math.nan, math.nan, ())
    if status > Status.SOLVED_INACCURATE or agreed.oracle > Status.SOLVED_INACCURATE:
        return agreed
    regular = found.conditioning
    flags = GradientFlag(int(regular.flags))
    lines = [*_points(found, other, flags), *_residuals(found, options)]
    lines += _gradients(found, leaves, theirs, flags)
    return replace(agreed, flags=flags, rcond=float(regular.rcond), margin=float(regular.margin), comparisons=tuple(lines))


def _points(ours: Solution, theirs: Solution, flags: GradientFlag) -> list[Comparison]:
    """x by variable, multipliers by constraint, the objective."""
    loose = LOOSE if flags & (GradientFlag.weakly_active | GradientFlag.ill_conditioned) else 1.0
    qp = ours.context.qp
    x = {v.name: (ours[v.name].detach(), theirs[v.name]) for v in qp.variables}
    duals = {m.name: (ours.dual(m.name).detach(), theirs.dual(m.name)) for m in qp.multipliers}
    lines = []
    several = (
        ("solution", x, GradientFlag.nonunique, "not unique"),
        ("multiplier", duals, GradientFlag.licq | GradientFlag.nonunique, "not unique"),
    )
    for (what, pairs, unless, why), scale in zip(several, _scales(theirs, FAINT), strict=True):
        for name, (a, b) in pairs.items():
            if flags & unless:
                lines.append(Comparison(what, name, None, loose * ALLOWED[what], why))
            else:
                lines.append(Comparison(what, name, _size([a - b]) / scale, loose * ALLOWED[what]))
    value, reference = float(ours.objective.detach()), float(theirs.objective.detach())
    error = abs(value - reference) / max(abs(reference), _terms(ours), 1e-300)
    return [*lines, Comparison("objective", "", error, ALLOWED["objective"])]


def _scales(solution: Solution, share: float) -> tuple[float, float]:
    """What counts as 1 among variables and among multipliers: the largest, or a share of what the data suggest."""
    own, raw = Item.of(solution.data, 0), solution.raw
    k, m = len(own.b), len(own.h)
    C, c = own.rows(np.arange(k + m + 2 * len(own.p)))
    length = np.linalg.norm(C, axis=1)
    there = np.isfinite(c) & (length > 0)
    reach = (np.abs(c[there]) / length[there]).max(initial=0.0)
    curvature, slope = np.abs(own.Q).max(initial=0.0), np.abs(own.p).max(initial=0.0)
    suggested = max(reach, slope / curvature if curvature else 0.0)
    x = _size([raw.x])
    pull = max(slope, curvature * x)
    largest = _size([raw.y, raw.z, raw.z_lb, raw.z_ub])
    variables = max(x, share * suggested) if suggested else 1.0
    return variables, max(largest, share * pull) if pull else 1.0


def _terms(solution: Solution) -> float:
    """The size of the terms that an objective is the sum of."""
    own, x = Item.of(solution.data, 0), solution.raw.x[0].detach().abs().cpu().double().numpy()
    return float(x @ np.abs(own.Q) @ x / 2 + np.abs(own.p) @ x + abs(float(solution.constant[0].detach())))


def _residuals(solution: Solution, options: Options) -> list[Comparison]:
    """By their definitions, in NumPy, on the canonical data; the point is ours."""
    own = Item.of(solution.data, 0)
    k, m = len(own.b), len(own.h)
    Q = own.Q + options.regularize * np.eye(len(own.p))
    raw: QPSolution = solution.raw
    x, y, z, z_lb, z_ub = (part[0].detach().cpu().double().numpy() for part in (raw.x, raw.y, raw.z, raw.z_lb, raw.z_ub))
    C, c = own.rows(np.arange(k + m + 2 * len(x)))
    w = np.concatenate([y, z, z_lb, z_ub])
    there = np.isfinite(c)
    C, c, w, equality = C[there], c[there], w[there], (np.arange(len(there)) < k)[there]
    excess = C @ x - c
    excess = np.where(equality, np.abs(excess), np.maximum(excess, 0))
    rows = np.minimum(np.abs(C).max(1, initial=0), 1) + np.abs(c) + np.abs(C) @ np.abs(x)
    primal = excess / np.where(rows > 0, rows, 1)
    largest = np.abs(Q).max(1)
    floor = min(1.0, largest.max() + np.abs(own.p).max()) or 1.0
    columns = np.minimum(np.abs(own.p) + largest, 1)
    columns = np.where(columns > 0, columns, floor) + np.abs(Q) @ np.abs(x) + np.abs(own.p) + np.abs(C).T @ np.abs(w)
    dual = np.abs(Q @ x + own.p + C.T @ w) / columns
    f, d = x @ Q @ x / 2 + own.p @ x, -x @ Q @ x / 2 - c @ w
    gap = abs(f - d) / (floor + abs(f) + abs(d))
    allowed = options.tolerance(torch.float64)
    allowed = allowed if int(solution.status) == Status.SOLVED else math.sqrt(allowed)
    negative = float(np.maximum(-w[~equality], 0).max(initial=0.0))
    named = (
        ("inequalities", primal[~equality]), ("equalities", primal[equality]), ("stationarity", dual),
        ("duality gap", np.array([gap])), ("signs", np.array([negative])),
    )  # fmt: skip
    return [Comparison("residual", name, float(part.max(initial=0.0)), allowed * 1.01) for name, part in named]


def _gradients(
    found: Solution, leaves: dict[str, Tensor], oracle: Callable[[dict[str, Tensor]], Solution], flags: GradientFlag
) -> list[Comparison]:
    """Derivatives of L in every input, ours against differences of the oracle."""
    generator = torch.Generator().manual_seed(0)
    smooth = not flags & (GradientFlag.weakly_active | GradientFlag.nonunique)
    qp = found.context.qp

    def weight(output: Tensor, scale: float) -> Tensor:
        drawn = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.device, output.dtype)
        scaled: Tensor = drawn / (scale * max(1, output.numel()) ** 0.5)
        return scaled

    of_x, of_z = _scales(found, WEAK)
    variables = {v.name: weight(found[v.name].detach(), of_x) for v in qp.variables} if smooth else {}
    unique = smooth and not flags & GradientFlag.licq
    duals = {m.name: weight(found.dual(m.name).detach(), of_z) for m in qp.multipliers if len(m.source.array)} if unique else {}
    projection = _Projection(variables, duals, 1 / (_terms(found) or 1.0))
    names = list(leaves)
    if not names:
        return []
    grads = torch.autograd.grad(projection(found), [leaves[name] for name in names], allow_unused=True)
    note = "" if unique else "of x and the objective" if smooth else "of the objective: x has a kink or is not unique"
    values = {name: leaf.detach() for name, leaf in leaves.items()}
    attributes = {item.name: item.attributes for item in qp.inputs}
    loose = LOOSE if flags & GradientFlag.ill_conditioned else 1.0
    lines = []
    for name, grad in zip(names, grads, strict=True):
        path = _path(values[name], attributes[name], generator)
        errors, sizes = [], [NOTHING * (1 + len(variables) + len(duals))]
        for _ in range(DIRECTIONS if path else 0):
            assert path is not None
            moved, tangent = path()
            slope = 0.0 if grad is None else float((grad * tangent).sum())
            ends = [[float(projection(oracle({**values, name: moved(t)}))) for t in (step, -step)] for step in STEPS]
            slopes = [(ahead - back) / (2 * step) for (ahead, back), step in zip(ends, STEPS, strict=True)]
            finite = [other for other in slopes if math.isfinite(other)]
            best = min(finite, key=lambda other: abs(other - slope), default=math.inf)
            errors.append(abs(best - slope))
            sizes += [abs(slope), *([abs(best)] if math.isfinite(best) else [])]
        error = max(errors) / max(sizes) if errors else None
        lines.append(Comparison("gradient", name, error, loose * ALLOWED["gradient"], note if errors else "no room to move it"))
    return lines


Path = Callable[[], tuple[Callable[[float], Tensor], Tensor]]


def _path(value: Tensor, attributes: Attributes, generator: torch.Generator) -> Path | None:
    """Random curves through a value (1, ...) that keep its attributes, and their tangents; None where there are none."""
    v = value[0]
    size = _size([v]) or 1.0

    def drawn() -> Tensor:
        return torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.device, v.dtype)

    if attributes.boolean or not v.numel():
        return None
    if attributes.PSD or attributes.NSD:
        eigenvalues = torch.linalg.eigvalsh(v).abs()
        if float(eigenvalues.min()) <= BORDER * float(eigenvalues.max()):
            eye = torch.eye(len(v), dtype=v.dtype, device=v.device)

            def turned() -> tuple[Callable[[float], Tensor], Tensor]:
                S = drawn() / len(v) ** 0.5
                return lambda t: ((eye + t * S) @ v @ (eye + t * S).mT)[None], (S @ v + v @ S.mT)[None]

            return turned
    may_move = _free(v, attributes)

    def straight() -> tuple[Callable[[float], Tensor], Tensor]:
        d = size * drawn()
        if attributes.square:
            d = torch.diag(torch.diag(d)) if attributes.diag else (d + d.mT) / 2
            d = d * float(torch.linalg.eigvalsh(v).abs().min()) / size if attributes.PSD or attributes.NSD else d
        d = torch.where(may_move, d, 0)
        return lambda t: value + t * d, d[None]

    return straight if bool(may_move.any()) else None


def _free(v: Tensor, attributes: Attributes) -> Tensor:
    """Entries that may move a little to both sides."""
    room = 10 * STEPS[0] * (_size([v]) or 1.0)
    free = torch.ones_like(v, dtype=torch.bool)
    if attributes.nonneg or attributes.pos:
        free = free & (v > room)
    if attributes.nonpos or attributes.neg:
        free = free & (v < -room)
    if attributes.sparsity is not None:
        free = free & torch.from_numpy(np.asarray(attributes.sparsity.array, dtype=bool).reshape(v.shape).copy()).to(v.device)
    if attributes.bounds is not None:
        for side, sign in ((attributes.bounds.low, 1.0), (attributes.bounds.high, -1.0)):
            if side is not None:
                free = free & (sign * (v - torch.from_numpy(np.array(side.array, dtype=float)).to(v.device, v.dtype)) > room)
    return free


def _size(parts: list[Any]) -> float:
    """The largest absolute entry."""
    return max((float(part.detach().abs().max()) for part in parts if part.numel()), default=0.0)
