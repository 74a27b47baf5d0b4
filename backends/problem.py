"""The user's Problem with the compiler and the solver behind it, and evaluation of expressions without any problem."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ..canon.program import Builder
from ..dsl import problem as written
from ..dsl.expression import Expression, wrap
from ..dsl.leaves import Parameter, Variable
from ..dsl.problem import names_of
from ..dsl.walk import leaves
from .evaluate import evaluate as run
from .failure import InputError
from .inputs import bind
from .layer import Layer, compile
from .solution import Solution

Policy = Literal["raise", "return", "nan"]


class Problem(written.Problem):
    __doc__ = written.Problem.__doc__

    def __init__(self, objective: written.Minimize | written.Maximize, constraints: Any = ()) -> None:
        super().__init__(objective, constraints)
        self._compiled: Layer | None = None
        self._lock = threading.Lock()

    def solve(self, *inputs: Any, on_failure: Policy = "raise", eps: float | None = None, **parameters: Any) -> Solution:
        """Solve for parameters given as to a compiled layer. Compiles once; no value is stored on anything.

        Parameters named like an option of this method go into a mapping: ``problem.solve({"eps": ...})``.
        """
        with self._lock:
            if self._compiled is None:
                self._compiled = compile(self)
        layer = self._compiled
        return layer.solve(layer.matched(inputs, parameters), on_failure=on_failure, eps=eps)

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
    known = names_of(found)
    shapes = {known[leaf.key]: leaf.shape for leaf in found}
    given: dict[str, Any] = {}
    for key, value in values.items():
        name = known.get(key.key, "") if isinstance(key, Variable | Parameter) else key
        if name not in shapes:
            raise InputError(f"{key!r} does not occur in the expression; it has {', '.join(shapes) or 'no leaves'}")
        if name in given:
            raise InputError(f"{name}: given twice")
        given[name] = value
    missing = [name for name in shapes if name not in given]
    if missing:
        raise InputError(f"missing values: {', '.join(missing)}")
    bound = bind(given, shapes)
    builder = Builder(known)
    program = builder.finish([builder.lower(expression)])
    found_value = run(program, bound.tensors, builder.functions, bound.like)
    return found_value.expand(math.prod(bound.batch), *expression.shape).reshape(bound.batch + expression.shape).to(bound.dtype)
