"""Sparse matrices whose values are known when a layer is called: positions at compile time, values by a short recipe in torch.

    Known      constants
    Read       weighted entries of one derived parameter
    Added      a sum of such matrices on the union of their positions
    Times      a product: value c = sum of left[a] * right[b] over the pairs (a, b) that meet at c

A recipe gives one tensor (·, entries), its leading axis 1 where nothing depends on the batch, by gathers, products and
``index_add``: plain autograd differentiates it, and no dense matrix is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...canon.blocks import Block
from ...canon.factors import Entries, Factor, Fixed, Term
from ..constants import Constants
from ..evaluate import batch_of, flat
from .structure import Pattern, pattern

Index = NDArray[np.int64]
Recipe = Callable[[list[Tensor], list[Tensor]], Tensor]  # (slots, constants) -> (·, entries)
MOST_PAIRS = 50_000_000  # products that a recipe may form at each call


class TooDenseError(Exception):
    """A product would form more pairs than a call should."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Positions, and what computes the values at them. ``fixed``: the values, where they are constants."""

    where: Pattern
    recipe: Recipe
    fixed: NDArray[np.float64] | None = None

    @property
    def T(self) -> Matrix:
        order = np.lexsort((self.where.rows, self.where.cols))
        where = Pattern(self.where.cols[order], self.where.rows[order], self.where.width, self.where.height)
        return Matrix(where, self.recipe, self.fixed) if _identical(order) else _chosen(self, where, order)


