"""The backward pass of ``adjoint`` by the compiled engine, where nobody asks for a derivative of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import linear
from .cpu import engine as cpu
from .cpu.outcome import Held, Rest
from .data import Frame
from .options import Options
from .products import outer_like, summed_like


def backward(
    frame: Frame,
    options: Options,
    tensors: Sequence[Any],
    point: Sequence[Tensor],
    kept: Rest | Held,
    grads: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of Q, p, G, h, A, b, lb, ub, None where not needed, from those of (x, y, z, z_lb, z_ub), None where zero.

    Shared tensors have one batch axis of size 1; of a single problem, all have any number of batch axes, or none.
    """
    Q, p, G, h, A, b, lb, ub = tensors
    g_x, g_y, g_z, g_lb, g_ub = grads
    g_w = None
    for g, side, sign in ((g_ub, 1, 1.0), (g_lb, 0, -1.0)):
        if g is not None:
            part = torch.where(kept.marks[side], sign * g, 0)
            g_w = part if g_w is None else g_w + part
    need_Q, need_p, need_G, need_h, need_A, need_b, need_lb, need_ub = needs
    if frame.B == 1:
        wanted = need_Q, need_G, need_A, need_lb or need_ub
    else:
        own = frame.own
        wanted = need_Q and own[0], need_G and own[2], need_A and own[4], need_lb or need_ub
    right = g_x, g_y, g_z, g_w
    found, lost = cpu.derive(options, frame, (Q, G, A), right, kept, point, wanted)
    if lost is not None:
        matrices = [Q.new_zeros(1, 0, frame.n) if matrix is None else matrix for matrix in (Q, G, A)]
        _mend(frame, options, matrices, point, kept, right, found, lost)
    d_x, l_y, l_z, l_w, dQ, dG, dA = found
    x, y, z = point
    if need_Q and dQ is None:
        dQ = outer_like(Q, *_of_Q(d_x, x))
    if need_G and dG is None:
        dG = outer_like(G, *_of_rows(d_x, l_z, x, z))
    if need_A and dA is None:
        dA = outer_like(A, *_of_rows(d_x, l_y, x, y))
    return (
        dQ, summed_like(p, d_x) if need_p else None, dG, summed_like(h, l_z) if need_h else None,
        dA, summed_like(b, l_y) if need_b else None,
        _of_bound(lb, kept.marks[0], l_w) if need_lb else None, _of_bound(ub, kept.marks[1], l_w) if need_ub else None,
    )  # fmt: skip


def _of_bound(bound: Tensor, active: Tensor, l_w: Tensor) -> Tensor:
    return summed_like(bound, torch.where(active, l_w, 0))


def _mend(
    frame: Frame,
    options: Options,
    matrices: Sequence[Tensor],
    point: Sequence[Tensor],
    kept: Rest | Held,
    right: Sequence[Tensor | None],
    found: Sequence[Any],
    lost: Tensor,
) -> None:
    """Put right, in place, what was found for items with no or many solutions: torch finds that of least norm."""
    items = lost.nonzero().squeeze(1)

    def take(part: Tensor, dims: int = 1) -> Tensor:
        flat = part if part.dim() == dims + 1 else part.reshape(1, *part.shape[part.dim() - dims :])
        return flat if len(flat) == 1 else flat[items]

    x, y, z = (take(vector) for vector in point)
    g = (own.new_zeros(1, own.shape[1]) if g is None else take(g) for g, own in zip(right, (x, y, z, x), strict=True))
    held = kept.held
    U, *rest = held
    factor = take(U, 1 if held.dual else 2), *(take(part) for part in rest[:-1]), rest[-1].reshape(-1)[items]
    l_x, *others = linear.solved(options.alone(lost), *(take(matrix, 2) for matrix in matrices), *g, *factor)
    new = -l_x, *others
    for whole, some in zip(found, new, strict=False):
        if whole is not None:
            whole.view(frame.B, -1).index_copy_(0, items, some)
    vectors = _of_Q(new[0], x), _of_rows(new[0], new[2], x, z), _of_rows(new[0], new[1], x, y)
    for grad, own in zip(found[4:], vectors, strict=True):
        if grad is not None:
            grad.view(frame.B, *grad.shape[-2:])[items] = outer_like(grad, *own)


def _of_Q(d_x: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dQ = (d_x x' + x d_x')/2 as ``outer_like`` takes it."""
    return d_x / 2, x, x, d_x / 2


def _of_rows(d_x: Tensor, l_w: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dG = z d_x' - l_z x', and dA with y."""
    return -l_w, x, w, d_x
