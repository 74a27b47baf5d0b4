"""The tables by which the compiled programs handle a structure; ``backends/cpu/patterned.py`` and ``quasidefinite.py`` read them.

A row of W with c entries, folded into Q, makes c (c + 1)/2 products, and connects all its variables; set apart it is an unknown
more. Long rows are set apart where that saves most of the products: less is not worth what it does to pivots, since a variable
that only such rows hold has none but the regularisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cpu.patterned import MATRICES, TABLES, Places
from .structure import KEPT, Structure
from .symbolic import Index, address, column_counts, ordering, postordered

MOST = 2**22  # products: two tables of 32 MiB, and beyond them dense fronts, item by item, are about as fast as a list
LONG = 8  # entries up to which a row is always folded
MADE = 8  # tables that are remembered
SAVED = 4  # times fewer products, and long rows are set apart


@dataclass(frozen=True, eq=False)
class Tables:
    """``words``: what a call brings; ``arrays`` are what its addresses point to."""

    places: Places
    products: int
    arrays: dict[str, Index]
    words: Index


class System(NamedTuple):
    """The system with these rows of W apart: its order, elimination tree, and entries, by their places in the order."""

    apart: NDArray[np.bool_]
    order: Index
    parent: Index
    low: Index
    high: Index
    stored: int
    products: int


@lru_cache(maxsize=KEPT)
def counted(structure: Structure) -> System | None:
    """The system that takes the fewest products; None if they are too many."""
    lengths = np.diff(structure.W.ends)
    best = _system(structure, lengths < 0)
    usual = int(np.median(lengths)) if len(lengths) else 0
    for limit in sorted({max(LONG, 4 * usual), LONG}, reverse=True):
        apart = lengths > limit
        if apart.any() and (best is None or best.products > SAVED * int(lengths.sum())):
            other = _system(structure, apart)
            if other is not None and (best is None or SAVED * other.products <= best.products):
                best = other
    return None if best is None or best.products > MOST else best


def _system(s: Structure, apart: NDArray[np.bool_]) -> System | None:
    n, N = s.n, s.n + int(apart.sum())
    lengths = np.where(apart, 0, np.diff(s.W.ends)).astype(np.int64)
    folded = int((lengths * (lengths + 1) // 2).sum())
    if folded > MOST:
        return None
    left, right = _pairs(s.W.ends[:-1].astype(np.int64), lengths)
    own = n + np.cumsum(apart) - 1
    away = apart[s.W.rows]
    at = np.arange(N)
    rows = np.concatenate([s.Q.rows[s.off], s.W.cols[left], own[s.W.rows[away]], at])
    cols = np.concatenate([s.Q.cols[s.off], s.W.cols[right], s.W.cols[away], at])
    key = np.unique(np.minimum(rows, cols) * N + np.maximum(rows, cols))
    rows, cols = key // N, key % N
    parent, order = postordered(N, rows, cols, ordering(N, rows, cols))
    place = np.empty(N, dtype=np.int64)
    place[order] = at
    low, high = np.minimum(place[rows], place[cols]), np.maximum(place[rows], place[cols])
    below = column_counts(N, low, high, parent) - 1
    return System(apart, order, parent, low, high, N + int(below.sum()), folded + int((below * (below + 1) // 2).sum()))


@lru_cache(maxsize=MADE)
def tables(structure: Structure) -> Tables | None:
    """None if there would be too many products."""
    system = counted(structure)
    return None if system is None else _tables(structure, system)


def _tables(s: Structure, system: System) -> Tables:
    apart, order, parent, low, high, _, products = system
    n, q, w, N = s.n, len(s.Q), len(s.W), len(order)
    place = np.empty(N, dtype=np.int64)
    place[order] = np.arange(N)
    columns = _columns(N, low, high, parent)
    count = np.array([len(column) for column in columns], dtype=np.int64)
    ends, row = np.concatenate([[0], np.cumsum(count)]), np.concatenate(columns)
    key = np.repeat(np.arange(N), count) * N + row  # ascending

    def entry(first: Index, second: Index) -> Index:
        """Which entry of L stands at these places."""
        return np.searchsorted(key, np.minimum(first, second) * N + np.maximum(first, second))

    value = np.full(len(row), q)
    value[entry(place[s.Q.rows], place[s.Q.cols])] = np.arange(q)
    away = np.flatnonzero(apart[s.W.rows])
    own = place[n + np.cumsum(apart) - 1]
    value[entry(own[s.W.rows[away]], place[s.W.cols[away]])] = q + 1 + away

    lengths = np.where(apart, 0, np.diff(s.W.ends)).astype(np.int64)
    left, right = _pairs(s.W.ends[:-1].astype(np.int64), lengths)
    target = entry(place[s.W.cols[left]], place[s.W.cols[right]])
    folded = _sorted(target, left, right, len(row))  # of each target, those of rows of A come first: rows go by their number
    onwards = folded[0][:-1] + np.bincount(target[s.W.rows[left] < s.k], minlength=len(row))
    signs = np.where(order < n, 1, -1)
    left, right = _pairs(ends[:-1] + 1, count - 1)
    target, positive = entry(row[left], row[right]), np.repeat(signs, (count - 1) * count // 2) > 0
    taken = _sorted(target[positive], left[positive], right[positive], len(row))
    given = _sorted(target[~positive], left[~positive], right[~positive], len(row))

    below = np.flatnonzero(row != np.repeat(np.arange(N), count))
    by_row = below[np.argsort(row[below], kind="stable")]
    arrays = {
        "apart": np.flatnonzero(apart), "order": order, "sign": signs, "column_ends": ends, "unknown": order[row], "value": value,
        "onwards": onwards, "L_ends": np.searchsorted(row[by_row], np.arange(N + 1)), "L_source": by_row,
        "L_columns": order[np.repeat(np.arange(N), count)[by_row]],
    }  # fmt: skip
    for name, parts in (("folded", folded), ("taken", taken), ("given", given)):
        arrays.update(zip((name, f"{name}_left", f"{name}_right"), parts, strict=True))
    listed = {"Q": (s.whole_Q.pattern, s.whole_Q.source), "W": (s.W, np.arange(w)), "Wt": (s.Wt.pattern, s.Wt.source)}
    for name in MATRICES:
        pattern, source = listed[name]
        arrays.update({f"{name}_ends": pattern.ends, f"{name}_columns": pattern.cols, f"{name}_source": source})
    arrays = {name: np.ascontiguousarray(arrays[name], dtype=np.int64) for name in TABLES}
    counts = n, s.k + s.m, q, len(s.A), w, N, len(row)  # in the order of COUNTS
    words = np.array([*counts, *map(address, arrays.values())], dtype=np.int64)
    return Tables(Places(*counts), products, arrays, words)


def _columns(N: int, low: Index, high: Index, parent: Index) -> list[Index]:
    """The rows of each column of L, ascending from the diagonal on: those of the matrix, and those of its children."""
    by_column = np.argsort(low, kind="stable")
    ends, below = np.searchsorted(low[by_column], np.arange(N + 1)), high[by_column]
    parts: list[list[Index]] = [[below[ends[j] : ends[j + 1]]] for j in range(N)]
    found = []
    for j, above in enumerate(parent.tolist()):
        column = np.unique(np.concatenate(parts[j]))
        found.append(column)
        if above >= 0:
            parts[above].append(column[1:])
    return found


def _pairs(starts: Index, lengths: Index) -> tuple[Index, Index]:
    """All pairs (i, j), i >= j, within each of the runs ``starts`` to ``starts + lengths``."""
    total = int(lengths.sum())
    local = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = np.repeat(starts, lengths)
    count = local + 1
    j = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(first + local, count), np.repeat(first, count) + j


def _sorted(target: Index, left: Index, right: Index, size: int) -> tuple[Index, Index, Index]:
    """Products by their targets: where those of each target begin, and their factors."""
    by_target = np.argsort(target, kind="stable")
    return np.searchsorted(target[by_target], np.arange(size + 1)), left[by_target], right[by_target]
