"""Problems without inequalities that share Q and A: one factorization for all of them.

    [Q  A'] [x]   [-p]
    [A    ] [y] = [ b]        the system of ``adjoint``, solved for every (p, b) by the kernel of its backward pass

The factor is that of the problem with p = 0 and b = 0, so that it depends on nothing that an item brings. What an item's solution
is worth is measured as always; the items that do not prove themselves are the torch engine's.
"""

from __future__ import annotations

import torch

from .cpu import engine as cpu
from .cpu.outcome import Held
from .data import Frame, QPData
from .found import Found
from .options import Options
from .residuals import SURE, Measure, Point
from .screen import Clean

WORTH = 2e7  # operations of the factorizations that are saved; fewer take no longer than measuring the answers in torch


def serves(frame: Frame, options: Options) -> bool:
    """Whether this is such a batch, and large enough. Not where an item must have the same bits in a batch of any size."""
    (n, m, k), (own_Q, _, _, _, own_A, *_) = frame.sizes, frame.own
    if m or frame.lower or frame.upper or own_Q or own_A or options.batch_invariant:
        return False
    return (frame.B - 1) * n * n * (k + n / 3) > WORTH


def find(data: QPData, options: Options) -> tuple[Found, bool]:
    """As ``cpu.find``."""
    Q, A, p, b = data.Q, data.A, data.p, data.b
    (n, _, k), B = data.sizes, data.batch
    alike = QPData(Q, p.new_zeros(1, n), data.G[:1], data.h[:1], A, b.new_zeros(1, k))
    base, left = cpu.find(alike.blocks, alike.frame, options).found
    if left:
        return cpu.find(data.blocks, data.frame, options).found
    U, scale, weight, unit, flat, lower, upper, _ = (part.expand(B, *part.shape[1:]) for part in base.factor)
    held = Held(U, scale, weight, unit, flat, lower, upper, torch.ones(B, dtype=torch.bool, device="cpu"))
    point = p.new_zeros(1, n), b.new_zeros(1, k), p.new_zeros(1, 0)
    right = p, -b, None, None
    (x, minus_y, none, *_), lost = cpu.derive(options, data.frame, (Q, data.G[:1], A), right, held, point, (False,) * 4)
    y, zero = -minus_y, torch.zeros_like(x)
    clean = Clean((Q + Q.mT) / 2, p.expand(B, n), A, b.expand(B, k), None, None, k, torch.zeros(B, dtype=torch.int8, device="cpu"))
    measure = Measure(clean)
    residuals = measure.residuals(Point(x, y, zero, zero), measure.fair)
    sure = residuals.worst <= SURE * options.tolerance(Q.dtype)
    if lost is not None:
        sure = sure & ~lost
    status, taken = (torch.zeros(B, dtype=kind, device="cpu") for kind in (torch.int8, torch.int32))
    zeros = [torch.zeros_like(part) for part in (x, x, none, x, y, none, x, x)]  # each its own: users may write to them
    outcome = status, taken, residuals.scaled, residuals.absolute, none.bool()
    factor = U, scale, weight, unit, flat, lower.clone(), upper.clone(), sure
    found = Found(*(x, y, none, *zeros[:3], *outcome, *zeros[3:], *factor))
    return found, not bool(sure.all())
