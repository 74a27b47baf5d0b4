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

from .curvature import Form
from .diagnostics import DefinitionError, Diagnostic
from .expression import Constant, Expression
from .leaves import Parameter, Variable
from .printing import text
from .problem import Problem
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
    variables = {name: cp.Variable(v.shape, name=name, **_signs(v)) for name, v in problem.variables.items()}
    parameters = {} if values is not None else {name: _parameter(name, p) for name, p in problem.parameters.items()}
    known: dict[str, Any] = {leaf.key: variables[name] for name, leaf in problem.variables.items()}
    for name, leaf in problem.parameters.items():
        known[leaf.key] = np.asarray(values[name], dtype=np.float64) if values is not None else parameters[name]
    done: dict[int, Any] = {}
    sides = [side for c in problem.constraints.values() for side in (c.left, c.right)]
    for node in postorder([problem.objective.expression, *sides]):
        done[id(node)] = _node(node, [done[id(argument)] for argument in node.args], known, values is not None)
    constraints = {}
    for name, c in problem.constraints.items():
        left, right = cp.Constant(done[id(c.left)]) if _plain(done[id(c.left)]) else done[id(c.left)], done[id(c.right)]
        constraints[name] = left == right if c.op == "==" else left <= right if c.op == "<=" else left >= right
    head = cp.Minimize if problem.objective.sign > 0 else cp.Maximize
    stated = cp.Problem(head(done[id(problem.objective.expression)]), list(constraints.values()))
    return CvxpyModel(stated, variables, parameters, constraints)


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
        why = f"cvxpy has no {node.atom.name}; pass values= for its parameters, unless it is a torch function"
        raise DefinitionError(Diagnostic("X01", "not expressible in cvxpy", node.span, text(node), "", why, ""))
    return rule(node, *args)


def _plain(value: Any) -> bool:
    return isinstance(value, np.ndarray | float)


def _signs(leaf: Variable) -> dict[str, bool]:
    return dict.fromkeys(leaf.attributes.declared, True)


def _parameter(name: str, leaf: Parameter) -> Any:
    return cp.Parameter(leaf.shape, name=name, **dict.fromkeys(leaf.attributes.declared, True))


def _axis(node: Expression) -> Any:
    axis = node.data["axis"]
    return axis[0] if axis is not None and len(axis) == 1 else axis


def _huber(node: Expression, x: Any, M: Any) -> Any:
    M = M if isinstance(M, np.ndarray) else np.asarray(M.value)
    values = np.unique(M)
    if len(values) == 1:
        return cp.huber(x, float(values[0]))
    flat = [cp.huber(entry, float(m)) for entry, m in zip(cp.vec(x, order="C"), M.reshape(-1), strict=True)]
    return cp.reshape(cp.hstack(flat), node.shape, order="C")


# Where cvxpy's rules differ from NumPy's, the rule is spelled out: rectangular and thin diagonals, vectors against stacks of
# matrices, and identity permutations, which cvxpy 1.9.2 turns round.


def _diagonal(node: Expression, x: Any) -> Any:
    at, offset = np.arange(node.shape[0]), node.data["offset"]
    return x[at + max(0, -offset), at + max(0, offset)]


def _matmul(node: Expression, x: Any, y: Any) -> Any:
    left = cp.reshape(x, (1, x.shape[0]), order="C") if len(x.shape) == 1 else x
    right = cp.reshape(y, (y.shape[0], 1), order="C") if len(y.shape) == 1 else y
    return cp.reshape(left @ right, node.shape, order="C") if len(x.shape) == 1 or len(y.shape) == 1 else x @ y


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
    "cumsum": lambda node, x: cp.cumsum(x, axis=node.data["axis"]),
    "multiply": lambda node, x, y: cp.multiply(x, y),
    "matmul": _matmul,
    "abs": lambda node, x: cp.abs(x),
    "max": lambda node, x: cp.max(x, axis=_axis(node), keepdims=node.data["keepdims"]),
    "maximum": lambda node, *xs: cp.maximum(*xs),
    "square": lambda node, x: cp.square(x),
    "huber": _huber,
    "quad_form": lambda node, x, P: cp.quad_form(x, P, assume_PSD=node.data["definite"].nonneg),
    "reciprocal": lambda node, x: 1 / x,
    "exp": lambda node, x: cp.exp(x),
    "log": lambda node, x: cp.log(x),
    "sqrt": lambda node, x: cp.sqrt(x),
    "softplus": lambda node, x: cp.logistic(x),
    "power": lambda node, x: cp.power(x, node.data["exponent"]),
    "assume": lambda node, x: x,
}

# Functions of parameters that cvxpy cannot state; with values for the parameters all but ``function`` are constants.
ABSENT = frozenset({"tanh", "sin", "cos", "sigmoid", "inv", "function"})
