"""One problem of a batch, as arrays: values on the patterns of its structure, and what is computed with them.

    minimize 1/2 x'Qx + p'x   subject to  Ax = b,  Gx <= h,  lb <= x <= ub          W = [A; G],  rhs = (b, h)

Absent rows (h = inf) have become 0'x <= 1; absent bounds stay infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .structure import Pattern, Structure

Floats = NDArray[np.float64]
Index = NDArray[np.int64]
PASSES = 5  # of equilibration


@dataclass(frozen=True, eq=False)
class Item:
    """``Q`` and ``W`` are values on ``structure``'s patterns; W those of A, then those of G."""

    structure: Structure
    Q: Floats
    p: Floats
    W: Floats
    rhs: Floats
    lb: Floats
    ub: Floats

    @cached_property
    def Q_matrix(self) -> sparse.csr_array:
        whole = self.structure.whole_Q
        return _matrix(whole.pattern, self.Q[whole.source])

    @cached_property
    def W_matrix(self) -> sparse.csr_array:
        return _matrix(self.structure.W, self.W)

    @cached_property
    def Wt_matrix(self) -> sparse.csr_array:
        turned = self.structure.Wt
        return _matrix(turned.pattern, self.W[turned.source])

    @cached_property
    def magnitude(self) -> Item:
        """The same with absolute values in Q, W and p."""
        return replace(self, Q=np.abs(self.Q), W=np.abs(self.W), p=np.abs(self.p))

    @cached_property
    def lower(self) -> Index:
        """Variables with a lower bound."""
        return np.flatnonzero(np.isfinite(self.lb))

    @cached_property
    def upper(self) -> Index:
        return np.flatnonzero(np.isfinite(self.ub))

    def times_Q(self, x: Floats) -> Floats:
        found: Floats = self.Q_matrix @ x
        return found

    def times_W(self, x: Floats) -> Floats:
        found: Floats = self.W_matrix @ x
        return found

    def times_Wt(self, w: Floats) -> Floats:
        found: Floats = self.Wt_matrix @ w
        return found

    @cached_property
    def largest_of_rows(self) -> Floats:
        """max |W_i|."""
        return _largest(self.structure.W, np.abs(self.W))

    @cached_property
    def largest_of_Q(self) -> Floats:
        """max |Q_j|."""
        whole = self.structure.whole_Q
        return _largest(whole.pattern, np.abs(self.Q[whole.source]))

    def clamp(self, x: Floats) -> Floats:
        return np.minimum(np.maximum(x, self.lb), self.ub)


def dot(u: Floats, v: Floats) -> float:
    """u'v. NumPy's own product asks a library that wakes a pool of threads for ten thousand numbers."""
    return float((u * v).sum())


def equilibrate(item: Item) -> tuple[Floats, Floats]:
    """Scales (d, e) of variables and rows, powers of two: rows and columns of the optimality system get about unit length.

    As in ``backends.equilibrate``, with products of sparse matrices.
    """
    squares = replace(item, Q=item.Q**2, W=item.W**2)
    d2, e2 = np.ones(item.structure.n), np.ones(len(item.rhs))
    for _ in range(PASSES):
        x = d2 * (squares.times_Q(d2) + squares.times_Wt(e2))
        w = e2 * squares.times_W(d2)
        d2 /= np.sqrt(np.where(x > 0, x, 1))
        e2 /= np.sqrt(np.where(w > 0, w, 1))
    return _power_of_two(d2), _power_of_two(e2)


def scaled(item: Item, d: Floats, e: Floats) -> Item:
    """The problem in x/d and w/e."""
    s = item.structure
    Q = item.Q * d[s.Q.rows] * d[s.Q.cols]
    W = item.W * e[s.W.rows] * d[s.W.cols]
    return Item(s, Q, item.p * d, W, item.rhs * e, item.lb / d, item.ub / d)


def _power_of_two(squared: Floats) -> Floats:
    found: Floats = np.exp2(np.round(np.log2(squared) / 2))
    return found


def _matrix(where: Pattern, values: Floats) -> sparse.csr_array:
    return sparse.csr_array((values, where.columns, where.ends), shape=(where.height, where.width))


def _largest(where: Pattern, values: Floats) -> Floats:
    found = np.zeros(where.height)
    there = np.flatnonzero(np.diff(where.ends))
    if len(there):
        found[there] = np.maximum.reduceat(values, where.ends[there])
    return found
