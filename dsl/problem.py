"""The problem: an objective, named constraints, and what they mention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import rules
from .constraint import Constraint
from .diagnostics import definition_error, shape_error
from .expression import Expression, wrap
from .leaves import Parameter, Variable
from .printing import problem_text
from .span import Span, here
from .walk import leaves

if TYPE_CHECKING:
    from .cvxpy_export import CvxpyModel


class _Objective:
    """Minimize or Maximize a scalar expression."""

    sign: int

    def __init__(self, expression: Any) -> None:
        wrapped = wrap(expression)
        if wrapped.size != 1:
            why = f"the objective must be a scalar, got shape {wrapped.shape}"
            raise shape_error("the objective is not a scalar", why, "sum it: kr.sum(...)", wrapped)
        self.expression: Expression = wrapped if wrapped.shape == () else wrapped.reshape(())
        self.span: Span | None = here()


class Minimize(_Objective):
    """Minimise a convex scalar expression."""

    sign = 1


class Maximize(_Objective):
    """Maximise a concave scalar expression."""

    sign = -1


class Problem:
    """A parameterized convex quadratic program.

    ``objective``: Minimize(...) or Maximize(...). ``constraints``: a list, nested lists, or a dict of names to constraints (or
    lists of them). Raises DCPError with every violation of the rules at once. Immutable.
    """

    def __init__(self, objective: _Objective, constraints: Any = ()) -> None:
        if not isinstance(objective, _Objective):
            raise definition_error("N03", "the objective", f"expected kr.Minimize(...) or kr.Maximize(...), got {_kind(objective)}")
        self.objective = objective
        self._constraints = _named(constraints)
        roots = [objective.expression, *(side for c in self._constraints.values() for side in (c.left, c.right))]
        found = leaves(roots)
        owners: dict[str | None, Variable | Parameter] = {}
        for leaf in found:
            if leaf.name is not None and owners.setdefault(leaf.name, leaf) is not leaf:
                why = f"{owners[leaf.name]!r} and {leaf!r} are different and share it"
                raise definition_error("N03", f"the name {leaf.name!r}", why, "give each its own name")
        names = names_of(found)
        self._variables = {names[leaf.key]: leaf for leaf in found if isinstance(leaf, Variable)}
        self._parameters = {names[leaf.key]: leaf for leaf in found if isinstance(leaf, Parameter)}
        rules.check(objective.expression, objective.sign, objective.span, self._constraints)

    @property
    def constraints(self) -> Mapping[str, Constraint]:
        """Constraints by name, read-only."""
        return MappingProxyType(self._constraints)

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Variables by name, in order of appearance, read-only."""
        return MappingProxyType(self._variables)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Parameters by name, in order of appearance, read-only."""
        return MappingProxyType(self._parameters)

    def __repr__(self) -> str:
        return problem_text(self.objective.sign, self.objective.expression, self.constraints, self.names)

    def to_cvxpy(self, values: Mapping[str, Any] | None = None) -> CvxpyModel:
        """The same problem in cvxpy, with its variables, parameters and constraints by name.

        With ``values`` for all parameters (arrays of one item), every expression without variables becomes a constant.
        """
        try:
            from .cvxpy_export import export  # optional: cvxpy is an extra
        except ImportError as missing:
            why = f"cvxpy cannot be imported ({missing})"
            raise definition_error("X02", "to_cvxpy needs cvxpy", why, "pip install 'karush[cvxpy]'") from None
        return export(self, values)

    @property
    def names(self) -> dict[str, str]:
        """Names of all leaves by their keys."""
        return {leaf.key: name for name, leaf in [*self.variables.items(), *self.parameters.items()]}


def _named(constraints: Any) -> dict[str, Constraint]:
    named: dict[str, Constraint] = {}
    for name, constraint in _flat(constraints, ""):
        if not isinstance(constraint, Constraint):
            raise definition_error("N03", "the constraints", f"expected constraints such as x >= 0, got {_kind(constraint)}")
        label = name or next(free for i in count(len(named)) if (free := f"constraint{i}") not in named)
        if label in named:
            raise definition_error("N03", f"the constraint name {label!r}", "it is given twice")
        named[label] = constraint
    return named


def _flat(constraints: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(constraints, Mapping):
        for key, value in constraints.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    elif isinstance(constraints, Iterable) and not isinstance(constraints, Expression | str):
        for index, value in enumerate(constraints):
            yield from _flat(value, f"{name}[{index}]" if name else "")
    else:
        yield name, constraints


def names_of(found: Iterable[Variable | Parameter]) -> dict[str, str]:
    """A name for every leaf, by key: its own, or the first free one of variable0, parameter0, ..."""
    several = list(found)
    taken = {leaf.name for leaf in several}
    names: dict[str, str] = {}
    for leaf in several:
        name = leaf.name
        if name is None or name in names.values():
            stem = type(leaf).__name__.lower()
            name = next(free for i in count() if (free := f"{stem}{i}") not in taken)
            taken.add(name)
        names[leaf.key] = name
    return names


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
