"""Pass 1, expand: every piecewise-linear or quadratic atom is replaced by a variable and affine rows.

    expects    a Problem that obeys the rules of the language
    promises   an objective affine in variables and in the values of ``squares``; rows affine in variables

Every atom here is convex, and the rules guarantee that it stands where only an upper bound matters. So f(x) may become a fresh t
with rows that say t >= f(x): at an optimum t is f(x), or could be without loss. Quadratics become the value of a ``Square``:
either elementwise E² or E' P E, with E affine.

The way home is trivial: the user's variables are still variables, and the multiplier of a user's constraint is the multiplier
of the row block that bears its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..dsl.curvature import Form
from ..dsl.diagnostics import InternalError
from ..dsl.expression import Expression, apply
from ..dsl.leaves import Variable
from ..dsl.printing import text
from ..dsl.problem import Problem
from ..dsl.walk import postorder


@dataclass(frozen=True)
class Square:
    """``value`` stands for E² elementwise, or for E' P E where P is given."""

    value: Variable
    E: Expression
    P: Expression | None


@dataclass
class Expanded:
    """The problem with affine rows. Rows are named after the user's constraint, or None for rows of an expansion."""

    variables: dict[str, Variable]
    objective: Expression
    squares: list[Square] = field(default_factory=list)
    equalities: list[tuple[str | None, Expression]] = field(default_factory=list)
    inequalities: list[tuple[str | None, Expression]] = field(default_factory=list)

    def verify(self) -> None:
        """Everything is affine."""
        rows = [row for _, row in (*self.equalities, *self.inequalities)]
        for expression in [self.objective, *rows, *(square.E for square in self.squares)]:
            if expression.form > Form.AFFINE:
                raise InternalError(f"expand: {text(expression)} is not affine\n{self}")

    def __str__(self) -> str:
        lines = [f"minimize {text(self.objective)}"]
        for square in self.squares:
            middle = "" if square.P is None else f" with P = {text(square.P)}"
            lines.append(f"where    {text(square.value)} = square of {text(square.E)}{middle}")
        lines += [f"row      {name or '-'}: {text(row)} == 0" for name, row in self.equalities]
        lines += [f"row      {name or '-'}: {text(row)} <= 0" for name, row in self.inequalities]
        return "\n".join(lines)


def expand(problem: Problem) -> Expanded:
    """Replace atoms by variables and rows. A Maximize becomes the minimisation of the negative."""
    objective = problem.objective.expression
    result = Expanded(dict(problem.variables), objective if problem.objective.sign > 0 else -objective)
    rows = [(name, constraint.op, constraint.residual) for name, constraint in problem.constraints.items()]
    affine = _Rewriter(result)
    affine.rewrite([result.objective, *(row for _, _, row in rows)])
    result.objective = affine.of(result.objective)
    for name, op, row in rows:
        block = result.equalities if op == "==" else result.inequalities
        block.append((name, affine.of(row)))
    return result


class _Rewriter:
    """Rebuilds shared nodes once, arguments first."""

    def __init__(self, result: Expanded) -> None:
        self.result = result
        self.done: dict[int, Expression] = {}

    def of(self, node: Expression) -> Expression:
        return self.done[id(node)]

    def rewrite(self, roots: list[Expression]) -> None:
        for node in postorder(roots):
            self.done[id(node)] = self._one(node)

    def _one(self, node: Expression) -> Expression:
        if node.form <= Form.AFFINE:
            return node
        assert node.atom is not None
        args = [self.of(argument) for argument in node.args]
        rule = EPIGRAPHS.get(node.atom.name)
        if rule is not None:
            return rule(self, node, *args)
        return apply(node.atom.name, *args, **node.data)

    def fresh(self, stem: str, shape: tuple[int, ...], nonneg: bool = False) -> Variable:
        variable = Variable(shape, nonneg=nonneg)
        variable.name = f"<{stem} {len(self.result.variables)}>"  # no identifier, so that no user's name is taken
        self.result.variables[variable.name] = variable
        return variable

    def at_most(self, smaller: Expression, larger: Expression) -> None:
        self.result.inequalities.append((None, smaller - larger))

    def square(self, E: Expression, P: Expression | None) -> Expression:
        value = Variable(E.shape if P is None else ())
        value.name = f"<square {len(self.result.squares)}>"
        self.result.squares.append(Square(value, E, P))
        return value


def _abs(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    """t >= x, t >= -x"""
    t = problem.fresh("abs", node.shape)
    problem.at_most(x, t)
    problem.at_most(-x, t)
    return t


def _max(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    """t >= x_i for every entry of the reduced axes"""
    t = problem.fresh("max", node.shape)
    axis = node.data["axis"]
    kept = tuple(1 if axis is None or i in axis else size for i, size in enumerate(x.shape))
    problem.at_most(x, apply("broadcast_to", t.reshape(kept), shape=x.shape))
    return t


def _maximum(problem: _Rewriter, node: Expression, *xs: Expression) -> Expression:
    """t >= x, t >= y, ..."""
    t = problem.fresh("max", node.shape)
    for x in xs:
        problem.at_most(x, t)
    return t


def _square(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    return problem.square(x, None)


def _quad_form(problem: _Rewriter, node: Expression, x: Expression, P: Expression) -> Expression:
    return problem.square(x, P)


def _huber(problem: _Rewriter, node: Expression, x: Expression, M: Expression) -> Expression:
    """u² + 2 M (v + w) with x = u + v - w, v >= 0, w >= 0, and u eliminated: two bounded variables and no rows"""
    v, w = problem.fresh("over", node.shape, nonneg=True), problem.fresh("under", node.shape, nonneg=True)
    return problem.square(x - v + w, None) + apply("multiply", 2 * M, v + w)


EPIGRAPHS: dict[str, Callable[..., Expression]] = {
    "abs": _abs,
    "max": _max,
    "maximum": _maximum,
    "square": _square,
    "quad_form": _quad_form,
    "huber": _huber,
}
