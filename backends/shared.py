"""Problems without inequalities that share Q and A: one factorization for all of them.

    [Q  A'] [x]   [-p]
    [A    ] [y] = [ b]        the system of ``adjoint``, solved for every (p, b) by the kernel of its backward pass

The factor is that of the problem with p = 0 and b = 0, so that it depends on nothing that an item brings. What an item's solution
is worth is measured as always; the items that do not prove themselves are the torch engine's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .cpu import engine as cpu
from .data import QPData
from .found import Found
from .options import Options
from .polish import Factor
from .residuals import SURE, Measure, Point
from .screen import Clean

WORTH = 2e7  # operations of the factorizations that are saved; fewer take no longer than measuring the answers in torch


def serves(data: QPData, options: Options) -> bool:
    """Whether this is such a batch, and large enough. Not where an item must have the same bits in a batch of any size."""
    (n, m, k), B = data.sizes, data.batch
    alike = not m and data.lb is None and data.ub is None and len(data.Q) == 1 and len(data.A) == 1
    return alike and not options.batch_invariant and (B - 1) * n * n * (k + n / 3) > WORTH


def find(data: QPData, options: Options) -> tuple[Found, Tensor | None]:
    """As ``cpu.find``."""
    Q, A, p, b = data.Q, data.A, data.p, data.b
    (n, _, k), B = data.sizes, data.batch
    base, unproved = cpu.find(QPData(Q, p.new_zeros(1, n), data.G[:1], data.h[:1], A, b.new_zeros(1, k)), options)
    if unproved is not None:
        return cpu.find(data, options)
    U, scale, weight, unit, flat, lower, upper, _ = (part.expand(B, *part.shape[1:]) for part in base.factor)
    factor, everyone = Factor(U, scale, weight, unit, flat, lower, upper), torch.ones(B, dtype=torch.bool)
    point = p.new_zeros(1, n), b.new_zeros(1, k), p.new_zeros(1, 0)
    right = p, -b, None, None
    (x, minus_y, none, _), lost, _ = cpu.derive(options, (Q, data.G[:1], A), right, factor, everyone, point, (False,) * 4)
    y, zero = -minus_y, torch.zeros_like(x)
    clean = Clean((Q + Q.mT) / 2, p.expand(B, n), A, b.expand(B, k), None, None, k, torch.zeros(B, dtype=torch.int8))
    measure = Measure(clean)
    residuals = measure.residuals(Point(x, y, zero, zero), measure.fair)
    sure = residuals.worst <= SURE * options.tolerance(Q.dtype)
    if lost is not None:
        sure = sure & ~lost
    found = Found(
        x, y, none, zero, zero.clone(), none.clone(), torch.zeros(B, dtype=torch.int8), torch.zeros(B, dtype=torch.int32),
        residuals.scaled, residuals.absolute, none.bool(), zero.expand(B, n), torch.zeros_like(y), none, zero, zero,
        U, scale, weight, unit, flat, lower, upper, sure,
    )  # fmt: skip
    return found, None if bool(sure.all()) else sure
