"""Symbolic analysis of a symmetric pattern: ordering, elimination tree, supernodes, and the index tables of ``multifrontal``.

Done once per structure; nothing of it depends on values. P K P' = L D L' is computed front by front: a *supernode* is a run of
columns of L with (almost) the same rows, its *front* the dense matrix of these rows, assembled from entries of K and from what its
children in the elimination tree have left over.

The ordering is minimum degree, by SuperLU's code through SciPy; rows that are almost full are taken out beforehand and come last,
as they would anyhow, at a hundredth of the time. Zeros are let into fronts where that makes larger fronts of tiny ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg

Index = NDArray[np.int64]

FULL = 10.0  # times sqrt(N) entries make a row almost full
RELAXED = ((4, 0.8), (16, 0.3), (64, 0.1))  # up to so many columns, this share of a merged supernode may be zeros


@dataclass(frozen=True, eq=False)
class Analysis:
    """Tables for one pattern of size N. Row i of the permuted matrix is row ``order[i]`` of the one given.

    Per supernode: ``first`` column, ``width``, rows of its ``front``, where its columns of L begin, where its rows begin in
    ``rows`` and ``places`` (of these rows in the front of its parent), the row from which ``places`` are consecutive, and where
    what it leaves over lies on the stack. ``entry_ends``, ``entry_place``, ``entry_source``: which values go where in each front.
    ``thin``: single columns without children, whose fronts are never made.
    """

    order: Index
    first: Index
    width: Index
    front: Index
    columns_at: Index
    rows_at: Index
    rows: Index
    places: Index
    consecutive: Index
    entry_ends: Index
    entry_place: Index
    entry_source: Index
    child_ends: Index
    children: Index
    stack_at: Index
    thin: Index
    stored: int
    stacked: int
    largest: int
    flops: float

    @property
    def N(self) -> int:
        return len(self.order)

    def words(self, names: tuple[str, ...]) -> Index:
        """Where the tables of these names lie in memory."""
        found = self._kept.get(names)
        if found is None:
            found = np.array([address(getattr(self, name)) for name in names], dtype=np.int64)
            self._kept[names] = found
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    @cached_property
    def _kept(self) -> dict[tuple[str, ...], Index]:
        return {}


def address(array: NDArray[Any]) -> int:
    """Where an array lies in memory; its ``ctypes`` would say the same at ten times the cost."""
    found: int = array.__array_interface__["data"][0]
    return found


def analyse(N: int, rows: Index, cols: Index) -> Analysis:
    """Tables for the symmetric matrix with entries at (rows, cols), each position once, in either triangle; diagonal complete."""
    order = ordering(N, rows, cols)
    parent, order = postordered(N, rows, cols, order)
    place = np.empty(N, dtype=np.int64)
    place[order] = np.arange(N)
    low, high = np.minimum(place[rows], place[cols]), np.maximum(place[rows], place[cols])
    count = column_counts(N, low, high, parent)
    starts = _merged(_fundamental(parent, count), parent, count)
    return _tables(N, order, low, high, parent, starts)


def ordering(N: int, rows: Index, cols: Index) -> Index:
    off = rows != cols
    degree = np.bincount(rows[off], minlength=N) + np.bincount(cols[off], minlength=N)
    sparse_ones = np.flatnonzero(degree <= max(16.0, FULL * np.sqrt(N)))
    full = np.flatnonzero(degree > max(16.0, FULL * np.sqrt(N)))
    if len(sparse_ones) < 2:
        return np.arange(N)
    at = np.full(N, -1)
    at[sparse_ones] = np.arange(len(sparse_ones))
    i, j = at[rows], at[cols]
    kept = off & (i >= 0) & (j >= 0)
    M, i, j = len(sparse_ones), i[kept], j[kept]
    values = np.full(2 * len(i), 1.0)
    pattern = sparse.csc_matrix((values, (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(M, M))
    pattern.data[:] = 1 / max(N, 1)
    diagonal = sparse.identity(M, format="csc") * 2.0
    # An incomplete factorization that drops everything: what remains is its ordering.
    options = {"SymmetricMode": True}
    lu = linalg.spilu(
        (pattern + diagonal).tocsc(),
        drop_tol=1.0,
        fill_factor=1.0,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options=options,
    )
    found: Index = np.concatenate([sparse_ones[np.argsort(lu.perm_c)], full]).astype(np.int64)
    return found


def _tree(N: int, low: Index, high: Index) -> Index:
    """The elimination tree of a permuted pattern, by path compression."""
    by_row = np.argsort(high, kind="stable")
    column, ends = low[by_row].tolist(), np.searchsorted(high[by_row], np.arange(N + 1)).tolist()
    parent, ancestor = [-1] * N, [-1] * N
    for i in range(N):
        for t in range(ends[i], ends[i + 1]):
            j = column[t]
            while j != i and j != -1:
                following = ancestor[j]
                ancestor[j] = i
                if following == -1:
                    parent[j] = i
                j = following
    return np.array(parent, dtype=np.int64)


def postordered(N: int, rows: Index, cols: Index, order: Index) -> tuple[Index, Index]:
    """The elimination tree, and the order, renumbered so that children come right before their parents, the largest last."""
    place = np.empty(N, dtype=np.int64)
    place[order] = np.arange(N)
    low, high = np.minimum(place[rows], place[cols]), np.maximum(place[rows], place[cols])
    parent = _tree(N, low, high)
    size = column_counts(N, low, high, parent)
    children: list[list[int]] = [[] for _ in range(N + 1)]
    for j in np.argsort(size, kind="stable").tolist():
        children[parent[j]].append(j)  # roots are children of the last one
    post: list[int] = []
    waiting = [(root, False) for root in reversed(children[-1])]
    while waiting:
        j, opened = waiting.pop()
        if opened:
            post.append(j)
        else:
            waiting.append((j, True))
            waiting.extend((child, False) for child in reversed(children[j]))
    new = np.empty(N + 1, dtype=np.int64)
    new[post], new[-1] = np.arange(N), -1
    renumbered = np.empty(N, dtype=np.int64)
    renumbered[new[:-1]] = new[parent]
    return renumbered, order[post]


def column_counts(N: int, low: Index, high: Index, parent: Index) -> Index:
    """Entries of each column of L, its diagonal included: row i is in the columns of its row subtree."""
    by_row = np.argsort(high, kind="stable")
    column, ends = low[by_row].tolist(), np.searchsorted(high[by_row], np.arange(N + 1)).tolist()
    up, seen, count = parent.tolist(), [-1] * N, [1] * N
    for i in range(N):
        seen[i] = i
        for t in range(ends[i], ends[i + 1]):
            j = column[t]
            while seen[j] != i:
                count[j] += 1
                seen[j] = i
                j = up[j]
    return np.array(count, dtype=np.int64)


def _fundamental(parent: Index, count: Index) -> list[int]:
    """First columns of the runs of columns with equal rows."""
    N = len(parent)
    joins = (parent[:-1] == np.arange(1, N)) & (count[:-1] == count[1:] + 1)
    return [0, *(np.flatnonzero(~joins) + 1).tolist()] if N else []


def _merged(starts: list[int], parent: Index, count: Index) -> list[int]:
    """First columns after supernodes have been joined to the one that follows, where that is their parent and adds few zeros."""
    N = len(parent)
    ends = [*starts[1:], N]
    rows, zeros = count.tolist(), [0] * len(starts)
    following = [int(parent[end - 1]) == end for end in ends]
    kept: list[int] = []  # positions in ``starts``, a stack of supernodes that may still grow
    for s in range(len(starts)):
        while kept and _joins(kept[-1], s, starts, ends, rows, zeros, following):
            before = kept.pop()
            starts[s] = starts[before]
        kept.append(s)
    return [starts[s] for s in kept]


def _joins(c: int, s: int, starts: list[int], ends: list[int], rows: list[int], zeros: list[int], following: list[bool]) -> bool:
    """Whether supernode c becomes part of its parent s; updates what is known of s."""
    if not following[c] or ends[c] != starts[s]:
        return False
    width_c, width_s = ends[c] - starts[c], ends[s] - starts[s]
    front = width_c + rows[starts[s]]
    added = width_c * (front - rows[starts[c]])
    width = width_c + width_s
    total = width * front - width * (width - 1) // 2
    share = (zeros[c] + zeros[s] + added) / total
    if not (added == 0 or any(width <= most and share < limit for most, limit in RELAXED)):
        return False
    zeros[s] += zeros[c] + added
    rows[starts[c]] = front
    return True


def _tables(N: int, order: Index, low: Index, high: Index, parent: Index, starts: list[int]) -> Analysis:
    first = np.array(starts, dtype=np.int64)
    S = len(first)
    width = np.diff(np.append(first, N))
    owner = np.repeat(np.arange(S), width)
    by_column = np.argsort(low, kind="stable")
    ends = np.searchsorted(low[by_column], np.append(first, N))
    below = high[by_column]
    children: list[list[int]] = [[] for _ in range(S)]
    structure: list[Index] = []
    above = np.full(S, -1)
    for s in range(S):
        last = first[s] + width[s] - 1
        parts = [below[ends[s] : ends[s + 1]], *(structure[c][width[c] :] for c in children[s])]
        beyond = np.unique(np.concatenate(parts))
        structure.append(np.concatenate([np.arange(first[s], last + 1), beyond[beyond > last]]))
        if len(structure[s]) > width[s]:
            above[s] = owner[structure[s][width[s]]]
            children[above[s]].append(s)
    front = np.array([len(part) for part in structure], dtype=np.int64)
    rows = np.concatenate(structure) if S else np.zeros(0, np.int64)
    rows_at = np.concatenate([[0], np.cumsum(front)])
    holder = np.repeat(np.arange(S), front)
    key = holder * N + rows  # ascending: supernodes in order, their rows in order

    of_parent = above[holder]
    leftover = rows >= (first + width)[holder]
    places = np.zeros(len(rows), dtype=np.int64)
    found = np.searchsorted(key, of_parent[leftover] * N + rows[leftover])
    places[leftover] = found - rows_at[of_parent[leftover]]

    source = by_column
    of = owner[low[source]]
    local = np.searchsorted(key, of * N + high[source]) - rows_at[of]
    entry_place = (low[source] - first[of]) * (front[of] + PADDING) + local

    consecutive, stack_at = np.zeros(S, dtype=np.int64), np.zeros(S, dtype=np.int64)
    top = deepest = 0
    thin = np.array([int(w == 1 and not part) for w, part in zip(width, children, strict=True)], dtype=np.int64)
    for s in range(S):
        own = places[rows_at[s] + width[s] : rows_at[s + 1]]
        breaks = np.flatnonzero(np.diff(own) != 1)
        consecutive[s] = breaks[-1] + 1 if len(breaks) else 0
        if children[s]:
            top = int(stack_at[children[s][0]])
        stack_at[s] = top
        top += 0 if thin[s] else int(front[s] - width[s]) ** 2
        deepest = max(deepest, top)
    child_count = np.array([len(part) for part in children], dtype=np.int64)
    f, w = front.astype(float), width.astype(float)
    flops = float((w * f * f - w * w * f + w**3 / 3).sum())  # of pivots j: (f - j)²
    return Analysis(
        order, first, width, front, np.concatenate([[0], np.cumsum(front * width)]), rows_at, rows, places, consecutive,
        ends, entry_place, source, np.concatenate([[0], np.cumsum(child_count)]),
        np.array([c for part in children for c in part], dtype=np.int64), stack_at, thin,
        int((front * width).sum()), deepest, int(front.max(initial=0)), flops,
    )  # fmt: skip


PADDING = 8  # doubles between the columns of a front, so that registers may reach beyond the last row
