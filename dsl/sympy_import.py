"""A problem written in sympy, in karush's language: ``from_sympy``. Needs sympy (``pip install karush[sympy]``).

    symbols      -> Variable and Parameter            ``sympy_leaves``
    expressions  -> expressions, convexity included   ``sympy_terms``, ``sympy_matrices``, ``sympy_quadratic``
    relations    -> constraints, one each, with the same sides and so the same multiplier (here)

Sympy cannot compare matrices, so an elementwise relation of matrices is a triple (left, "<=", right). Strings are never evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Number
from typing import Any, Generic, TypeVar

import numpy as np
import sympy
from sympy.logic.boolalg import BooleanAtom, BooleanFunction

from .constraint import Constraint
from .curvature import Form
from .diagnostics import DCPError, Diagnostic, ModelError
from .expression import Expression, broadcast
from .leaves import Parameter, Variable
from .problem import Maximize, Minimize
from .source import argument
from .span import calling, here
from .sympy_leaves import Leaves, atoms, brief, wrong
from .sympy_terms import Terms
from .walk import postorder

sp: Any = sympy  # it carries no types
P = TypeVar("P")
OPERATORS = {"==": sp.Eq, "<=": sp.Le, ">=": sp.Ge}
ASSUMED = ("nonneg", "nonpos", "PSD", "NSD", "symmetric", "diag", "convex", "concave")


@dataclass(frozen=True, eq=False)
class SympyImport(Generic[P]):
    """A problem brought from sympy, and what became of everything in it.

    ``problem``: the karush problem; its leaves have the names of the symbols. ``imported[x]`` is what stands for a symbol, a matrix
    symbol, any expression of the problem's symbols, or a relation as it was given; so ``solution[imported[x + y]]`` and
    ``solution.dual(imported[relation])``. A column is a vector. Raises DefinitionError for symbols that the problem does not have.
    """

    problem: P
    reader: Terms
    relations: Mapping[Any, Constraint]

    def __getitem__(self, what: Any) -> Any:
        frozen = _frozen(what)
        if frozen in self.relations:
            return self.relations[frozen]
        if frozen in self.reader.leaves.whole:
            return self.reader.leaves.whole[frozen]
        strange = [atom for atom in atoms(frozen) if not _known(self.reader.leaves, atom)]
        if strange or not isinstance(frozen, sp.Basic):
            why = (
                f"the problem does not have {brief(strange[0])}" if strange else f"got {brief(what)} of type {type(what).__name__}"
            )
            raise wrong("nothing of the imported problem", why, "ask for its symbols, expressions of them, or its relations")
        return self.reader.expression(frozen, "the expression asked for")

    def __repr__(self) -> str:
        return f"SympyImport({self.problem!r})"


def imported(
    objective: Any,
    constraints: Any,
    variables: Any,
    parameters: Any,
    minimize: bool,
    assume: Mapping[Any, Any] | None,
    build_problem: Callable[[Any, dict[str, Constraint]], P],
) -> SympyImport[P]:
    """Translate; ``build_problem(objective, constraints)`` makes the problem of what was found."""
    cost, facts = _scalar(objective), _facts(assume)
    stated = list(_flat(constraints, ""))
    leaves = Leaves()
    leaves.declare(Variable, variables, facts)
    if not leaves.variables:
        raise wrong("a problem without variables", "variables= names none", "list what is to be chosen: variables=[x, y]")
    if parameters is None:
        seen = [cost, *facts, *(part for _, item in stated for part in _sides(item))]
        parameters = list(dict.fromkeys(atom for part in seen for atom in atoms(part) if not _known(leaves, atom)))
    leaves.declare(Parameter, parameters, facts)

    findings: list[Diagnostic] = []
    kinds: set[type[ModelError]] = set()

    def attempt(build: Callable[[], Any], *at: str | int) -> Any:
        try:
            return build()
        except (
            ModelError
        ) as error:  # the term at fault is in the user's sympy: it is quoted, and the argument that brought it underlined
            kinds.add(type(error))
            place = next((found for which in at if (found := argument(here(), which)) is not None), here())
            for told in error.diagnostics:
                label = f"{told.text} {told.label}".strip() if told.text else told.label
                findings.append(replace(told, span=place, label=label, notes=()))
            return None

    reader = attempt(lambda: Terms(leaves, facts), "assume")
    if reader is None:
        raise kinds.pop()(*findings)
    read = attempt(lambda: reader.expression(cost, "the objective"), "objective", 0)
    made: dict[str, Constraint] = {}
    relations: dict[Any, Constraint] = {}
    for index, (name, item) in enumerate(stated):
        label = name or f"constraint{index}"
        found = attempt(lambda item=item, label=label: _constraint(reader, item, f"constraint {label!r}"), "constraints", 1)  # type: ignore[misc] # of a loop
        if label in made:
            raise wrong(f"the constraint name {label!r}", "it is given twice")
        if found is not None:
            made[label] = relations[_frozen(item)] = found
    if findings:
        raise (kinds.pop() if len(kinds) == 1 else ModelError)(*findings)
    goal = Minimize(read) if minimize else Maximize(read)
    goal.span = None
    parts = [part for c in made.values() for part in (c.left, c.right, c.active) if part is not None]
    kept = set(map(id, leaves.whole.values()))
    for node in postorder([goal.expression, *parts]):
        if id(node) not in kept:
            node.span = None
    return SympyImport(build_problem(goal, made), reader, relations)


def _known(leaves: Leaves, atom: Any) -> bool:
    return atom in leaves.whole or atom in leaves.entries


def _scalar(objective: Any) -> Any:
    """The objective as an expression of sympy."""
    frozen = _frozen(objective)
    if isinstance(frozen, int | float) and not isinstance(frozen, bool):
        return sp.Float(frozen) if isinstance(frozen, float) else sp.Integer(frozen)
    if not isinstance(frozen, sp.Basic) or isinstance(frozen, sp.Rel | BooleanAtom | BooleanFunction):
        mend = "strings are not evaluated: build it of sympy.Symbol" if isinstance(objective, str) else ""
        raise wrong("the objective", f"expected an expression of sympy, got {type(objective).__name__} {brief(objective)}", mend)
    if getattr(frozen, "is_Matrix", False):
        if tuple(frozen.shape) != (1, 1):
            raise wrong("the objective", f"it must be a scalar, got a matrix of shape {frozen.shape}", "sum it, or take its trace")
        return frozen[0, 0] if isinstance(frozen, sp.MatrixBase) else frozen
    return frozen


def _facts(assume: Any) -> dict[Any, tuple[str, ...]]:
    """What the user states, checked."""
    facts: dict[Any, tuple[str, ...]] = {}
    if not isinstance(assume or {}, Mapping):
        why = f"expected a mapping from expressions to words, got {type(assume).__name__}"
        raise wrong("assume", why, 'assume={P: "PSD", a**3 + 30: "nonneg", objective: "convex"}')
    for key, words in (assume or {}).items():
        several = (words,) if isinstance(words, str) else tuple(words)
        unknown = [word for word in several if word not in ASSUMED]
        if unknown or isinstance(key, str):
            why = (
                f"no fact {unknown[0]!r}; there are {', '.join(ASSUMED)}"
                if unknown
                else f"{key!r} is a string, which is not evaluated"
            )
            raise wrong(f"assume of {brief(key)}", why)
        facts[_frozen(key)] = several
    return facts


def _frozen(item: Any) -> Any:
    """Something that can be looked up: mutable matrices are frozen, triples become tuples of what is frozen."""
    if isinstance(item, sp.MatrixBase):
        return sp.ImmutableMatrix(item)
    return tuple(_frozen(part) for part in item) if _is_triple(item) else item


def _is_triple(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 3 and isinstance(item[1], str)


def _flat(constraints: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Relations one by one, with the names that were given."""
    if isinstance(constraints, Mapping):
        for key, value in constraints.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif _is_triple(constraints) or isinstance(constraints, sp.Basic | str | bool):
        if isinstance(constraints, sp.And):
            for index, part in enumerate(constraints.args):
                yield from _flat(part, f"{name}[{index}]" if name else "")
        elif constraints is not sp.true:  # sympy saw that it always holds
            yield name, constraints
    elif isinstance(constraints, Iterable):
        for index, value in enumerate(constraints):
            yield from _flat(value, f"{name}[{index}]" if name else "")
    else:
        yield name, constraints


