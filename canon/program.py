"""Straight-line programs over tensors of one item: how parameters become coefficients, and solutions become outputs.

A program is a list of steps; step i writes slot i and reads earlier slots. Its operations are ``input``, ``constant`` and the
atoms, a closed list, so a program holds no expression, compares by value, pickles and prints. User functions appear by name.

    %0 = input gamma ()
    %1 = exp(%0) ()
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dsl.atoms import Shape
from ..dsl.diagnostics import InternalError
from ..dsl.expression import Constant, Expression
from ..dsl.keys import Frozen
from ..dsl.leaves import Parameter, Variable
from ..dsl.printing import constant_text
from ..dsl.sign import Attributes

Functions = dict[str, Callable[..., Any]]


# Operations that people write between or beside their arguments.
INFIX = {
    "multiply": "{} * {}",
    "matmul": "{} @ {}",
    "negate": "-{}",
    "transpose": "{}.T",
    "broadcast_to": "{}",
    "reciprocal": "1 / {}",
}


@dataclass(frozen=True, init=False)  # as of ``Entries``, dozens are made
class Step:
    """One operation; ``data`` are the static arguments, sorted by name."""

    op: str
    args: tuple[int, ...]
    data: tuple[tuple[str, Any], ...]
    shape: Shape

    def __init__(self, op: str, args: tuple[int, ...], data: tuple[tuple[str, Any], ...], shape: Shape) -> None:
        fields = self.__dict__
        fields["op"], fields["args"], fields["data"], fields["shape"] = op, args, data, shape

    def __str__(self) -> str:
        parts = [f"%{slot}" for slot in self.args]
        parts += [f"{name}={_datum(value)}" for name, value in self.data if name not in ("name", "value", "shape")]
        if self.op == "input":
            return f"input {dict(self.data)['name']} {self.shape}"
        if self.op == "constant":
            return f"constant {constant_text(dict(self.data)['value'].array)} {self.shape}"
        return f"{self.op}({', '.join(parts)}) {self.shape}"


@dataclass(frozen=True)
class Program:
    """Steps and the slots that are wanted."""

    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names read by the program."""
        return tuple(dict(step.data)["name"] for step in self.steps if step.op == "input")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of every slot."""
        return tuple([math.prod(step.shape) for step in self.steps])

    def text(self, slot: int) -> str:
        """A slot as an expression of its inputs."""
        step = self.steps[slot]
        if step.op == "input":
            return str(dict(step.data)["name"])
        if step.op == "constant":
            return constant_text(dict(step.data)["value"].array)
        inner = [self.text(argument) for argument in step.args]
        held = [f"({one})" if " " in one and not one.endswith(")") else one for one in inner]
        if step.op == "add":
            return " + ".join(inner).replace(" + -", " - ")
        if step.op in INFIX:
            return INFIX[step.op].format(*held)
        return f"{dict(step.data).get('callable', step.op)}({', '.join(inner)})"

    def verify(self) -> None:
        """Slots are written before they are read."""
        for slot, step in enumerate(self.steps):
            if any(not 0 <= argument < slot for argument in step.args):
                raise InternalError(f"program: step {slot} reads a later slot\n{self}")
        if any(not 0 <= slot < len(self.steps) for slot in self.outputs):
            raise InternalError(f"program: an output slot does not exist\n{self}")

    def __str__(self) -> str:
        return "\n".join(f"%{slot} = {step}" for slot, step in enumerate(self.steps))


class Builder:
    """Lowers expressions to steps; equal steps are written once.

    ``names`` are those of leaves by key. A builder may continue the steps of another program: then ``functions`` are the names
    under which that program knows user functions, by key.
    """

    def __init__(self, names: Mapping[str, str], steps: Iterable[Step] = (), functions: Mapping[str, str] | None = None) -> None:
        self.names = names
        self.steps = list(steps)
        self.function_names = dict(functions or {})
        self.functions: Functions = {}
        self._slots = {step: slot for slot, step in enumerate(self.steps)}
        self._lowered: dict[int, tuple[Expression, int]] = {}  # the expression is kept alive so that its id stays its own

    def lower(self, root: Expression) -> int:
        """The slot that holds ``root``."""
        lowered, stack = self._lowered, [root]
        while stack:
            node = stack[-1]
            if id(node) not in lowered:
                if node.args:
                    waiting = [argument for argument in node.args if id(argument) not in lowered]
                    if waiting:
                        stack += waiting[::-1]
                        continue
                lowered[id(node)] = node, self._emit(self._step(node))
            stack.pop()
        return lowered[id(root)][1]

    def finish(self, outputs: Iterable[int]) -> Program:
        """The program for these slots."""
        return Program(tuple(self.steps), tuple(outputs))

    def _step(self, node: Expression) -> Step:
        if isinstance(node, Constant):
            return Step("constant", (), (("value", Frozen(node.value)),), node.shape)
        if node.atom is None:
            assert isinstance(node, (Variable, Parameter))
            return Step("input", (), (("name", self.names[node.key]),), node.shape)
        data = node.data
        if "callable" in data:
            data = dict(data)
            data["callable"] = self._named(data.pop("key"), data["callable"])
        args = tuple([self._lowered[id(argument)][1] for argument in node.args])
        return Step(node.atom.name, args, tuple(sorted(data.items())) if data else (), node.shape)

    def _named(self, key: str, function: Callable[..., Any]) -> str:
        """User functions are known by key, because a copied model holds copies of them."""
        if key not in self.function_names:
            self.function_names[key] = f"function{len(self.function_names)}"
            self.functions[self.function_names[key]] = function
        return self.function_names[key]

    def _emit(self, step: Step) -> int:
        slot = self._slots.setdefault(step, len(self.steps))
        if slot == len(self.steps):
            self.steps.append(step)
        return slot


def _datum(value: Any) -> str:
    if isinstance(value, Attributes):
        return "+".join(value.declared)
    return f"{value.array.shape}" if isinstance(value, Frozen) else str(value) if not isinstance(value, np.ndarray) else "array"
