"""Do values have the attributes that were declared? Answered per item, on the device, without reading anything back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..dsl.keys import Frozen
from ..dsl.sign import Attributes
from . import batching
from .status import Status

# Symmetry and definiteness are judged relative to the largest entry. What an earlier layer computed carries the rounding of the
# precision it was computed in, whatever precision it is solved in.
ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 1e-1}


def holds(left: Tensor, right: Tensor, op: str, active: Tensor | None, precision: torch.dtype) -> Tensor:
    """Whether ``left op right`` in every entry of each item, (B,): up to rounding, relative to the sides; never for NaN."""
    small, large = (right, left) if op == ">=" else (left, right)
    finite = torch.isfinite(small) & torch.isfinite(large)
    slack = torch.where(finite, ROUNDING[precision] * torch.maximum(small.abs(), large.abs()), 0)
    fits = small <= large + slack
    if op == "==":
        fits = fits & (large <= small + slack)
    if active is not None:
        fits = fits | (active == 0)
    return fits.reshape(fits.shape[0], math.prod(fits.shape[1:])).all(1)


def verdict(value: Tensor, attributes: Attributes, precision: torch.dtype) -> Tensor:
    """A Status code per item of ``value`` (B, ...), int8: 0 where every declared attribute holds.

    A wrong sign or structure is INVALID_INPUT, a wrong definiteness NONCONVEX. ``precision``: the dtype the values came in. Items
    that are not finite pass: they are reported as what they are.
    """
    flat = value.reshape(value.shape[0], math.prod(value.shape[1:]))
    wrong = torch.zeros(value.shape[0], dtype=torch.bool, device=value.device)
    if attributes.nonneg:
        wrong = wrong | (flat < 0).any(1)
    if attributes.nonpos:
        wrong = wrong | (flat > 0).any(1)
    if attributes.pos:
        wrong = wrong | (flat <= 0).any(1)
    if attributes.neg:
        wrong = wrong | (flat >= 0).any(1)
    if attributes.boolean:
        wrong = wrong | ((flat != 0) & (flat != 1) & ~flat.isnan()).any(1)
    if attributes.sparsity is not None:
        wrong = wrong | ((flat != 0) & ~_row(attributes.sparsity, flat, torch.bool)).any(1)
    if attributes.bounds is not None:
        low, high = attributes.bounds.low, attributes.bounds.high
        if low is not None:
            wrong = wrong | (flat < _row(low, flat)).any(1)
        if high is not None:
            wrong = wrong | (flat > _row(high, flat)).any(1)
    code = int(Status.INVALID_INPUT) * wrong.to(torch.int8)
    if not attributes.square or not flat.shape[1]:
        return code
    tolerance = ROUNDING[precision] * flat.abs().amax(1)
    if attributes.diag:
        off = value - torch.diag_embed(torch.diagonal(value, 0, 1, 2))
        wrong = wrong | (off.reshape(flat.shape) != 0).any(1)
    else:
        wrong = wrong | ((value - value.mT).reshape(flat.shape).abs() > tolerance[:, None]).any(1)
    finite = torch.isfinite(flat).all(1)
    code = int(Status.INVALID_INPUT) * (wrong & finite).to(torch.int8)
    if attributes.PSD or attributes.NSD:
        P = (value if attributes.PSD else -value).nan_to_num()
        shift = tolerance * value.shape[1] + (tolerance == 0)  # the zero matrix is semidefinite, too
        P = (P + P.mT) / 2 + torch.diag_embed(shift.nan_to_num()[:, None].expand(-1, value.shape[1]))
        indefinite = (torch.linalg.cholesky_ex(P).info != 0) & finite & ~wrong
        code = code + int(Status.NONCONVEX) * indefinite.to(torch.int8)
    return code


def plainly(value: Tensor, attributes: Attributes, precision: torch.dtype) -> bool:
    """Whether all items have what was declared, as most batches have, and it is soon seen: definite without any tolerance.

    False where it takes a closer look. On a CPU alone: elsewhere the answer would have to be read back.
    """
    has = attributes
    if has.boolean or has.diag or has.sparsity is not None or has.bounds is not None or not value.is_cpu or not value.numel():
        return False
    if batching.transformed():
        return False
    for declared, compare in ((has.nonneg, torch.ge), (has.nonpos, torch.le), (has.pos, torch.gt), (has.neg, torch.lt)):
        if declared and not bool(compare(value, 0).all()):
            return False
    if has.symmetric or has.PSD or has.NSD:
        # A matrix product is symmetric up to rounding. No item has a largest entry below its largest diagonal one, and what lower
        # triangles are off by is less than the shift that the closer look allows.
        if not torch.equal(value, value.mT):
            uneven = float((value - value.mT).abs().max())
            if not uneven <= ROUNDING[precision] * float(torch.diagonal(value, 0, 1, 2).abs().amax(1).min()):
                return False
        if has.PSD or has.NSD:
            return not int(torch.linalg.cholesky_ex(value if has.PSD else -value).info.count_nonzero())
    return True


def _row(held: Frozen, flat: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A declared array beside the flattened items."""
    return torch.from_numpy(held.array.reshape(1, -1).copy()).to(flat.device, flat.dtype if dtype is None else dtype)
