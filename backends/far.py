"""Limits so far away that all they do is spoil the scale: x <= 1e10 as another way to say nothing.

What the iteration calls large follows the largest right-hand side. A limit of 1e8 among others of 1 makes every slack start at 1e6
and every multiplier follow, and some linear programs never come back from there. So an item that is left unsolved is tried without
the limits beyond the widest gap in the sizes of its limits. Its answer counts if they hold by themselves: then it is the answer
with them, their multipliers zero. And what has no solution without them has none with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .data import QPData
from .products import matvec

GAP = 1e3  # between one size of limits and the next


@dataclass(frozen=True)
class Near:
    """The problems without their far limits, and which limits these are: of rows (B,m), and of variables (B,n) or None."""

    data: QPData
    rows: Tensor
    lower: Tensor | None
    upper: Tensor | None

    @property
    def relaxed(self) -> Tensor:
        """Items that have such limits, (B,)."""
        parts = [part.any(1) for part in (self.rows, self.lower, self.upper) if part is not None]
        return torch.stack(torch.broadcast_tensors(*parts)).any(0)

    def holds(self, whole: QPData, x: Tensor) -> Tensor:
        """Whether x keeps what was left out, (B,)."""
        kept = (~self.rows | (matvec(whole.G, x) <= whole.h)).all(1)
        for far, bound, sign in ((self.lower, whole.lb, -1.0), (self.upper, whole.ub, 1.0)):
            if far is not None and bound is not None:
                kept = kept & (~far | (sign * x <= sign * bound)).all(1)
        return kept


def near(data: QPData) -> Near:
    """Leave out the limits beyond the widest gap, if that is wide."""
    B = data.batch
    rows, others = _over(data.h, data.G), _over(data.b.abs(), data.A)
    lower, upper = None if data.lb is None else -data.lb, data.ub
    sizes = [part.abs() for part in (rows, others, lower, upper) if part is not None]
    sizes = [torch.where(torch.isfinite(part), part, 0).expand(B, -1) for part in sizes]
    ordered = torch.cat([*sizes, data.p.new_zeros(B, 2)], 1).sort(1).values
    below, above = ordered[:, :-1], ordered[:, 1:]
    widest = torch.where(below > 0, above / below, 0).max(1, keepdim=True)
    threshold = torch.where(widest.values >= GAP, above.gather(1, widest.indices), torch.inf)
    far_rows = rows >= threshold
    far_lower, far_upper = (None if part is None else part >= threshold for part in (lower, upper))
    relaxed = replace(
        data,
        h=torch.where(far_rows, torch.inf, data.h),
        lb=None if far_lower is None or data.lb is None else torch.where(far_lower, -torch.inf, data.lb),
        ub=None if far_upper is None or data.ub is None else torch.where(far_upper, torch.inf, data.ub),
    )
    return Near(relaxed, far_rows, far_lower, far_upper)


def _over(rhs: Tensor, rows: Tensor) -> Tensor:
    """Right-hand sides over the largest coefficient of their rows; 0 for a row without any."""
    if not rows.shape[1]:
        return rhs
    largest = rows.abs().amax(2)
    return torch.where(largest > 0, rhs / torch.where(largest > 0, largest, 1), 0)
