"""Parameters and weights made constants: the step from a layer that is trained to one that is deployed.

What depends on constants alone is computed here, once, by the same operations as in a call: derived parameters, functions of the
user's, and the checks of what was declared. ``canon.specialize`` then writes the constant blocks out.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..canon.blocks import Block
from ..canon.canonicalize import Canonical, specialized
from ..canon.factors import Fixed
from ..canon.param_qp import Input, ParamQP
from ..canon.program import Functions, Program, Step
from ..dsl.leaves import Parameter
from ..dsl.render import listed
from .checks import holds, verdict
from .constants import Constants
from .evaluate import Evaluator
from .failure import InputError, input_error
from .inputs import bind, solve_dtype_of
from .weights import mapped

FINITE = ("Q", "p", "G", "A", "b")  # blocks that hold no infinities


def asked(
    which: Sequence[Any], values: Mapping[str, Any], qp: ParamQP, keys: Mapping[str, str], weights: Sequence[str]
) -> dict[str, Any]:
    """What is to become constant, by name: its value, or ``...`` for the one that is there already.

    ``which``: parameters or names, that have a value; mappings to values; nothing at all means all weights.
    """
    pairs: list[tuple[Any, Any]] = []
    for one in which:
        pairs += one.items() if isinstance(one, Mapping) else [(one, ...)]
    pairs += values.items()
    if not which and not values:
        pairs = [(name, ...) for name in weights]
    declared = {item.name: item for item in qp.inputs}
    given: dict[str, Any] = {}
    for leaf, value in pairs:
        name = _name(leaf, keys, declared, [item.name for item in qp.bound])
        if name in given:
            why = "a constant has one value"
            raise input_error("I04", f"{name}: bound twice", why, f"leave one of the two {name} out", at=(name,), label="again")
        if isinstance(value, EllipsisType) and name not in weights and declared[name].default is None:
            why = "only weights, and parameters that were declared with value=, have a value before any call"
            raise _refused(f"{name} has no value that could be kept", why, f"give it one: layer.bind({name}=...)", name)
        given[name] = value
    if not given:
        why = "without arguments bind makes all weights constants, and this layer has none"
        mend = f"say what is constant: layer.bind({next(iter(declared), 'A')}=value)"
        raise _refused("nothing to bind", why, mend if declared else "call the layer: it has no inputs", "bind")
    return given


def constants(
    chosen: Mapping[str, Any], qp: ParamQP, raw: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> tuple[dict[str, Tensor], torch.dtype | None]:
    """The values to be bound, (1, *shape), and the coarsest dtype that they came in. ``raw``: the layer's weights."""
    declared = {item.name: item for item in qp.inputs}
    tensors: dict[str, Tensor] = {}
    coarsest: torch.dtype | None = None
    for name, value in chosen.items():
        item = declared[name]
        if isinstance(value, EllipsisType) and name in raw:
            tensor, came = mapped(raw[name].to(dtype), item.attributes).unsqueeze(0), _coarse(raw[name].dtype, dtype)
        else:
            kept = item.default.array if isinstance(value, EllipsisType) and item.default is not None else value
            tensor, came = constant(item, kept)
        tensors[name] = tensor.to(device, dtype)
        coarsest = coarser(coarsest, came)
    return tensors, coarsest


def constant(item: Input, value: Any) -> tuple[Tensor, torch.dtype | None]:
    """The value of one parameter, (1, *shape), in the dtype of a solve; and the dtype that it came in, where that is coarser."""
    checked = bind({item.name: value}, {item.name: item.shape})
    if checked.batch != ():
        title = f"input {item.name}: expected shape {item.shape}, got {tuple(checked.batch + item.shape)}"
        why = "a constant is one value, shared by all items: it has no batch"
        raise input_error("I05", title, why, "bind one item, such as value[0]", at=(item.name,), label="a batch")
    tensor = checked.tensors[item.name].detach()
    given = value.dtype if isinstance(value, Tensor) and value.is_floating_point() else torch.float64
    declared = " and ".join(item.attributes.declared)
    if bool(verdict(tensor, item.attributes, given)):
        why = f"parameter {item.name} is declared {declared}"
        raise _refused(f"the value of {item.name} is not {declared}", why, "bind a value that complies", item.name)
    if bool(tensor.isnan().any()):
        raise _refused(f"the value of {item.name} is NaN", "a problem is solved for numbers", "check what computed it", item.name)
    return tensor, _coarse(given, tensor.dtype)


