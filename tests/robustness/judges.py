"""What the tests of this folder measure with. Oracles live here and in ``engine.problems``; none of them is our code."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import karush as kr
from engine.problems import Array, Problem, worst_residual

FIGURES: list[str] = []  # the worst figures of a run; ``conftest`` shows them at its end


@dataclass
class Worst:
    """The largest figure of each kind and the item it came from. NaN is larger than anything."""

    title: str
    figures: dict[str, tuple[float, str]] = field(default_factory=dict)

    def see(self, kind: str, value: float, item: object) -> None:
        held = self.figures.get(kind, (-math.inf, ""))[0]
        if not (value <= held or math.isnan(held)):
            self.figures[kind] = float(value), str(item)

    def within(self, **limits: float) -> None:
        """Assert that every kind was seen and none is over its limit; names the worst items."""
        text = f"{self.title}: " + ", ".join(f"{kind} {value:.1e} ({item})" for kind, (value, item) in self.figures.items())
        FIGURES.append(text)
        assert self.figures.keys() == limits.keys(), text
        assert all(value <= limits[kind] for kind, (value, _) in self.figures.items()), text


def objective(problem: Problem, x: Array) -> float:
    return float(x @ problem.Q @ x / 2 + problem.p @ x)


def status_of(solution: kr.QPSolution) -> kr.Status:
    """Of a single problem."""
    return kr.Status(int(solution.status))


def residual(problem: Problem, solution: kr.QPSolution) -> float:
    """The largest scaled residual of a claimed solution, measured anew; NaN for NaN."""
    parts = [part.detach().double().numpy().reshape(-1) for part in _parts(solution)]
    with np.errstate(over="ignore", invalid="ignore"):
        return worst_residual(problem, *parts)


def _parts(solution: kr.QPSolution) -> tuple[Any, ...]:
    return solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub


@dataclass(frozen=True)
class Archived:
    """A problem of the Maros-Meszaros archive: its optimum by the authors, and the constant of its objective."""

    name: str
    problem: Problem
    constant: float
    published: float
    labels: dict[str, str]

    @property
    def n(self) -> int:
        return len(self.problem.p)

    def error(self, x: Array) -> float:
        """Distance of the objective from the published optimum; ``constant`` counts for its size, because it cancels against f."""
        f = objective(self.problem, x) + self.constant
        return abs(f - self.published) / max(1.0, abs(self.published), abs(self.constant))


def archive(folder: Path, *tiers: str) -> Iterator[Archived]:
    """min 1/2 x'Px + q'x + r, l <= Ax <= u, lb <= x <= ub, in karush's form; bounds stay bounds."""
    rows = {row["name"]: row for row in csv.DictReader((folder / "index.csv").read_text().splitlines())}
    for tier in tiers:
        for path in sorted((folder / tier).glob("*.npz")):
            held = np.load(path, allow_pickle=False)
            n, m = (int(size) for size in held["shape"])
            P, A = (_dense(held, name, rows_of) for name, rows_of in (("P", n), ("A", m)))
            low, high = held["l"], held["u"]
            equal = low == high
            upper, lower = np.isfinite(high) & ~equal, np.isfinite(low) & ~equal
            G, h = np.vstack([A[upper], -A[lower]]), np.concatenate([high[upper], -low[lower]])
            problem = Problem(P, held["q"], G, h, A[equal], low[equal], held["lb"], held["ub"])
            row = rows[path.stem]
            yield Archived(path.stem, problem, float(held["r"]), float(row["opt_published"]), row)


def _dense(held: Any, name: str, rows: int) -> Array:
    """A matrix from its compressed columns."""
    starts = held[f"{name}_indptr"]
    M = np.zeros((rows, len(starts) - 1))
    columns = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    M[held[f"{name}_indices"], columns] = held[f"{name}_data"]
    return M


def as_rows(problem: Problem) -> Problem:
    """The same problem with its bounds as rows of G: OptNet's form."""
    G, h, eye = [problem.G], [problem.h], np.eye(len(problem.p))
    for bound, sign in ((problem.lb, -1.0), (problem.ub, 1.0)):
        if bound is not None:
            keep = np.isfinite(bound)
            G.append(sign * eye[keep])
            h.append(sign * bound[keep])
    return Problem(problem.Q, problem.p, np.vstack(G), np.concatenate(h), problem.A, problem.b)
