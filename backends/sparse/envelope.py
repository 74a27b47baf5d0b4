"""The optimal value of sparse problems, differentiated by the envelope theorem as in ``backends.envelope``.

dq_ij: x_i x_j (i < j)    dq_ii: x_i²/2    dp: x    dg_ij: z_i x_j    dh: -z    da_ij: y_i x_j    db: -y    dlb: z_lb    dub: -z_ub
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..data import QPSolution
from ..products import summed_like
from .data import SparseData
from .structure import Structure


def quadratic(data: SparseData, x: Tensor) -> Tensor:
    """1/2 x'Qx of each item, (B,)."""
    return _half(data.structure, data.Q, x)


def optimal_value(data: SparseData, solution: QPSolution) -> Tensor:
    """1/2 x'Qx + p'x of each item, (B,). Gradients of failed items are zero; NaN stays NaN."""
    s = solution
    fields = (data.Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub)
    value: Tensor = Value.apply(data.structure, *fields, s.x, s.y, s.z, s.z_lb, s.z_ub, s.ok)
    return value


class Value(Function):
    """(Q, p, G, h, A, b, lb, ub, x, y, z, z_lb, z_ub, ok) -> value. Its derivative in x, y, z is zero: they are optimal."""

    @staticmethod
    def forward(ctx: Any, structure: Structure, *inputs: Any) -> Tensor:
        ctx.structure = structure
        ctx.save_for_backward(*inputs)
        Q, p, x = inputs[0], inputs[1], inputs[8]
        value: Tensor = _half(structure, Q, x) + torch.linalg.vecdot(x, p)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        Q, p, G, h, A, b, lb, ub, x, y, z, z_lb, z_ub, ok = ctx.saved_tensors
        s, keep = ctx.structure, ok.unsqueeze(1)
        g = torch.where(ok, grad, 0).unsqueeze(1)
        x, y, z, z_lb, z_ub = (torch.where(keep, part, 0) for part in (x, y, z, z_lb, z_ub))
        needs = ctx.needs_input_grad[1:]

        def entries(block: Tensor, where: Any, w: Tensor) -> Tensor:
            rows, cols = torch.from_numpy(where.rows), torch.from_numpy(where.cols)
            return summed_like(block, g * w[:, rows] * x[:, cols])

        dQ = summed_like(Q, g * _products(s, x)) if needs[0] else None
        dp = summed_like(p, g * x) if needs[1] else None
        dG = entries(G, s.G, z) if needs[2] else None
        dh = summed_like(h, -g * z) if needs[3] else None
        dA = entries(A, s.A, y) if needs[4] else None
        db = summed_like(b, -g * y) if needs[5] else None
        dlb = summed_like(lb, g * z_lb) if needs[6] else None
        dub = summed_like(ub, -g * z_ub) if needs[7] else None
        return None, dQ, dp, dG, dh, dA, db, dlb, dub, *(None,) * 6


def _products(s: Structure, x: Tensor) -> Tensor:
    """What the values of Q are multiplied with in 1/2 x'Qx."""
    rows, cols = torch.from_numpy(s.Q.rows), torch.from_numpy(s.Q.cols)
    weight = torch.where(rows == cols, 0.5, 1.0).to(x.dtype)
    return weight * x[:, rows] * x[:, cols]


def _half(s: Structure, Q: Tensor, x: Tensor) -> Tensor:
    return (Q * _products(s, x)).sum(1)
