"""The linear system in the variables where Q and W are sparse: the factor of F (Q + W'DW) F + diag, with few rows set apart.

Rows of W that are almost full would fill all of it. They are unknowns of their own, B, and the others, C, are folded into Q:

    [ F (Q + C'D C) F + diag      F B' ]        of size N = n + rows of B;  solved for (r, 0), its x is that of
    [          B F              -1/D_B ]        (F (Q + C'DC + B' D_B B) F + diag)^-1 r

Such a matrix is quasidefinite: with any order of pivots it has the factor P' L S L' P, S the signs of its pivots (Vanderbei 1995).
The order keeps L sparse. Entry by entry, columns one after the other, by tables that say which products belong to it:

    L_ik L_kk s_k = M_ik - sum over j < k of  s_j L_ij L_kj        ``taken``: those with s_j = 1,  ``given``: with s_j = -1

so that a factorization is one list of products without a search, for all W problems side by side.
"""

from __future__ import annotations

from typing import Any

from . import transfer
from .llvm import Lanes
from .patterned import Places
from .quadratic import Patterned as PatternedQ
from .rows import Patterned as PatternedW
from .values import Array, Cell, Field, Index, Memory, Num

TINY = 1e-300  # stands for a weight of zero: a row that is not there


class Quasidefinite:
    """L, and what it is made of: the diagonal that is added, and F, 0 on variables that are held."""

    def __init__(self, memory: Any, Q: PatternedQ, W: PatternedW) -> None:
        self.Q, self.W, self.places = Q, W, Q.places
        places = Q.places
        N = places.unknowns
        self.diagonal: Array = memory.array(N)
        self.free: Array = memory.array(N)
        self.weighted: Array = memory.array(places.w)
        self.begun: Array = memory.array(places.stored)
        self.L: Array = memory.array(places.stored)
        self.inverse: Array = memory.array(N)
        self.v: Array = memory.array(N)
        self.good: Array = memory.array(1)

    def begin(self, t: Lanes, k: Index, D: Array) -> None:
        """Q and the first k rows, whose weights stay as they are now: they are summed up once. The tables know k."""
        self.W.weighted(t, D, self.weighted)
        t.call(begin, _address(self.places), self.Q.values, self.weighted, self.W.values, self.begun)

    def factor(self, t: Lanes, k: Index, D: Array) -> None:
        """``good[0]`` becomes 1 if every pivot has its sign, else 0."""
        p = self.places
        self.W.weighted(t, D, self.weighted)
        apart = p.table("apart")
        for i in t.range(p.unknowns - p.n):
            self.free[p.n + i] = 1.0
            self.diagonal[p.n + i] = -1.0 / t.max(D[apart[i]], TINY)
        arrays = self.begun, self.weighted, self.W.values, self.diagonal, self.free, self.L, self.inverse, self.good
        t.call(factor, _address(p), *arrays)

    def convex(self, t: Lanes, D: Array) -> None:
        """The same for Q alone."""
        for i in t.range(self.places.rows):
            D[i] = 0.0
        self.begin(t, self.places.rows, D)
        self.factor(t, self.places.rows, D)

    def solve(self, t: Lanes, r: Array) -> None:
        """r <- x of M^-1 (r, 0)."""
        t.call(solve, _address(self.places), self.L, self.inverse, self.v, r)

    def kept(self, t: Lanes, d: Array) -> tuple[Array, Any]:
        """What the derivative needs of it, and how many numbers that is. ``d``: the units of the variables."""
        return self.L, self.places.stored


class KeptQuasidefinite:
    """Q and L as tensors have them."""

    def __init__(self, t: Lanes, places: Places, Q: Field, L: Field, memory: Memory) -> None:
        self.places, self.Q = places, PatternedQ(memory, places)
        self.Q.read(t, Q)
        self.L = transfer.matrix(t, L, places.stored, 1, memory)
        self.inverse, self.v = memory.array(places.unknowns), memory.array(places.unknowns)
        order, ends = places.table("order"), places.table("column_ends")
        for c in t.range(places.unknowns):
            self.inverse[order[c]] = 1.0 / self.L[ends[c]]

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + Qx."""
        self.Q.times(t, x, out)

    def sizes(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + |Q||x|."""
        self.Q.sizes(t, x, out)

    def solve(self, t: Lanes, scale: Array, r: Array) -> Num:
        """r <- (Q + W'DW)^-1 r, and the largest entry of that in units of ``scale``."""
        for j in t.range(self.places.n):
            r[j] = r[j] * scale[j]
        t.call(solve, _address(self.places), self.L, self.inverse, self.v, r)
        largest = t.cell(0.0)
        for j in t.range(self.places.n):
            largest.value = t.max(largest.value, t.abs(r[j]))
            r[j] = r[j] * scale[j]
        return largest.value

    @staticmethod
    def size(places: Places) -> int:
        """Nums of working memory."""
        return int(places.q + 1 + places.stored + 2 * places.unknowns)


