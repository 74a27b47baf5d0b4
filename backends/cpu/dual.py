"""The linear system in the multipliers, for a diagonal Q and fewer rows than variables; one problem alone.

With h = diag(F) / (q + diag), F = 0 on variables that are held, and g = sqrt(h), H = Q + W'DW + diag on the free variables has

    E = sqrt(D) W diag(g)      S = I + EE' = U'U      H^-1 = diag(g) (I - E' S^-1 E) diag(g)

by the formula of Sherman, Morrison and Woodbury. S has no eigenvalue below one; rows of weight 0 are rows of the identity. A
factorization takes K² n instead of K n² operations. Rows of U are as long as K rounded up to whole registers, zeros at their ends.
"""

from __future__ import annotations

from typing import Any

from .llvm import Lanes
from .quadratic import Diagonal
from .rows import Dense as Rows
from .rows import KeptDense as KeptRows
from .values import Array, Field, Index, Memory, Num
from .wide import Wide


def stride(rows: Any, along: int) -> Any:
    """Numbers in a row of U: ``rows`` rounded up to whole registers of ``along``."""
    if isinstance(rows, int):
        return -(-rows // along) * along
    return (rows + (along - 1)).masked(-along)


def kept_size(n: int, rows: int, along: int) -> int:
    """Numbers that are kept of a factor: U, and g."""
    return int(stride(rows, along)) ** 2 + n


class Dual:
    """U, g and E, and what they are made of: the diagonal that is added to Q, and F."""

    def __init__(self, memory: Any, quadratic: Diagonal, W: Rows, along: int) -> None:
        self.n, self.rows, self.quadratic, self.along, self.W = quadratic.n, W.rows, quadratic, along, W.W
        self.stride = stride(W.rows, along)
        self.diagonal: Array = memory.array(self.n)
        self.free: Array = memory.array(self.n)
        # U and g in one piece: the derivative gets both
        self.U: Array = memory.array(self.stride, self.stride)
        self.g: Array = memory.array(self.n)
        self.E: Array = memory.array(W.rows, self.n)
        self.inverse: Array = memory.array(self.stride)
        self.v: Array = memory.array(self.stride)
        self.good: Array = memory.array(1)

    def begin(self, t: Lanes, k: Index, D: Array) -> None:
        """Nothing that could be done once."""

    def factor(self, t: Lanes, k: Index, D: Array) -> None:
        """``good[0]`` becomes 1 if the factor exists, else 0."""
        self.convex(t, D)
        for j in t.range(self.n):
            h = self.quadratic.q[j] + self.diagonal[j]
            self.g[j] = self.free[j] / t.sqrt(t.where(h > 0.0, h, 1.0))
        t.call(weighted, self.rows, self.W, D, self.g, self.E, sizes=(self.n,))
        t.call(gram, self.rows, self.stride, self.E, self.U, sizes=(self.n,))
        t.call(cholesky, self.rows, self.stride, self.U, self.inverse)

    def convex(self, t: Lanes, D: Array) -> None:
        """Whether the diagonal of H is positive."""
        good = t.cell(1.0)
        for j in t.range(self.n):
            good.value = t.where(self.quadratic.q[j] + self.diagonal[j] > 0.0, good.value, 0.0)
        self.good[0] = good.value

    def solve(self, t: Lanes, r: Array) -> None:
        """r <- H^-1 r."""
        apply(t, self.n, self.rows, self.stride, self.E, self.g, self.U, self.inverse, self.v, r)

    def kept(self, t: Lanes, d: Array) -> tuple[Array, Any]:
        """U, and g in the units of the problem."""
        for j in t.range(self.n):
            self.g[j] = self.g[j] * d[j]
        return self.U, self.stride * self.stride + self.n


class KeptDual:
    """The diagonal of Q, U and g as tensors have them, and E made again."""

    def __init__(self, t: Lanes, n: int, Q: Field, kept: Field, W: KeptRows, D: Array, memory: Memory) -> None:
        self.n, self.rows = n, W.blocks[0][2] + W.blocks[1][2]
        self.q = Diagonal(memory, n)
        self.q.read(t, Q)
        self.stride = stride(self.rows, t.along)
        self.U = Array(t, kept.lanes[0])
        self.g = self.U.tail(self.stride * self.stride)
        self.E, self.inverse, self.v = memory.array(self.rows, n), memory.array(self.stride), memory.array(self.stride)
        for i in t.range(self.rows):
            self.inverse[i] = 1.0 / self.U[i * self.stride + i]
        for block, start, count in W.blocks:
            t.call(weighted, count, block, D.tail(start), self.g, self.E.tail(start * n), sizes=(n,))

    def times(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + Qx."""
        self.q.times(t, x, out)

    def sizes(self, t: Lanes, x: Array, out: Array) -> None:
        """out = out + |Q||x|."""
        self.q.sizes(t, x, out)

    def solve(self, t: Lanes, scale: Array, r: Array) -> Num:
        """r <- (Q + W'DW)^-1 r, and the largest entry of that in units of ``scale``."""
        apply(t, self.n, self.rows, self.stride, self.E, self.g, self.U, self.inverse, self.v, r)
        largest = t.cell(0.0)
        for j in t.range(self.n):
            largest.value = t.max(largest.value, t.abs(r[j]) / t.where(scale[j] > 0.0, scale[j], 1.0))
        return largest.value

    @staticmethod
    def size(n: int, rows: int, along: int) -> int:
        """Nums of working memory."""
        return n + rows * n + 2 * int(stride(rows, along))


def weighted(t: Lanes, n: int, rows: Index, W: Array, D: Array, g: Array, E: Array) -> None:
    """E = sqrt(D) W diag(g), W (rows, n)."""
    v = Wide(t)
    for i in t.range(rows):
        root = v.spread(t.sqrt(D[i]))
        for j, size in v.row(n):
            v.store(v.load(W, i * n + j, size) * (root * v.load(g, j, size)), E, i * n + j, size)


def gram(t: Lanes, n: int, rows: Index, stride: Index, E: Array, S: Array) -> None:
    """The upper triangle of S = I + EE', E (rows, n); zeros from ``rows`` to ``stride``."""
    v = Wide(t)
    for i in t.range(stride * stride):
        S[i] = 0.0
    for i, height in t.rows(rows):
        for j, width in t.rows(rows):
            with t.below(i, j + width):
                sums = [[v.cell(0.0) for _ in range(width)] for _ in range(height)]
                for c, size in v.row(n):
                    left = [v.load(E, (i + a) * n + c, size) for a in range(height)]
                    right = [v.load(E, (j + b) * n + c, size) for b in range(width)]
                    for a in range(height):
                        for b in range(width):
                            sums[a][b].value = v.fma(left[a], right[b], sums[a][b].value)
                for a in range(height):
                    for b in range(width):
                        S[(i + a) * stride + (j + b)] = v.total(sums[a][b].value, t)
    for i in t.range(rows):
        S[i * stride + i] = S[i * stride + i] + 1.0


def cholesky(t: Lanes, rows: Index, stride: Index, S: Array, inverse: Array) -> None:
    """S = U'U in place, with zeros below the diagonal; ``inverse``: 1/U_ii. S is at least the identity: there is always one."""
    v = Wide(t)
    for i in t.range(rows):
        first = i.masked(-v.W)
        for c in t.range(first, i):
            S[i * stride + c] = 0.0
        pivot = S[i * stride + i]
        root = t.sqrt(t.where(pivot > 0.0, pivot, 1.0))
        one = 1.0 / root
        inverse[i] = one
        factor = v.spread(one)
        for c in t.range(first, stride, v.W):
            v.store(v.load(S, i * stride + c, v.W) * factor, S, i * stride + c, v.W)
        S[i * stride + i] = root
        for j in t.range(i + 1, rows):
            times = v.spread(-S[i * stride + j])
            for c in t.range(j.masked(-v.W), stride, v.W):
                reduced = v.fma(times, v.load(S, i * stride + c, v.W), v.load(S, j * stride + c, v.W))
                v.store(reduced, S, j * stride + c, v.W)


def substitute(t: Lanes, rows: Index, stride: Index, U: Array, inverse: Array, r: Array) -> None:
    """r <- (U'U)^-1 r."""
    v = Wide(t)
    for i in t.range(rows):
        value = r[i] * inverse[i]
        times = v.spread(-value)
        for c in t.range(i.masked(-v.W), stride, v.W):
            v.store(v.fma(times, v.load(U, i * stride + c, v.W), v.load(r, c, v.W)), r, c, v.W)
        r[i] = value
    for back in t.range(rows):
        i = rows - 1 - back
        value = r[i]
        r[i] = 0.0
        total = v.cell(0.0)
        for c in t.range(i.masked(-v.W), stride, v.W):
            total.value = v.fma(v.load(U, i * stride + c, v.W), v.load(r, c, v.W), total.value)
        r[i] = (value - v.total(total.value, t)) * inverse[i]


def apply(t: Lanes, n: int, rows: Index, stride: Index, E: Array, g: Array, U: Array, inverse: Array, v: Array, r: Array) -> None:
    """r <- H^-1 r; ``v``: room for ``stride`` numbers."""
    for j in t.range(n):
        r[j] = r[j] * g[j]
    for i in t.range(stride):
        v[i] = 0.0
    t.call(t.matrices.matvec, rows, E, r, v, sizes=(n,))
    t.call(substitute, rows, stride, U, inverse, v)
    for i in t.range(rows):
        v[i] = -v[i]
    t.call(t.matrices.vecmat, rows, v, E, r, sizes=(n,))
    for j in t.range(n):
        r[j] = r[j] * g[j]
