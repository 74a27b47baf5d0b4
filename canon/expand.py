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

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..dsl.atoms import reduced
from ..dsl.constraint import Constraint
from ..dsl.curvature import Form
from ..dsl.diagnostics import InternalError
from ..dsl.expression import Constant, Expression, apply
from ..dsl.facts import is_fact, is_settled
from ..dsl.keys import Frozen
from ..dsl.leaves import Parameter, Variable
from ..dsl.printing import text
from ..dsl.problem import Problem
from ..dsl.soft import Soft
from ..dsl.walk import postorder
from .factors import Floats
from .soften import soften


@dataclass(frozen=True)
class Square:
    """``value`` stands for E² elementwise, or for E' P E where P is given, of every vector along the last axis of E."""

    value: Variable
    E: Expression
    P: Expression | None


class Sides(NamedTuple):
    """Rows that say left - right == 0 or <= 0, named after the user's constraint, or None where they are of an expansion."""

    name: str | None
    left: Expression
    right: Expression

    def __str__(self) -> str:
        return f"{self.name or '-'}: {text(self.left - self.right)}"


@dataclass
class Expanded:
    """The problem with affine rows.

    ``active``: for some named rows, where they exist. ``facts``: constraints without variables, to be checked of the data.
    """

    variables: dict[str, Variable]
    objective: Expression
    squares: list[Square] = field(default_factory=list)
    equalities: list[Sides] = field(default_factory=list)
    inequalities: list[Sides] = field(default_factory=list)
    active: dict[str, Expression] = field(default_factory=dict)
    facts: dict[str, Constraint] = field(default_factory=dict)

    def verify(self) -> None:
        """Everything is affine."""
        sides = [side for rows in (*self.equalities, *self.inequalities) for side in (rows.left, rows.right)]
        for expression in [self.objective, *sides, *(square.E for square in self.squares)]:
            if expression.form > Form.AFFINE:
                raise InternalError(f"expand: {text(expression)} is not affine\n{self}")

    def __str__(self) -> str:
        lines = [f"minimize {text(self.objective)}"]
        for square in self.squares:
            middle = "" if square.P is None else f" with P = {text(square.P)}"
            lines.append(f"where    {text(square.value)} = square of {text(square.E)}{middle}")
        lines += [f"row      {rows} == 0" for rows in self.equalities]
        lines += [f"row      {rows} <= 0" for rows in self.inequalities]
        return "\n".join(lines)


def expand(problem: Problem) -> Expanded:
    """Replace atoms by variables and rows. A Maximize becomes the minimisation of the negative."""
    objective = problem.objective.expression
    result = Expanded(dict(problem.variables), objective if problem.objective.sign > 0 else -objective)
    affine = _Rewriter(result)
    rows: list[tuple[str, Sides]] = []
    for name, constraint in problem.constraints.items():
        op, left, right = constraint.op, constraint.left, constraint.right
        if is_fact(constraint):
            result.facts |= {} if is_settled(constraint) else {name: constraint}
            continue
        if isinstance(constraint, Soft):
            price, softened = soften(constraint, affine.fresh)
            result.objective = result.objective + price
            if softened is None:
                continue
            op, left, right = "<=", *softened
        if constraint.active is not None:
            result.active[name] = constraint.active
        rows.append((op, Sides(name, right, left) if op == ">=" else Sides(name, left, right)))
    affine.rewrite([result.objective, *(side for _, row in rows for side in (row.left, row.right))])
    result.objective = affine.of(result.objective)
    for op, row in rows:
        block = result.equalities if op == "==" else result.inequalities
        block.append(Sides(row.name, affine.of(row.left), affine.of(row.right)))
    return result