def made_constant(canonical: Canonical, values: Mapping[str, Tensor], precision: torch.dtype) -> Canonical:
    """The canonical problem with these inputs as constants; their values are (1, *shape), on the device of the user's functions."""
    qp = canonical.stuffed
    slots = known(qp.program, values, canonical.functions)
    for slot, value in slots.items():
        step = qp.program.steps[slot]
        before = [slots[argument] for argument in step.args]
        if step.args and bool(torch.isfinite(value).logical_not().any()) and all(bool(torch.isfinite(a).all()) for a in before):
            why = f"{qp.program.text(slot)} has no finite value there"
            raise _refused("the constants lie outside of a function's domain", why, "bind values inside", *values)
    for check in qp.checks:
        if check.slot in slots and bool(verdict(slots[check.slot], check.attributes, precision)):
            declared = " and ".join(check.attributes.declared)
            why = f"{check.text} is declared {declared}, and the rules of convexity rely on it"
            raise _refused(f"{check.text} is not {declared}", why, "bind values for which it is", *values)
    for fact in qp.assumptions:
        if all(slot in slots for slot in fact.slots):
            active = None if fact.active is None else slots[fact.active]
            if not bool(holds(slots[fact.left], slots[fact.right], fact.op, active, precision)):
                why = f"constraint {fact.name!r} says {fact.text}, which no variable can satisfy"
                raise _refused(f"constraint {fact.name!r} does not hold", why, "bind values for which it does", *values)
    arrays = {slot: value[0].cpu().double().numpy().copy() for slot, value in slots.items()}
    constants = {name: value[0].cpu().double().numpy().copy() for name, value in values.items()}
    made = specialized(canonical, constants, arrays)
    for letter in FINITE:
        if not _finite(made.qp.blocks[letter]):
            why = f"{letter} would hold an infinity, which only limits may: the right side of an inequality, a bound"
            raise _refused("the values are not finite", why, "bind finite values", *values)
    return made


def known(program: Program, values: Mapping[str, Tensor], functions: Functions) -> dict[int, Tensor]:
    """The slots that depend on ``values`` and constants alone, each (1, *shape).

    A function of the user's counts only if nothing behind it can be trained: a module in training mode stays, and so does whatever
    returns a tensor that requires grad.
    """
    numbers: dict[int, int] = {}
    steps: list[Step] = []
    for slot, step in enumerate(program.steps):
        data = dict(step.data)
        fits = data["name"] in values if step.op == "input" else all(argument in numbers for argument in step.args)
        if step.op == "function":
            function = functions[data["callable"]]
            fits = fits and bool(step.args) and not (isinstance(function, nn.Module) and function.training)
        if fits:
            numbers[slot] = len(steps)
            steps.append(Step(step.op, tuple(numbers[argument] for argument in step.args), step.data, step.shape))
    constants = Constants()
    part = Program(tuple(steps), ())
    like = next(iter(values.values()))
    with torch.enable_grad():
        found = Evaluator(part, constants).run(values, functions, constants.on(like.device, like.dtype))
    return {slot: found[number].detach() for slot, number in numbers.items() if not found[number].requires_grad}


def _finite(block: Block) -> bool:
    factors = [*block.entries, *(factor for placed in block.products for factor in placed.term)]
    held = [factor.matrix.data if isinstance(factor, Fixed) else factor.weight for factor in factors]
    return all(bool(np.isfinite(numbers).all()) for numbers in (block.constant.data, *held))


def home(modules: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a layer's weights and functions are, and the dtype that is solved in there."""
    device = next((tensor.device for tensor in modules.parameters()), torch.device("cpu"))
    return device, solve_dtype_of(device)


def coarser(one: torch.dtype | None, other: torch.dtype | None) -> torch.dtype | None:
    """The dtype with fewer digits; None has the most."""
    if one is None or other is None:
        return other if one is None else one
    return one if torch.finfo(one).eps >= torch.finfo(other).eps else other


def _coarse(given: torch.dtype, solved_in: torch.dtype) -> torch.dtype | None:
    return given if torch.finfo(given).eps > torch.finfo(solved_in).eps else None


def _name(leaf: Any, keys: Mapping[str, str], declared: Mapping[str, Input], bound: Sequence[str]) -> str:
    if isinstance(leaf, Parameter):
        if leaf.key not in keys:
            why = f"nothing in this model depends on it; its parameters are {listed(declared)}"
            raise input_error("I11", f"{leaf!r} does not occur in this model", why, "leave it out", label="")
        name = keys[leaf.key]
    else:
        name = leaf
    if name in declared:
        return str(name)
    if name in bound:
        why = "a constant stays what it is; the layer that it was bound in still takes it"
        raise input_error("I10", f"{name} is a constant already", why, "leave it out", at=(str(name),), label="a constant")
    near = difflib.get_close_matches(str(name), declared, 1, cutoff=0.5)
    title = f"unknown input {name!r}{f', did you mean {near[0]!r}?' if near else ''}"
    why = f"parameters and weights of this layer are {listed(declared)}"
    mend = f"write {near[0]}" if near else "leave it out"
    raise input_error("I01", title, why, mend, at=(str(name), 0), label="no parameter of the problem")


def _refused(title: str, why: str, mend: str, *at: str) -> InputError:
    return input_error("I18", title, why, mend, at=(*at, 0), label="")
