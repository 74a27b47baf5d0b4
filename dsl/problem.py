"""The problem: an objective, named constraints, and what they mention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from . import complaints, rules, usage
from .complaints import is_decided
from .constraint import Constraint
from .diagnostics import Diagnostic, definition_error, require, shape_error, together
from .display import Shown, problem_latex
from .dpp import is_dpp_problem
from .elsewhere import MODEL, OF_PROBLEMS
from .expression import Expression, wrap
from .facts import false
from .latex import latex
from .leaves import Parameter, Variable
from .printing import problem_text, text, variable_text
from .span import Span, here
from .walk import leaves_among, postorder

if TYPE_CHECKING:
    from .cvxpy_export import CvxpyModel
    from .sympy_export import SympyModel


class _Objective(Shown):
    """Minimize or Maximize a scalar expression."""

    sign: int

    def __init__(self, expression: Any) -> None:
        wrapped = wrap(expression)
        if wrapped.size != 1:
            why, mend = "numbers can be compared, arrays cannot: one objective is one number", "add its entries up: kr.sum({0})"
            raise shape_error("the objective is not a scalar", why, mend, wrapped, code="S07")
        self.expression: Expression = wrapped if wrapped.shape == () else wrapped.reshape(())
        self.span: Span | None = here()

    def __add__(self, other: Any) -> Minimize | Maximize:
        if isinstance(other, int | float) and other == 0:  # where the built-in sum begins
            return type(self)(self.expression)  # type: ignore[return-value]  # there are two kinds
        if not isinstance(other, _Objective):
            return NotImplemented
        if other.sign != self.sign:
            why = "one is to be small and the other large; which of them the sum should be cannot be known"
            raise definition_error(
                "N18", "a sum of Minimize and Maximize", why, "turn one around: -kr.Maximize(f) is kr.Minimize(-f)"
            )
        return _OF[self.sign](self.expression + other.expression)

    __radd__ = __add__

    def __neg__(self) -> Minimize | Maximize:
        return _OF[-self.sign](-self.expression)

    def __sub__(self, other: Any) -> Minimize | Maximize:
        return self + -other if isinstance(other, _Objective) else NotImplemented

    def __mul__(self, factor: Any) -> Minimize | Maximize:
        """Scaled; a negative number exchanges Minimize and Maximize."""
        if isinstance(factor, _Objective):
            return NotImplemented
        turned = isinstance(factor, int | float) and factor < 0
        return _OF[-self.sign if turned else self.sign](self.expression * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Minimize | Maximize:
        if isinstance(divisor, _Objective):
            return NotImplemented
        turned = isinstance(divisor, int | float) and divisor < 0
        return _OF[-self.sign if turned else self.sign](self.expression / divisor)

    def __repr__(self) -> str:
        return f"<{'minimize' if self.sign > 0 else 'maximize'} {text(self.expression)}>"

    def latex(self) -> str:
        """In LaTeX, without delimiters."""
        return rf"\text{{{'minimize' if self.sign > 0 else 'maximize'}}}\quad {latex(self.expression)}"


class Minimize(_Objective):
    """Minimise a convex scalar expression."""

    sign = 1


class Maximize(_Objective):
    """Maximise a concave scalar expression."""

    sign = -1


_OF: dict[int, type[Minimize] | type[Maximize]] = {1: Minimize, -1: Maximize}


class Problem(Shown):
    """A parameterized convex quadratic program.

    ``objective``: Minimize(...) or Maximize(...). ``constraints``: a list, nested lists, or a dict of names to constraints (or
    lists of them). Raises one ModelError with every violation at once (a DCPError, if all are of convexity). Immutable.
    """

    def __init__(self, objective: _Objective, constraints: Any = ()) -> None:
        if not isinstance(objective, _Objective):
            raise complaints.no_objective(objective)
        self.objective = objective
        self._constraints, self._unnamed, findings = _named(constraints)
        nodes = postorder(self.expressions)
        sides = [side for leaf in nodes if isinstance(leaf, Variable) for side in (leaf.lower, leaf.upper) if side is not None]
        known = set(map(id, nodes)) if sides else set()
        self.nodes = [*nodes, *(node for node in postorder(sides) if id(node) not in known)]
        found = leaves_among(self.nodes)
        owners: dict[str, Variable | Parameter] = {}
        for leaf in found:
            if leaf.name is not None and owners.setdefault(leaf.name, leaf) is not leaf:
                findings.append(complaints.shared_name(owners[leaf.name], leaf))
        names = names_of(found)
        self._variables = {names[leaf.key]: leaf for leaf in found if isinstance(leaf, Variable)}
        self._parameters = {names[leaf.key]: leaf for leaf in found if isinstance(leaf, Parameter)}
        findings += rules.violations(nodes, objective.expression, objective.sign, objective.span, self._constraints)
        findings += [finding for name, constraint in self._constraints.items() for finding in false(name, constraint)]
        if findings:
            raise together(findings)

    @property
    def constraints(self) -> Mapping[str, Constraint]:
        """Constraints by name, read-only."""
        return MappingProxyType(self._constraints)

    @property
    def unnamed(self) -> frozenset[str]:
        """Names of the constraints to which the user gave none."""
        return frozenset(self._unnamed)

    @property
    def expressions(self) -> list[Expression]:
        """The objective, the sides of all constraints, and the conditions and weights that they carry."""
        parts = [part for c in self._constraints.values() for part in (c.left, c.right, c.active, getattr(c, "weight", None))]
        return [self.objective.expression, *(part for part in parts if part is not None)]

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Variables by name, in order of appearance, read-only."""
        return MappingProxyType(self._variables)

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """Parameters by name, in order of appearance, read-only."""
        return MappingProxyType(self._parameters)

    def __add__(self, other: Any) -> Self:
        """Both objectives, added, under the constraints of both; a constraint of both is stated once."""
        if isinstance(other, int | float) and other == 0:  # where the built-in sum begins
            return self
        if not isinstance(other, Problem):
            return NotImplemented
        own = {constraint.key for constraint in self._constraints.values()}
        return type(self)(self.objective + other.objective, [*self._listed(set()), *other._listed(own)])

    __radd__ = __add__

    def __neg__(self) -> Self:
        return self * -1

    def __sub__(self, other: Any) -> Self:
        return self + -other if isinstance(other, Problem) else NotImplemented

    def __mul__(self, factor: Any) -> Self:
        """The objective scaled, under the same constraints; a negative number exchanges Minimize and Maximize."""
        if isinstance(factor, Problem):
            return NotImplemented
        return type(self)(self.objective * factor, self._listed(set()))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Self:
        return NotImplemented if isinstance(divisor, Problem) else type(self)(self.objective / divisor, self._listed(set()))

    def is_dcp(self) -> bool:
        """True: what breaks the rules of convexity raises when the problem is written."""
        return True

    def is_qp(self) -> bool:
        """True: what makes no quadratic program raises when the problem is written."""
        return True

    def is_dpp(self) -> bool:
        """Whether parameters enter as cvxpy wants them, affinely. karush does not need it; ``to_cvxpy`` to other layers does."""
        return is_dpp_problem(self)

    def __getattr__(self, name: str) -> NoReturn:
        if name in OF_PROBLEMS:
            raise usage.of_model("problem", name, OF_PROBLEMS[name], MODEL)
        raise AttributeError(f"a problem has no attribute {name!r}", name=name, obj=self)

    def _listed(self, without: set[str]) -> list[Any]:
        """Constraints as they could be written, but for those with these keys."""
        several = [(name, c) for name, c in self._constraints.items() if c.key not in without]
        return [c if name in self._unnamed else {name: c} for name, c in several]

    def __repr__(self) -> str:
        names = self.names
        stated = problem_text(self.objective.sign, self.objective.expression, self.constraints, names)
        told = [said for variable in self._variables.values() if (said := variable_text(variable, names))]
        return "\n".join([stated, *(f"{'with' if not i else '':<10} {said}" for i, said in enumerate(told))])

    def latex(self) -> str:
        """An aligned LaTeX display, without delimiters."""
        return problem_latex(self)

    def to_cvxpy(self, values: Mapping[str, Any] | None = None) -> CvxpyModel:
        """The same problem in cvxpy, with its variables, parameters and constraints by name.

        With ``values`` for all parameters (arrays of one item), every expression without variables becomes a constant.
        """
        require("cvxpy", "to_cvxpy", "karush[cvxpy]")
        from .cvxpy_export import export  # optional: cvxpy is an extra

        return export(self, values)

    def to_sympy(self) -> SympyModel:
        """The same problem in sympy: objective, constraints, multipliers, the Lagrangian and the conditions of optimality."""
        require("sympy", "to_sympy", "karush[sympy]")
        from .sympy_export import export  # optional: sympy is an extra

        return export(self)

    @property
    def names(self) -> dict[str, str]:
        """Names of all leaves by their keys."""
        return {leaf.key: name for name, leaf in [*self.variables.items(), *self.parameters.items()]}


