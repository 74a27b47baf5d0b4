"""The short way through a solve: one native call, and little else.

Taken where the compiled engine serves, no transform is at work, and nothing is asked beyond the problem as it is. It gives the same
bits as the long way, ``adjoint``, which takes over wherever an item is not solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import batching, compiled, shared
from .adjoint import data_of, dual_level, followed, pulled
from .cpu import engine as cpu
from .cpu.outcome import Outcome, Rest
from .data import Frame, QPSolution, WarmStart
from .options import Options


def solve(tensors: Sequence[Any], frame: Frame, options: Options, warm: WarmStart | None) -> QPSolution | Outcome | None:
    """Solutions for Q, p, G, h, A, b, lb, ub as ``frame`` describes them.

    Where it takes the long way, what is found already; None if that is nothing.
    """
    if not options.plain or not cpu.serves(tensors[0], frame.n, frame.B, options) or batching.transformed() or dual_level():
        return None
    if torch.compiler.is_compiling() or shared.serves(frame, options):
        return None
    wanted = followed(tensors)
    outcome = cpu.find(tensors, frame, options, warm, wanted)
    if outcome.left:
        return outcome if wanted else None  # without the factors it cannot be gone on from
    known = Direct.apply(outcome, options, *tensors) if wanted else outcome.solution
    rest = outcome.rest
    return QPSolution.of(frame.names, known, rest if rest.factor is None else rest.without_factor)


class Direct(Function):
    """(Q, p, G, h, A, b, lb, ub) -> what is found already."""

    @staticmethod
    def forward(ctx: Any, outcome: Outcome, options: Options, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        rest = outcome.rest
        ctx.places, ctx.frame, ctx.options = rest.places, rest.frame, options
        # As bytes: hooks that keep saved numbers in fewer digits must not take flags for some.
        ctx.save_for_backward(*tensors, *outcome.solution[:3], rest.outcome.view(torch.uint8), rest.factor)
        ctx.set_materialize_grads(False)
        return outcome.solution

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *saved, outcome, factor = ctx.saved_tensors
        tensors, point, needs = saved[:8], saved[8:], ctx.needs_input_grad[2:]
        frame, options = ctx.frame, ctx.options
        g_x, g_y, g_z, g_s, *others = grads
        g_lb = others.pop(0) if frame.lower else None
        grads = g_x, g_y, g_z, g_lb, others.pop() if frame.upper else None, g_s
        again = torch.is_grad_enabled() or g_s is not None
        if again or not (frame.B == 1 or (frame.plain and len(frame.batch) == 1)):
            shapes = [(frame.B if own else 1, *core) for own, core in zip(frame.own, frame.cores, strict=True)]
            flat = [None if t is None else t.reshape(shape) for t, shape in zip(tensors, shapes, strict=True)]
            flat[2:6] = (point[0].new_zeros(shape) if t is None else t for t, shape in zip(flat[2:6], shapes[2:6], strict=True))
            point = [part.reshape(frame.B, -1) for part in point]
            grads = tuple([None if g is None else g.reshape(frame.B, -1) for g in grads])
            frame = frame._replace(batch=(frame.B,), plain=False, axes=())
        else:
            flat = tensors
        rest = Rest(outcome, factor, ctx.places, frame)
        if again:
            found = pulled(options, data_of(flat), point, rest.held, needs, grads)
        else:
            found = compiled.backward(frame, options, flat, point, rest, grads[:5], needs)
        if not frame.plain:
            pairs = zip(found, tensors, strict=True)
            found = tuple([g if g is None or g.shape == t.shape else g.reshape(t.shape) for g, t in pairs])
        return None, None, *found
