"""How good an answer of one item is, on its original data: the definitions of ``backends.residuals``, with sparse products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .item import Floats, Item, dot


@dataclass(frozen=True, eq=False)
class Point:
    """A primal-dual candidate; ``w`` = (y, z)."""

    x: Floats
    w: Floats
    z_lb: Floats
    z_ub: Floats


@dataclass(frozen=True, eq=False)
class Residuals:
    """Inequalities, equalities, dual, gap: (4,) each, scaled by their own terms and absolute."""

    scaled: Floats
    absolute: Floats

    @property
    def worst(self) -> float:
        return float(self.scaled.max())


@dataclass(frozen=True, eq=False)
class Floors:
    """Least normalisers of rows, variables, and objective."""

    rows: Floats
    columns: Floats
    objective: float


class Measure:
    """Measures candidates of one item; what depends on the data alone is computed once. ``fair`` floors follow the units of x."""

    def __init__(self, item: Item) -> None:
        self.item, self.abs = item, item.magnitude
        self.p, self.Q, self.rows = self.abs.p, item.largest_of_Q, item.largest_of_rows
        self.typical = self._typical()
        self.fair, self.plain = self._floors(self.typical), self._floors(1.0)

    def _floors(self, X: float) -> Floors:
        objective = X * (X * float(self.Q.max(initial=0)) + float(self.p.max(initial=0)))
        objective = min(objective, 1.0) if objective > 0 else 1.0
        columns = np.minimum(X * self.Q + self.p, 1)
        columns = np.where(columns > 0, columns, objective)
        rows = np.where(self.rows > 0, X * np.minimum(self.rows, 1), 1)
        return Floors(rows, columns, objective)

    def _typical(self) -> float:
        """The size of x that the data suggest, at most 1."""
        largest = float(self.Q.max(initial=0))
        size = float(self.p.max(initial=0)) / largest if largest > 0 else 0.0
        there = self.rows > 0
        if there.any():
            size = max(size, float((np.abs(self.item.rhs[there]) / self.rows[there]).max()))
        for bound, at in ((self.item.lb, self.item.lower), (self.item.ub, self.item.upper)):
            size = max(size, float(np.abs(bound[at]).max(initial=0)))
        return min(size, 1.0) if size > 0 and np.isfinite(size) else 1.0

    def residuals(self, point: Point, floors: Floors) -> Residuals:
        item, x, w = self.item, point.x, point.w
        k = item.structure.k
        size = np.abs(x)
        excess = item.times_W(x) - item.rhs
        excess[:k] = np.abs(excess[:k])
        excess[k:] = np.maximum(excess[k:], 0)
        row_size = floors.rows + np.abs(item.rhs) + self.abs.times_W(size)
        relative = excess / np.where(row_size > 0, row_size, 1)
        Qx = item.times_Q(x)
        dual = np.abs(Qx + item.p + item.times_Wt(w) - point.z_lb + point.z_ub)
        dual_size = floors.columns + self.abs.times_Q(size) + self.p + self.abs.times_Wt(np.abs(w)) + point.z_lb + point.z_ub
        xQx, px = dot(x, Qx), dot(x, item.p)
        gap = xQx + px + dot(w, item.rhs)
        gap -= dot(item.lb[item.lower], point.z_lb[item.lower])
        gap += dot(item.ub[item.upper], point.z_ub[item.upper])
        primal = xQx / 2 + px
        gap_size = floors.objective + abs(primal) + abs(primal - gap)
        scaled = [relative[k:].max(initial=0), relative[:k].max(initial=0), (dual / dual_size).max(initial=0), abs(gap) / gap_size]
        absolute = [excess[k:].max(initial=0), excess[:k].max(initial=0), dual.max(initial=0), abs(gap)]
        return Residuals(np.nan_to_num(np.array(scaled), nan=np.inf), np.nan_to_num(np.array(absolute), nan=np.inf))
