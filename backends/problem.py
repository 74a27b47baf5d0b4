"""The user's Problem with the compiler and the solver behind it, and evaluation of expressions without any problem."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ..canon.program import Builder
from ..dsl import problem as written
from ..dsl.curvature import Form
from ..dsl.diagnostics import definition_error
from ..dsl.expression import Expression, wrap
from ..dsl.functions import square
from ..dsl.leaves import Parameter, Variable
from ..dsl.problem import names_of
from ..dsl.render import listed
from ..dsl.walk import leaves
from .evaluate import evaluate as run
from .failure import input_error
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


def project(x: Expression, onto: Any, point: Any = None) -> Problem:
    """The problem of the nearest point: minimize |x - point|² subject to ``onto``.

    ``x``: a variable, or an affine expression. ``onto``: constraints, in any form that a Problem takes. ``point``: what is
    projected, an array or an expression of parameters of the shape of ``x``; by default a parameter of the name ``point``, so that
    ``kr.compile(kr.project(x, onto=[x >= 0, kr.sum(x) == 1]), outputs=x)`` is a module from points to their projections.
    Raises DefinitionError, ShapeError and what Problem raises.
    """
    if not isinstance(x, Expression) or x.form is Form.CONSTANT:
        why = "the nearest point is chosen, so it is a variable, or an affine expression of variables"
        mend = "write kr.project(x, onto=[...], point=...), where x is the variable in the constraints"
        raise definition_error("N17", "a projection without a variable", why, mend, at=("x", 0))
    target = Parameter(x.shape, name="point") if point is None else wrap(point)
    if target.form is not Form.CONSTANT or target.shape != x.shape:
        why = f"the point is data of the shape of x, {x.shape}; got {target!r}"
        raise definition_error("N17", "a point that does not fit", why, "make it a Parameter of that shape", at=("point", 2))
    return Problem(written.Minimize(square(x - target).sum()), onto)


def evaluate(expression: Expression, values: Mapping[Any, Any]) -> Tensor:
    """The value of any expression at given values of its variables and parameters, batched and differentiable.

    ``values`` maps variables and parameters, or their names, to tensors of shape batch + their shape. Returns batch + the shape of
    the expression. Raises InputError for missing, unknown or misshaped values.
    """
    expression = wrap(expression)
    found = leaves([expression])
    known = names_of(found)
    shapes = {known[leaf.key]: leaf.shape for leaf in found}
    if not hasattr(values, "items"):
        title = f"values: expected a mapping from variables and parameters to values, got {type(values).__name__}"
        raise input_error("I09", title, "leaves are told apart by identity or name", "write {x: tensor, ...}", at=(1, "values"))
    given: dict[str, Any] = {}
    for key, value in values.items():
        name = known.get(key.key, "") if isinstance(key, Variable | Parameter) else key
        if name not in shapes:
            title, why = f"{key!r} does not occur in the expression", f"the expression has {listed(shapes)}"
            raise input_error("I11", title, why, "leave it out, or check the name", at=(1, "values"))
        if name in given:
            raise input_error("I04", f"{name}: given twice", "a leaf has one value", "leave one of the two out", at=(1, "values"))
        given[name] = value
    declared = {known[leaf.key]: leaf.value for leaf in found if isinstance(leaf, Parameter) and leaf.value is not None}
    given |= {name: value.tolist() for name, value in declared.items() if name not in given}  # a list: no dtype of its own
    missing = [name for name in shapes if name not in given]
    if missing:
        why = f"an expression has a value only where all of its leaves have one: {listed(shapes)}"
        mend = f"add {', '.join(f'{name}: ...' for name in missing)}"
        label = f"{listed(missing)} not given"
        raise input_error("I02", f"missing values: {', '.join(missing)}", why, mend, at=(1, "values"), label=label)
    bound = bind(given, shapes)
    builder = Builder(known)
    program = builder.finish([builder.lower(expression)])
    found_value = run(program, bound.tensors, builder.functions, bound.like)
    return found_value.expand(math.prod(bound.batch), *expression.shape).reshape(bound.batch + expression.shape).to(bound.dtype)
