"""What sympy's symbols stand for: variables and parameters of karush, and real symbols to reckon with in place of their entries.

    Symbol                     a scalar, under its own name
    MatrixSymbol, n x 1        a vector of shape (n,); any other one a matrix of its shape
    IndexedBase with a shape   an array of that shape
    Matrix of symbols          an array under the name it is given; repeated entries make it symmetric or diagonal

Assumptions of sympy (positive, nonpositive, ...) become signs. Every entry gets a real stand-in, so that sympy simplifies as one
does with real numbers.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import sympy

from .diagnostics import DefinitionError, definition_error
from .expression import Expression
from .leaves import Parameter, Variable

sp: Any = sympy  # it carries no types
Leaf = type[Variable] | type[Parameter]


def brief(value: Any) -> str:
    """A sympy expression on one line."""
    said = " ".join(str(value).split())
    return said if len(said) <= 120 else f"{said[:116]} ..."


def wrong(what: str, why: str, mend: str = "") -> DefinitionError:
    """Something that from_sympy was given and cannot take."""
    return definition_error("X06", what, why, mend)


def atoms(expression: Any) -> Iterator[Any]:
    """Symbols, matrix symbols and indexed bases of an expression, left to right, without what a sum or a lambda binds."""
    stack = [expression]
    while stack:
        node = stack.pop()
        if isinstance(node, sp.MatrixSymbol | sp.Symbol | sp.IndexedBase):
            yield node
        elif isinstance(node, sp.Indexed):
            stack += [*reversed(node.indices), node.base]
        elif isinstance(node, sp.Lambda):
            stack += [atom for atom in atoms(node.expr) if atom not in node.variables]
        elif isinstance(node, sp.Basic):
            stack += reversed(node.args)


class Leaves:
    """The leaves of one problem. ``entries`` maps each entry of sympy to its stand-in, ``of`` a stand-in to what it stands for."""

    def __init__(self) -> None:
        self.whole: dict[Any, Expression] = {}  # by Symbol, MatrixSymbol, IndexedBase, or the matrix of symbols
        self.entries: dict[Any, Any] = {}
        self.of: dict[Any, Expression] = {}
        self.place: dict[Any, tuple[Expression, int]] = {}  # of a stand-in: the leaf and the position in C order
        self.variables: set[Any] = set()  # stand-ins of variables
        self._names: dict[str, Any] = {}

    def declare(self, kind: Leaf, given: Any, facts: Mapping[Any, tuple[str, ...]]) -> None:
        """Declare what the user listed as variables or parameters."""
        for name, item in _listed(given):
            self.add(kind, item, name, facts)

    def add(self, kind: Leaf, item: Any, name: str | None, facts: Mapping[Any, tuple[str, ...]]) -> None:
        if isinstance(item, str):
            raise wrong("a string among the symbols", f"got {item!r}; strings are not evaluated", "declare it: sympy.Symbol(...)")
        if isinstance(item, sp.Symbol):
            self._leaf(kind, item, name or item.name, (), [item], facts)
        elif isinstance(item, sp.MatrixSymbol):
            shape = self._shape(item)
            cells = [item[at] for at in np.ndindex(*shape)]
            self._leaf(kind, item, name or item.name, shape[:1] if shape[1] == 1 else shape, cells, facts)
        elif isinstance(item, sp.IndexedBase):
            if item.shape is None:
                raise wrong(f"the indexed symbol {item}", "it has no shape", f"sympy.IndexedBase({str(item)!r}, shape=(n,))")
            shape = self._shape(item)
            self._leaf(kind, item, name or str(item.label), shape, [item[at] for at in np.ndindex(*shape)], facts)
        elif getattr(item, "is_Matrix", False) or isinstance(item, sp.NDimArray):
            self._group(kind, item, name, facts)
        else:
            raise wrong(
                "something that is no symbol",
                f"got {brief(item)} of type {type(item).__name__}",
                "list symbols or matrices of them",
            )

    def _shape(self, item: Any) -> tuple[int, ...]:
        if not all(getattr(size, "is_Integer", False) for size in item.shape):
            why = f"its shape {item.shape} has sizes that are symbols"
            raise wrong(f"the shape of {item}", why, "write the sizes as integers")
        return tuple(int(size) for size in item.shape)

    def _group(self, kind: Leaf, item: Any, name: str | None, facts: Mapping[Any, tuple[str, ...]]) -> None:
        """An explicit array of symbols as one leaf."""
        cells = list(item.reshape(1, int(np.prod(item.shape)))) if item.is_Matrix else list(sp.flatten(item.tolist()))
        symbols = [cell for cell in cells if cell != 0]
        strange = next((cell for cell in symbols if not isinstance(cell, sp.Symbol)), None)
        if strange is not None:
            raise wrong(f"the entry {brief(strange)} of a matrix of symbols", "entries of a leaf are symbols or 0")
        name = name or _stem(symbols)
        if name is None:
            raise wrong(f"the matrix of {brief(tuple(symbols))}", "it has no name", 'give it one: variables={"x": Matrix([...])}')
        shape = tuple(int(size) for size in item.shape)
        shape = shape[:1] if item.is_Matrix and shape[1] == 1 else shape
        attributes: tuple[str, ...] = ()
        if len(set(symbols)) < len(cells):
            square = len(shape) == 2 and shape[0] == shape[1]
            zeros = square and all(cells[i * shape[0] + j] == 0 for i, j in np.ndindex(*shape) if i != j)
            symmetric = square and item == item.T and len(set(symbols)) == shape[0] * (shape[0] + 1) // 2
            attributes = ("diag",) if zeros else ("symmetric",) if symmetric else ()
            if not attributes:
                why = "entries repeat; only symmetric and diagonal matrices may"
                raise wrong(f"the matrix {name!r}", why, "use one symbol for each entry")
        whole = sp.ImmutableMatrix(item) if item.is_Matrix else item
        self._leaf(kind, whole, name, shape, cells, facts, attributes)

    def _leaf(
        self,
        kind: Leaf,
        item: Any,
        name: str,
        shape: tuple[int, ...],
        cells: list[Any],
        facts: Mapping[Any, tuple[str, ...]],
        attributes: tuple[str, ...] = (),
    ) -> None:
        word = _identifier(name)
        if word in self._names:
            other = self._names[word]
            if other == item:
                raise wrong(f"the symbol {brief(item)}", "it is declared twice", "list it once, as a variable or as a parameter")
            why = f"{brief(item)} and {brief(other)} would both be called {word!r}"
            if brief(item) == brief(other):
                why += "; symbols of equal name and different assumptions are different to sympy"
            raise wrong(f"two symbols named {word!r}", why, "declare each symbol once, and rename one of them")
        self._names[word] = item
        signs = {_sign(kind, cell) for cell in cells if cell != 0}
        stated = [word for word in facts.get(item, ()) if word not in ("convex", "concave")]
        known = {*attributes, *stated} | (signs.pop() if len(signs) == 1 else set())
        if {"PSD", "NSD"} & known:
            known -= {"symmetric"}
        leaf = kind(shape, name=word, **dict.fromkeys(known, True))
        self.whole[item] = leaf
        for index, cell in enumerate(cells):
            if cell == 0 or (cell in self.entries and self.place[self.entries[cell]][0] is leaf):
                continue
            if cell in self.entries:
                raise wrong(f"the symbol {cell}", "it is declared twice")
            expression = leaf if shape == () else leaf[tuple(int(i) for i in np.unravel_index(index, shape))]
            stand_in = sp.Dummy(str(cell), real=True, **_facts(cell))
            self.entries[cell], self.of[stand_in], self.place[stand_in] = stand_in, expression, (leaf, index)
            if kind is Variable:
                self.variables.add(stand_in)


def _listed(given: Any) -> Iterator[tuple[str | None, Any]]:
    if given is None:
        return
    if isinstance(given, Mapping):
        for name, item in given.items():
            yield (name if isinstance(name, str) else None), item
    elif (
        isinstance(given, Iterable)
        and not getattr(given, "is_Matrix", False)
        and not isinstance(given, sp.NDimArray | sp.Basic | str)
    ):
        for item in given:
            yield from _listed(item)
    else:
        yield None, given


def _stem(symbols: list[Any]) -> str | None:
    """x of x_0, x_1 or x0, x1."""
    stems = {re.sub(r"(_?\d+)+$", "", symbol.name) for symbol in symbols}
    return stems.pop() if len(stems) == 1 and "" not in stems else None


def _identifier(name: str) -> str:
    """A name that can be a keyword argument: x_{1} becomes x_1, lambda becomes lambda_."""
    word = re.sub(r"[\W_]+", "_", name.replace("\\", "")).strip("_") or "symbol"
    word = f"v{word}" if word[0].isdigit() else word
    return f"{word}_" if keyword.iskeyword(word) or word == "self" else word[:64]


def _sign(kind: Leaf, cell: Any) -> frozenset[str]:
    """Attributes that follow from sympy's assumptions of an entry."""
    if cell.is_real is False and cell.is_extended_real is not True:
        raise wrong(f"the symbol {cell}", "it is declared complex; karush computes with real numbers", "split it into two")
    if kind is Variable and cell.is_integer:
        raise wrong(
            f"the variable {cell}", "it is declared integer; a quadratic program has no discrete variables", "drop the assumption"
        )
    signs = [name for name, holds in (("nonneg", cell.is_nonnegative), ("nonpos", cell.is_nonpositive)) if holds]
    return frozenset(signs)


def _facts(cell: Any) -> dict[str, bool]:
    """The same assumptions for the stand-in."""
    for name in ("positive", "negative", "nonnegative", "nonpositive"):
        if getattr(cell, f"is_{name}"):
            return {name: True}
    return {}
