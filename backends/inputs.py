"""Inputs of a call: matched to declared names, checked for shape, dtype and device, and brought to one leading batch axis.

Everything that can be wrong by name, shape, dtype or device raises an ``InputError`` here, before any work.

    tensor of shape  batch + shape   ->   (1, *shape) where it has no batch of its own, (B, *shape) otherwise
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..dsl.leaves import Parameter, Variable
from .failure import InputError

Shape = tuple[int, ...]


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
    args: Sequence[Any], kwargs: Mapping[str, Any], order: Sequence[str], keys: Mapping[str, str], held: Sequence[str] = ()
) -> dict[str, Any]:
    """Values by name, from one mapping, from positions, or from keywords. ``keys`` finds names of leaves; ``held`` are weights."""
    given: dict[str, Any] = {}
    if len(args) == 1 and isinstance(args[0], Mapping):
        for leaf, value in args[0].items():
            name = _name(leaf, keys, order, held)
            if name in given:
                raise InputError(f"input {name}: given twice")
            given[name] = value
    elif len(args) > len(order):
        raise InputError(f"expected at most {len(order)} inputs ({', '.join(order) or 'none'}), got {len(args)}")
    else:
        given.update(zip(order, args, strict=False))
    for name, value in kwargs.items():
        if name not in order:
            raise InputError(_unknown(name, order, held))
        if name in given:
            raise InputError(f"input {name}: given twice")
        given[name] = value
    missing = [name for name in order if name not in given]
    if missing:
        raise InputError(f"missing inputs: {', '.join(missing)}; expected {', '.join(order)}")
    return given


def bind(
    given: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    own: Iterable[Tensor] = (),
) -> Bound:
    """Check values against their shapes. ``own`` are tensors (weights) that take part in dtype and device."""
    own = list(own)
    tensors = {name: _tensor(name, value) for name, value in given.items()}
    present = [*(tensors[name] for name, value in given.items() if isinstance(value, Tensor | np.ndarray)), *own]
    device = _device({name: tensors[name] for name, value in given.items() if isinstance(value, Tensor)}, own)
    floats = [t.dtype for t in present if t.dtype.is_floating_point]
    dtype = floats[0] if floats else torch.get_default_dtype()
    for other in floats[1:]:
        dtype = torch.promote_types(dtype, other)
    batches = {name: _batch(name, tensor, shapes[name]) for name, tensor in tensors.items()}
    batch = joint_batch(batches)
    solve = solve_dtype_of(device)
    flat = {name: _flat(t.to(device=device, dtype=solve), batches[name], batch, shapes[name]) for name, t in tensors.items()}
    return Bound(flat, batch, dtype, torch.empty(0, device=device, dtype=solve))


def solve_dtype_of(device: torch.device) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def joint_batch(batches: Mapping[str, Shape]) -> Shape:
    """The broadcast batch, which must be the batch of at least one input: no accidental products."""
    try:
        joint = tuple(torch.broadcast_shapes(*batches.values()))
    except RuntimeError:
        raise InputError(f"batch dimensions do not broadcast: {_listed(batches)}") from None
    if joint != () and joint not in batches.values():
        squeezable = [name for name, batch in batches.items() if 1 in batch and len(batch) > 1]
        hint = f"; did you mean {squeezable[0]}.squeeze(...)?" if squeezable else ""
        raise InputError(
            f"batch dimensions {_listed(batches)} would combine to {joint}, the batch of no input: "
            f"{math.prod(joint)} solves{hint}; expand one input to {joint} if that is meant"
        )
    return joint


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_complex():
            raise InputError(f"input {name}: expected real numbers, got {value.dtype}")
        return value
    if isinstance(value, np.ndarray | Real | list | tuple | np.generic):
        try:
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                return torch.as_tensor(array)
        except (ValueError, TypeError):
            pass
    raise InputError(f"input {name}: expected a tensor, array or number, got {type(value).__name__}")


def _device(tensors: Mapping[str, Tensor], own: Iterable[Tensor]) -> torch.device:
    """The one device of all tensors."""
    found = [(name, tensor.device) for name, tensor in tensors.items()] + [("a weight", tensor.device) for tensor in own]
    if len({device for _, device in found}) > 1:
        raise InputError("inputs are on different devices: " + ", ".join(f"{name} on {device}" for name, device in found))
    return found[0][1] if found else torch.device("cpu")


def _batch(name: str, tensor: Tensor, shape: Shape) -> Shape:
    """What stands in front of the declared shape, which never broadcasts."""
    got = tuple(tensor.shape)
    lead = len(got) - len(shape)
    if lead < 0 or got[lead:] != shape:
        wanted = f"batch + {shape}" if shape else "any batch shape"
        raise InputError(f"input {name}: expected shape {wanted}, got {got}")
    return got[:lead]


def _flat(tensor: Tensor, own: Shape, joint: Shape, shape: Shape) -> Tensor:
    if math.prod(own) == 1 and math.prod(joint) != 1:
        return tensor.reshape(1, *shape)
    return tensor.expand((*joint, *shape)).reshape(math.prod(joint), *shape)


def _name(leaf: Any, keys: Mapping[str, str], order: Sequence[str], held: Sequence[str]) -> str:
    if isinstance(leaf, Parameter | Variable):
        if leaf.key not in keys:
            raise InputError(f"{leaf!r} does not belong to this model; it has {', '.join(order)}")
        name = keys[leaf.key]
    else:
        name = leaf
    if name not in order:
        raise InputError(_unknown(str(name), order, held))
    return str(name)


def _unknown(name: str, order: Sequence[str], held: Sequence[str]) -> str:
    if name in held:
        return f"{name} is a weight of this layer, not an input; its value is layer.weight({name!r})"
    near = difflib.get_close_matches(name, order, 1, cutoff=0.5)
    return f"unknown input {name!r}{f', did you mean {near[0]!r}?' if near else ''}; expected {', '.join(order) or 'none'}"


def _listed(batches: Mapping[str, Shape]) -> str:
    return ", ".join(f"{name} {batch}" for name, batch in batches.items())
