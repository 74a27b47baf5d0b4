"""A problem as cvxpy would state it: an independent oracle. Needs cvxpy (``pip install karush[cvxpy]``).

C order throughout, so that entries correspond one to one. Duals correspond as well: both use f + y'(left - right), with
nonnegative multipliers of inequalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np

from .constraint import Constraint
from .curvature import Form
from .diagnostics import DefinitionError, Diagnostic
from .expression import Constant, Expression
from .leaves import Parameter, Variable
from .printing import text
from .problem import Problem
from .soft import Soft
from .walk import postorder

cp: Any = cvxpy  # its atoms carry no types


@dataclass(frozen=True)
class CvxpyModel:
    """The cvxpy problem, and its leaves and constraints by their names here."""

    problem: Any
    variables: dict[str, Any]
    parameters: dict[str, Any]
    constraints: dict[str, Any]


def export(problem: Problem, values: Mapping[str, Any] | None = None) -> CvxpyModel:
    """State the problem in cvxpy. With ``values`` for all parameters, every expression without variables becomes a constant."""
    variables = {name: cp.Variable(v.shape, name=name, **_attributes(v)) for name, v in problem.variables.items()}
    parameters = {} if values is not None else {name: _parameter(name, p) for name, p in problem.parameters.items()}
    known: dict[str, Any] = {leaf.key: variables[name] for name, leaf in problem.variables.items()}
    for name, parameter in problem.parameters.items():
        known[parameter.key] = _value(name, parameter, values) if values is not None else parameters[name]
    done: dict[int, Any] = {}
    sides = [(leaf, side) for leaf in problem.variables.values() for side in (leaf.lower, leaf.upper) if side is not None]
    for node in postorder([*problem.expressions, *(side for _, side in sides)]):
        done[id(node)] = _node(node, [done[id(argument)] for argument in node.args], known, values is not None)
    constraints = {}
    cost = done[id(problem.objective.expression)]
    for name, c in problem.constraints.items():
        constraints[name], price = _constraint(c, done)
        cost = cost + problem.objective.sign * price if isinstance(c, Soft) else cost
    bounds = [
        known[leaf.key] >= done[id(side)] if side is leaf.lower else known[leaf.key] <= done[id(side)]
        for leaf, side in sides
        if not (isinstance(side, Constant) and np.isinf(side.value).any())
    ]
    for leaf, side in sides:  # infinite entries are absent
        if isinstance(side, Constant) and np.isinf(side.value).any():
            at = np.nonzero(np.isfinite(side.value).reshape(-1))[0]
            own, limit = cp.vec(known[leaf.key], order="C"), side.value.reshape(-1)[at]
            bounds += [own[at] >= limit if side is leaf.lower else own[at] <= limit] if limit.size else []
    head = cp.Minimize if problem.objective.sign > 0 else cp.Maximize
    stated = cp.Problem(head(cost), [*constraints.values(), *bounds])
    return CvxpyModel(stated, variables, parameters, constraints)


def _constraint(c: Constraint, done: Mapping[int, Any]) -> tuple[Any, Any]:
    """The constraint, and what its violation costs. A row that does not exist is 0 <= 1, or 0 == 0."""
    left, right = cp.Constant(done[id(c.left)]) if _plain(done[id(c.left)]) else done[id(c.left)], done[id(c.right)]
    slack: Any = 0.0
    price: Any = 0.0
    if isinstance(c, Soft):
        slack = cp.Variable(c.shape, nonneg=c.op != "==")
        weight = done[id(c.weight)] if c.active is None else cp.multiply(done[id(c.active)], done[id(c.weight)])
        price = cp.sum(cp.multiply(weight, cp.square(slack) if c.penalty == "l2" else cp.abs(slack)))
    if c.active is None:
        slack = -slack if c.op == ">=" else slack
        return (left == right + slack if c.op == "==" else left <= right + slack if c.op == "<=" else left >= right + slack), price
    active = done[id(c.active)]
    gap = cp.multiply(active, right - left if c.op == ">=" else left - right)
    return (gap == slack if c.op == "==" else gap <= slack + (1 - active)), price


def _node(node: Expression, args: list[Any], known: Mapping[str, Any], numeric: bool) -> Any:
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Variable | Parameter):
        return known[node.key]
    assert node.atom is not None
    if numeric and node.form is Form.CONSTANT and node.atom.value is not None:
        return node.atom.value(*args, **node.data)
    rule = CVXPY.get(node.atom.name)
    if rule is None:
        if numeric:
            why, mend = (
                f"cvxpy has no {node.atom.name}, and its value is torch's to compute",
                "make its value a parameter of its own",
            )
            raise _not_expressible(node, why, mend)
        raise _not_expressible(node, f"cvxpy has no {node.atom.name} of parameters without values", VALUES)
    return rule(node, *args)


VALUES = "pass values for all parameters: to_cvxpy({name: array})"


def _not_expressible(node: Expression, why: str, mend: str) -> DefinitionError:
    return DefinitionError(Diagnostic("X01", "not expressible in cvxpy", node.span, text(node), "", why, mend))


def _plain(value: Any) -> bool:
    return isinstance(value, np.ndarray | float)


def _attributes(leaf: Variable | Parameter) -> dict[str, Any]:
    given: dict[str, Any] = dict.fromkeys(leaf.attributes.declared, True)
    if leaf.attributes.sparsity is not None:
        given["sparsity"] = np.nonzero(leaf.attributes.sparsity.array)
    if leaf.attributes.bounds is not None:
        low, high = leaf.attributes.bounds.low, leaf.attributes.bounds.high
        given["bounds"] = [None if side is None else side.array for side in (low, high)]
    return given


def _parameter(name: str, leaf: Parameter) -> Any:
    return cp.Parameter(leaf.shape, name=name, value=leaf.value, **_attributes(leaf))


def _value(name: str, leaf: Parameter, values: Mapping[str, Any]) -> Any:
    return np.asarray(values[name] if name in values or leaf.value is None else leaf.value, dtype=np.float64)


def _axis(node: Expression) -> Any:
    axis = node.data["axis"]
    return axis[0] if axis is not None and len(axis) == 1 else axis


def _huber(node: Expression, x: Any, M: Any) -> Any:
    if _plain(M) and np.ptp(M) == 0:
        return cp.huber(x, float(np.min(M)))
    thresholds = M.reshape(-1) if _plain(M) else cp.vec(M, order="C")
    flat = [cp.huber(entry, m) for entry, m in zip(cp.vec(x, order="C"), thresholds, strict=True)]
    return cp.reshape(cp.hstack(flat), node.shape, order="C")


# Where cvxpy's rules differ from NumPy's, the rule is spelled out: rectangular and thin diagonals, vectors against stacks of
# matrices, and identity permutations, which cvxpy 1.9.2 turns round.


def _diagonal(node: Expression, x: Any) -> Any:
    at, offset = np.arange(node.shape[0]), node.data["offset"]
    return x[at + max(0, -offset), at + max(0, offset)]


def _cumsum(node: Expression, x: Any) -> Any:
    """A product with a triangle of ones: cvxpy 1.9.3 cannot take its own cumsum inside of a quad_form."""
    if len(node.shape) > 2:
        return cp.cumsum(x, axis=node.data["axis"])
    axis = node.data["axis"]
    before = np.tri(node.shape[axis])
    return before @ x if axis == 0 else x @ before.T


def _matmul(node: Expression, x: Any, y: Any) -> Any:
    left = cp.reshape(x, (1, x.shape[0]), order="C") if len(x.shape) == 1 else x
    right = cp.reshape(y, (y.shape[0], 1), order="C") if len(y.shape) == 1 else y
    return cp.reshape(left @ right, node.shape, order="C") if len(x.shape) == 1 or len(y.shape) == 1 else x @ y


def _sum_largest(node: Expression, x: Any, k: Any) -> Any:
    """cvxpy takes a number, and no Parameter."""
    if not _plain(k):
        raise _not_expressible(node, "cvxpy has no sum_largest of a parametric number of entries", VALUES)
    return cp.sum_largest(x, float(k), axis=_axis(node), keepdims=node.data["keepdims"])


def _quad_form(node: Expression, x: Any, P: Any) -> Any:
    """cvxpy takes one vector at a time."""
    assumed = node.data["definite"].nonneg
    if len(x.shape) == 1:
        return cp.quad_form(x, P, assume_PSD=assumed)
    places = list(np.ndindex(*node.shape))
    rows = [cp.quad_form(x[at], P[at] if len(P.shape) > 2 else P, assume_PSD=assumed) for at in places]
    return cp.reshape(cp.hstack(rows), node.shape, order="C") if rows else np.zeros(node.shape)


def _suppfunc(node: Expression, y: Any, *matrices: Any) -> Any:
    """cvxpy's sets have no parameters."""
    if not all(map(_plain, matrices)):
        raise _not_expressible(node, "cvxpy has no support function of a parametric set", VALUES)
    G, h, A, b = matrices
    x = cp.Variable(G.shape[1])
    rows = ([G @ x <= h] if h.size else []) + ([A @ x == b] if b.size else [])
    return cp.suppfunc(x, rows)(y)


