"""What ``kr.compile`` and the layer are told, checked: inputs, outputs and weights by name, and arguments that are none."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..canon.param_qp import Input
from ..dsl.diagnostics import DefinitionError, definition_error
from ..dsl.expression import Expression
from ..dsl.leaves import Parameter
from ..dsl.problem import Problem
from ..dsl.render import listed
from ..dsl.walk import leaves
from .checks import verdict
from .failure import InputError, input_error
from .solution import Dual, Objective, Solution

Output = Expression | Dual | Objective | str


def outputs_of(outputs: Sequence[Output] | Output, by_key: Mapping[str, str], problem: Problem) -> tuple[Output, ...]:
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    if not several:
        why = "outputs says what a call returns, so there is at least one"
        mend = "leave it out to get a Solution"
        raise definition_error("N04", "outputs cannot be used", why, mend, at=("outputs",), label="empty")
    keys = {constraint.key for constraint in problem.constraints.values()}
    for output in several:
        if isinstance(output, Dual):
            known = output.of in problem.constraints if isinstance(output.of, str) else getattr(output.of, "key", "") in keys
            if not known:
                raise _foreign("constraint", output.of, list(problem.constraints), "outputs")
        elif isinstance(output, str):
            if output not in problem.variables:
                raise _foreign("variable", output, list(problem.variables), "outputs")
        elif isinstance(output, Expression):
            unknown = [leaf for leaf in leaves([output]) if leaf.key not in by_key]
            if unknown:
                raise _foreign("leaf", unknown[0], list(by_key.values()), "outputs")
        elif not isinstance(output, Objective):
            hint = "a variable, its name, an expression, kr.dual(constraint) or kr.objective"
            why = f"an output is {hint}; got {output!r}"
            raise definition_error("N04", "outputs cannot be used", why, "name a variable, such as outputs=x", at=("outputs",))
    return tuple(several)


def value_of(solution: Solution, output: Output) -> Tensor:
    if isinstance(output, Dual):
        return solution.dual(output.of)
    return solution.objective if isinstance(output, Objective) else solution[output]


def name_of(parameter: Parameter | str, by_key: Mapping[str, str], declared: Mapping[str, Input]) -> str:
    name = parameter if isinstance(parameter, str) else by_key.get(getattr(parameter, "key", ""), "")
    if name not in declared:
        raise _foreign("parameter", parameter, list(declared), "weights", "inputs")
    return name


def refuse_values(declared: Mapping[str, Input]) -> None:
    """Declared values must have the declared attributes."""
    for name, item in declared.items():
        if item.default is None:
            continue
        value = torch.from_numpy(item.default.array.copy()).unsqueeze(0)
        if bool(verdict(value, item.attributes, value.dtype)) or not bool(torch.isfinite(value).all()):
            said = " ".join(item.attributes.declared) or "finite"
            why = f"parameter {name} is declared {said}"
            mend = "declare a value that complies\ndrop the attribute, if nothing relies on it"
            raise definition_error("N15", f"the value of parameter {name} is not {said}", why, mend, label="")


def refuse_collisions(weights: Mapping[str, Any], functions: Mapping[str, Any], layer: type) -> None:
    for name in weights:
        if hasattr(layer, name) or name in functions or name == "training":
            why = f"weights become attributes of the module, and {name!r} is taken by torch.nn.Module or by the layer"
            mend = f'rename the parameter: kr.Parameter(..., name="{name}_")'
            raise definition_error("N11", f"the weight {name!r} cannot be named so", why, mend, at=("weights",), label="taken")


def no_mapping(given: object, order: Sequence[str]) -> InputError:
    title = f"inputs: expected a mapping from parameters or names to values, got {type(given).__name__}"
    why = "solve takes the inputs as one mapping, because its keywords are options"
    return input_error("I09", title, why, f"write {{{', '.join(f'{name!r}: ...' for name in order)}}}", at=(0, "inputs"))


def unusable_argument(name: str, wanted: str, mend: str) -> DefinitionError:
    place = (name, 0) if name == "problem" else (name,)
    return definition_error("N04", f"{name} cannot be used", f"kr.compile takes as {name} {wanted}", mend, at=place)


def _foreign(kind: str, what: object, known: list[str], *where: str) -> DefinitionError:
    """Something that the problem does not have was named in the call of compile."""
    what = getattr(what, "name", None) or what
    near = difflib.get_close_matches(str(what), known, 1)
    mend = "leave it out; a parameter without effect takes no part in the problem"
    if kind != "parameter":
        mend = "ask for what the problem has; print it to see its names"
    mend = f"did you mean {near[0]!r}?" if near else mend
    why = f"the problem has {listed(known)}"
    return definition_error("N10", f"no {kind} {what!r}: it does not occur in the problem", why, mend, at=where, label="")