def _sides(item: Any) -> tuple[Any, ...]:
    """The parts of a relation in which symbols may occur."""
    if _is_triple(item):
        return _frozen(item[0]), _frozen(item[2])
    return (item,) if isinstance(item, sp.Basic) else ()


def _constraint(reader: Terms, item: Any, place: str) -> Constraint:
    if isinstance(item, sp.Or) and len(item.args) == 2:  # a row that exists only where data say so
        for gate, row in (item.args, item.args[::-1]):
            if isinstance(gate, sp.Eq) and gate.rhs == 0 and not reader.matrix_varies(gate.lhs):
                return _constraint(reader, row, place).where(reader.expression(gate.lhs, place))
    left, op, right = _relation(item, place)
    if isinstance(left, sp.Basic) and any(isinstance(side, str) for side in (left, right)):
        raise wrong(f"a string in {place}", "strings are not evaluated", "build it of sympy.Symbol")
    sides = broadcast(*(reader.expression(_sympy(side, place), place) for side in (left, right)))
    for side, given in zip(sides, (left, right), strict=True):
        if side.form is Form.QUADRATIC:
            why = "quadratic terms may appear in the objective only: a quadratic constraint makes no QP"
            mend = "move it into the objective as a penalty, or bound it by sums and maxima of Abs"
            raise DCPError(Diagnostic("D10", "a quadratic constraint", calling(), brief(given), f"in {place}", why, mend))
    return Constraint(op, sides[0], sides[1], None)


