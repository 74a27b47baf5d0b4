"""The support function of polyhedra in torch:  sup { y'x : Gx <= h, Ax = b }  for a batch of y, G, h, A, b.

A linear program for each item. Its value is differentiated by the envelope theorem: at a solution x with multipliers z and v

    y'x - z'(Gx - h) - v'(Ax - b)

has the value and the first derivatives of the supremum, with x, z and v held fixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .data import QPData
from .options import Options
from .solve import solve
from .status import Status


def support(y: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """The supremum of each item: infinite where nothing stops y'x, -infinite where no x satisfies the rows."""
    rows = [tensor.detach() for tensor in (G, h, A, b)]
    size = y.shape[1]
    found = solve(QPData(y.new_zeros(1, size, size), -y.detach(), *rows), Options(on_failure="return"))
    x, z, v = (part.detach() for part in (found.x, found.z, found.y))
    over, off = (G @ x.unsqueeze(2)).squeeze(2) - h, (A @ x.unsqueeze(2)).squeeze(2) - b
    value = (y * x).sum(1) - (z * over).sum(1) - (v * off).sum(1)
    value = torch.where(found.status == Status.PRIMAL_INFEASIBLE, -torch.inf, value)
    return torch.where(found.status == Status.DUAL_INFEASIBLE, torch.inf, value)
