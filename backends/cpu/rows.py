"""W = [A; G] of a block of problems: dense, or the entries of a pattern. The same steps by the same names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import transfer
from .llvm import Lanes
from .patterned import Places
from .values import Array, Field, Index, Mask, Memory, Num


class Dense:
    """W (rows, n), in one piece."""

    def __init__(self, memory: Any, n: int, rows: Any) -> None:
        self.n, self.rows = n, rows
        self.W: Array = memory.array(rows, n)

    def read(self, t: Lanes, A: Field, k: Any, G: Field, m: Any) -> None:
        transfer.read(t, A, k * self.n, self.W)
        transfer.read(t, G, m * self.n, self.W.tail(k * self.n))

    def drop(self, t: Lanes, row: Index, absent: Mask) -> None:
        """Make it a row of zeros in these lanes."""
        for j in t.range(self.n):
            self.W[row, j] = t.where(absent, 0.0, self.W[row, j])

    def largest(self, t: Lanes, out: Array, poison: Array) -> None:
        """out_i = max |W_ij|; ``poison`` becomes NaN where an entry is not finite."""
        t.call(t.matrices.largest_of_rows, self.rows, self.W, out, poison, sizes=(self.n,))

    def squares(self, t: Lanes, e: Array, d: Array, across: Array, along: Array) -> None:
        """across_j = across_j + sum of W_ij² e_i, along_i = sum of W_ij² d_j."""
        t.call(t.matrices.squares_of_columns, self.rows, self.W, e, across, sizes=(self.n,))
        t.call(t.matrices.squares_of_rows, self.rows, self.W, d, along, sizes=(self.n,))

    def rescale(self, t: Lanes, e: Array, d: Array) -> None:
        """W_ij = e_i W_ij d_j."""
        t.call(t.matrices.rescale, self.rows, self.W, e, d, sizes=(self.n,))

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        """out = Wx."""
        t.call(t.matrices.matvec, self.rows, self.W, x, out, sizes=(self.n,))

    def across(self, t: Lanes, w: Array, out: Array) -> None:
        """out = out + W'w."""
        t.call(t.matrices.vecmat, self.rows, w, self.W, out, sizes=(self.n,))

    def sizes(self, t: Lanes, x: Array, w: Array, along: Array, across: Array) -> None:
        """along = along + |W||x| and across = across + |W|'|w|."""
        t.call(t.matrices.sizes_of_rows, self.rows, x, w, self.W, along, across, sizes=(self.n,))


class Patterned:
    """The values of W on its pattern, listed by rows and by columns."""

    def __init__(self, memory: Any, places: Places) -> None:
        self.places = places
        self.values: Array = memory.array(places.w)

    def read(self, t: Lanes, A: Field, k: Any, G: Field, m: Any) -> None:
        p = self.places
        transfer.read(t, A, p.a, self.values)
        transfer.read(t, G, p.w - p.a, self.values.tail(p.a))

    def drop(self, t: Lanes, row: Index, absent: Mask) -> None:
        for _, at in self.places.listed("W").row(t, row):
            self.values[at] = t.where(absent, 0.0, self.values[at])

    def largest(self, t: Lanes, out: Array, poison: Array) -> None:
        self.places.listed("W").largest(t, self.values, out, poison)

    def squares(self, t: Lanes, e: Array, d: Array, across: Array, along: Array) -> None:
        self.places.listed("Wt").squares(t, self.values, e, across)
        for i in t.range(self.places.rows):
            along[i] = 0.0
        self.places.listed("W").squares(t, self.values, d, along)

    def rescale(self, t: Lanes, e: Array, d: Array) -> None:
        self.places.listed("W").rescale(t, self.values, e, d)

    def weighted(self, t: Lanes, D: Array, out: Array) -> None:
        """DW."""
        self.places.listed("W").weighted(t, self.values, D, out)

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        self.places.listed("W").times(t, self.values, x, out)

    def across(self, t: Lanes, w: Array, out: Array) -> None:
        self.places.listed("Wt").add(t, self.values, w, out)

    def sizes(self, t: Lanes, x: Array, w: Array, along: Array, across: Array) -> None:
        self.places.listed("W").sizes(t, self.values, x, along)
        self.places.listed("Wt").sizes(t, self.values, w, across)


@dataclass(frozen=True)
class KeptDense:
    """A, G as tensors have them: rows of A begin at 0, those of G at k. For the derivative."""

    n: int
    blocks: tuple[tuple[Array, Index | int, Index], tuple[Array, Index | int, Index]]

    @staticmethod
    def of(t: Lanes, n: int, A: Field, k: Index, G: Field, m: Index, memory: Memory) -> KeptDense:
        first, second = (transfer.matrix(t, field, height, n, memory) for field, height in ((A, k), (G, m)))
        return KeptDense(n, ((first, 0, k), (second, k, m)))

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        for W, start, count in self.blocks:
            t.call(t.matrices.matvec, count, W, x, out.tail(start), sizes=(self.n,))

    def across(self, t: Lanes, w: Array, out: Array) -> None:
        for W, start, count in self.blocks:
            t.call(t.matrices.vecmat, count, w.tail(start), W, out, sizes=(self.n,))

    def sizes(self, t: Lanes, x: Array, w: Array, along: Array, across: Array) -> None:
        for W, start, count in self.blocks:
            t.call(t.matrices.sizes_of_rows, count, x, w.tail(start), W, along.tail(start), across, sizes=(self.n,))

    def step(self, t: Lanes, u: Array, D: Array, left: Array, v: Array, across: Array, go: Num) -> None:
        """a = W u,  v = go D (a - left),  left = left - a,  across = across + W'v, on rows of positive weight D."""
        for W, start, count in self.blocks:
            own = (array.tail(start) for array in (D, left, v))
            t.call(t.matrices.step_of_rows, count, W, u, *own, across, go, sizes=(self.n,))


class KeptPatterned(Patterned):
    """The same of values on a pattern."""

    def __init__(self, t: Lanes, places: Places, A: Field, k: Index, G: Field, m: Index, memory: Memory) -> None:
        super().__init__(memory, places)
        self.read(t, A, k, G, m)

    def step(self, t: Lanes, u: Array, D: Array, left: Array, v: Array, across: Array, go: Num) -> None:
        self.times(t, u, v)
        for i in t.range(self.places.rows):
            along, weight = v[i], D[i]
            v[i] = go * weight * (along - left[i])
            left[i] = left[i] - t.where(weight > 0.0, along, 0.0)
        self.across(t, v, across)


Rows = Dense | Patterned
KeptRows = KeptDense | KeptPatterned