def _sympy(side: Any, place: str) -> Any:
    """A side of a relation, of numbers, arrays or sympy."""
    if isinstance(side, str | bool | Expression) or side is None:
        raise wrong(f"a side of {place}", f"expected an expression of sympy, got {type(side).__name__} {brief(side)}")
    if isinstance(side, sp.Basic):
        return side
    if isinstance(side, sp.MatrixBase):
        return sp.ImmutableMatrix(side)
    if getattr(side, "ndim", 0) or isinstance(side, list):
        # sympy's matrices run the text of their entries: only what is a number or an expression already gets there
        entries = np.asarray(side, dtype=object)
        for entry in entries.reshape(-1):
            if isinstance(entry, np.str_) or not isinstance(entry, Number | np.generic | sp.Basic):
                raise wrong(f"a side of {place}", f"expected numbers or expressions of sympy, got {type(entry).__name__}")
        return sp.ImmutableMatrix(entries.tolist())
    return sp.sympify(side, strict=True)


def _relation(item: Any, place: str) -> tuple[Any, str, Any]:
    if _is_triple(item):
        if item[1] not in OPERATORS:
            raise wrong(f"the relation {item[1]!r} in {place}", f"there are {', '.join(OPERATORS)}", '(G*x, "<=", h)')
        return item[0], item[1], item[2]
    for op, kind in OPERATORS.items():
        if isinstance(item, kind):
            return item.lhs, op, item.rhs
    if isinstance(item, sp.Lt | sp.Gt):
        raise wrong(f"a strict inequality in {place}", f"{brief(item)} has no attained optimum", "write <= or >=")
    if item is sp.false:
        raise wrong(
            f"a false relation in {place}", "sympy found that it never holds", "check it, and the assumptions of its symbols"
        )
    if isinstance(item, bool):
        why = f"got {item}: == compares how expressions are written, not what they are worth"
        raise wrong(f"no relation in {place}", why, "write sympy.Eq(left, right)")
    if isinstance(item, str):
        raise wrong(f"a string in {place}", f"got {item!r}; strings are not evaluated", "build it of sympy.Symbol")
    mend = 'write sympy.Eq, <=, >=, or for matrices a triple (G*x, "<=", h)'
    raise wrong(f"no relation in {place}", f"got {brief(item)} of type {type(item).__name__}", mend)
