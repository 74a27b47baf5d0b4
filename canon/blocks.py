"""Blocks: what Q, p, G, h, A, b and the bounds are as functions of the derived parameters, each entry by a fixed route.

    block = constant + sum of Entries (read where they stand) + sum of placed products

The routes, cheapest first: constant (computed once), view (the parameter is the block), scale, scatter, product. A ``Gram`` fills
three blocks at once: for a weighted square of E x + e it adds 2 E'WE to Q, 2 E'We to p and e'We to the constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .factors import Entries, Factor, Fixed, Term, counted, multiplied
from .sparse import Floats, Index, Matrix, gathered


@dataclass(frozen=True, eq=False)
class Placed:
    """A product that cannot merge, and where its upper left corner stands in the block."""

    row: int
    col: int
    term: Term


@dataclass(frozen=True, eq=False, init=False)  # as of ``Entries``, dozens are made
class Block:
    """A matrix of shape (rows, cols); vectors are columns."""

    constant: Matrix
    entries: tuple[Entries, ...] = ()
    products: tuple[Placed, ...] = ()

    def __init__(self, constant: Matrix, entries: tuple[Entries, ...] = (), products: tuple[Placed, ...] = ()) -> None:
        fields = self.__dict__
        fields["constant"], fields["entries"], fields["products"] = constant, entries, products

    @property
    def shape(self) -> tuple[int, int]:
        return self.constant.shape

    @property
    def fixed(self) -> bool:
        """Whether nothing depends on a parameter."""
        return not self.entries and not self.products

    @property
    def slots(self) -> tuple[int, ...]:
        """Derived parameters that enter, in order."""
        products = [f.slot for placed in self.products for f in placed.term if isinstance(f, Entries)]
        return tuple(dict.fromkeys([e.slot for e in self.entries] + products))

    def times(self, S: Matrix) -> Block:
        """S @ self."""
        if S.identity:
            return self
        builder = BlockBuilder(S.shape[0], self.shape[1])
        builder.add((Fixed(S @ self.constant),))
        for entries in self.entries:
            builder.add(multiplied(Fixed(S), (entries,)))
        for placed in self.products:
            part = S.columns(placed.row, placed.row + placed.term[0].shape[0])
            builder.add(multiplied(Fixed(part), placed.term), 0, placed.col)
        return builder.finish()

    def rows(self, kept: Index) -> Block:
        """Some rows, in ascending order: a selection @ self, without multiplying."""
        height, shape = self.shape[0], (len(kept), self.shape[1])
        if len(kept) == height:
            return self
        target = np.full(height, -1)
        target[kept] = np.arange(len(kept))
        M, place = self.constant, target[self.constant.rows]
        inside = (place >= 0).nonzero()[0]
        constant = Matrix(place[inside], M.cols[inside], M.data[inside], shape)
        entries = []
        for e in self.entries:
            place = target[e.rows]
            inside = (place >= 0).nonzero()[0]
            if len(inside):
                entries.append(Entries(e.slot, place[inside], e.cols[inside], e.source[inside], e.weight[inside], shape))
        builder = BlockBuilder(*shape)
        for placed in self.products:
            part = target[placed.row : placed.row + placed.term[0].shape[0]]
            at = (part >= 0).nonzero()[0]
            chosen = Matrix(part[at], at, np.ones(len(at)), (len(kept), len(part)), True)
            builder.add(multiplied(Fixed(chosen), placed.term), 0, placed.col)
        moved = builder.finish()
        return Block(constant, (*entries, *moved.entries), moved.products)

    def describe(self, sizes: Sequence[int]) -> str:
        """Constant and routes in words; ``sizes`` are those of the program's slots."""
        parts = [f"constant ({self.constant.nnz})"] if self.constant.nnz else []
        parts += [f"{_route(entries, self.shape, sizes[entries.slot])} %{entries.slot}" for entries in self.entries]
        parts += [f"product {' '.join(_factor_text(f) for f in placed.term)}" for placed in self.products]
        return " + ".join(parts) or "zero"


@dataclass(frozen=True, eq=False)
class Gram:
    """weight' ((E x + e) ∘ (E x + e)), or weight * (E x + e)' P (E x + e) where P is given."""

    E: Block
    e: Block
    weight: Block
    P: Factor | None

    def describe(self, sizes: Sequence[int]) -> str:
        """The parts in words."""
        E, e, weight = (block.describe(sizes) for block in (self.E, self.e, self.weight))
        middle = "" if self.P is None else f", P {_factor_text(self.P)}"
        return f"gram of E = {E}, e = {e}, weight {weight}{middle}"


NOWHERE, NOTHING = np.zeros(0, np.int64), np.zeros(0)


@dataclass
class BlockBuilder:
    """Collects what is added to a block."""

    height: int
    width: int
    _coordinates: list[tuple[Index, Index, Floats]] = field(default_factory=list)
    _entries: list[Entries] = field(default_factory=list)
    _products: list[Placed] = field(default_factory=list)

    def add(self, term: Term, row: int = 0, col: int = 0, scale: float = 1.0) -> None:
        """Add ``scale`` times a term with its upper left corner at (row, col)."""
        first = term[0]
        if len(term) > 1:
            if not any(_empty(factor) for factor in term):
                self._products.append(Placed(row, col, (first.scaled(scale), *term[1:])))
        elif isinstance(first, Fixed):
            M = first.matrix
            if M.nnz:
                rows, cols = M.rows + row if row else M.rows, M.cols + col if col else M.cols
                self._coordinates.append((rows, cols, M.data if scale == 1 else M.data * scale))
        elif len(first.rows):
            shape = self.height, self.width
            weight = first.weight if scale == 1 else first.weight * scale
            rows, cols = first.rows + row if row else first.rows, first.cols + col if col else first.cols
            moved = Entries(first.slot, rows, cols, first.source, weight, shape)
            self._entries.append(moved)

    def finish(self) -> Block:
        shape = self.height, self.width
        parts = self._coordinates
        if not parts:
            constant = Matrix(NOWHERE, NOWHERE, NOTHING, shape, True)
        elif len(parts) == 1:
            constant = gathered(*parts[0], shape)
        else:
            rows, cols, data = (np.concatenate(some) for some in zip(*parts, strict=True))
            constant = gathered(rows, cols, data, shape)
        return Block(constant, tuple(self._entries), tuple(self._products))


def is_view(entries: Entries, shape: tuple[int, int], size: int) -> bool:
    """Whether the whole parameter, of ``size`` entries, fills the whole block in its own order."""
    rows, cols = shape
    if not len(entries.source) == rows * cols == size:
        return False
    every = counted(size)
    source, places = entries.source, entries.rows if cols == 1 else entries.rows * cols + entries.cols
    return (source is every or bool((source == every).all())) and (places is every or bool((places == every).all()))


def _route(entries: Entries, shape: tuple[int, int], size: int) -> str:
    if not is_view(entries, shape, size) or not entries.uniform:
        return "scatter"
    return "view" if entries.weight[0] == 1 else f"scale {entries.weight[0]:g}"


def _empty(factor: Factor) -> bool:
    return (factor.matrix.nnz if isinstance(factor, Fixed) else len(factor.rows)) == 0


def _factor_text(factor: Factor) -> str:
    return f"C{factor.shape}" if isinstance(factor, Fixed) else f"%{factor.slot}{factor.shape}"
