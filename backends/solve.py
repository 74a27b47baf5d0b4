"""The differentiable solve of a batch of quadratic programs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .adjoint import Solve
from .data import QPData, QPSolution
from .found import Found
from .options import Options

DEFAULTS = Options()


def solve(data: QPData, options: Options = DEFAULTS, *, rejected: Tensor | None = None) -> QPSolution:
    """Solve min 1/2 x'Qx + p'x s.t. Gx <= h, Ax = b, lb <= x <= ub for each item of a batch.

    Differentiable to any order in every tensor of ``data``; a shared tensor's gradient is the sum over the batch. All tensors have one
    dtype, float64 or float32, and one device; none is modified. ``rejected``: int8 (B,), Status codes of items that the caller has
    judged already, 0 for the others. Raises SolveError if an item fails, unless ``on_failure`` says otherwise.
    """
    if options.regularize:
        eye = torch.eye(data.Q.shape[2], dtype=data.Q.dtype, device=data.Q.device)
        data = replace(data, Q=data.Q + options.regularize * eye)
    fields = (data.Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub)
    solution = Found(*Solve.apply(options, rejected, *fields)).solution
    if options.on_failure != "nan":
        return solution
    ok = solution.ok.unsqueeze(1)
    names = ("x", "y", "z", "z_lb", "z_ub", "s")
    return replace(solution, **{name: torch.where(ok, getattr(solution, name), torch.nan) for name in names})
