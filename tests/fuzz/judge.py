"""What must hold of a model and its solution, measured by others: the objective by cvxpy, rows by the definition of atoms.

objective   |f - f*| / max(1, |f*|), f* of the oracle
value       the objective that is reported against that of the reported point
rows        the violation of each constraint that the user wrote, over max(1, its sides)
bounds      declared bounds, signs and structure: what a bound computed here and there may differ by, in its last digit
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

import karush as kr
from fuzz.drawing import Array, values_of
from fuzz.models import Model
from fuzz.oracle import optimum
from robustness.judges import Worst

LIMITS = {"objective": 1e-6, "value": 1e-6, "rows": 1e-7, "bounds": 1e-15}
Backend = Literal["cpu", "torch", "auto"]


@dataclass
class Tally:
    """Figures of a run. ``refused``: pieces by the code of what was wrong; ``oracles``: who answered, and how often."""

    worst: Worst = field(default_factory=lambda: Worst("random models"))
    refused: Counter[str] = field(default_factory=Counter)
    oracles: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def see(self, model: Model, backend: Backend) -> None:
        """Solve a model and measure every item."""
        self.refused += model.rejected
        solution = kr.compile(model.problem, on_failure="return", backend=backend)(model.inputs)
        for i in range(model.items):
            status, f, x = _item(model, solution, i)
            self.statuses[status] += 1
            best = self._best(model, i, f)
            leaves = {key: value[i] for key, value in model.values.items()} | x
            found = {"objective": abs(f - best) / max(1.0, abs(best)), **measured(model.problem, leaves, f)}
            where = f"seed {model.seed}, item {i}, {backend}"
            for kind, figure in found.items():
                self.worst.see(kind, figure, where)
            over = [f"{kind} {figure:.1e}" for kind, figure in found.items() if not figure <= LIMITS[kind]]
            if over or status != "SOLVED":
                self.wrong.append(f"{where}: {status}, {', '.join(over)}, f {f!r} against {best!r}")

    def add(self, other: Tally) -> None:
        """Take in the figures of another run."""
        self.refused += other.refused
        self.oracles += other.oracles
        self.statuses += other.statuses
        self.wrong += other.wrong
        for kind, (value, where) in other.worst.figures.items():
            self.worst.see(kind, value, where)

    def _best(self, model: Model, i: int, f: float) -> float:
        """The optimal value by the first oracle that reaches one; where f differs, by one that agrees with it, if there is any.

        An oracle that is contradicted by us and by another oracle is at fault; that is counted, under its name.
        """
        first: tuple[str, float] | None = None
        for name, best in optimum(model, i):
            if abs(f - best) <= LIMITS["objective"] * max(1.0, abs(best)):
                self.oracles[name if first is None else f"{name}, against {first[0]}"] += 1
                return best
            first = first or (name, best)
        self.oracles["none" if first is None else f"{first[0]}, against us"] += 1
        return math.nan if first is None else first[1]

    def lines(self) -> Iterator[str]:
        """The report."""
        yield f"items by status: {_counted(self.statuses)}; by oracle: {_counted(self.oracles)}"
        yield f"pieces that the rules refused: {_counted(self.refused)}"
        yield "worst: " + ", ".join(f"{kind} {value:.1e} ({item})" for kind, (value, item) in self.worst.figures.items())
        yield from self.wrong


REPORT = Tally()  # of all blocks of a run; ``conftest`` shows it


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counter.most_common())


def _item(model: Model, solution: kr.Solution, i: int) -> tuple[str, float, dict[str, Array]]:
    """Status, objective and variables of one item; where all inputs are the same for all items there is one solution."""
    batched = solution.status.ndim > 0

    def take(value: torch.Tensor) -> torch.Tensor:
        return value[i] if batched else value

    x = {v.key: take(solution[v]).detach().numpy() for v in model.problem.variables.values()}
    return kr.Status(int(take(solution.status))).name, float(take(solution.objective)), x


def measured(problem: kr.Problem, leaves: dict[str, Array], f: float) -> dict[str, float]:
    """What can be said of a point without any oracle."""
    value = objective_at(problem, leaves)
    rows = [0.0]
    for c in problem.constraints.values():
        if isinstance(c, kr.Soft):
            continue
        left, right, violation = values_of([c.left, c.right, c.violation()], leaves)
        rows.append(float((violation / np.maximum(1.0, np.maximum(np.abs(left), np.abs(right)))).max(initial=0.0)))
    declared = [_beyond(v, leaves) for v in problem.variables.values()]
    return {"value": abs(f - value) / max(1.0, abs(value)), "rows": max(rows), "bounds": max(declared, default=0.0)}


def objective_at(problem: kr.Problem, leaves: dict[str, Array]) -> float:
    """The objective at a point, the price of soft constraints included."""
    prices = [c.price for c in problem.constraints.values() if isinstance(c, kr.Soft)]
    value, *paid = values_of([problem.objective.expression, *prices], leaves)
    return float(value) + problem.objective.sign * float(sum(paid))


def _beyond(v: kr.Variable, leaves: dict[str, Array]) -> float:
    """By how much a variable is beyond its bounds, or off its structure."""
    x, over = leaves[v.key], [0.0]
    for side, sign in ((v.lower, 1.0), (v.upper, -1.0)):
        if side is not None:
            known = {p: torch.tensor(leaves[p.key]) for p in side.parameters()}
            limit = kr.evaluate(side, known).numpy() if known else values_of([side], leaves)[0]
            over.append(float((sign * (limit - x) / np.maximum(1.0, np.abs(x))).max(initial=0.0)))
    if v.attributes.symmetric:
        over.append(float(np.abs(x - x.T).max(initial=0.0)))
    if v.places is not None:
        over.append(float(np.abs(x[v.places.reshape(x.shape) < 0]).max(initial=0.0)))
    return max(over)
