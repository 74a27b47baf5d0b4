"""Do values have the attributes that were declared? Answered per item, on the device, without reading anything back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..dsl.sign import Attributes

# Symmetry and definiteness are judged relative to the largest entry: values computed in the input's precision carry rounding.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5}


def violations(value: Tensor, attributes: Attributes) -> Tensor:
    """True for items of ``value`` (B, ...) that break a declared attribute. NaN breaks none: it is reported as itself."""
    flat = value.reshape(value.shape[0], math.prod(value.shape[1:]))
    broken = torch.zeros(value.shape[0], dtype=torch.bool, device=value.device)
    if attributes.nonneg:
        broken = broken | (flat < 0).any(1)
    if attributes.nonpos:
        broken = broken | (flat > 0).any(1)
    if not attributes.square or not flat.shape[1]:
        return broken
    tolerance = ROUNDING.get(value.dtype, 1e-2) * flat.abs().amax(1)
    if attributes.diag:
        rest = value - torch.diag_embed(torch.diagonal(value, 0, 1, 2))
        return broken | (rest.reshape(flat.shape) != 0).any(1)
    broken = broken | ((value - value.mT).reshape(flat.shape).abs() > tolerance[:, None]).any(1)
    if attributes.PSD or attributes.NSD:
        P = (value if attributes.PSD else -value).nan_to_num()
        P = (P + P.mT) / 2 + (tolerance * value.shape[1])[:, None, None] * torch.eye(value.shape[1], device=P.device, dtype=P.dtype)
        zero = flat.abs().amax(1) == 0
        broken = broken | ((torch.linalg.cholesky_ex(P).info != 0) & ~zero)
    return broken