def _transpose(node: Expression, x: Any) -> Any:
    axes = node.data["axes"]
    return x if axes == tuple(range(len(axes))) else cp.transpose(x, axes)


CVXPY: dict[str, Callable[..., Any]] = {
    "add": lambda node, x, y: x + y,
    "negate": lambda node, x: -x,
    "sum": lambda node, x: cp.sum(x, axis=_axis(node), keepdims=node.data["keepdims"]),
    "index": lambda node, x: x[node.data["key"].value],
    "reshape": lambda node, x: cp.reshape(x, node.shape, order="C"),
    "transpose": _transpose,
    "broadcast_to": lambda node, x: cp.broadcast_to(x, node.shape),
    "concatenate": lambda node, *xs: cp.concatenate(list(xs), axis=node.data["axis"]),
    "diag": lambda node, x: cp.diag(x, node.data["offset"]),
    "diagonal": _diagonal,
    "cumsum": _cumsum,
    "multiply": lambda node, x, y: cp.multiply(x, y),
    "matmul": _matmul,
    "abs": lambda node, x: cp.abs(x),
    "max": lambda node, x: cp.max(x, axis=_axis(node), keepdims=node.data["keepdims"]),
    "maximum": lambda node, *xs: cp.maximum(*xs),
    "square": lambda node, x: cp.square(x),
    "huber": _huber,
    "ptp": lambda node, x: cp.ptp(x, axis=_axis(node), keepdims=node.data["keepdims"]),
    "cummax": lambda node, x: cp.cummax(x, axis=node.data["axis"]),
    "sum_largest": _sum_largest,
    "dotsort": lambda node, x, w: cp.dotsort(x, w),
    "indicator": lambda node, r, e: cp.transforms.indicator([cp.Constant(0) >= r, cp.Constant(0) == e]),
    "suppfunc": _suppfunc,
    "norm2": lambda node, x: cp.pnorm(x, 2, axis=_axis(node), keepdims=node.data["keepdims"]),
    "quad_form": _quad_form,
    "reciprocal": lambda node, x: 1 / x,
    "exp": lambda node, x: cp.exp(x),
    "log": lambda node, x: cp.log(x),
    "sqrt": lambda node, x: cp.sqrt(x),
    "softplus": lambda node, x: cp.logistic(x),
    "power": lambda node, x: cp.power(x, node.data["exponent"]),
    "assume": lambda node, x: x,
}

# Functions of parameters that cvxpy cannot state; with values for the parameters all but ``function`` are constants.
ABSENT = frozenset({"tanh", "sin", "cos", "sigmoid", "inv", "cholesky", "solve", "function"})
