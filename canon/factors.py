"""Matrices whose entries depend on parameters, as short products of two kinds of factor.

    Fixed      a constant sparse matrix
    Entries    a matrix whose nonzeros are weighted entries of one derived parameter:  M[row_i, col_i] = weight_i * v[source_i]

Linear operations multiply from the left. Two neighbouring factors merge whenever the result is again of one kind, that is
unless both hold parameters or an entry of the product would be a sum of several parameter entries. What cannot merge stays a
product and is multiplied at run time: a sparse map for everything explodes, since the map from w to A' diag(w) A has n² m
entries where the product costs n² m operations and no memory.

An ``Affine`` is the value of an affine expression, flattened in C order:  sum over variables of (sum of terms) x_v, plus an
offset, which is the coefficient of the pseudo-variable ``ONE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Index = NDArray[np.int64]
Floats = NDArray[np.float64]
ONE = ""  # the key of the offset column; no variable has an empty key


@dataclass(frozen=True, eq=False)
class Fixed:
    """A constant sparse matrix."""

    matrix: sparse.csr_array

    @property
    def shape(self) -> tuple[int, int]:
        rows, cols = self.matrix.shape
        return rows, cols

    @property
    def T(self) -> Fixed:
        return Fixed(self.matrix.T.tocsr())

    @cached_property
    def identity(self) -> bool:
        M = self.matrix
        n, m = M.shape
        return n == m == M.nnz and bool(
            (M.data == 1).all() and (M.indices == np.arange(n)).all() and (np.diff(M.indptr) == 1).all()
        )


@dataclass(frozen=True, eq=False)
class Entries:
    """Nonzeros that are weighted entries of the derived parameter in ``slot``; positions (row, col) are distinct."""

    slot: int
    rows: Index
    cols: Index
    source: Index
    weight: Floats
    shape: tuple[int, int]

    @property
    def T(self) -> Entries:
        return Entries(self.slot, self.cols, self.rows, self.source, self.weight, self.shape[::-1])

    @property
    def diagonal(self) -> bool:
        """Whether this is a full diagonal in order, which multiplies by broadcasting."""
        n, m = self.shape
        return n == m == len(self.rows) and np.array_equal(self.rows, self.cols) and np.array_equal(self.rows, np.arange(n))

    def scaled(self, factor: float) -> Entries:
        return Entries(self.slot, self.rows, self.cols, self.source, self.weight * factor, self.shape)


Factor = Fixed | Entries
Term = tuple[Factor, ...]  # a product, left to right


@dataclass(frozen=True)
class Affine:
    """``rows`` values: for each variable (by key) a sum of terms of shape (rows, size of the variable)."""

    rows: int
    terms: Mapping[str, tuple[Term, ...]]

    def times(self, left: Factor) -> Affine:
        """left @ self."""
        terms = {key: tuple(multiplied(left, term) for term in some) for key, some in self.terms.items()}
        return Affine(left.shape[0], {key: added(some) for key, some in terms.items()})


def total(rows: int, parts: list[Affine]) -> Affine:
    """The sum of affine values of equal length."""
    terms: dict[str, tuple[Term, ...]] = {}
    for part in parts:
        for key, some in part.terms.items():
            terms[key] = terms.get(key, ()) + some
    return Affine(rows, {key: added(some) for key, some in terms.items()})


def added(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Constant terms summed into one; others kept."""
    fixed = [term[0].matrix for term in terms if len(term) == 1 and isinstance(term[0], Fixed)]
    if len(fixed) < 2:
        return terms
    merged: Term = (Fixed(sum(fixed[1:], start=fixed[0])),)
    return (merged, *(term for term in terms if len(term) > 1 or isinstance(term[0], Entries)))


def multiplied(left: Factor, term: Term) -> Term:
    """left times a product, merged where possible."""
    merged = merge(left, term[0])
    return (left, *term) if merged is None else (merged, *term[1:])


def chain(*factors: Factor) -> Term:
    """A product of factors, merged where possible."""
    product: Term = (factors[-1],)
    for factor in reversed(factors[:-1]):
        product = multiplied(factor, product)
    return product


def transposed(term: Term) -> Term:
    """The transpose of a product."""
    return tuple(factor.T for factor in reversed(term))


def merge(left: Factor, right: Factor) -> Factor | None:
    """left @ right as one factor, or None where that is neither constant nor made of single parameter entries."""
    if isinstance(left, Fixed) and left.identity:
        return right
    if isinstance(right, Fixed) and right.identity:
        return left
    if isinstance(left, Fixed):
        return Fixed(left.matrix @ right.matrix) if isinstance(right, Fixed) else _fixed_entries(left, right)
    if isinstance(right, Fixed):
        transpose = _fixed_entries(right.T, left.T)
        return None if transpose is None else transpose.T
    return None


def _fixed_entries(left: Fixed, right: Entries) -> Entries | None:
    """Entry (i, j) of left @ right is left[i, r] right[r, j] if a single r contributes."""
    columns = left.matrix.tocsc()
    first, count = columns.indptr[right.rows], np.diff(columns.indptr)[right.rows]
    owner = np.repeat(np.arange(len(right.rows)), count)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    rows, cols = columns.indices[place].astype(np.int64), right.cols[owner]
    shape = left.shape[0], right.shape[1]
    single = np.diff(left.matrix.indptr).max(initial=0) <= 1  # then every row of the product is a row of ``right``
    if not single and len(np.unique(rows * shape[1] + cols)) < len(rows):
        return None
    return Entries(right.slot, rows, cols, right.source[owner], right.weight[owner] * columns.data[place], shape)


def fixed(matrix: object) -> Fixed:
    """A constant factor from anything scipy can read; vectors become columns."""
    if not isinstance(matrix, np.ndarray):
        return Fixed(sparse.csr_array(matrix))
    array = matrix[:, None] if matrix.ndim == 1 else matrix
    rows, cols = np.nonzero(array)
    return Fixed(by_rows(rows, cols, array[rows, cols], array.shape))


def selection(source: Index, size: int) -> Fixed:
    """The matrix S with (S v)_i = v[source_i], or 0 where source_i is -1."""
    kept = np.flatnonzero(source >= 0)
    return Fixed(by_rows(kept, source[kept], np.ones(len(kept)), (len(source), size)))


def scaling(values: Floats) -> Fixed:
    """diag(values)."""
    at = np.flatnonzero(values)
    return Fixed(by_rows(at, at, values[at], (len(values), len(values))))


def by_rows(rows: Index, cols: Index, data: Floats, shape: tuple[int, int]) -> sparse.csr_array:
    """A matrix of entries that are sorted by rows, each position once: what SciPy would find out again, at some cost."""
    ends = np.searchsorted(rows, np.arange(shape[0] + 1))
    return sparse.csr_array((data, cols, ends), shape=shape)


@lru_cache(maxsize=64)  # sums ask for the same ones again and again
def identity(size: int) -> Fixed:
    at = np.arange(size + 1)
    return Fixed(sparse.csr_array((np.ones(size), at[:-1], at), shape=(size, size)))


def diagonal(slot: int, source: Index, weight: Floats) -> Entries:
    """diag(weight * v[source])."""
    at = np.arange(len(source))
    return Entries(slot, at, at, source, weight, (len(source), len(source)))
