"""Sparse matrices as the compiler needs them: small ones by the dozen, and now and then a large one.

A ``Matrix`` is its entries in order of rows, each position once. SciPy's own matrices check themselves whenever one is made, which
costs ten times what the product of two small ones does; large products are still SciPy's, or dense where most entries are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Index = NDArray[np.int64]
Floats = NDArray[np.float64]

SMALL = 2000  # multiplications up to which a product is written out and summed
DENSE = 4  # a dense multiplication costs so much less than one of SciPy's sparse products
MOST = 10**7  # entries of dense matrices that are made for a product
ALONE = 10**7  # dense multiplications up to which waking BLAS's threads costs more than they bring


class Matrix:
    """Entries ``data[i]`` at ``rows[i], cols[i]``, rows ascending; never written to."""

    __slots__ = ("_identity", "_indptr", "_single", "cols", "data", "rows", "shape")

    def __init__(self, rows: Index, cols: Index, data: Floats, shape: tuple[int, int], single: bool | None = None) -> None:
        self.rows, self.cols, self.data, self.shape = rows, cols, data, shape
        self._single = single  # what is None is found out when it is asked for
        self._identity: bool | None = None
        self._indptr: Index | None = None

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return len(self.data)

    @property
    def single(self) -> bool:
        """Whether no row has two entries."""
        if self._single is None:
            self._single = len(self.rows) < 2 or bool((self.rows[1:] > self.rows[:-1]).all())
        return self._single

    @property
    def whole(self) -> bool:
        """Whether every row has exactly one entry."""
        return len(self.rows) == self.shape[0] and self.single

    @property
    def identity(self) -> bool:
        if self._identity is None:
            n, m = self.shape
            self._identity = n == m and self.whole and bool((self.data == 1).all() and (self.cols == self.rows).all())
        return self._identity

    @property
    def indptr(self) -> Index:
        """Where each row begins, and the last one ends."""
        if self._indptr is None:
            self._indptr = self.rows.searchsorted(np.arange(self.shape[0] + 1))
        return self._indptr

    @property
    def indices(self) -> Index:
        """The columns, by SciPy's name."""
        return self.cols

    @property
    def T(self) -> Matrix:
        rows, cols = self.shape
        if len(self.cols) < 2 or cols == 1 or bool((self.cols[1:] >= self.cols[:-1]).all()):
            return Matrix(self.cols, self.rows, self.data, (cols, rows))
        order = self.cols.argsort(kind="stable")
        return Matrix(self.cols[order], self.rows[order], self.data[order], (cols, rows))

    def scaled(self, factor: float) -> Matrix:
        """factor * self."""
        return self if factor == 1 else Matrix(self.rows, self.cols, self.data * factor, self.shape, self._single)

    def __matmul__(self, other: Matrix) -> Matrix:
        shape = self.shape[0], other.shape[1]
        if self.single and other.whole:
            return Matrix(self.rows, other.cols[self.cols], self.data * other.data[self.cols], shape, True)
        first = other.indptr[self.cols]
        count = other.indptr[self.cols + 1] - first
        end = count.cumsum()
        total = int(end[-1]) if len(end) else 0
        if total > SMALL and not self.single:
            return _large_product(self, other, total)
        owner = np.arange(len(count)).repeat(count)
        place = np.arange(total) + (first - end + count)[owner]
        rows, cols, data = self.rows[owner], other.cols[place], self.data[owner] * other.data[place]
        return Matrix(rows, cols, data, shape) if self.single else gathered(rows, cols, data, shape)

    def columns(self, start: int, stop: int) -> Matrix:
        """The columns from ``start`` up to ``stop``."""
        inside = (self.cols >= start) & (self.cols < stop)
        shape = self.shape[0], stop - start
        return Matrix(self.rows[inside], self.cols[inside] - start, self.data[inside], shape)

    def toarray(self) -> Floats:
        """The dense matrix, as SciPy calls it."""
        dense = np.zeros(self.shape)
        dense[self.rows, self.cols] = self.data
        return dense

    @property
    def csr(self) -> Any:
        """The same in SciPy."""
        return sparse.csr_array((self.data, self.cols, self.indptr), shape=self.shape)

    def tocsr(self) -> Any:
        """The same in SciPy, under SciPy's name for that."""
        return self.csr


def of_scipy(matrix: Any) -> Matrix:
    """From anything that SciPy can read."""
    csr = sparse.csr_array(matrix)
    csr.sum_duplicates()
    rows = np.arange(csr.shape[0]).repeat(np.diff(csr.indptr))
    return Matrix(rows, csr.indices.astype(np.int64), np.asarray(csr.data, dtype=np.float64), csr.shape)


def of_dense(array: Floats) -> Matrix:
    """The nonzero entries of a matrix; a vector is a column."""
    if array.ndim == 1:
        at = array.nonzero()[0]
        return Matrix(at, np.zeros_like(at), array[at], (len(array), 1), True)
    rows, cols = array.nonzero()
    return Matrix(rows, cols, array[rows, cols], (array.shape[0], array.shape[1]))


def gathered(rows: Index, cols: Index, data: Floats, shape: tuple[int, int]) -> Matrix:
    """Entries in any order, those of one position summed; without zeros."""
    if len(data) > 1:
        place = rows * shape[1] + cols
        if not (place[1:] > place[:-1]).all():
            order = place.argsort(kind="stable")
            place = place[order]
            new = np.empty(len(place), dtype=bool)
            new[0], new[1:] = True, place[1:] != place[:-1]
            data = data[order] if new.all() else np.add.reduceat(data[order], new.nonzero()[0])
            first = order[new]
            rows, cols = rows[first], cols[first]
    if not data.all():
        there = data.nonzero()[0]
        rows, cols, data = rows[there], cols[there], data[there]
    return Matrix(rows, cols, data, shape)


def repeated(matrix: Matrix, before: int, after: int) -> Matrix:
    """I ⊗ matrix ⊗ I, with identities of these sizes."""
    if before == after == 1:
        return matrix
    (n, m), (first, last) = matrix.shape, np.ogrid[:before, :after]
    rows, cols = (
        ((first * size)[:, None] + at[:, None]) * after + last[:, None] for at, size in ((matrix.rows, n), (matrix.cols, m))
    )
    data = np.broadcast_to(matrix.data[:, None], rows.shape)
    return gathered(rows.reshape(-1), cols.reshape(-1), data.reshape(-1), (before * n * after, before * m * after))


def summed(parts: Sequence[Matrix]) -> Matrix:
    """The sum of matrices of one shape."""
    rows, cols, data = (np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "cols", "data"))
    return gathered(rows, cols, data, parts[0].shape)


def _large_product(left: Matrix, right: Matrix, multiplications: int) -> Matrix:
    n, k, m = left.shape[0], left.shape[1], right.shape[1]
    finite = bool(np.isfinite(left.data).all() and np.isfinite(right.data).all())  # zeros times infinity stay out
    if finite and n * k * m <= DENSE * multiplications and n * k + k * m + n * m <= MOST:
        A, B = left.toarray(), right.toarray()
        return of_dense(np.einsum("ij,jk->ik", A, B) if n * k * m <= ALONE else A @ B)
    return of_scipy(left.csr @ right.csr)