def _address(places: Places) -> Index:
    assert places.address is not None
    return places.address


def begin(t: Lanes, tables: Index, Q: Array, DW: Array, W: Array, begun: Array) -> None:
    """What an entry of M has of Q, of rows set apart, and of rows whose weights stay."""
    p = Places.at(t, tables)
    value, ends, onwards = (p.table(name) for name in ("value", "folded", "onwards"))
    for entry in t.range(p.stored):
        total = t.cell(Q[value[entry]])
        _add(t, p, "folded", ends[entry], onwards[entry], total, DW, W)
        begun[entry] = total.value


def factor(
    t: Lanes, tables: Index, begun: Array, DW: Array, W: Array, diagonal: Array, free: Array, L: Array, inverse: Array, good: Array
) -> None:
    """L and ``inverse``: 1/L_kk. A pivot of the wrong sign is replaced by 1, so that what follows stays finite."""
    p = Places.at(t, tables)
    names = "order", "sign", "column_ends", "unknown", "onwards", "folded", "taken", "given"
    order, sign, ends, unknown, onwards, folded, taken, given = (p.table(name) for name in names)

    def reduced(entry: Index, mask: Num) -> Num:
        """M_ik, and less what the columns before have of it."""
        total = t.cell(begun[entry])
        _add(t, p, "folded", onwards[entry], folded[entry + 1], total, DW, W)
        total.value = total.value * mask
        _add(t, p, "taken", taken[entry], taken[entry + 1], total, L, L, -1.0)
        _add(t, p, "given", given[entry], given[entry + 1], total, L, L)
        return total.value

    fine = t.cell(1.0)
    for c in t.range(p.unknowns):
        k, first = order[c], ends[c]
        s, F = t.num(sign[c]), free[k]
        pivot = (reduced(first, F * F) + diagonal[k]) * s
        positive = pivot > 0.0
        fine.value = t.where(positive, fine.value, 0.0)
        root = t.sqrt(t.where(positive, pivot, 1.0))
        one = 1.0 / root
        L[first], inverse[k] = root, one
        scale = one * s
        for entry in t.range(first + 1, ends[c + 1]):
            L[entry] = reduced(entry, F * free[unknown[entry]]) * scale
    good[0] = fine.value


def _add(
    t: Lanes, p: Places, name: str, first: Index, last: Index, total: Cell, left: Array, right: Array, sign: float = 1.0
) -> None:
    """Products ``first`` to ``last`` of a list, added to ``total``."""
    lefts, rights = p.table(f"{name}_left"), p.table(f"{name}_right")
    for e in t.range(first, last):
        total.value = t.fma(left[lefts[e]] * sign, right[rights[e]], total.value)


def solve(t: Lanes, tables: Index, L: Array, inverse: Array, v: Array, r: Array) -> None:
    """L S L' u = (r, 0); r <- u of the variables."""
    p = Places.at(t, tables)
    order, ends, unknown = (p.table(name) for name in ("order", "column_ends", "unknown"))
    row_ends, columns, source = (p.table(name) for name in ("L_ends", "L_columns", "L_source"))
    for j in t.range(p.n):
        v[j] = r[j]
    for j in t.range(p.n, p.unknowns):
        v[j] = 0.0
    for c in t.range(p.unknowns):
        k = order[c]
        total = t.cell(v[k])
        for e in t.range(row_ends[c], row_ends[c + 1]):
            total.value = total.value - L[source[e]] * v[columns[e]]
        v[k] = total.value * inverse[k]
    for j in t.range(p.n, p.unknowns):
        v[j] = -v[j]
    for back in t.range(p.unknowns):
        c = p.unknowns - 1 - back
        k = order[c]
        total = t.cell(v[k])
        for entry in t.range(ends[c] + 1, ends[c + 1]):
            total.value = total.value - L[entry] * v[unknown[entry]]
        v[k] = total.value * inverse[k]
    for j in t.range(p.n):
        r[j] = v[j]
