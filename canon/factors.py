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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .sparse import Floats as Floats
from .sparse import Index as Index
from .sparse import Matrix, gathered, of_dense, of_scipy, summed

SHARED = 4096  # entries of arrays that are kept, since they are asked for again and again
ONE = ""  # the key of the offset column; no variable has an empty key


class Fixed:
    """A constant sparse matrix, ours or SciPy's."""

    __slots__ = ("matrix", "shape")

    def __init__(self, matrix: Matrix | Any) -> None:
        self.matrix = matrix if isinstance(matrix, Matrix) else of_scipy(matrix)
        self.shape = self.matrix.shape

    @property
    def T(self) -> Fixed:
        return Fixed(self.matrix.T)

    @property
    def identity(self) -> bool:
        return self.matrix.identity

    def scaled(self, factor: float) -> Fixed:
        return self if factor == 1 else Fixed(self.matrix.scaled(factor))


@dataclass(frozen=True, eq=False, init=False)  # dozens are made: the initializer of a frozen dataclass takes four times as long
class Entries:
    """Nonzeros that are weighted entries of the derived parameter in ``slot``; positions (row, col) are distinct."""

    slot: int
    rows: Index
    cols: Index
    source: Index
    weight: Floats
    shape: tuple[int, int]

    def __init__(self, slot: int, rows: Index, cols: Index, source: Index, weight: Floats, shape: tuple[int, int]) -> None:
        fields = self.__dict__
        fields["slot"], fields["rows"], fields["cols"] = slot, rows, cols
        fields["source"], fields["weight"], fields["shape"] = source, weight, shape

    @property
    def T(self) -> Entries:
        return Entries(self.slot, self.cols, self.rows, self.source, self.weight, self.shape[::-1])

    @property
    def diagonal(self) -> bool:
        """Whether this is a full diagonal in order, which multiplies by broadcasting."""
        n, m = self.shape
        return n == m and self.whole and (self.rows is self.cols or bool((self.rows == self.cols).all()))

    @property
    def uniform(self) -> bool:
        """Whether all weights are one number; there is none of no entries."""
        weight = self.weight
        return len(weight) > 0 and bool((weight == weight[0]).all())

    @property
    def whole(self) -> bool:
        """Whether every row has exactly one entry, in order."""
        if len(self.rows) != self.shape[0]:
            return False
        every = counted(len(self.rows))
        return self.rows is every or bool((self.rows == every).all())

    def scaled(self, factor: float) -> Entries:
        return self if factor == 1 else Entries(self.slot, self.rows, self.cols, self.source, self.weight * factor, self.shape)


Factor = Fixed | Entries
Term = tuple[Factor, ...]  # a product, left to right


@dataclass(frozen=True, init=False)
class Affine:
    """``rows`` values: for each variable (by key) a sum of terms of shape (rows, size of the variable)."""

    rows: int
    terms: Mapping[str, tuple[Term, ...]]

    def __init__(self, rows: int, terms: Mapping[str, tuple[Term, ...]]) -> None:
        self.__dict__["rows"], self.__dict__["terms"] = rows, terms

    def times(self, left: Factor) -> Affine:
        """left @ self."""
        if isinstance(left, Fixed) and left.identity:
            return self
        terms = {key: tuple([multiplied(left, term) for term in some]) for key, some in self.terms.items()}
        return Affine(left.shape[0], {key: added(some) for key, some in terms.items()})

    def scaled(self, factor: float) -> Affine:
        """factor * self."""
        scaled = {key: tuple([(term[0].scaled(factor), *term[1:]) for term in some]) for key, some in self.terms.items()}
        return Affine(self.rows, scaled)


def total(rows: int, parts: Sequence[Affine]) -> Affine:
    """The sum of affine values of equal length."""
    terms: dict[str, tuple[Term, ...]] = {}
    several = set()
    for part in parts:
        for key, some in part.terms.items():
            if key in terms:
                terms[key] += some
                several.add(key)
            else:
                terms[key] = some
    return Affine(rows, {key: added(some) if key in several else some for key, some in terms.items()})


