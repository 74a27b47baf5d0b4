"""Matrices of which only the entries of a pattern are there; tables of integers, the same for all problems, say where they are.

A call brings one piece of memory with the counts of ``COUNTS`` and the addresses of ``TABLES``; ``backends/sparse/tables.py`` makes
it. A matrix is *listed* row by row: row i has the entries ``ends[i]`` to ``ends[i + 1]``, they stand in ``columns``, and their
values are those at ``source``. Nothing is tiled: rows are short, and every entry is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .llvm import Lanes
from .values import POINTER, Array, Index, Num

# Variables, rows of W = [A; G]; entries of Q, of A, of W; unknowns of ``quasidefinite``'s system, and entries of its factor.
COUNTS = ("n", "rows", "q", "a", "w", "unknowns", "stored")
MATRICES = ("Q", "W", "Wt")  # Q with both triangles; W by rows, and by columns
TABLES = (
    *(f"{matrix}_{part}" for matrix in MATRICES for part in ("ends", "columns", "source")),
    "apart", "order", "sign", "column_ends", "unknown", "value", "onwards", "folded", "folded_left", "folded_right",
    "taken", "taken_left", "taken_right", "given", "given_left", "given_right", "L_ends", "L_columns", "L_source",
)  # fmt: skip


@dataclass(frozen=True)
class Ints:
    """A table."""

    t: Lanes
    address: Index

    def __getitem__(self, i: Index | int) -> Index:
        return self.t.word(self.t.b.inttoptr(self.address.v, POINTER), i)


@dataclass(frozen=True)
class Places:
    """``COUNTS``: numbers where memory is counted; where code is written, what it reads from ``address``, with the tables."""

    n: Any
    rows: Any
    q: Any
    a: Any
    w: Any
    unknowns: Any
    stored: Any
    address: Index | None = None

    @staticmethod
    def at(t: Lanes, address: Index) -> Places:
        words = Ints(t, address)
        n, rows, q, a, w, unknowns, stored = (words[i] for i in range(len(COUNTS)))
        return Places(n, rows, q, a, w, unknowns, stored, address)

    def table(self, name: str) -> Ints:
        """The table of that name."""
        assert self.address is not None
        t = self.address.t
        return Ints(t, Ints(t, self.address)[len(COUNTS) + TABLES.index(name)])

    def listed(self, matrix: str) -> Listed:
        ends, columns, source = (self.table(f"{matrix}_{part}") for part in ("ends", "columns", "source"))
        return Listed(self.rows if matrix == "W" else self.n, ends, columns, source)


@dataclass(frozen=True)
class Listed:
    """The rows of a matrix M; its values are given to each product."""

    height: Index
    ends: Ints
    columns: Ints
    source: Ints

    def row(self, t: Lanes, i: Index) -> Iterator[tuple[Index, Index]]:
        """Column, and place among the values, of each entry of row i."""
        for e in t.range(self.ends[i], self.ends[i + 1]):
            yield self.columns[e], self.source[e]

    def times(self, t: Lanes, values: Array, x: Array, out: Array) -> None:
        """out = Mx."""
        self._call(t, times, values, x, out)

    def add(self, t: Lanes, values: Array, x: Array, out: Array) -> None:
        """out = out + Mx."""
        self._call(t, add, values, x, out)

    def sizes(self, t: Lanes, values: Array, x: Array, out: Array) -> None:
        """out = out + |M||x|."""
        self._call(t, sizes, values, x, out)

    def squares(self, t: Lanes, values: Array, d: Array, out: Array) -> None:
        """out_i = out_i + sum of M_ij² d_j."""
        self._call(t, squares, values, d, out)

    def largest(self, t: Lanes, values: Array, out: Array, poison: Array) -> None:
        """out_i = max |M_ij|; ``poison`` becomes NaN where an entry is not finite."""
        self._call(t, largest, values, out, poison)

    def rescale(self, t: Lanes, values: Array, e: Array, d: Array) -> None:
        """M_ij = e_i M_ij d_j, of values that are listed once."""
        self._call(t, rescale, values, e, d)

    def weighted(self, t: Lanes, values: Array, D: Array, out: Array) -> None:
        """D_i M_ij, in the order of the values."""
        self._call(t, weighted, values, D, out)

    def _call(self, t: Lanes, program: Callable[..., None], *arrays: Array) -> None:
        t.call(program, self.height, self.ends.address, self.columns.address, self.source.address, *arrays)


def _rows(t: Lanes, height: Index, *tables: Index) -> Listed:
    """What a procedure was called with."""
    return Listed(height, *(Ints(t, address) for address in tables))


def _summed(
    t: Lanes, M: Listed, start: Callable[[Index], Num | float], out: Array, term: Callable[[Index, Index, Num], Num]
) -> None:
    """out_i = the terms of row i, added to ``start(i)`` one by one."""
    for i in t.range(M.height):
        total = t.cell(start(i))
        for column, source in M.row(t, i):
            total.value = term(column, source, total.value)
        out[i] = total.value


def times(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, x: Array, out: Array) -> None:
    M = _rows(t, height, ends, columns, source)
    _summed(t, M, lambda i: 0.0, out, lambda j, at, total: t.fma(values[at], x[j], total))


def add(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, x: Array, out: Array) -> None:
    M = _rows(t, height, ends, columns, source)
    _summed(t, M, lambda i: out[i], out, lambda j, at, total: t.fma(values[at], x[j], total))


def sizes(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, x: Array, out: Array) -> None:
    M = _rows(t, height, ends, columns, source)
    _summed(t, M, lambda i: out[i], out, lambda j, at, total: t.fma(t.abs(values[at]), t.abs(x[j]), total))


def squares(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, d: Array, out: Array) -> None:
    M = _rows(t, height, ends, columns, source)
    _summed(t, M, lambda i: out[i], out, lambda j, at, total: t.fma(values[at] * values[at], d[j], total))


def largest(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, out: Array, poison: Array) -> None:
    unsound = t.cell(poison[0])

    def term(column: Index, at: Index, total: Num) -> Num:
        unsound.value = t.fma(values[at], t.num(0.0), unsound.value)
        return t.max(total, t.abs(values[at]))

    _summed(t, _rows(t, height, ends, columns, source), lambda i: 0.0, out, term)
    poison[0] = unsound.value


def rescale(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, e: Array, d: Array) -> None:
    M = _rows(t, height, ends, columns, source)
    for i in t.range(height):
        unit = e[i]
        for column, at in M.row(t, i):
            values[at] = values[at] * (unit * d[column])


def weighted(t: Lanes, height: Index, ends: Index, columns: Index, source: Index, values: Array, D: Array, out: Array) -> None:
    M = _rows(t, height, ends, columns, source)
    for i in t.range(height):
        weight = D[i]
        for _, at in M.row(t, i):
            out[at] = weight * values[at]
