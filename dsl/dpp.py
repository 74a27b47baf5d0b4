"""Disciplined parametrized programming: the narrower rules of cvxpy's layers, for models that are to go there.

Parameters count as affine, like variables. A product is allowed if one factor is constant, or if one is affine in parameters alone
and the other free of parameters. The matrix of a quadratic form holds none, as ``Problem.is_dpp`` of cvxpy answers, though some of
its layers take one. Nothing here decides whether karush accepts a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from .curvature import AFFINE, CONCAVE, CONVEX, UNKNOWN, Curvature, Form, compose
from .walk import postorder

if TYPE_CHECKING:  # expressions and problems answer with this module
    from .expression import Expression
    from .problem import Problem

# Functions of data that have a curvature and increase; others hold no parameters in a DPP model.
INCREASING = {"exp": CONVEX, "softplus": CONVEX, "log": CONCAVE, "sqrt": CONCAVE, "assume": AFFINE}


def is_dpp(expression: Expression) -> bool:
    """Whether the expression is convex or concave by the rules of disciplined parametrized programming."""
    return _read([expression])[0][id(expression)].known


def _read(roots: Iterable[Expression]) -> tuple[dict[int, Curvature], dict[int, bool]]:
    """The curvature of every node, parameters counted as affine, and whether it holds a parameter."""
    known: dict[int, Curvature] = {}
    held: dict[int, bool] = {}
    for node in postorder(roots):
        parameter = node.form is Form.CONSTANT and hasattr(node, "key")
        held[id(node)] = parameter or any(held[id(argument)] for argument in node.args)
        known[id(node)] = _curvature(node, known, held)
    return known, held


def is_dpp_problem(problem: Problem) -> bool:
    """Whether the model obeys the rules of disciplined parametrized programming."""
    known, held = _read(problem.expressions)
    objective = known[id(problem.objective.expression)]
    if not (objective.convex if problem.objective.sign > 0 else objective.concave):
        return False
    for constraint in problem.constraints.values():
        left, right = known[id(constraint.left)], known[id(constraint.right)]
        small, large = (right, left) if constraint.op == ">=" else (left, right)
        if not (small.convex and large.concave) or (constraint.op == "==" and not (small.affine and large.affine)):
            return False
        carried = [part for part in (constraint.active, getattr(constraint, "weight", None)) if part is not None]
        both = any(held[id(part)] for part in carried) and (held[id(constraint.left)] or held[id(constraint.right)])
        if both or not all(known[id(part)].affine for part in carried):
            return False
    return True


def _curvature(node: Expression, known: Mapping[int, Curvature], held: Mapping[int, bool]) -> Curvature:
    if node.atom is None or not held[id(node)]:
        return node.curvature
    name, args = node.atom.name, node.args
    with_parameters = [held[id(argument)] for argument in args]
    inner = [known[id(argument)] for argument in args]
    directions = [node.atom.monotone(args, i) for i in range(len(args))]
    if name in ("multiply", "matmul"):
        free = [i for i, argument in enumerate(args) if argument.form is Form.CONSTANT]
        data = next((i for i in free if not with_parameters[i]), free[0] if free else None)
        if data is None or (all(with_parameters) or (with_parameters[data] and not inner[data].affine)):
            return UNKNOWN
        return compose(AFFINE, [(inner[1 - data], directions[1 - data])])
    if name == "quad_form":
        return node.atom.curvature(args, node.data) if inner[0].affine and not with_parameters[1] else UNKNOWN
    if name == "huber":
        return compose(CONVEX, [(inner[0], directions[0])]) if inner[1].affine else UNKNOWN
    if node.atom.form is Form.CONSTANT:
        return compose(INCREASING[name], [(inner[0], 1)]) if name in INCREASING else UNKNOWN
    return compose(node.atom.curvature(args, node.data), list(zip(inner, directions, strict=True)))
