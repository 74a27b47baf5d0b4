"""The linear system in the variables: the factor of F (Q + W'DW) F + diag, for a dense Q. See ``backends/kkt.py``.

``Normal`` makes it, ``KeptNormal`` is what the derivative has of it.
"""

from __future__ import annotations

from typing import Any

from . import transfer
from .llvm import Lanes
from .quadratic import Dense
from .rows import Dense as Rows
from .values import Array, Field, Index, Memory, Num


class Normal:
    """U'U, and what is factored: the diagonal that is added, and F, 0 on variables that are held."""

    def __init__(self, memory: Any, quadratic: Dense, rows: Rows) -> None:
        self.n, self.rows, self.quadratic = quadratic.n, rows, quadratic
        self.diagonal: Array = memory.array(self.n)
        self.free: Array = memory.array(self.n)
        self.U: Array = memory.array(self.n, self.n)
        self.inverse: Array = memory.array(self.n)
        self.good: Array = memory.array(1)
        self.begun: Array = memory.array(self.n, self.n)

    def begin(self, t: Lanes, k: Index, D: Array) -> None:
        """Q and the first k rows, whose weights stay as they are now: they are summed up once."""
        with t.unless(k, 0):
            t.call(t.matrices.gram, k, self.quadratic.Q, self.rows.W, D, self.begun, sizes=(self.n,))

    def factor(self, t: Lanes, k: Index, D: Array) -> None:
        """``good[0]`` becomes 1 if the factor exists, else 0."""
        own = t.either(k, self.begun, self.quadratic.Q)
        self._factored(t, self.rows.rows - k, own, self.rows.W.tail(k * self.n), D.tail(k))

    def convex(self, t: Lanes, D: Array) -> None:
        """The same for Q alone."""
        self._factored(t, Index(t, t.index(0)), self.quadratic.Q, self.rows.W, D)

    def _factored(self, t: Lanes, rows: Index, Q: Array, W: Array, D: Array) -> None:
        t.call(t.matrices.factor, rows, Q, W, D, self.diagonal, self.free, self.U, self.inverse, self.good, sizes=(self.n,))

    def solve(self, t: Lanes, r: Array) -> None:
        """r <- (U'U)^-1 r."""
        t.call(t.matrices.solve, self.U, self.inverse, r, sizes=(self.n,))

    def kept(self, t: Lanes, d: Array) -> tuple[Array, Any]:
        """What the derivative needs of it, and how many numbers that is. ``d``: the units of the variables."""
        return self.U, self.n * self.n


class KeptNormal:
    """Q and U as tensors have them: (Q + W'DW)^-1 is S (U'U)^-1 S on the free variables, S = ``scale``."""

    def __init__(self, t: Lanes, n: int, Q: Field, U: Field, memory: Memory) -> None:
        self.n = n
        self.Q, self.U = (transfer.matrix(t, field, n, n, memory) for field in (Q, U))
        self.inverse, self.half = memory.array(n), memory.array(n)
        for i in t.range(n):
            self.inverse[i] = 1.0 / self.U[i, i]

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + (Q + Q')/2 x."""
        for j in t.range(self.n):
            self.half[j] = x[j] * 0.5
        t.call(t.matrices.symmetric, self.Q, self.half, out, sizes=(self.n,))

    def sizes(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + |Q'||x|."""
        t.call(t.matrices.sizes_of_columns, Index(t, t.index(self.n)), x, self.Q, out, sizes=(self.n,))

    def solve(self, t: Lanes, scale: Array, r: Array) -> Num:
        """r <- (Q + W'DW)^-1 r, and the largest entry of that in units of ``scale``."""
        for j in t.range(self.n):
            r[j] = r[j] * scale[j]
        t.call(t.matrices.solve, self.U, self.inverse, r, sizes=(self.n,))
        largest = t.cell(0.0)
        for j in t.range(self.n):
            largest.value = t.max(largest.value, t.abs(r[j]))
            r[j] = r[j] * scale[j]
        return largest.value

    @staticmethod
    def size(n: int, rows: int, along: int) -> int:
        """Nums of working memory."""
        return 2 * n * n + 2 * n
