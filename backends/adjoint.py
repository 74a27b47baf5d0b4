"""The derivative, written once from two primitives that are closed under differentiation.

At a solution with active rows a and variables f at a bound, (x, y, z_a, w) with w = z_ub - z_lb solves K (x,y,z_a,w) =
(-p,b,h_a,x_f):

        [Q   A'  G_a'  I_f']
    K = [A                 ]      symmetric, so   K' = K,  and K^-1 serves every derivative
        [G_a               ]
        [I_f               ]

**kkt_solve**: u = K^-1 r. From dK u + K du = dr, and with l = K^-1 g for the gradient g that arrives at u:

    dr:  l        dQ:  -(l_x u_x' + u_x l_x')/2        dA:  -(l_y u_x' + u_y l_x')        dG:  -(l_z u_x' + u_z l_x')

**solve**: the same with r = (-p, b, h_a, x_f) and u = (x, y, z, w), so that

    dp: -l_x      db: l_y      dh: l_z      dlb, dub: l_w on the variables at lb, at ub

OptNet's d_x is -l_x and its D(z) d_z is -l_z. (The paper prints dG = D(z)(d_z x' + z d_x'), with one D(z) too many in its second
term; the formula above agrees with finite differences.) The slack s = h - Gx, when it is used, sends g_s to h and -G'g_s to x;
z_lb and z_ub are -w and w where they hold. The factor arrives as tensors with no derivative: it is part of how K^-1 is applied,
not of what it is.

Forward mode: K (dx, dy, dz, dw) = (-dp - dQ x - dA'y - dG'z, db - dA x, dh - dG x, dx_f).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.autograd import Function

from . import batching, compiled, linear
from .alone import each
from .cpu import engine as cpu
from .cpu.outcome import Held, Outcome
from .data import QPData, WarmStart
from .find import find
from .found import Found
from .options import Options
from .products import matvec, outer_like, summed_like, vecmat

FACTOR = 8  # tensors that make up a factor
Product: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def solved(options: Options, rejected: Tensor | None, data: QPData, warm: WarmStart | None, begun: Outcome | None = None) -> Found:
    """``find`` with derivatives. A warm start is a hint: under a transform of torch.func it is not taken."""
    tensors = data.blocks
    if batching.transformed():
        return Found(*Solve.apply(options, rejected, *tensors))
    if not (followed(tensors) or dual_level()):
        return find(data, options, rejected, warm, begun)
    held: list[Found] = []
    values = Eager.apply(held, options, rejected, warm, begun, *tensors)
    return Found(*values, *held[0].detached)


def followed(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the tape may be asked for a derivative."""
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def dual_level() -> bool:
    """Whether code runs at a level of dual numbers, where derivatives go forward."""
    return getattr(torch.autograd.forward_ad, "_current_level", 0) >= 0


