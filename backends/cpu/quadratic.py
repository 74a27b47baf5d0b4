"""Q of a block of problems: dense, nothing but its diagonal, or the entries of a pattern. The same steps by the same names."""

from __future__ import annotations

from typing import Any

from . import transfer
from .llvm import Lanes
from .patterned import Places
from .values import Array, Field, Index


class Dense:
    """Q (n, n), made symmetric as it is read."""

    def __init__(self, memory: Any, n: int) -> None:
        self.n = n
        self.Q: Array = memory.array(n, n)

    def read(self, t: Lanes, field: Field) -> None:
        transfer.read(t, field, self.n * self.n, self.Q)
        for i in t.range(self.n):
            for j in t.range(i):
                entry = (self.Q[i, j] + self.Q[j, i]) * 0.5
                self.Q[i, j], self.Q[j, i] = entry, entry

    def largest(self, t: Lanes, out: Array, poison: Array) -> None:
        """out_i = max |Q_ij|; ``poison`` becomes NaN where an entry is not finite."""
        t.call(t.matrices.largest_of_rows, self._rows(t), self.Q, out, poison, sizes=(self.n,))

    def squares(self, t: Lanes, d: Array, out: Array) -> None:
        """out_i = sum of Q_ij² d_j."""
        t.call(t.matrices.squares_of_rows, self._rows(t), self.Q, d, out, sizes=(self.n,))

    def rescale(self, t: Lanes, d: Array) -> None:
        """Q_ij = d_i Q_ij d_j."""
        t.call(t.matrices.rescale, self._rows(t), self.Q, d, d, sizes=(self.n,))

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + Qx."""
        t.call(t.matrices.vecmat, self._rows(t), x, self.Q, out, sizes=(self.n,))

    def sizes(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + |Q||x|."""
        t.call(t.matrices.sizes_of_columns, self._rows(t), x, self.Q, out, sizes=(self.n,))

    def _rows(self, t: Lanes) -> Index:
        return Index(t, t.index(self.n))


class Diagonal:
    """q (n), the diagonal of Q; the rest is known to be zero and not looked at."""

    def __init__(self, memory: Any, n: int) -> None:
        self.n = n
        self.q: Array = memory.array(n)

    def read(self, t: Lanes, field: Field) -> None:
        for j in t.range(self.n):
            self.q[j] = field[j * (self.n + 1)]

    def largest(self, t: Lanes, out: Array, poison: Array) -> None:
        for j in t.range(self.n):
            out[j] = t.abs(self.q[j])
            poison[0] = poison[0] + self.q[j] * 0.0

    def squares(self, t: Lanes, d: Array, out: Array) -> None:
        for j in t.range(self.n):
            out[j] = self.q[j] * self.q[j] * d[j]

    def rescale(self, t: Lanes, d: Array) -> None:
        for j in t.range(self.n):
            self.q[j] = self.q[j] * (d[j] * d[j])

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        for j in t.range(self.n):
            out[j] = t.fma(self.q[j], x[j], out[j])

    def sizes(self, t: Lanes, x: Array, out: Array) -> None:
        for j in t.range(self.n):
            out[j] = t.fma(t.abs(self.q[j]), t.abs(x[j]), out[j])


class Patterned:
    """The values of Q's upper triangle on its pattern, and behind them a zero for places that have none."""

    def __init__(self, memory: Any, places: Places) -> None:
        self.places = places
        self.values: Array = memory.array(places.q + 1)

    def read(self, t: Lanes, field: Field) -> None:
        transfer.read(t, field, self.places.q, self.values)
        self.values[self.places.q] = 0.0

    def largest(self, t: Lanes, out: Array, poison: Array) -> None:
        self.places.listed("Q").largest(t, self.values, out, poison)

    def squares(self, t: Lanes, d: Array, out: Array) -> None:
        for j in t.range(self.places.n):
            out[j] = 0.0
        self.places.listed("Q").squares(t, self.values, d, out)

    def rescale(self, t: Lanes, d: Array) -> None:
        Q = self.places.listed("Q")
        for i in t.range(Q.height):
            for j, at in Q.row(t, i):
                with t.below(i, j + 1):  # both triangles have the same value
                    self.values[at] = self.values[at] * (d[i] * d[j])

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        self.places.listed("Q").add(t, self.values, x, out)

    def sizes(self, t: Lanes, x: Array, out: Array) -> None:
        self.places.listed("Q").sizes(t, self.values, x, out)


Quadratic = Dense | Diagonal | Patterned
