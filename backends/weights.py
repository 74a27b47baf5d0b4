"""Weights: parameters that live in the module and are trained.

The raw tensor sits in the state_dict under the parameter's own name; a named map turns it into a value that has the declared
attributes, as the first operation of every call. Each map is the identity on values that already comply, except PSD and NSD, whose
gradient vanishes at zero: start such weights elsewhere.

    nonneg, pos   |raw|           nonpos, neg   -|raw|    diag, sparsity   raw on the pattern, zero elsewhere
    symmetric   (raw + raw')/2    PSD   raw raw'          NSD   -raw raw'
    bounds   raw reflected at each limit, as often as it takes: the slope is 1 or -1, so that a weight never gets stuck
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..canon.param_qp import Input
from ..dsl.sign import Attributes, Range
from .checks import verdict
from .failure import input_error

AT = ("weights",)  # where the call of kr.compile speaks of them


def _above(raw: Tensor, low: Tensor | float = 0.0) -> Tensor:
    """Unlike abs, with slope 1 at the limit: a weight there can leave it."""
    return torch.where(raw < low, 2 * low - raw, raw)


def _below(raw: Tensor, high: Tensor | float = 0.0) -> Tensor:
    return torch.where(raw > high, 2 * high - raw, raw)


def _within(raw: Tensor, bounds: Range) -> Tensor:
    low, high = (None if side is None else torch.from_numpy(side.array.copy()).to(raw) for side in (bounds.low, bounds.high))
    if low is None or high is None:
        raw = raw if low is None else _above(raw, low)
        return raw if high is None else _below(raw, high)
    width = high - low
    finite = torch.isfinite(width) & (width > 0)
    period = 2 * torch.where(finite, width, 1)
    base = torch.where(finite, low, 0)
    phase = torch.remainder(raw - base, period)
    reflected = base + torch.where(phase > period / 2, period - phase, phase)
    once = _below(_above(raw, low), high)  # where at most one limit is finite, or both are one number
    inside = (raw >= low) & (raw <= high)  # as it is, to the last digit
    return torch.where(inside, raw, torch.where(finite, reflected, once)).clamp(low, high)


MAPS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "diag": lambda raw, _: torch.diag_embed(torch.diagonal(raw)),
    "symmetric": lambda raw, _: (raw + raw.mT) / 2,
    "sparsity": lambda raw, pattern: torch.where(torch.from_numpy(pattern.array.copy()).to(raw.device), raw, 0),
    "PSD": lambda raw, _: raw @ raw.mT,
    "NSD": lambda raw, _: -(raw @ raw.mT),
    "bounds": _within,
    "nonneg": lambda raw, _: _above(raw),
    "pos": lambda raw, _: _above(raw),
    "nonpos": lambda raw, _: _below(raw),
    "neg": lambda raw, _: _below(raw),
}


def mapped(raw: Tensor, attributes: Attributes) -> Tensor:
    """The value of a weight."""
    for name, rule in MAPS.items():
        declared = getattr(attributes, name)
        if declared:
            raw = rule(raw, declared)
    return raw


def initial(item: Input, value: Any) -> nn.Parameter:
    """The raw parameter for an initial value: a tensor is copied, an ``nn.Parameter`` is shared and is the raw tensor itself."""
    if isinstance(value, nn.Parameter):
        _check_shape(item, value)
        return value
    try:
        tensor = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError) as error:
        title = f"weight {item.name}: expected a tensor, array or number, got {type(value).__name__}"
        raise input_error("I15", title, str(error), "convert it with torch.as_tensor", at=AT) from None
    if not tensor.dtype.is_floating_point:
        tensor = tensor.to(torch.get_default_dtype())
    if item.attributes.boolean:
        why = "training moves a weight by small steps, and between 0 and 1 there is none"
        raise input_error("I15", f"weight {item.name} is boolean", why, "pass it in, or learn bounds=[0, 1]", at=AT)
    _check_shape(item, tensor)
    if not bool(torch.isfinite(tensor).all()):
        why = "training starts from it, and NaN or infinity never leaves again"
        raise input_error("I15", f"weight {item.name}: the initial value is not finite", why, "start from a finite value", at=AT)
    if item.attributes.declared and bool(verdict(tensor.unsqueeze(0), item.attributes, tensor.dtype)):
        said = " ".join(item.attributes.declared)
        why = f"parameter {item.name} is declared {said}, and its map keeps that only from a start that has it"
        mend = "start from a value that complies\ndrop the attribute, if nothing relies on it"
        raise input_error("I15", f"weight {item.name}: the initial value is not {said}", why, mend, at=AT)
    if item.attributes.PSD or item.attributes.NSD:
        tensor = _root(tensor if item.attributes.PSD else -tensor)
    return nn.Parameter(tensor)


def _check_shape(item: Input, tensor: Tensor) -> None:
    if tuple(tensor.shape) != item.shape:
        title = f"weight {item.name}: expected shape {item.shape}, got {tuple(tensor.shape)}"
        raise input_error("I15", title, "a weight is one value, shared by all items: it has no batch", "reshape the start", at=AT)


def _root(P: Tensor) -> Tensor:
    """A matrix R with R R' = P for positive semidefinite P."""
    eigenvalues, V = torch.linalg.eigh(P)
    root: Tensor = V * eigenvalues.clamp(min=0).sqrt()
    return root
