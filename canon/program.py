"""Straight-line programs over tensors of one item: how parameters become coefficients, and solutions become outputs.

A program is a list of steps; step i writes slot i and reads earlier slots. Its operations are ``input``, ``constant`` and the
atoms, a closed list, so a program holds no expression, compares by value, pickles and prints. User functions appear by name.

    %0 = input gamma ()
    %1 = exp(%0) ()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dsl.atoms import Shape
from ..dsl.diagnostics import InternalError
from ..dsl.expression import Constant, Expression
from ..dsl.keys import Frozen
from ..dsl.printing import constant_text
from ..dsl.walk import postorder

Functions = dict[str, Callable[..., Any]]


@dataclass(frozen=True)
class Step:
    """One operation; ``data`` are the static arguments, sorted by name."""

    op: str
    args: tuple[int, ...]
    data: tuple[tuple[str, Any], ...]
    shape: Shape

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
        return tuple(int(np.prod(step.shape)) for step in self.steps)

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
    """Lowers expressions to steps; equal steps are written once."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.steps: list[Step] = []
        self.functions: Functions = {}
        self._slots: dict[Step, int] = {}
        self._lowered: dict[int, tuple[Expression, int]] = {}  # the expression is kept alive so that its id stays its own

    def lower(self, root: Expression) -> int:
        """The slot that holds ``root``."""
        for node in postorder([root]):
            if id(node) not in self._lowered:
                self._lowered[id(node)] = node, self._emit(self._step(node))
        return self._lowered[id(root)][1]

    def finish(self, outputs: Iterable[int]) -> Program:
        """The program for these slots."""
        return Program(tuple(self.steps), tuple(outputs))

    def _step(self, node: Expression) -> Step:
        if isinstance(node, Constant):
            return Step("constant", (), (("value", Frozen(node.value)),), node.shape)
        if node.atom is None:
            return Step("input", (), (("name", self.names[node.key]),), node.shape)  # type: ignore[attr-defined]  # a leaf
        data = dict(node.data)
        if "callable" in data:
            data["callable"] = self._named(data["callable"])
        args = tuple(self._lowered[id(argument)][1] for argument in node.args)
        return Step(node.atom.name, args, tuple(sorted(data.items())), node.shape)

    def _named(self, function: Callable[..., Any]) -> str:
        for name, known in self.functions.items():
            if known is function:
                return name
        name = f"function{len(self.functions)}"
        self.functions[name] = function
        return name

    def _emit(self, step: Step) -> int:
        slot = self._slots.setdefault(step, len(self.steps))
        if slot == len(self.steps):
            self.steps.append(step)
        return slot


def lower(expressions: Iterable[Expression], names: Mapping[str, str]) -> tuple[Program, Functions]:
    """One program for several expressions."""
    builder = Builder(names)
    outputs = [builder.lower(expression) for expression in expressions]
    return builder.finish(outputs), builder.functions


def _datum(value: Any) -> str:
    return f"{value.array.shape}" if isinstance(value, Frozen) else str(value) if not isinstance(value, np.ndarray) else "array"