def added(terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """Constant terms summed into one; others kept."""
    if len(terms) < 2:
        return terms
    fixed = [term[0].matrix for term in terms if len(term) == 1 and isinstance(term[0], Fixed)]
    if len(fixed) < 2:
        return terms
    merged: Term = (Fixed(summed(fixed)),)
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
    M, shape = left.matrix, (left.shape[0], right.shape[1])
    if right.whole:
        if right.shape[1] == 1 and not M.single:
            return None
        rows, cols, data, owner = M.rows, right.cols[M.cols], M.data, M.cols
    else:
        columns = M.T
        if columns.single:  # each row of ``right`` goes to one row at most
            target = np.full(M.shape[1], -1)
            target[columns.rows] = counted(len(columns.rows))
            place = target[right.rows]
            owner = (place >= 0).nonzero()[0]
            place = place[owner]
        else:
            first = columns.indptr[right.rows]
            count = columns.indptr[right.rows + 1] - first
            end = count.cumsum()
            owner = np.arange(len(right.rows)).repeat(count)
            place = np.arange(len(owner)) + (first - end + count)[owner]
        rows, cols, data = columns.cols[place], right.cols[owner], columns.data[place]
    # Where no row of ``left`` has two entries, every row of the product is a row of ``right``.
    if not M.single and _repeats(rows * shape[1] + cols):
        return None
    return Entries(right.slot, rows, cols, right.source[owner], right.weight[owner] * data, shape)


def _repeats(places: Index) -> bool:
    """Whether a number occurs twice."""
    ascending = np.sort(places)
    return bool((ascending[1:] == ascending[:-1]).any())


def fixed(matrix: object) -> Fixed:
    """A constant factor from anything SciPy can read; vectors become columns."""
    return Fixed(of_dense(matrix) if isinstance(matrix, np.ndarray) else of_scipy(matrix))


def selection(source: Index, size: int) -> Fixed:
    """The matrix S with (S v)_i = v[source_i], or 0 where source_i is -1."""
    shape = len(source), size
    if len(source) and source.min() < 0:
        kept = (source >= 0).nonzero()[0]
        return Fixed(Matrix(kept, source[kept], np.ones(len(kept)), shape, True))
    return picked(source, size)


def picked(source: Index, size: int) -> Fixed:
    """The selection of a source without -1."""
    return Fixed(Matrix(counted(len(source)), source, ones(len(source)), (len(source), size), True))


def scaling(values: Floats) -> Fixed:
    """diag(values)."""
    at = values.nonzero()[0]
    return Fixed(Matrix(at, at, values[at], (len(values), len(values)), True))


def by_entries(rows: Index, cols: Index, data: Floats, shape: tuple[int, int]) -> Fixed:
    """A matrix of entries in any order; those of one position are summed."""
    return Fixed(gathered(rows, cols, data, shape))


def counted(size: int) -> Index:
    """0, 1, ... up to ``size``, read-only: small ones are shared."""
    return _counted(size) if size <= SHARED else _counted.__wrapped__(size)


def ones(size: int) -> Floats:
    """As many ones, read-only: few are shared."""
    return _ones(size) if size <= SHARED else _ones.__wrapped__(size)


@lru_cache(maxsize=64)
def _counted(size: int) -> Index:
    found = np.arange(size)
    found.setflags(write=False)
    return found


@lru_cache(maxsize=64)
def _ones(size: int) -> Floats:
    found = np.ones(size)
    found.setflags(write=False)
    return found


@lru_cache(maxsize=64)  # sums ask for the same ones again and again
def identity(size: int) -> Fixed:
    at = counted(size)
    return Fixed(Matrix(at, at, ones(size), (size, size), True))


def diagonal(slot: int, source: Index, weight: Floats) -> Entries:
    """diag(weight * v[source])."""
    at = counted(len(source))
    return Entries(slot, at, at, source, weight, (len(source), len(source)))
