"""The user's Problem with the compiler and the solver behind it, and evaluation of expressions without any problem."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..canon.program import lower
from ..dsl import problem as written
from ..dsl.expression import Expression, wrap
from ..dsl.leaves import Parameter, Variable
from ..dsl.walk import leaves
from .evaluate import evaluate as run
from .failure import InputError
from .inputs import bind
from .layer import Layer, compile
from .solution import Solution


class Problem(written.Problem):
    __doc__ = written.Problem.__doc__

    def __init__(self, objective: written.Minimize | written.Maximize, constraints: Any = ()) -> None:
        super().__init__(objective, constraints)
        self._compiled: Layer | None = None
        self._lock = threading.Lock()

    def solve(self, *args: Any, on_failure: str = "raise", eps: float | None = None, **parameters: Any) -> Solution:
        """Solve for parameters given as to a compiled layer. Compiles once; no value is stored on anything."""
        with self._lock:
            if self._compiled is None:
                self._compiled = compile(self)
        layer = self._compiled
        given = dict(args[0]) if len(args) == 1 and isinstance(args[0], Mapping) else {}
        return layer.solve({**given, **parameters}, on_failure=on_failure, eps=eps)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_compiled", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compiled, self._lock = None, threading.Lock()


def evaluate(expression: Expression, values: Mapping[Any, Any]) -> Tensor:
    """The value of any expression at given values of its variables and parameters, batched and differentiable.

    ``values`` maps variables and parameters, or their names, to tensors of shape batch + their shape. Returns batch + the shape of
    the expression. Raises InputError for missing, unknown or misshaped values.
    """
    expression = wrap(expression)
    found = leaves([expression])
    names = {leaf.key: leaf.name or f"leaf{index}" for index, leaf in enumerate(found)}  # type: ignore[attr-defined]  # leaves have keys
    shapes = {names[leaf.key]: leaf.shape for leaf in found}  # type: ignore[attr-defined]  # leaves have keys
    given = {}
    for key, value in values.items():
        name = names.get(key.key) if isinstance(key, Variable | Parameter) else key
        if name not in shapes:
            raise InputError(f"{key!r} does not occur in the expression; it has {', '.join(shapes) or 'no leaves'}")
        given[name] = value
    missing = [name for name in shapes if name not in given]
    if missing:
        raise InputError(f"missing values: {', '.join(missing)}")
    bound = bind(given, shapes)
    program, functions = lower([expression], names)
    dtype = next((t.dtype for t in bound.tensors.values()), torch.float64)
    (value,) = run(program, bound.tensors, functions, bound.device, dtype)
    return value.expand(math.prod(bound.batch), *value.shape[1:]).reshape(bound.batch + expression.shape).to(bound.dtype)
