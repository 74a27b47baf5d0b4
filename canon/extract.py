"""Pass 2, extract: affine expressions become coefficient matrices, parameters become a program.

    expects    Expanded: affine rows, an objective affine in variables and squares
    promises   Extracted: the same as ``Affine`` values over the slots of one derived-parameter program

A maximal subexpression without variables is one derived parameter. Nodes that only move entries (indexing, transposing,
broadcasting) are looked through, so that a coefficient points straight at what the user passes in.

The way home is trivial here as well: rows keep their order and their names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..dsl.atoms import Shape
from ..dsl.curvature import Form
from ..dsl.diagnostics import InternalError
from ..dsl.expression import Constant, Expression
from ..dsl.leaves import Variable
from .expand import Expanded, Sides
from .factors import (
    ONE,
    Affine,
    Entries,
    Factor,
    Fixed,
    by_entries,
    counted,
    diagonal,
    fixed,
    identity,
    ones,
    scaling,
    selection,
    total,
)
from .linear import MATRICES, MOVES, positions
from .program import Builder, Functions, Program
from .sparse import Floats, Index, repeated


@dataclass(frozen=True)
class Column:
    """A variable: its name and shape, found by ``key``; the bounds of the entries that are chosen.

    ``source``: where each entry stands among those that are chosen, -1 for a zero; None where all are.
    """

    name: str
    key: str
    shape: Shape
    lower: Affine | None
    upper: Affine | None
    source: Index | None

    @property
    def size(self) -> int:
        return math.prod(self.shape) if self.source is None else int(self.source.max(initial=-1)) + 1


@dataclass(frozen=True)
class Row:
    """A block of rows, affine == 0 or affine <= 0, named after the user's constraint or not at all.

    ``active`` is 0 for rows that do not exist; None where all do.
    """

    name: str | None
    shape: Shape
    affine: Affine
    active: Affine | None


@dataclass(frozen=True)
class Fact:
    """A constraint without variables: the slots of its sides, and of where it is meant."""

    name: str
    op: str
    left: int
    right: int
    active: int | None


@dataclass(frozen=True)
class Quadratic:
    """weight' (E ∘ E), or weight * E' P E where P is given; ``weight`` is the offset-free row of the objective."""

    weight: Affine
    E: Affine
    P: Factor | None


@dataclass(frozen=True)
class Extracted:
    """Coefficients over the slots of ``program``; user functions by name, and their names by key."""

    columns: tuple[Column, ...]
    objective: Affine
    quadratics: tuple[Quadratic, ...]
    equalities: tuple[Row, ...]
    inequalities: tuple[Row, ...]
    facts: tuple[Fact, ...]
    program: Program
    functions: Functions
    function_names: dict[str, str]

    def verify(self) -> None:
        """Every coefficient has the size of its row block and its variable, and reads an existing slot."""
        sizes = {column.key: column.size for column in self.columns} | {ONE: 1}
        steps = len(self.program.steps)
        values = [self.objective, *(row.affine for row in (*self.equalities, *self.inequalities))]
        for affine in [*values, *(quadratic.E for quadratic in self.quadratics)]:
            for key, terms in affine.terms.items():
                width = sizes.get(key, -1)
                for term in terms:
                    good = term[0].shape[0] == affine.rows and term[-1].shape[1] == width
                    if len(term) > 1:
                        good &= all(a.shape[1] == b.shape[0] for a, b in pairwise(term))
                    for factor in term:
                        good &= isinstance(factor, Fixed) or factor.slot < steps
                    if not good:
                        raise InternalError(f"extract: a term does not fit\n{self}")
        self.program.verify()

    def __str__(self) -> str:
        lines = [str(self.program)] if self.program.steps else []
        lines += [f"columns  {column.name} {column.shape}" for column in self.columns]
        lines.append(f"cost     {_affine_text(self.objective, self.columns)}")
        lines += [f"square   {_affine_text(quadratic.E, self.columns)}" for quadratic in self.quadratics]
        lines += [f"row == 0 {row.name or '-'}: {_affine_text(row.affine, self.columns)}" for row in self.equalities]
        lines += [f"row <= 0 {row.name or '-'}: {_affine_text(row.affine, self.columns)}" for row in self.inequalities]
        return "\n".join(lines)


def extract(expanded: Expanded, names: Mapping[str, str]) -> Extracted:
    """Read every affine expression as coefficient matrices."""
    reader = _Reader(Builder(names))
    objective = reader.read(expanded.objective)
    values = {square.value.key: square for square in expanded.squares}
    quadratics = tuple(
        Quadratic(
            Affine(1, {key: objective.terms[key]}),
            reader.read(square.E),
            None if square.P is None else reader.middle(square.P, square.E.size),
        )
        for key, square in values.items()
        if key in objective.terms
    )
    linear = Affine(1, {key: terms for key, terms in objective.terms.items() if key not in values})
    columns = tuple(reader.column(name, variable) for name, variable in expanded.variables.items())

    active = {name: reader.read(condition) for name, condition in expanded.active.items()}

    def rows(several: list[Sides]) -> tuple[Row, ...]:
        return tuple(
            [Row(name, left.shape, reader.difference(left, right), active.get(name or "")) for name, left, right in several]
        )

    def slot(expression: Expression | None) -> int | None:
        return None if expression is None else reader.builder.lower(expression)

    facts = [
        Fact(name, c.op, reader.builder.lower(c.left), reader.builder.lower(c.right), slot(c.active))
        for name, c in expanded.facts.items()
    ]
    return Extracted(
        columns,
        linear,
        quadratics,
        rows(expanded.equalities),
        rows(expanded.inequalities),
        tuple(facts),
        reader.builder.finish(()),
        reader.builder.functions,
        reader.builder.function_names,
    )


class _Reader:
    """Reads shared nodes once."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.done: dict[int, tuple[Expression, Affine]] = {}  # nodes are kept alive so that ids stay their own

    def read(self, root: Expression) -> Affine:
        found = self.done.get(id(root))
        if found is not None:
            return found[1]
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) not in self.done:
                waiting = [a for a in node.args if a.form is not Form.CONSTANT and id(a) not in self.done]
                if waiting:
                    stack += waiting[::-1]
                    continue
                self.done[id(node)] = node, self._one(node)
            stack.pop()
        return self.done[id(root)][1]

    def difference(self, left: Expression, right: Expression) -> Affine:
        """left - right."""
        return total(left.size, [self.read(left), self.read(right).scaled(-1.0)])

    def column(self, name: str, variable: Variable) -> Column:
        lower, upper = (None if side is None else self.read(side) for side in variable.box)
        return Column(name, variable.key, variable.shape, lower, upper, variable.places)

    def _argument(self, node: Expression) -> Affine:
        if id(node) not in self.done:
            self.done[id(node)] = node, self._one(node)
        return self.done[id(node)][1]

    def _one(self, node: Expression) -> Affine:
        if isinstance(node, Variable):
            places = node.places
            entries = identity(node.size) if places is None else selection(places, int(places.max(initial=-1)) + 1)
            return Affine(node.size, {node.key: ((entries,),)})
        if node.form is Form.CONSTANT:
            return Affine(node.size, {} if _is_zero(node) else {ONE: ((self._column(node),),)})
        assert node.atom is not None
        name = node.atom.name
        if name in ("multiply", "matmul"):
            left, right = node.args
            on_left = left.form is Form.CONSTANT
            coefficient, argument = (left, right) if on_left else (right, left)
            if name == "matmul":
                return self._argument(argument).times(self._matmul(coefficient, argument, on_left))
            return self._multiplied(coefficient, self._argument(argument))
        if name == "add":
            return total(node.size, [self._argument(a) for a in node.args])
        if name == "negate":
            return self._argument(node.args[0]).scaled(-1.0)
        if name == "reshape":
            return self._argument(node.args[0])
        matrices = MATRICES[name](node)
        return total(node.size, [self._argument(a).times(matrix) for a, matrix in zip(node.args, matrices, strict=True)])

    def _multiplied(self, coefficient: Expression, argument: Affine) -> Affine:
        if not isinstance(coefficient, Constant):
            return argument.times(diagonal(*self._flat(coefficient)))
        values = coefficient.value.reshape(-1)
        if len(values) and values[0] and (values == values[0]).all():
            return argument.scaled(float(values[0]))
        return argument.times(scaling(values))

    def _matmul(self, coefficient: Expression, argument: Expression, on_left: bool) -> Factor:
        """The matrix of X -> P @ X, or X -> X @ P, on entries in C order; found by following every product P_ij X_jk."""
        if isinstance(coefficient, Constant) and coefficient.ndim < 3:
            return _constant_product(coefficient, argument.shape, on_left)
        if coefficient.ndim < 3 and argument.ndim == 1 and not isinstance(coefficient, Constant):
            return self._matrix(coefficient, on_left)
        operands = (coefficient, argument) if on_left else (argument, coefficient)
        places = [np.arange(o.size).reshape(o.shape) for o in operands]
        left = places[0] if operands[0].ndim > 1 else places[0][None, :]
        right = places[1] if operands[1].ndim > 1 else places[1][:, None]
        products = np.broadcast_shapes((*left.shape, 1), (*right.shape[:-2], 1, *right.shape[-2:]))
        from_left = np.broadcast_to(left[..., :, :, None], products).reshape(-1)
        from_right = np.broadcast_to(right[..., None, :, :], products).reshape(-1)
        results = (*products[:-2], products[-1])
        into = np.broadcast_to(np.arange(int(np.prod(results))).reshape(results)[..., None, :], products).reshape(-1)
        row, column, entry = (into, from_right, from_left) if on_left else (into, from_left, from_right)
        shape = int(np.prod(results)), argument.size
        if isinstance(coefficient, Constant):
            value = coefficient.value.reshape(-1)[entry]
            kept = value != 0
            return by_entries(row[kept], column[kept], value[kept], shape)
        slot, source, weight = self._flat(coefficient)
        return Entries(slot, row, column, source[entry], weight[entry], shape)

    def _matrix(self, P: Expression, on_left: bool) -> Entries:
        """P itself, or its transpose, where a vector is multiplied; a vector P is a row."""
        slot, source, weight = self._flat(P)
        height, width = (P.shape[0], P.shape[1]) if P.ndim == 2 else (1, P.size) if on_left else (P.size, 1)
        row, column = np.divmod(np.arange(P.size), max(1, width))
        matrix = Entries(slot, row, column, source, weight, (height, width))
        return matrix if on_left else matrix.T

    def _column(self, node: Expression) -> Factor:
        if isinstance(node, Constant):
            return fixed(node.value.reshape(-1))
        slot, source, weight = self._flat(node)
        at = counted(node.size)
        return Entries(slot, at, np.zeros_like(at), source, weight, (node.size, 1))

    def middle(self, P: Expression, size: int) -> Factor:
        """The matrix between the vectors of E, one after the other: P on the diagonal for each of them, or each one's own."""
        n = P.shape[-1]
        count = size // n if n else 0
        if isinstance(P, Constant) and P.sparse is not None and count == 1:
            return fixed((P.sparse + P.sparse.T) / 2)
        if isinstance(P, Constant):
            symmetric = np.broadcast_to((P.value + np.swapaxes(P.value, -1, -2)) / 2, (count, n, n))
            vector, rows, cols = symmetric.nonzero()
            return by_entries(vector * n + rows, vector * n + cols, symmetric[vector, rows, cols], (size, size))
        slot, source, weight = self._flat(P)
        entry = np.broadcast_to(np.arange(P.size).reshape(P.shape), (count, n, n)).reshape(-1)
        vector, within = np.divmod(np.arange(count * n * n), n * n)
        rows, cols = np.divmod(within, n)
        return Entries(slot, vector * n + rows, vector * n + cols, source[entry], weight[entry], (size, size))

    def _flat(self, node: Expression) -> tuple[int, Index, Floats]:
        """The slot that holds the entries of a variable-free node, where each of them is, and its factor."""
        source, weight = counted(node.size), ones(node.size)
        while node.atom is not None and node.atom.name in (*MOVES, "negate"):
            if node.atom.name == "negate":
                weight = -weight
            else:
                move = positions(node)
                if node.atom.name == "diag" and (move < 0).any():
                    break  # diag writes zeros: leave it to the program
                source = move[source]
            node = node.args[0]
        return self.builder.lower(node), source, weight


def _constant_product(coefficient: Constant, shape: Shape, on_left: bool) -> Fixed:
    """X -> P @ X is I ⊗ P ⊗ I, with an identity for the stack and one for the columns of X; X -> X @ P is I ⊗ P'."""
    array = coefficient.value if coefficient.sparse is None else coefficient.sparse
    P = fixed(array if coefficient.ndim == 2 else array[None, :] if on_left else array[:, None])
    if not on_left:
        return Fixed(repeated(P.T.matrix, math.prod(shape[:-1]), 1))
    return Fixed(repeated(P.matrix, math.prod(shape[:-2]), shape[-1] if len(shape) > 1 else 1))


def _is_zero(node: Expression) -> bool:
    return isinstance(node, Constant) and not node.value.any()


def _affine_text(affine: Affine, columns: tuple[Column, ...]) -> str:
    names = {column.key: f" {column.name}" for column in columns} | {ONE: ""}
    parts = []
    for key, terms in affine.terms.items():
        for term in terms:
            product = " ".join(f"C{f.shape}" if isinstance(f, Fixed) else f"%{f.slot}{f.shape}" for f in term)
            parts.append(product + names.get(key, " ?"))
    return " + ".join(parts) or "0"
