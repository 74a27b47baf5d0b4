"""Weights: parameters that live in the module and are trained.

The raw tensor sits in the state_dict under the parameter's own name; a named map turns it into a value that has the declared
attributes, as the first operation of every call. Each map is the identity on values that already comply, except PSD and NSD, whose
gradient vanishes at zero: start such weights elsewhere.

    nonneg   |raw|             nonpos   -|raw|            diag   raw on the diagonal, zero elsewhere
    symmetric   (raw + raw')/2    PSD   raw raw'          NSD   -raw raw'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..canon.param_qp import Input
from ..dsl.sign import Attributes
from .checks import verdict
from .failure import InputError

MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "diag": lambda raw: torch.diag_embed(torch.diagonal(raw)),
    "symmetric": lambda raw: (raw + raw.mT) / 2,
    "PSD": lambda raw: raw @ raw.mT,
    "NSD": lambda raw: -(raw @ raw.mT),
    "nonneg": lambda raw: torch.where(raw < 0, -raw, raw),  # unlike abs, with slope 1 at zero: a weight there can leave it
    "nonpos": lambda raw: torch.where(raw > 0, -raw, raw),
}


def mapped(raw: Tensor, attributes: Attributes) -> Tensor:
    """The value of a weight."""
    for name, rule in MAPS.items():
        if getattr(attributes, name):
            raw = rule(raw)
    return raw


def initial(item: Input, value: Any) -> nn.Parameter:
    """The raw parameter for an initial value: a tensor is copied, an ``nn.Parameter`` is shared and is the raw tensor itself."""
    if isinstance(value, nn.Parameter):
        _check_shape(item, value)
        return value
    try:
        tensor = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"weight {item.name}: expected a tensor, array or number, got {type(value).__name__} ({error})") from None
    if not tensor.dtype.is_floating_point:
        tensor = tensor.to(torch.get_default_dtype())
    _check_shape(item, tensor)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"weight {item.name}: the initial value is not finite")
    if bool(verdict(tensor.unsqueeze(0), item.attributes, tensor.dtype)):
        raise InputError(f"weight {item.name}: the initial value is not {' '.join(item.attributes.declared)}")
    if item.attributes.PSD or item.attributes.NSD:
        tensor = _root(tensor if item.attributes.PSD else -tensor)
    return nn.Parameter(tensor)


def _check_shape(item: Input, tensor: Tensor) -> None:
    if tuple(tensor.shape) != item.shape:
        raise InputError(f"weight {item.name}: expected shape {item.shape}, got {tuple(tensor.shape)}")


def _root(P: Tensor) -> Tensor:
    """A matrix R with R R' = P for positive semidefinite P."""
    eigenvalues, V = torch.linalg.eigh(P)
    root: Tensor = V * eigenvalues.clamp(min=0).sqrt()
    return root