class _Rewriter:
    """Rebuilds shared nodes once, arguments first; formulas that were written twice share one expansion."""

    def __init__(self, result: Expanded) -> None:
        self.result = result
        self.done: dict[int, Expression] = {}

    def of(self, node: Expression) -> Expression:
        return node if node.form <= Form.AFFINE else self.done[id(node)]

    def rewrite(self, roots: list[Expression]) -> None:
        nodes = postorder((root for root in roots if root.form > Form.AFFINE), Form.AFFINE)
        first = _first(nodes)
        for node in nodes:
            earlier = self.done.get(first.get(id(node), id(node)))
            self.done[id(node)] = self._one(node) if earlier is None else earlier

    def _one(self, node: Expression) -> Expression:
        assert node.atom is not None
        args = [self.of(argument) for argument in node.args]
        rule = EPIGRAPHS.get(node.atom.name)
        if rule is not None:
            return rule(self, node, *args)
        return apply(node.atom.name, *args, **node.data)

    def fresh(self, stem: str, shape: tuple[int, ...], nonneg: bool = False) -> Variable:
        variable = Variable(shape, nonneg=True) if nonneg else Variable(shape)
        variable.name = f"<{stem} {len(self.result.variables)}>"  # no identifier, so that no user's name is taken
        self.result.variables[variable.name] = variable
        return variable

    def at_most(self, smaller: Expression, larger: Expression) -> None:
        self.result.inequalities.append(Sides(None, smaller, larger))

    def square(self, E: Expression, P: Expression | None) -> Expression:
        value = Variable(E.shape if P is None else E.shape[:-1])
        value.name = f"<square {len(self.result.squares)}>"
        self.result.squares.append(Square(value, E, P))
        return value


def _first(nodes: list[Expression]) -> dict[int, int]:
    """For nodes that are to be expanded, by id: the first of the same formula, its atom and arguments being the same."""
    expanded = [node for node in nodes if node.atom is not None and node.atom.name in EPIGRAPHS and node.form > Form.AFFINE]
    kinds = [(node.atom and node.atom.name, node.shape) for node in expanded]
    count = Counter(kinds)
    several = [node for node, kind in zip(expanded, kinds, strict=True) if count[kind] > 1]
    if not several:
        return {}
    met: dict[Hashable, int] = {}
    first: dict[int, int] = {}
    for node in postorder(several):
        first[id(node)] = met.setdefault(_formula(node, first), id(node))
    return {id(node): first[id(node)] for node in several}


def _formula(node: Expression, first: Mapping[int, int]) -> Hashable:
    """A node by its content, its arguments by the first of their formula."""
    if isinstance(node, Constant):
        return id(node) if node.sparse is not None else Frozen(node.value)
    if isinstance(node, Variable | Parameter):
        return node.key
    name = "" if node.atom is None else node.atom.name
    return name, tuple(first[id(argument)] for argument in node.args), node.shape, tuple(sorted(node.data.items()))


# Signs are known before numbers are, and spare rows: |x| is x where x >= 0, and in max(x, 0) a nonpositive x never shows.