def _named(constraints: Any) -> tuple[dict[str, Constraint], set[str], list[Diagnostic]]:
    """Constraints by name, the names that we gave, and what is wrong."""
    named: dict[str, Constraint] = {}
    given: set[str] = set()
    findings = []
    for name, constraint, path in _flat(constraints, "", ()):
        label = name or next(free for i in count(len(named)) if (free := f"constraint{i}") not in named)
        if not isinstance(constraint, Constraint):
            findings.append(complaints.no_constraint(constraint, path))
        elif label in named:
            findings.append(complaints.twice(label, named[label], constraint))
        else:
            named[label] = constraint
            given |= set() if name else {label}
    return named, given, findings


def _flat(constraints: Any, name: str, path: tuple[int, ...]) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
    """Constraints one by one: name, constraint, and the position in lists and dicts."""
    if isinstance(constraints, Mapping):
        for index, (key, value) in enumerate(constraints.items()):
            yield from _flat(value, f"{name}.{key}" if name else str(key), (*path, index))
    elif isinstance(constraints, Iterable) and not isinstance(constraints, Expression | str) and not is_decided(constraints):
        for index, value in enumerate(constraints):
            yield from _flat(value, f"{name}[{index}]" if name else "", (*path, index))
    else:
        yield name, constraints, path


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
