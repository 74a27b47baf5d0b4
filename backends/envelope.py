"""The optimal value, differentiated by the envelope theorem.

    v = 1/2 x'Qx + p'x          dv = partial derivative of the Lagrangian at the solution:

    dQ: x x'/2     dp: x     dG: z x'     dh: -z     dA: y x'     db: -y     dlb: z_lb     dub: -z_ub

No KKT system is solved, so this is right also where x is not unique. The first derivative is built from x, y, z themselves: the
second one differentiates those.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import batching
from .alone import each
from .data import QPData, QPSolution
from .products import matvec, outer, summed_like, vecmat


def optimal_value(data: QPData, solution: QPSolution, *, alone: bool = False) -> Tensor:
    """1/2 x'Qx + p'x of each item, (B,). Gradients of failed items are zero; NaN stays NaN. ``alone``: item by item."""
    s = solution
    fields = (data.Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub)
    tensors = (*fields, s.x, s.y, s.z, s.z_lb, s.z_ub, s.ok)
    value: Tensor = (each(Value.apply, *tensors) if alone else Value.apply(*tensors))[0]
    return value


class Value(Function):
    """(Q, p, G, h, A, b, lb, ub, x, y, z, z_lb, z_ub, ok) -> (value,). Its derivative in x, y, z is zero: they are optimal."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor]:
        Q, p, x = inputs[0], inputs[1], inputs[8]
        return (torch.linalg.vecdot(x, vecmat(x, Q)) / 2 + torch.linalg.vecdot(x, p),)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        Q, p, G, h, A, b, lb, ub, x, y, z, z_lb, z_ub, ok = ctx.saved_tensors
        keep = ok.unsqueeze(1)
        g = torch.where(ok, grad, 0).unsqueeze(1)
        x, y, z, z_lb, z_ub = (torch.where(keep, part, 0) for part in (x, y, z, z_lb, z_ub))
        gx = g * x
        needs = ctx.needs_input_grad
        dQ = summed_like(Q, outer(gx, x / 2)) if needs[0] else None
        dp = summed_like(p, gx) if needs[1] else None
        dG = summed_like(G, outer(z, gx)) if needs[2] else None
        dh = summed_like(h, -g * z) if needs[3] else None
        dA = summed_like(A, outer(y, gx)) if needs[4] else None
        db = summed_like(b, -g * y) if needs[5] else None
        dlb = summed_like(lb, g * z_lb) if needs[6] else None
        dub = summed_like(ub, -g * z_ub) if needs[7] else None
        return dQ, dp, dG, dh, dA, db, dlb, dub, *(None,) * 6

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor]:
        x, y, z, z_lb, z_ub, ok = ctx.saved_tensors[8:]
        keep = ok.unsqueeze(1)
        x, y, z, z_lb, z_ub = (torch.where(keep, part, 0) for part in (x, y, z, z_lb, z_ub))
        dQ, dp, dG, dh, dA, db, dlb, dub = tangents[:8]
        total = torch.zeros_like(x[:, 0])
        for M, left in ((dG, z), (dA, y)):
            if M is not None:
                total = total + torch.linalg.vecdot(left, matvec(M, x))
        if dQ is not None:
            total = total + torch.linalg.vecdot(x, matvec(dQ, x)) / 2
        for v, weight in ((dp, x), (dh, -z), (db, -y), (dlb, z_lb), (dub, -z_ub)):
            if v is not None:
                total = total + torch.linalg.vecdot(weight, v)
        return (total,)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return batching.fold(Value.apply, info.batch_size, in_dims, inputs)