class Eager(Function):
    """(Q, p, G, h, A, b, lb, ub) -> (x, y, z, z_lb, z_ub, s); all else that was found is put into ``held``.

    The same as ``Solve`` for code that no transform of torch.func sees: half of a small problem's time is torch passing tensors
    that have no derivative.
    """

    @staticmethod
    def forward(
        ctx: Any,
        held: list[Found],
        options: Options,
        rejected: Tensor | None,
        warm: WarmStart | None,
        begun: Outcome | None,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        found = find(data_of(tensors), options, rejected, warm, begun)
        held.append(found)
        ctx.options = options
        saved = (*tensors, found.x, found.y, found.z, *found.factor)
        ctx.save_for_backward(*saved)
        if dual_level():
            ctx.save_for_forward(*saved)
        ctx.set_materialize_grads(False)
        return tuple(found[:6])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, None, None, None, None, *_pulled(ctx, ctx.needs_input_grad[5:], grads)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        return _pushed(ctx, tangents[5:])


class Solve(Function):
    """(Q, p, G, h, A, b, lb, ub, rejected) -> (x, y, z, z_lb, z_ub, s), then all of ``Found`` that has no derivative."""

    @staticmethod
    def forward(options: Options, rejected: Tensor | None, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(find(data_of(tensors), options, rejected))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        found = Found(*output)
        ctx.options = inputs[0]
        ctx.mark_non_differentiable(*found.detached)
        saved = (*inputs[2:], found.x, found.y, found.z, *found.factor)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, None, *_pulled(ctx, ctx.needs_input_grad[2:], grads[:6])

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        return *_pushed(ctx, tangents[2:]), *(None,) * (len(Found._fields) - 6)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return batching.fold(Solve.apply, info.batch_size, in_dims, inputs)


def _pulled(ctx: Any, needs: Sequence[bool], grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Gradients of Q, p, G, h, A, b, lb, ub from those of x, y, z, z_lb, z_ub, s."""
    saved, options = ctx.saved_tensors, ctx.options
    data, point, held = data_of(saved[:8]), saved[8:11], Held(*saved[11:])
    compiles = cpu.serves(data.Q, data.sizes[0], data.batch, options)
    if compiles and grads[5] is None and not torch.is_grad_enabled():
        return compiled.backward(data.frame, options, data.blocks, point, held, grads[:5], needs)
    return pulled(options, data, point, held, needs, grads)


def pulled(
    options: Options, data: QPData, point: Sequence[Tensor], factor: Held, needs: Sequence[bool], grads: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The same, in a way that can be differentiated again."""
    Q, p, G, h, A, b, lb, ub = data.blocks
    x, y, z = point
    lower, upper, ok = factor.lower, factor.upper, factor.ok.unsqueeze(1)
    g_x, g_y, g_z, g_lb, g_ub, g_s = (
        torch.zeros_like(like) if grad is None else torch.where(ok, grad, 0)
        for grad, like in zip(grads, (x, y, z, x, x, z), strict=True)
    )
    alone = options.alone(x)
    if grads[5] is not None:
        g_x = g_x - torch.where(ok, _products(alone)[0](g_s, G), 0)
    g_w = torch.where(upper, g_ub, 0) - torch.where(lower, g_lb, 0)
    l_x, l_y, l_z, l_w = KKTSolve.apply(alone, Q, G, A, g_x, g_y, g_z, g_w, *factor)
    dQ = outer_like(Q, -l_x / 2, x, x, -l_x / 2) if needs[0] else None
    dp = summed_like(p, -l_x) if needs[1] else None
    dG = outer_like(G, -(l_z + g_s), x, -z, l_x) if needs[2] else None
    dh = summed_like(h, l_z + g_s) if needs[3] else None
    dA = outer_like(A, -l_y, x, -y, l_x) if needs[4] else None
    db = summed_like(b, l_y) if needs[5] else None
    dlb = summed_like(lb, torch.where(lower, l_w, 0)) if lb is not None and needs[6] else None
    dub = summed_like(ub, torch.where(upper, l_w, 0)) if ub is not None and needs[7] else None
    return dQ, dp, dG, dh, dA, db, dlb, dub


def _pushed(ctx: Any, tangents: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """Tangents of x, y, z, z_lb, z_ub, s from those of Q, p, G, h, A, b, lb, ub."""
    Q, _, G, _, A, _, _, _, x, y, z, *factor = ctx.saved_tensors
    lower, upper, ok = factor[-3], factor[-2], factor[-1].unsqueeze(1)
    dQ, dp, dG, dh, dA, db, dlb, dub = tangents
    alone = ctx.options.alone(x)
    across, down = _products(alone)
    r_x, r_y, r_z, r_w = (torch.zeros_like(part) for part in (x, y, z, x))
    if dQ is not None:
        r_x = r_x - across(x, (dQ + dQ.mT) / 2)
    if dp is not None:
        r_x = r_x - dp
    if dA is not None:
        r_x, r_y = r_x - across(y, dA), r_y - down(dA, x)
    if db is not None:
        r_y = r_y + db
    if dG is not None:
        r_x, r_z = r_x - across(z, dG), r_z - down(dG, x)
    if dh is not None:
        r_z = r_z + dh
    if dlb is not None:
        r_w = r_w + torch.where(lower, dlb, 0)
    if dub is not None:
        r_w = r_w + torch.where(upper, dub, 0)
    r_x, r_y, r_z, r_w = (torch.where(ok, part, 0) for part in (r_x, r_y, r_z, r_w))
    dx, dy, dz, dw = KKTSolve.apply(alone, Q, G, A, r_x, r_y, r_z, r_w, *factor)
    ds = torch.where(ok, r_z - down(G, dx), 0)
    return (dx, dy, dz, torch.where(lower, -dw, 0), torch.where(upper, dw, 0), ds)


def _products(alone: bool) -> tuple[Product, Product]:
    """``vecmat`` and ``matvec``, for one item after the other if ``alone``."""
    if not alone:
        return vecmat, matvec
    return lambda v, M: each(lambda *pair: (vecmat(*pair),), v, M)[0], lambda M, v: each(lambda *pair: (matvec(*pair),), M, v)[0]


class KKTSolve(Function):
    """(Q, G, A, r_x, r_y, r_z, r_w, factor) -> (u_x, u_y, u_z, u_w); zero for items that failed. ``alone``: item by item."""

    @staticmethod
    def forward(alone: bool, *inputs: Tensor) -> tuple[Tensor, ...]:
        return linear.solved(alone, *inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.alone = inputs[0]
        saved = (*inputs[1:4], *output, *inputs[8:])
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        Q, G, A, u_x, u_y, u_z, _, *factor = ctx.saved_tensors
        ok = factor[-1].unsqueeze(1)
        g = (torch.where(ok, grad, 0) for grad in grads)
        l_x, l_y, l_z, l_w = KKTSolve.apply(ctx.alone, Q, G, A, *g, *factor)
        needs = ctx.needs_input_grad[1:]
        dQ = outer_like(Q, -l_x / 2, u_x, u_x, -l_x / 2) if needs[0] else None
        dG = outer_like(G, -l_z, u_x, -u_z, l_x) if needs[1] else None
        dA = outer_like(A, -l_y, u_x, -u_y, l_x) if needs[2] else None
        return None, dQ, dG, dA, l_x, l_y, l_z, l_w, *(None,) * FACTOR

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, ...]:
        Q, G, A, u_x, u_y, u_z, u_w, *factor = ctx.saved_tensors
        ok = factor[-1].unsqueeze(1)
        dQ, dG, dA, *dr = tangents[1:8]
        across, down = _products(ctx.alone)
        r_x, r_y, r_z, r_w = (torch.zeros_like(u) if d is None else d for d, u in zip(dr, (u_x, u_y, u_z, u_w), strict=True))
        if dQ is not None:
            r_x = r_x - across(u_x, (dQ + dQ.mT) / 2)
        if dG is not None:
            r_x, r_z = r_x - across(u_z, dG), r_z - down(dG, u_x)
        if dA is not None:
            r_x, r_y = r_x - across(u_y, dA), r_y - down(dA, u_x)
        found: tuple[Tensor, ...] = KKTSolve.apply(
            ctx.alone, Q, G, A, *(torch.where(ok, r, 0) for r in (r_x, r_y, r_z, r_w)), *factor
        )
        return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return batching.fold(KKTSolve.apply, info.batch_size, in_dims, inputs)


def data_of(tensors: Sequence[Tensor | None]) -> QPData:
    """The eight inputs of ``Solve`` as one; only the last two may be missing."""
    return QPData(*cast(tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tensors[:6]), *tensors[6:])
