"""From derived parameters to Q, p, G, h, A, b: the routes of ``canon.blocks``, run in torch.

What does not depend on a parameter was computed at compile time. Entries whose places do not overlap are read together: their
parameters are laid end to end behind a zero, and one gather fills the block. A parameter that is the whole block is a view.

A row that does not exist for an item is chosen away, not multiplied: it becomes 0'x <= inf or 0'x == 0, and a bound infinite. So
nothing that stands in it, NaN and infinities included, reaches the solver, and nothing flows back into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..canon.blocks import Block, BlockBuilder, Gram, Placed, is_view
from ..canon.factors import Entries, Factor, Fixed, Term
from ..canon.param_qp import ParamQP
from .checks import ROUNDING
from .constants import Constants
from .data import QPData
from .evaluate import batch_of, flat
from .sparse.data import SparseData

Bounded = TypeVar("Bounded", QPData, SparseData)
SMALL = 256  # entries of a sum of products' ends up to which one product costs less than several, whatever their structure


@dataclass(frozen=True)
class _Gather:
    """One gather from [0, slot, slot, ...] into the whole block, then a weight per entry (None: all ones).

    ``direct``: from a single slot itself, for no entry is zero.
    """

    slots: tuple[int, ...]
    positions: int
    weight: int | None
    direct: bool


@dataclass(frozen=True)
class _View:
    """The parameter itself, times a number."""

    slot: int
    scale: float


@dataclass(frozen=True)
class _Product:
    """A product of matrices and where it stands; a diagonal factor multiplies by broadcasting.

    The last factor may be a route of its own: of several products that begin with the same factor, the sum of what follows it.
    """

    factors: tuple[tuple[str, int | _Gather | _View | _Route, tuple[int, int]], ...]
    padding: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class _Route:
    shape: tuple[int, int]
    constant: int | None
    parts: tuple[_Gather | _View, ...]
    products: tuple[_Product, ...]

    @cached_property
    def whole(self) -> int | None:
        """The slot that is the block, if that is all."""
        if self.constant is not None or self.products or len(self.parts) != 1:
            return None
        (part,) = self.parts
        return part.slot if isinstance(part, _View) and part.scale == 1 else None


@dataclass(frozen=True)
class _GramRoute:
    E: _Route
    e: _Route | None
    weight: _Route
    P: _Product | None


class Assembly:
    """Routes of one ParamQP with their index arrays registered; immutable."""

    def __init__(self, qp: ParamQP, constants: Constants) -> None:
        self._constants = constants
        self._sizes = qp.program.sizes
        self._blocks = {name: self._route(block) for name, block in qp.blocks.items()}
        self._grams = tuple(self._gram(gram) for gram in qp.grams)
        self._gates = {name: self._route(block) for name, block in qp.gates.blocks.items()}
        self._apart = _apart(qp)

    def data(self, slots: list[Tensor], held: list[Tensor]) -> tuple[QPData, Tensor]:
        """The problem data, and the constant term of the objective with shape (B,)."""
        routes = self._blocks
        blocks = {name: _block(routes[name], slots, held) for name in ("Q", "G", "A", "constant")}
        vectors = {name: _vector(route, slots, held) for name, route in routes.items() if name not in blocks}
        for gram in self._grams:
            E, w = _block(gram.E, slots, held), _block(gram.weight, slots, held)
            WE = w * (E if gram.P is None else _product(gram.P, slots, held) @ E)
            blocks["Q"] = blocks["Q"] + 2 * (E.mT @ WE)
            if gram.e is not None:
                e = _block(gram.e, slots, held)
                We = w * (e if gram.P is None else _product(gram.P, slots, held) @ e)
                vectors["p"] = vectors["p"] + (2 * (E.mT @ We)).squeeze(2)
                blocks["constant"] = blocks["constant"] + e.mT @ We
        p, h, b = vectors["p"], vectors["h"], vectors["b"]
        data = QPData(blocks["Q"], p, blocks["G"], h, blocks["A"], b, vectors.get("lb"), vectors.get("ub"))
        for name, gate in self._gates.items():
            data = _without(data, name, _block(gate, slots, held).detach().squeeze(2) != 0)
        return data if self._apart else met(data), blocks["constant"].reshape(-1)

    def _route(self, block: Block) -> _Route:
        layers: list[list[Entries]] = []
        taken: list[NDArray[np.bool_]] = []
        size = block.shape[0] * block.shape[1]
        views, scattered = [], []
        for entries in block.entries:
            if is_view(entries, block.shape, self._sizes[entries.slot]) and entries.uniform:
                views.append(_View(entries.slot, float(entries.weight[0])))
            else:
                scattered.append(entries)
        for entries in scattered:
            places = entries.rows * block.shape[1] + entries.cols
            free = next((i for i, used in enumerate(taken) if not used[places].any()), len(layers))
            if free == len(layers):
                layers.append([])
                taken.append(np.zeros(size, dtype=bool))
            layers[free].append(entries)
            taken[free][places] = True
        empty = block.constant.nnz == 0 and (views or layers or block.products)
        constant = None if empty else self._constants.add(block.constant.toarray()[None])
        products = tuple([self._products(group, block.shape) for group in _alike(block.products)])
        return _Route(block.shape, constant, (*views, *(self._gather(layer, block.shape) for layer in layers)), products)

    def _gather(self, layer: list[Entries], shape: tuple[int, int]) -> _Gather:
        positions, weight = np.zeros(shape[0] * shape[1], dtype=np.int64), np.ones(shape[0] * shape[1])
        slots: list[int] = []
        starts = {}
        first = 1
        for entries in layer:
            if entries.slot not in starts:
                starts[entries.slot] = first
                slots.append(entries.slot)
                first += self._sizes[entries.slot]
            places = entries.rows * shape[1] + entries.cols
            positions[places] = starts[entries.slot] + entries.source
            weight[places] = entries.weight
        held = None if (weight == 1).all() else self._constants.add(weight[None])
        direct = len(slots) == 1 and bool(positions.all())
        return _Gather(tuple(slots), self._constants.add(positions - 1 if direct else positions), held, direct)

    def _gram(self, gram: Gram) -> _GramRoute:
        silent = gram.e.fixed and gram.e.constant.nnz == 0
        middle = None if gram.P is None else self._product((gram.P,), 0, 0, gram.P.shape)
        return _GramRoute(self._route(gram.E), None if silent else self._route(gram.e), self._route(gram.weight), middle)

    def _products(self, group: list[Placed], shape: tuple[int, int]) -> _Product:
        """The sum of products that begin with the same factor, as one."""
        one = group[0]
        if len(group) == 1:
            return self._product(one.term, one.row, one.col, shape)
        rest = BlockBuilder(one.term[0].shape[1], one.term[-1].shape[1])
        for placed in group:
            rest.add(placed.term[1:])
        inner = self._route(rest.finish())
        factors = self._factor(one.term[0]), ("sum", inner, inner.shape)
        return _Product(factors, _padding(one.term, one.row, one.col, shape))

    def _product(self, term: Term, row: int, col: int, shape: tuple[int, int]) -> _Product:
        return _Product(tuple([self._factor(factor) for factor in term]), _padding(term, row, col, shape))

    def _factor(self, factor: Factor) -> tuple[str, int | _Gather | _View, tuple[int, int]]:
        if isinstance(factor, Fixed):
            return "constant", self._constants.add(factor.matrix.toarray()[None]), factor.shape
        if factor.diagonal:
            column = (len(factor.rows), 1)
            entries = Entries(factor.slot, factor.rows, np.zeros_like(factor.rows), factor.source, factor.weight, column)
            return "diagonal", self._read(entries), column
        return "parameter", self._read(factor), factor.shape

    def _read(self, entries: Entries) -> _Gather | _View:
        if is_view(entries, entries.shape, self._sizes[entries.slot]) and entries.uniform:
            return _View(entries.slot, float(entries.weight[0]))
        return self._gather([entries], entries.shape)


def _padding(term: Term, row: int, col: int, shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    height, width = term[0].shape[0], term[-1].shape[1]
    padding = (col, shape[1] - col - width, row, shape[0] - row - height)
    return padding if any(padding) else None


def _alike(products: Sequence[Placed]) -> list[list[Placed]]:
    """Small products that stand in one place and begin with one factor together; the others alone."""
    groups: dict[tuple[int, ...], list[Placed]] = {}
    for number, placed in enumerate(products):
        first, width = placed.term[0], placed.term[-1].shape[1]
        small = first.shape[1] * width <= SMALL
        key = (id(first), placed.row, placed.col, width) if small else (-number - 1,)
        groups.setdefault(key, []).append(placed)
    return list(groups.values())


def _without(data: QPData, name: str, exists: Tensor) -> QPData:
    """Rows of one block (or bounds of one side) chosen away where they do not exist."""
    if name in ("G", "A"):
        matrix, right, absent = (data.G, data.h, torch.inf) if name == "G" else (data.A, data.b, 0.0)
        matrix, right = torch.where(exists.unsqueeze(2), matrix, 0), torch.where(exists, right, absent)
        return replace(data, G=matrix, h=right) if name == "G" else replace(data, A=matrix, b=right)
    bound, absent = (data.lb, -torch.inf) if name == "lb" else (data.ub, torch.inf)
    assert bound is not None
    bound = torch.where(exists, bound, absent)
    return replace(data, lb=bound) if name == "lb" else replace(data, ub=bound)


def _apart(qp: ParamQP) -> bool:
    """Whether bounds never cross: one side is absent, or both are constants that do not."""
    if qp.lb is None or qp.ub is None:
        return True
    return qp.lb.fixed and qp.ub.fixed and bool((qp.lb.constant.toarray() <= qp.ub.constant.toarray()).all())


def met(data: Bounded) -> Bounded:
    """Bounds that cross by no more than rounding are one number: 3 * x >= 3 * p and x <= p leave x = p, no contradiction."""
    if data.lb is None or data.ub is None:
        return data
    size = torch.maximum(data.lb.detach().abs(), data.ub.detach().abs())
    over = data.lb - data.ub
    return replace(data, lb=torch.where((over > 0) & (over <= ROUNDING[size.dtype] * size), data.ub, data.lb))


def _part(part: _Gather | _View, shape: tuple[int, int], slots: list[Tensor], held: list[Tensor]) -> Tensor:
    if isinstance(part, _View):
        value = slots[part.slot]
        value = value.reshape(value.shape[0], *shape)
        return value if part.scale == 1 else value * part.scale
    sources = [flat(slots[slot]) for slot in part.slots]
    size = batch_of(sources)
    row = sources[0]
    if not part.direct:
        row = torch.cat([row.new_zeros(size, 1), *(source.expand(size, -1) for source in sources)], dim=1)
    value = row.index_select(1, held[part.positions])
    return (value if part.weight is None else value * held[part.weight]).reshape(size, *shape)


def _block(route: _Route, slots: list[Tensor], held: list[Tensor]) -> Tensor:
    if not route.parts and not route.products and route.constant is not None:
        return held[route.constant]
    whole = route.whole
    if whole is not None:
        value = slots[whole]
        return value if value.shape[1:] == route.shape else value.reshape(value.shape[0], *route.shape)
    parts = [] if route.constant is None else [held[route.constant]]
    parts += [_part(part, route.shape, slots, held) for part in route.parts]
    parts += [_product(product, slots, held) for product in route.products]
    block = parts[0]
    for part in parts[1:]:
        block = block + part
    return block


def _vector(route: _Route, slots: list[Tensor], held: list[Tensor]) -> Tensor:
    """A block of one column, without that dimension."""
    if route.whole is None:
        return _block(route, slots, held).squeeze(2)
    value = slots[route.whole]
    return value if value.dim() == 2 else value.reshape(value.shape[0], route.shape[0])


def _product(product: _Product, slots: list[Tensor], held: list[Tensor]) -> Tensor:
    """Multiplied from the narrower end, so that a vector at either end keeps the work linear in the matrices."""
    values = []
    for kind, part, shape in product.factors:
        if isinstance(part, _Route):
            matrix = _block(part, slots, held)
        else:
            matrix = held[part] if isinstance(part, int) else _part(part, shape, slots, held)
        values.append((kind, matrix))
    if len(values) > 1 and values[0][1].shape[1] < values[-1][1].shape[2] and values[0][0] != "diagonal":
        result = values[0][1]
        for kind, matrix in values[1:]:
            result = result * matrix.mT if kind == "diagonal" else result @ matrix
    else:
        kind, result = values[-1]
        if kind == "diagonal":
            result = torch.diag_embed(result.squeeze(2))
        for kind, matrix in reversed(values[:-1]):
            result = matrix * result if kind == "diagonal" else matrix @ result
    return result if product.padding is None else torch.nn.functional.pad(result, product.padding)
