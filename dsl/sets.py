"""Functions of a set that constraints describe: its indicator and its support function.

    indicator   0 inside, infinity outside           convex; in a model, the constraints themselves
    suppfunc    y -> sup { y'x : x in the set }      convex in y; in a model, the dual of that problem

The matrices of the set are found by asking every constraint for its residual at 0 and at each unit vector, which tells all of an
affine function; where parameters take part, the answers are expressions of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .affine import concatenate, stack
from .constraint import Constraint
from .curvature import Form
from .diagnostics import DefinitionError, definition_error, shape_error
from .expression import Constant, Expression, apply, wrap
from .facts import false
from .leaves import Variable
from .soft import Soft
from .walk import leaves, postorder


def indicator(constraints: Any) -> Expression:
    """0 where the constraints hold, up to rounding, and infinity where they do not: a cost that says what must hold.

    ``constraints``: one, a list, nested lists or a dict of them. Convex, nonnegative. In a model it adds their rows and nothing
    else. Raises DefinitionError.
    """
    listed = [constraint for constraint in _listed(constraints) if not _holds(constraint)]
    for constraint in listed:
        if constraint.residual.form is Form.CONSTANT:
            why = "nothing can be chosen in it, so it would make the cost 0 or infinity before anything is solved"
            raise _refused("indicator", "a constraint without variables", why, "list it among the constraints of the problem")
    return apply("indicator", _rows(c for c in listed if c.op != "=="), _rows(c for c in listed if c.op == "=="))


@dataclass(frozen=True)
class SupportFunction:
    """y -> sup { y'x : Gx <= h, Ax = b }, for y of the shape of x. Made by ``kr.suppfunc``.

    Further columns of G and A belong to other variables of the constraints, which are free to choose.
    """

    shape: tuple[int, ...]
    G: Expression
    h: Expression
    A: Expression
    b: Expression

    def __call__(self, y: Any) -> Expression:
        """The support function at y. Convex. Raises ShapeError."""
        y = wrap(y)
        if y.shape != self.shape:
            why = f"the set holds points of shape {self.shape}, and y meets them entry by entry; got {y.shape}"
            raise shape_error("a support function of another shape", why, "check the shape of y", y, code="S08")
        others = self.G.shape[1] - y.size
        lifted = concatenate([_flat(y), np.zeros(others)]) if others else _flat(y)
        return apply("suppfunc", lifted, self.G, self.h, self.A, self.b)


def suppfunc(x: Variable, constraints: Any) -> SupportFunction:
    """The support function of the polyhedron that affine constraints on ``x`` describe: y -> sup { y'x : constraints }.

    ``x``: a variable of its own, which the problem does not see; the constraints may have other variables and parameters. What is
    piecewise linear is written with such others: ``[-t <= x, x <= t, kr.sum(t) <= 1]`` for ``kr.norm1(x) <= 1``. Where y makes the
    supremum infinite, a problem is infeasible. Raises DefinitionError.
    """
    if not isinstance(x, Variable):
        raise _refused("suppfunc", "a set without a variable", f"its points are the values of a variable; got {x!r}", "", 0)
    listed = list(_listed(constraints))
    found = [leaf for leaf in leaves(c.residual for c in listed) if isinstance(leaf, Variable)]
    chosen = list(dict.fromkeys([x, *found]))
    for variable in chosen:
        if variable.places is not None:
            why = f"{variable!r} has entries that depend on each other"
            raise _refused("suppfunc", "a matrix of structure in a support function", why, "state the structure as constraints", 0)
        listed += [variable >= side for side in (variable.lower,) if side is not None]
        listed += [variable <= side for side in (variable.upper,) if side is not None]
    for constraint in listed:
        if constraint.residual.form > Form.AFFINE:
            why = "the set is a polyhedron, given by its affine rows"
            mend = "bound what is piecewise linear by a variable: [-t <= x, x <= t, kr.sum(t) <= 1]"
            raise _refused("suppfunc", "a constraint that is not affine", why, mend)
    G, h = _matrix([c.residual for c in listed if c.op != "=="], chosen)
    A, b = _matrix([c.residual for c in listed if c.op == "=="], chosen)
    return SupportFunction(x.shape, G, h, A, b)


def _listed(given: Any) -> Iterable[Constraint]:
    """Constraints one by one, all of them hard and without conditions."""
    if isinstance(given, Mapping):
        given = list(given.values())
    if isinstance(given, list | tuple):
        for entry in given:
            yield from _listed(entry)
        return
    if not isinstance(given, Constraint):
        why = f"a set is described by relations; got {given!r}"[:200]
        raise _refused("indicator and suppfunc", "something that is no constraint", why, "write a relation, such as x >= 0")
    if isinstance(given, Soft) or given.active is not None:
        why = "a set is described by constraints that hold"
        raise _refused("indicator and suppfunc", "a constraint that may be broken", why, "list it among the problem's constraints")
    yield given


def _holds(constraint: Constraint) -> bool:
    """Whether it is between numbers, and true."""
    return isinstance(constraint.residual, Constant) and not false("", constraint)


def _rows(constraints: Iterable[Constraint]) -> Expression:
    """Residuals one after the other."""
    found = [_flat(c.residual) for c in constraints]
    return concatenate(found) if len(found) > 1 else found[0] if found else Constant(np.zeros(0))


def _flat(x: Expression) -> Expression:
    return x if x.ndim == 1 else x.flatten()


def _matrix(residuals: list[Expression], variables: list[Variable]) -> tuple[Expression, Expression]:
    """M and v with  all residuals, one after the other  =  M @ (all variables, one after the other) - v."""
    sizes = [variable.size for variable in variables]
    if not residuals:
        return Constant(np.zeros((0, sum(sizes)))), Constant(np.zeros(0))
    points = np.vstack([np.zeros(sum(sizes)), np.eye(sum(sizes))])
    at = [_at(residuals, variables, np.split(point, np.cumsum(sizes)[:-1])) for point in points]
    return stack([value - at[0] for value in at[1:]], axis=1), -at[0]


def _at(residuals: list[Expression], variables: list[Variable], point: list[np.ndarray[Any, np.dtype[np.float64]]]) -> Expression:
    """The residuals, one after the other, where the variables have these values."""
    known = {v.key: Constant(values.reshape(v.shape)) for v, values in zip(variables, point, strict=True)}
    done: dict[int, Expression] = {}
    for node in postorder(residuals):
        if node.form is Form.CONSTANT:
            done[id(node)] = node
        elif node.atom is None:
            done[id(node)] = known[getattr(node, "key", "")]
        else:
            done[id(node)] = apply(node.atom.name, *(done[id(argument)] for argument in node.args), **node.data)
    found = [_flat(done[id(residual)]) for residual in residuals]
    return concatenate(found) if len(found) > 1 else found[0]


def _refused(name: str, title: str, why: str, mend: str, place: int = 1) -> DefinitionError:
    at = ("constraints", 0) if name == "indicator" else ("constraints", place)
    return definition_error("N17", title, why, mend or f"write {name}(x, [...]), where x is a Variable", at=at)
