"""The structure of a problem: what its canonical form depends on, and nothing else.

Two problems with one signature differ in names, in keys, and in the places where they were written; so they share a canonical form
up to names. Nodes are numbered in the order of a walk, so that leaves are told apart by where they occur and shared nodes are seen
to be shared. Constants count by content, functions of the user's by identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dsl.expression import Constant, Expression
from ..dsl.later import Text
from ..dsl.leaves import Parameter, Variable
from ..dsl.problem import Problem
from .param_qp import Assumption, Multiplier, ParamQP
from .program import Program, Step

SMALL = 64  # bytes of a constant that stand for themselves


@dataclass(frozen=True)
class Names:
    """Names by kind, in the order of a problem."""

    variables: tuple[str, ...]
    parameters: tuple[str, ...]
    constraints: tuple[str, ...]

    @staticmethod
    def of(problem: Problem) -> Names:
        return Names(tuple(problem.variables), tuple(problem.parameters), tuple(problem.constraints))


class Structure:
    """Parts that compare and hash by content; they are hashed once."""

    __slots__ = ("_hash", "_parts")

    def __init__(self, *parts: Hashable) -> None:
        self._parts, self._hash = parts, hash(parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._hash == other._hash and self._parts == other._parts

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True)
class Signature:
    """``structure`` compares; ``functions`` are the user's, in order of appearance, by the keys that this problem has for them."""

    structure: Structure
    functions: tuple[tuple[str, Callable[..., Any]], ...]


def outline(problem: Problem) -> int:
    """A number that problems of one structure share, and others seldom do."""
    return hash((problem.objective.sign, len(problem.constraints), tuple([node.shape for node in problem.nodes])))


def lasting(problem: Problem) -> bool:
    """Whether its signature will always be what it is now, and no function of the user's stays alive until it is taken."""
    own = (node.sparse if isinstance(node, Constant) else node.data.get("callable") for node in problem.nodes)
    return all(part is None for part in own)


def signature(problem: Problem) -> Signature:
    """The signature of a problem. Raises TypeError where something in it cannot be compared."""
    nodes = problem.nodes
    number = {id(node): place for place, node in enumerate(nodes)}
    functions: dict[str, Callable[..., Any]] = {}
    met: dict[str, int] = {}

    def at(node: Expression | None) -> int:
        return -1 if node is None else number[id(node)]

    def told(node: Expression) -> Hashable:
        if isinstance(node, Constant):
            return _constant(node)
        if isinstance(node, Variable):
            return "variable", node.shape, node.attributes, at(node.lower), at(node.upper)
        if isinstance(node, Parameter):
            return "parameter", node.shape, node.attributes, None if node.value is None else _content(node.value)
        assert node.atom is not None
        data = tuple([(name, type(value), value) for name, value in node.data.items()])
        if "callable" in node.data:
            key, function = node.data["key"], node.data["callable"]
            functions.setdefault(key, function)
            own = (met.setdefault(key, len(met)), id(function))
            data = (("callable", tuple, own), *(item for item in data if item[0] not in ("callable", "key")))
        return node.atom.name, tuple([number[id(argument)] for argument in node.args]), node.shape, data

    several = [
        (type(c), c.op, at(c.left), at(c.right), at(c.active), at(getattr(c, "weight", None)), getattr(c, "penalty", None))
        for c in problem.constraints.values()
    ]
    leaves = tuple([number[id(leaf)] for leaf in (*problem.variables.values(), *problem.parameters.values())])
    objective = problem.objective.sign, at(problem.objective.expression)
    structure = Structure(tuple([told(node) for node in nodes]), objective, tuple(several), leaves)
    return Signature(structure, tuple(functions.items()))


def renamed(qp: ParamQP, before: Names, after: Names, said: Callable[[str], Text]) -> ParamQP:
    """The canonical form of a problem of the same structure. ``said`` prints the constraint of a name."""
    variables, parameters, constraints = (
        dict(zip(old, new, strict=True))
        for old, new in (
            (before.variables, after.variables),
            (before.parameters, after.parameters),
            (before.constraints, after.constraints),
        )
    )
    program = Program(tuple(_step(step, parameters) for step in qp.program.steps), qp.program.outputs)

    def of_rows(item: Multiplier) -> Multiplier:
        name = constraints[item.name]
        return replace(item, name=name, said=said(name))

    def of_data(fact: Assumption) -> Assumption:
        name = constraints[fact.name]
        return replace(fact, name=name, text=str(said(name)))

    return replace(
        qp,
        inputs=tuple(replace(item, name=parameters[item.name]) for item in qp.inputs),
        program=program,
        checks=tuple(replace(check, text=program.text(check.slot)) for check in qp.checks),
        variables=tuple(replace(variable, name=variables[variable.name]) for variable in qp.variables),
        multipliers=tuple(map(of_rows, qp.multipliers)),
        assumptions=tuple(map(of_data, qp.assumptions)),
    )


def _step(step: Step, parameters: Mapping[str, str]) -> Step:
    return replace(step, data=(("name", parameters[dict(step.data)["name"]]),)) if step.op == "input" else step


def _constant(node: Constant) -> Hashable:
    if node.sparse is None:
        return "constant", node.shape, _content(node.value)
    parts = (node.sparse.indptr, node.sparse.indices, node.sparse.data)
    return "sparse", node.shape, tuple([_content(np.asarray(part)) for part in parts])


def _content(array: NDArray[Any]) -> Hashable:
    """Its bytes, or a hash of them that no two arrays share."""
    if array.nbytes <= SMALL:
        return array.dtype.str, array.tobytes()
    return array.dtype.str, hashlib.sha256(array.tobytes()).digest()
