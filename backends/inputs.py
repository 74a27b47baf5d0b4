"""Inputs of a call: matched to declared names, checked for shape, dtype and device, and brought to one leading batch axis.

Everything that can be wrong by name, shape, dtype or device raises an ``InputError`` here, before any work.

    tensor of shape  batch + shape   ->   (1, *shape) where it has no batch of its own, (B, *shape) otherwise
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, reduce
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..dsl.expression import Expression
from ..dsl.leaves import Parameter, Variable
from ..dsl.render import listed
from .failure import InputError, input_error
from .options import Options

Shape = tuple[int, ...]
USUAL = (torch.float32, torch.float64)
OF_A_CALL = ("warm_start", *(field.name for field in fields(Options)))  # options of ``layer.solve``


@dataclass(frozen=True)
class Bound:
    """Checked inputs: tensors with one leading axis of size B or 1, the joint batch, and the dtype that results are cast to.

    ``like`` is an empty tensor on the device and in the dtype of the solve.
    """

    tensors: dict[str, Tensor]
    batch: Shape
    dtype: torch.dtype
    like: Tensor


def match(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    order: Sequence[str],
    keys: Mapping[str, str],
    held: Sequence[str] = (),
    optional: Collection[str] = (),
    constants: Sequence[str] = (),
) -> dict[str, Any]:
    """Values by name, from one mapping, from positions, or from keywords.

    ``keys`` finds names of leaves; ``held`` are weights; what is ``optional`` has a declared value and may be missing;
    ``constants`` were parameters once.
    """
    given: dict[str, Any] = {}
    if len(args) == 1 and isinstance(args[0], Mapping):
        for leaf, value in args[0].items():
            name = _name(leaf, keys, order, held, constants)
            if name in given:
                raise _twice(name)
            given[name] = value
    elif len(args) > len(order):
        title = f"expected at most {len(order)} inputs, got {len(args)}"
        why = f"the inputs are {listed(order)}, in this order"
        mend = "leave the surplus out" if order else "call it without inputs: every parameter is a weight"
        raise input_error("I03", title, why, mend, at=(len(order),), label="one too many")
    else:
        given.update(zip(order, args, strict=False))
    for name, value in kwargs.items():
        if name not in order:
            raise _unknown(name, order, held, constants)
        if name in given:
            raise _twice(name)
        given[name] = value
    missing = [name for name in order if name not in given and name not in optional]
    if missing:
        mend = f"add {', '.join(f'{name}=...' for name in missing)}"
        why = f"a problem is solved for values of all of its parameters: {listed(order)}"
        raise input_error("I02", f"missing inputs: {', '.join(missing)}", why, mend, label=f"{listed(missing)} not given")
    return given


def bind(
    given: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    own: Iterable[Tensor] = (),
) -> Bound:
    """Check values against their shapes. ``own`` are tensors (weights) that take part in dtype and device."""
    tensors, facts = [], []
    for place, (name, value) in enumerate(given.items()):
        tensor = (
            value
            if type(value) is Tensor and value.dtype in USUAL and value.layout is torch.strided
            else _tensor(name, value, place)
        )
        tensors.append(tensor)
        came = tensor is value, isinstance(value, np.ndarray)
        facts.append((name, shapes[name], tensor.shape, tensor.dtype, tensor.device, *came))
    held = tuple([(tensor.dtype, tensor.device) for tensor in own])
    form = _form(tuple(facts), held, torch.get_default_dtype())
    flat = {}
    for name, tensor, (target, spread) in zip(given, tensors, form.moves, strict=True):
        if tensor.dtype != form.inner or tensor.device != form.device:
            tensor = tensor.to(device=form.device, dtype=form.inner)
        if spread is not None:
            tensor = tensor.expand(spread)
        if target is None:
            flat[name] = tensor[None]  # takes half the time of a reshape
        else:
            flat[name] = tensor if tensor.shape == target else tensor.reshape(target)
    return Bound(flat, form.batch, form.dtype, torch.empty(0, device=form.device, dtype=form.inner))


class _Given(NamedTuple):
    """What is known of an input but its values. Python numbers have neither dtype nor device of their own."""

    name: str
    declared: Shape
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    tensor: bool
    array: bool


class _Form(NamedTuple):
    """What follows from shapes, dtypes and devices.

    For each input, the shape that it gets, None if that is one more axis, and what it is expanded to before.
    """

    batch: Shape
    dtype: torch.dtype
    inner: torch.dtype
    device: torch.device
    moves: tuple[tuple[Shape | None, Shape | None], ...]


@lru_cache(maxsize=512)
def _form(facts: tuple[tuple[Any, ...], ...], own: tuple[tuple[torch.dtype, torch.device], ...], default: torch.dtype) -> _Form:
    """Checked once for all calls of one form."""
    given = [_Given(*one) for one in facts]
    device = _device([(one.name, one.device) for one in given if one.tensor], own)
    if device.type == "meta":
        name = next((one.name for one in given if one.device.type == "meta"), "a weight")
        raise without_values(f"input {name}", name, (name,))
    dtypes = [*(one.dtype for one in given if one.tensor or one.array), *(dtype for dtype, _ in own)]
    floats = [dtype for dtype in dtypes if dtype.is_floating_point]
    dtype = reduce(torch.promote_types, floats) if floats else default
    batches = {one.name: _batch(one.name, one.shape, one.declared, place) for place, one in enumerate(given)}
    batch = joint_batch(batches)
    size = math.prod(batch)
    moves: list[tuple[Shape | None, Shape | None]] = []
    for one in given:
        own_batch = batches[one.name]
        if own_batch == ():
            moves.append((None, None))
        elif math.prod(own_batch) == 1 and size != 1:
            moves.append(((1, *one.declared), None))
        else:
            moves.append(((size, *one.declared), None if own_batch == batch else (*batch, *one.declared)))
    return _Form(batch, dtype, solve_dtype_of(device), device, tuple(moves))


def solve_dtype_of(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def joint_batch(batches: Mapping[str, Shape]) -> Shape:
    """The broadcast batch, which must be the batch of at least one input: no accidental products."""
    several = {batch for batch in batches.values() if batch}
    if len(several) <= 1:
        return several.pop() if several else ()
    try:
        joint = tuple(torch.broadcast_shapes(*batches.values()))
    except RuntimeError:
        why = "batch dimensions broadcast as in torch: aligned from the right, equal or 1"
        mend = "give all inputs the same batch, or none where they are shared"
        raise input_error("I06", "batch dimensions that do not broadcast", why, mend, label=_listed(batches)) from None
    if joint != () and joint not in batches.values():
        squeezable = [name for name, batch in batches.items() if 1 in batch and len(batch) > 1]
        why = f"these combine to {joint}, the batch of no input: {math.prod(joint)} solves, which is seldom meant"
        mend = f"expand one input to {joint}, if that is meant"
        if squeezable:
            name, own = squeezable[0], batches[squeezable[0]]
            mend = f"drop the dimension of size 1: {name}.squeeze({own.index(1)})\n{mend}"
        raise input_error("I06", "an accidental product of batches", why, mend, label=_listed(batches))
    return joint


def _tensor(name: str, value: Any, place: int) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_complex():
            title, why = f"input {name}: expected real numbers, got {value.dtype}", "a quadratic program is over the reals"
            raise input_error("I07", title, why, f"pass {name}.real and {name}.imag apart", at=(name, place))
        return dense(f"input {name}", name, value, (name, place))
    if isinstance(value, np.ndarray | Real | list | tuple | np.generic):
        try:
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                return torch.as_tensor(array if array.flags.writeable else array.copy())
        except (ValueError, TypeError):
            pass
    title = f"input {name}: expected a tensor, array or number, got {type(value).__name__}"
    why = "inputs are what earlier layers computed, or plain numbers"
    mend = "convert it with torch.as_tensor"
    if isinstance(value, Expression):
        mend = "solve first, and pass the solution's tensor: solution[...]"
    raise input_error("I09", title, why, mend, at=(name, place), label="no numbers")


def dense(what: str, name: str, tensor: Tensor, at: Sequence[str | int]) -> Tensor:
    """The tensor, if its entries lie each in its place."""
    if tensor.layout is not torch.strided:
        title, mend = f"{what}: expected a dense tensor, got {tensor.layout}", f"write {name}.to_dense()"
        raise input_error("I09", title, "batches of problems are solved as dense arrays", mend, at=at, label="sparse")
    return tensor


def without_values(what: str, name: str, at: Sequence[str | int]) -> InputError:
    """Of a tensor on the meta device."""
    title, mend = f"{what}: expected values, got a tensor on the meta device", f"make {name} on a device that has memory"
    return input_error("I09", title, "a problem is solved for values; a meta tensor has a shape alone", mend, at=at, label="")


def _device(given: Sequence[tuple[str, torch.device]], own: Iterable[tuple[torch.dtype, torch.device]]) -> torch.device:
    """The one device of all tensors."""
    found = [*given, *(("a weight", device) for _, device in own)]
    if len({device for _, device in found}) > 1:
        label = ", ".join(f"{name} on {device}" for name, device in found)
        why = "a problem is solved where its data are, and nothing is copied between devices behind your back"
        mend = f'move them to one device: .to("{found[0][1]}"), and the layer with layer.to(...)'
        raise input_error("I08", "inputs are on different devices", why, mend, label=label)
    return found[0][1] if found else torch.device("cpu")


def _batch(name: str, size: torch.Size, shape: Shape, place: int) -> Shape:
    """What stands in front of the declared shape, which never broadcasts."""
    got = tuple(size)
    lead = len(got) - len(shape)
    if lead < 0 or got[lead:] != shape:
        wanted = f"batch + {shape}" if shape else "any batch shape"
        why = f"parameter {name} has shape {shape}, which never broadcasts; batch dimensions stand in front of it"
        title, mend = f"input {name}: expected shape {wanted}, got {got}", _reshaping(name, got, shape)
        raise input_error("I05", title, why, mend, at=(name, place), label=str(got))
    return got[:lead]


def _name(leaf: Any, keys: Mapping[str, str], order: Sequence[str], held: Sequence[str], constants: Sequence[str]) -> str:
    if isinstance(leaf, Parameter | Variable):
        if leaf.key not in keys:
            why = f"leaves are told apart by identity, not by name; this model has {listed(order)}"
            raise input_error("I11", f"{leaf!r} does not belong to this model", why, "pass it by its name, as a string")
        name = keys[leaf.key]
    else:
        name = leaf
    if name not in order:
        raise _unknown(str(name), order, held, constants)
    return str(name)


def _twice(name: str) -> InputError:
    why = "a parameter has one value per item"
    return input_error("I04", f"input {name}: given twice", why, f"leave one of the two {name} out", at=(name,), label="again")


def _unknown(name: str, order: Sequence[str], held: Sequence[str], constants: Sequence[str]) -> InputError:
    if name in held:
        why = "a weight lives in the layer and is trained; calls do not bring it"
        mend = f"leave it out; its value is layer.weight({name!r})\ncompile without it in weights=, to pass it in"
        return input_error("I10", f"{name} is a weight of this layer, not an input", why, mend, at=(name,), label="a weight")
    if name in constants:
        why = f"bind made it one; the inputs are {listed(order)}"
        mend = "leave it out\ncall the layer that it was bound in, to pass it in"
        return input_error("I10", f"{name} is a constant of this layer, not an input", why, mend, at=(name,), label="a constant")
    if name in OF_A_CALL:
        why = f"a call takes parameters only: {listed(order)}"
        mend = f"write layer.solve({{...}}, {name}=...), which returns a Solution"
        return input_error("I01", f"{name} is an option, not an input", why, mend, at=(name,), label="an option")
    near = difflib.get_close_matches(name, order, 1, cutoff=0.5)
    title = f"unknown input {name!r}{f', did you mean {near[0]!r}?' if near else ''}"
    mend = f"write {near[0]}=..." if near else "leave it out"
    return input_error("I01", title, f"the inputs are {listed(order)}", mend, at=(name,), label="not a parameter of the problem")


def _reshaping(name: str, got: Shape, shape: Shape) -> str:
    """What was probably meant."""
    n = len(shape)
    if len(got) == n + 1 and got[-1] == 1 and got[:-1][len(got) - 1 - n :] == shape:
        return f"drop the last dimension: {name}.squeeze(-1)"
    if n and len(got) > n and got[:n] == shape:
        return f"the batch comes first: {name}.{'movedim(-1, 0)' if len(got) == n + 1 else 'permute(...)'}"
    if n == 2 and got[-2:] == shape[::-1]:
        return f"turn the matrix: {name}.mT"
    if n and math.prod(got) == math.prod(shape):
        return f"reshape it: {name}.reshape{shape}"
    if n and got in ((), (1,)):
        return f"say so, if all entries are equal: torch.full({shape}, {name})"
    return f"pass a tensor of shape {shape}, or (B, {', '.join(map(str, shape))}) for a batch of B"


def _listed(batches: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {batch}" for name, batch in batches.items() if batch)