def _abs(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    """t >= x, t >= -x"""
    sign = node.args[0].sign
    if sign.nonneg or sign.nonpos:
        return x if sign.nonneg else -x
    t = problem.fresh("abs", node.shape)
    problem.at_most(x, t)
    problem.at_most(-x, t)
    return t


def _max(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    """t >= x_i for every entry of the reduced axes"""
    t = problem.fresh("max", node.shape)
    problem.at_most(x, _spread(t, node, x.shape))
    return t


def _spread(t: Expression, node: Expression, shape: tuple[int, ...]) -> Expression:
    """A value of a reduction beside every entry that it reduces."""
    kept = reduced(shape, node.data["axis"], keepdims=True)
    return apply("broadcast_to", t.reshape(kept), shape=shape)


def _maximum(problem: _Rewriter, node: Expression, *xs: Expression) -> Expression:
    """t >= x, t >= y, ..."""
    signs = [argument.sign for argument in node.args]
    if any(sign.nonneg for sign in signs):
        largest = max(range(len(signs)), key=lambda i: (signs[i].nonneg, not signs[i].nonpos))
        xs = tuple(x for i, (x, sign) in enumerate(zip(xs, signs, strict=True)) if i == largest or not sign.nonpos)
    if len(xs) == 1:
        return xs[0]
    t = problem.fresh("max", node.shape)
    for x in xs:
        problem.at_most(x, t)
    return t


def _ptp(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    """a + b with a >= x_i, b >= -x_i"""
    return _max(problem, node, x) + _max(problem, node, -x)


def _cummax(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    """t_i >= x_i, t_i >= t_{i-1}"""
    t = problem.fresh("max", node.shape)
    problem.at_most(x, t)
    before = (slice(None),) * node.data["axis"]
    problem.at_most(t[(*before, slice(None, -1))], t[(*before, slice(1, None))])
    return t


def _sum_largest(problem: _Rewriter, node: Expression, x: Expression, k: Expression) -> Expression:
    """k t + sum of u with u >= x - t, u >= 0: the k-th largest entry is a best t, and u is what others have above it"""
    t, u = problem.fresh("kth", node.shape), problem.fresh("above", x.shape, nonneg=True)
    problem.at_most(x - _spread(t, node, x.shape), u)
    return k * t + u.sum(node.data["axis"], node.data["keepdims"])


def _dotsort(problem: _Rewriter, node: Expression, x: Expression, w: Expression) -> Expression:
    """The best order is an assignment; its dual is: sum of t_i plus sum of c_j q_j with t_i + q_j >= x_i w_j for all i, j

    Weights that are equal share one q_j with their number c_j. Adding to all t what is taken from all q changes nothing, so the q
    of the most frequent weight is 0.
    """
    weights: Expression = w
    counts: Floats = np.ones(w.size)
    missing = x.size - w.size
    if isinstance(w, Constant):
        values, number = np.unique(np.pad(w.value, (0, missing)), return_counts=True)
        order = np.argsort(-number, kind="stable")
        weights, counts = Constant(values[order]), number[order].astype(np.float64)
    elif missing:
        weights, counts = apply("concatenate", np.zeros(1), w, axis=0), np.append(float(missing), counts)
    t = problem.fresh("share", x.shape)
    problem.at_most(weights[0] * x, t)
    if len(counts) == 1:
        return t.sum()
    q, shape = problem.fresh("price", (len(counts) - 1,)), (len(counts) - 1, x.size)
    products = apply("matmul", weights[1:].reshape(-1, 1), x.reshape(1, -1))
    problem.at_most(products, Expression.elementwise("add", q.reshape(-1, 1), apply("broadcast_to", t, shape=shape)))
    return t.sum() + Constant(counts[1:]) @ q


def _square(problem: _Rewriter, node: Expression, x: Expression) -> Expression:
    return problem.square(x, None)


def _quad_form(problem: _Rewriter, node: Expression, x: Expression, P: Expression) -> Expression:
    return problem.square(x, P)


def _huber(problem: _Rewriter, node: Expression, x: Expression, M: Expression) -> Expression:
    """u² + 2 M (v + w) with x = u + v - w, v >= 0, w >= 0, and u eliminated: two bounded variables and no rows"""
    v, w = problem.fresh("over", node.shape, nonneg=True), problem.fresh("under", node.shape, nonneg=True)
    return problem.square(x - v + w, None) + apply("multiply", 2 * M, v + w)


def _indicator(problem: _Rewriter, node: Expression, r: Expression, e: Expression) -> Expression:
    """0, with rows r <= 0 and e == 0"""
    problem.result.inequalities += [Sides(None, r, Constant(np.zeros(r.shape)))] if r.size else []
    problem.result.equalities += [Sides(None, e, Constant(np.zeros(e.shape)))] if e.size else []
    return Constant(0.0)


def _suppfunc(
    problem: _Rewriter, node: Expression, y: Expression, G: Expression, h: Expression, A: Expression, b: Expression
) -> Expression:
    """h'z + b'v with G'z + A'v = y, z >= 0: the dual of the supremum"""
    row: Expression | None = None
    value: Expression = Constant(0.0)
    for M, right, nonneg in ((G, h, True), (A, b, False)):
        if right.size:
            weights = problem.fresh("weight", right.shape, nonneg=nonneg)
            part = M.T @ weights
            row, value = part if row is None else row + part, value + right @ weights
    problem.result.equalities.append(Sides(None, Constant(np.zeros(y.shape)) if row is None else row, y))
    return value


EPIGRAPHS: dict[str, Callable[..., Expression]] = {
    "abs": _abs,
    "max": _max,
    "maximum": _maximum,
    "ptp": _ptp,
    "cummax": _cummax,
    "sum_largest": _sum_largest,
    "dotsort": _dotsort,
    "indicator": _indicator,
    "suppfunc": _suppfunc,
    "square": _square,
    "quad_form": _quad_form,
    "huber": _huber,
}