class Recipes:
    """Makes matrices whose constants are registered in ``constants``."""

    def __init__(self, constants: Constants) -> None:
        self._constants = constants

    def block(self, block: Block, every_row: bool = False) -> Matrix:
        """A block of the canonical problem. ``every_row``: a vector, with all its entries, also those that are zero."""
        height, width = block.shape
        parts = [self.factor(Fixed(block.constant))]
        if every_row:
            at = np.arange(height)
            parts.append(self.known(Pattern(at, np.zeros(height, dtype=np.int64), height, width), np.zeros(height)))
        parts += [self.factor(entries) for entries in block.entries]
        for placed in block.products:
            product = self.product(placed.term)
            rows, cols = product.where.rows + placed.row, product.where.cols + placed.col
            parts.append(Matrix(Pattern(rows, cols, height, width), product.recipe, product.fixed))
        return self.added(parts, height, width)

    def product(self, term: Term) -> Matrix:
        """A product of factors, from the right."""
        result = self.factor(term[-1])
        for factor in reversed(term[:-1]):
            result = self.times(self.factor(factor), result)
        return result

    def factor(self, factor: Factor) -> Matrix:
        height, width = factor.shape
        if isinstance(factor, Entries):
            order = np.lexsort((factor.cols, factor.rows))
            where = Pattern(factor.rows[order], factor.cols[order], height, width)
            return self._read(where, factor.slot, factor.source[order], factor.weight[order])
        M = factor.matrix
        rows = np.repeat(np.arange(height), np.diff(M.indptr))
        return self.known(Pattern(rows, M.indices.astype(np.int64), height, width), np.asarray(M.data, dtype=np.float64))

    def known(self, where: Pattern, values: NDArray[np.float64]) -> Matrix:
        at = self._constants.add(values[None])
        return Matrix(where, lambda slots, held: held[at], values)

    def _read(self, where: Pattern, slot: int, source: Index, weight: NDArray[np.float64]) -> Matrix:
        at, by = self._constants.add(source), None if (weight == 1).all() else self._constants.add(weight[None])

        def recipe(slots: list[Tensor], held: list[Tensor]) -> Tensor:
            value = flat(slots[slot]).index_select(1, held[at])
            return value if by is None else value * held[by]

        return Matrix(where, recipe)

    def added(self, parts: Sequence[Matrix], height: int, width: int, to: Callable[[Pattern], Pattern] | None = None) -> Matrix:
        """The sum of matrices of one shape, on the union of their positions; ``to`` moves positions beforehand."""
        parts = [part for part in parts if len(part.where)]
        wheres = [part.where if to is None else to(part.where) for part in parts]
        rows = np.concatenate([where.rows for where in wheres]) if parts else np.zeros(0, np.int64)
        cols = np.concatenate([where.cols for where in wheres]) if parts else np.zeros(0, np.int64)
        where, place = pattern(rows, cols, height, width)
        if not parts:
            return self.known(where, np.zeros(0))
        if all(part.fixed is not None for part in parts):
            total = np.zeros(len(where))
            np.add.at(total, place, np.concatenate([part.fixed for part in parts if part.fixed is not None]))
            return self.known(where, total)
        if len(parts) == 1 and _identical(place):
            return Matrix(where, parts[0].recipe, parts[0].fixed)
        return Matrix(where, self._summed(parts, place, len(where)))

    def _summed(self, parts: Sequence[Matrix], place: Index, size: int) -> Recipe:
        """Values laid end to end, then one gather if no two meet, else one sum by positions."""
        single = len(place) == size
        at = self._constants.add(np.argsort(place) if single else place)

        def recipe(slots: list[Tensor], held: list[Tensor]) -> Tensor:
            values = [part.recipe(slots, held) for part in parts]
            B = batch_of(values)
            joined = torch.cat([value.expand(B, -1) for value in values], 1)
            if single:
                return joined.index_select(1, held[at])
            return _sums(joined, held[at], size)

        return recipe

    def times(self, left: Matrix, right: Matrix) -> Matrix:
        """left @ right."""
        height, width = left.where.height, right.where.width
        ends = right.where.ends.astype(np.int64)
        first, count = ends[left.where.cols], np.diff(ends)[left.where.cols]
        if int(count.sum()) > MOST_PAIRS:
            raise TooDenseError
        a = np.repeat(np.arange(len(left.where)), count)
        b = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        where, place = pattern(left.where.rows[a], right.where.cols[b], height, width)
        size, single = len(where), len(a) == len(where)
        if left.fixed is not None and right.fixed is not None:
            total = np.zeros(size)
            np.add.at(total, place, left.fixed[a] * right.fixed[b])
            return self.known(where, total)
        if single:
            order = np.argsort(place)
            a, b = a[order], b[order]
        if left.fixed is not None and len(right.where):
            return self._weighted(where, right, left.fixed[a], b, None if single else place)
        if right.fixed is not None and len(left.where):
            return self._weighted(where, left, right.fixed[b], a, None if single else place)
        at_a, at_b, at_place = self._constants.add(a), self._constants.add(b), self._constants.add(place)

        def recipe(slots: list[Tensor], held: list[Tensor]) -> Tensor:
            x, y = left.recipe(slots, held), right.recipe(slots, held)
            terms = x.index_select(1, held[at_a]) * y.index_select(1, held[at_b])
            return terms if single else _sums(terms, held[at_place], size)

        return Matrix(where, recipe)

    def _weighted(self, where: Pattern, of: Matrix, weight: NDArray[np.float64], source: Index, place: Index | None) -> Matrix:
        """A constant matrix times one of parameters."""
        at, by, size = self._constants.add(source), self._constants.add(weight[None]), len(where)
        to = None if place is None else self._constants.add(place)

        def recipe(slots: list[Tensor], held: list[Tensor]) -> Tensor:
            terms = of.recipe(slots, held).index_select(1, held[at]) * held[by]
            return terms if to is None else _sums(terms, held[to], size)

        return Matrix(where, recipe)

    def scaled(self, M: Matrix, factor: float) -> Matrix:
        if M.fixed is not None:
            return self.known(M.where, M.fixed * factor)
        return Matrix(M.where, lambda slots, held: M.recipe(slots, held) * factor)

    def on_diagonal(self, column: Matrix, size: int) -> Matrix:
        """diag of a column (size, 1), or of one number for all."""
        rows = column.where.rows if column.where.height == size else np.arange(size)
        where = Pattern(rows, rows, size, size)
        if column.where.height == size:
            return Matrix(where, column.recipe, column.fixed)
        if not len(column.where):
            return self.known(Pattern(rows[:0], rows[:0], size, size), np.zeros(0))
        if column.fixed is not None:
            return self.known(where, np.repeat(column.fixed, size))
        return Matrix(where, lambda slots, held: column.recipe(slots, held).expand(-1, size))

    def upper(self, parts: Sequence[Matrix], n: int) -> Matrix:
        """The symmetric part of a sum of matrices, as its upper triangle with all of the diagonal."""
        at = np.arange(n)
        halved = [self._halved(part) for part in parts if len(part.where)]
        diagonal = self.known(Pattern(at, at, n, n), np.zeros(n))
        return self.added([*halved, diagonal], n, n, to=_folded)

    def _halved(self, part: Matrix) -> Matrix:
        """Entries off the diagonal halved: each stands for itself and its mirror image."""
        half = np.where(part.where.rows == part.where.cols, 1.0, 0.5)
        if part.fixed is not None:
            return self.known(part.where, part.fixed * half)
        if (half == 1).all():
            return part
        by = self._constants.add(half[None])
        return Matrix(part.where, lambda slots, held: part.recipe(slots, held) * held[by])


def _folded(where: Pattern) -> Pattern:
    return Pattern(np.minimum(where.rows, where.cols), np.maximum(where.rows, where.cols), where.height, where.width)


def _chosen(M: Matrix, where: Pattern, order: Index) -> Matrix:
    if M.fixed is not None:
        values = M.fixed[order]
        return Matrix(where, lambda slots, held: M.recipe(slots, held)[:, order], values)
    at = torch.from_numpy(order)
    return Matrix(where, lambda slots, held: M.recipe(slots, held).index_select(1, at))


def _identical(place: Index) -> bool:
    return bool((place == np.arange(len(place))).all())


def _sums(terms: Tensor, place: Tensor, size: int) -> Tensor:
    """Sums of terms (B, ·) by place, (B, size). Items as columns: that is how torch adds by index fast."""
    if size == 1:
        return terms.sum(1, keepdim=True)
    return terms.new_zeros(size, len(terms)).index_add(0, place, terms.mT).mT
