"""The backward pass of ``adjoint`` by the compiled engine, where nobody asks for a derivative of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

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
    Q, G, A = data.Q, data.G, data.A
    B = len(ok)
    g_w = None
    for g, mask, sign in ((grads[4], factor.upper, 1.0), (grads[3], factor.lower, -1.0)):
        if g is not None:
            part = torch.where(mask, sign * g, 0)
            g_w = part if g_w is None else g_w + part
    wanted = [need and len(block) == B for need, block in zip((needs[0], needs[2], needs[4]), (Q, G, A), strict=True)]
    wanted.append(needs[6] or needs[7])
    right = (*grads[:3], g_w)
    (d_x, l_y, l_z, l_w), lost, outer = cpu.derive(options, (Q, G, A), right, factor, ok, point, wanted)
    if lost is not None:
        d_x, l_y, l_z, l_w = _found(data, options, point, factor, ok, right, (d_x, l_y, l_z, l_w), lost, outer)
    dQ, dG, dA = outer
    if needs[0] and dQ is None:
        dQ = outer_like(Q, *_of_Q(d_x, point[0]))
    if needs[2] and dG is None:
        dG = outer_like(G, *_of_rows(d_x, l_z, point[0], point[2]))
    if needs[4] and dA is None:
        dA = outer_like(A, *_of_rows(d_x, l_y, point[0], point[1]))
    return (
        dQ, summed_like(data.p, d_x) if needs[1] else None,
        dG, summed_like(data.h, l_z) if needs[3] else None,
        dA, summed_like(data.b, l_y) if needs[5] else None,
        _of_bound(data.lb, factor.lower, l_w) if needs[6] else None, _of_bound(data.ub, factor.upper, l_w) if needs[7] else None,
    )  # fmt: skip


def _of_bound(bound: Tensor | None, active: Tensor, l_w: Tensor | None) -> Tensor | None:
    return None if bound is None or l_w is None else summed_like(bound, torch.where(active, l_w, 0))


def _found(
    data: QPData,
    options: Options,
    point: tuple[Tensor, Tensor, Tensor],
    factor: Factor,
    ok: Tensor,
    right: Sequence[Tensor | None],
    solution: tuple[Tensor, Tensor, Tensor, Tensor | None],
    lost: Tensor,
    outer: Sequence[Tensor | None],
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The solution with that of least norm for items with no or many, which torch finds; ``outer`` is put right in place."""
    items = lost.nonzero().squeeze(1)

    def take(part: Tensor) -> Tensor:
        return part if part.shape[0] == 1 else part[items]

    like = *point, point[0]
    g = (own.new_zeros(1, own.shape[1]) if g is None else take(g) for g, own in zip(right, like, strict=True))
    held = (take(getattr(factor, name)) for name in Factor.__dataclass_fields__)
    system = (take(data.Q), take(data.G), take(data.A), *g, *held, ok[items])
    l_x, *rest = linear.solved(options.alone(lost), *system)
    new = -l_x, *rest
    d_x, l_y, l_z, l_w = (
        None if all_ is None else all_.index_copy(0, items, some) for all_, some in zip(solution, new, strict=True)
    )
    x, y, z = (vector[items] for vector in point)
    vectors = _of_Q(new[0], x), _of_rows(new[0], new[2], x, z), _of_rows(new[0], new[1], x, y)
    for grad, own in zip(outer, vectors, strict=True):
        if grad is not None:
            grad[items] = outer_like(grad, *own)
    return cast(tuple[Tensor, Tensor, Tensor, Tensor | None], (d_x, l_y, l_z, l_w))


def _of_Q(d_x: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dQ = (d_x x' + x d_x')/2 as ``outer_like`` takes it."""
    return d_x / 2, x, x, d_x / 2


def _of_rows(d_x: Tensor, l_w: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dG = z d_x' - l_z x', and dA with y."""
    return -l_w, x, w, d_x
