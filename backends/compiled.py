"""The backward pass of ``adjoint`` by the compiled engine, where nobody asks for a derivative of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import linear
from .cpu import engine as cpu
from .data import QPData
from .options import Options
from .polish import Factor
from .products import outer_like, summed_like


def backward(
    data: QPData,
    options: Options,
    point: tuple[Tensor, Tensor, Tensor],
    factor: Factor,
    ok: Tensor,
    grads: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of Q, p, G, h, A, b, lb, ub, None where not needed, from those of (x, y, z, z_lb, z_ub), None where zero."""
    x = point[0]
    Q, G, A = data.Q, data.G, data.A
    g_x, g_y, g_z = (part.new_zeros(1, part.shape[1]) if g is None else g for g, part in zip(grads[:3], point, strict=True))
    g_w = x.new_zeros(1, x.shape[1])
    for g, mask, sign in ((grads[4], factor.upper, 1.0), (grads[3], factor.lower, -1.0)):
        g_w = g_w if g is None else g_w + torch.where(mask, sign * g, 0)
    batched = [need and len(block) == len(x) for need, block in zip((needs[0], needs[2], needs[4]), (Q, G, A), strict=True)]
    fields = (factor.U, factor.scale, factor.weight, factor.unit, ok.to(x.dtype))
    (l_x, l_y, l_z, l_w), lost, outer = cpu.derive(options, (Q, G, A), (g_x, g_y, g_z, g_w), fields, point, batched)
    if bool(lost.any()):
        # No or many solutions: torch finds the one of least norm.
        items = lost.nonzero().squeeze(1)

        def take(part: Tensor) -> Tensor:
            return part if part.shape[0] == 1 else part[items]

        part = Factor(*(take(getattr(factor, name)) for name in Factor.__dataclass_fields__))
        some = linear.solve(take(Q), take(G), take(A), (take(g_x), take(g_y), take(g_z), take(g_w)), part, ok[items])
        l_x, l_y, l_z, l_w = (whole.index_copy(0, items, new) for whole, new in zip((l_x, l_y, l_z, l_w), some, strict=True))
        for grad, (a, b, c, d) in zip(outer, _outer(*some[:3], *(v[items] for v in point)), strict=True):
            if grad is not None:
                grad[items] = outer_like(grad, a, b, c, d)
    dQ, dG, dA = (
        outer_like(block, *vectors) if need and grad is None else grad
        for need, grad, block, vectors in zip(
            (needs[0], needs[2], needs[4]), outer, (Q, G, A), _outer(l_x, l_y, l_z, *point), strict=True
        )
    )
    return (
        dQ, summed_like(data.p, -l_x) if needs[1] else None,
        dG, summed_like(data.h, l_z) if needs[3] else None,
        dA, summed_like(data.b, l_y) if needs[5] else None,
        summed_like(data.lb, torch.where(factor.lower, l_w, 0)) if needs[6] and data.lb is not None else None,
        summed_like(data.ub, torch.where(factor.upper, l_w, 0)) if needs[7] and data.ub is not None else None,
    )  # fmt: skip


def _outer(l_x: Tensor, l_y: Tensor, l_z: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    """The vectors of ab' + cd' for dQ, dG, dA: see ``adjoint``."""
    return (-l_x / 2, x, x, -l_x / 2), (-l_z, x, -z, l_x), (-l_y, x, -y, l_x)
