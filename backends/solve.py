"""The differentiable solve of a batch of quadratic programs."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import direct, smooth
from .adjoint import solved
from .cpu.outcome import Outcome
from .data import QPData, QPSolution, WarmStart
from .options import Options

DEFAULTS = Options()


def solve(
    data: QPData, options: Options = DEFAULTS, *, rejected: Tensor | None = None, warm_start: WarmStart | None = None
) -> QPSolution:
    """Solve min 1/2 x'Qx + p'x s.t. Gx <= h, Ax = b, lb <= x <= ub for each item of a batch.

    Differentiable to any order in every tensor of ``data``; a shared tensor's gradient is the sum over the batch. All tensors
    have one dtype, float64 or float32, and one device; none is modified. ``rejected``: int8 (B,), Status codes of items that the
    caller has judged already, 0 for the others. ``warm_start``: solutions of similar problems; saves iterations, changes no status,
    and x by no more than ten ``eps``. Raises SolveError if an item fails, unless ``on_failure`` says otherwise.
    """
    found = direct.solve(data.blocks, data.frame, options, warm_start) if rejected is None and data.sizes[0] else None
    return found if isinstance(found, QPSolution) else in_full(data, options, rejected, warm_start, found)


def in_full(
    data: QPData, options: Options, rejected: Tensor | None, warm_start: WarmStart | None, begun: Outcome | None = None
) -> QPSolution:
    """The same by the long way, which everything can go. ``begun``: what the compiled engine has found already."""
    if not data.sizes[0]:
        return _without_variables(data, options, rejected)
    if not data.batch:
        data = QPData(*(None if block is None else block[:0] for block in data.blocks))  # type: ignore[arg-type]  # in order
    data = _repaired(data, options)
    if options.regularize:
        eye = torch.eye(data.Q.shape[2], dtype=data.Q.dtype, device=data.Q.device)
        data = replace(data, Q=data.Q + options.regularize * eye)
    smoothed = smooth.solve(data, options, rejected) if options.smoothing else None
    solution = smoothed or solved(options, rejected, data, warm_start, begun).solution
    if options.on_failure != "nan":
        return solution
    ok = solution.ok.unsqueeze(1)
    s = solution
    x, y, z, z_lb, z_ub, slack = (torch.where(ok, part, torch.nan) for part in (s.x, s.y, s.z, s.z_lb, s.z_ub, s.s))
    return replace(solution, x=x, y=y, z=z, z_lb=z_lb, z_ub=z_ub, s=slack)


def _repaired(data: QPData, options: Options) -> QPData:
    """Q as its own precision meant it: a Gram matrix made in float32 has eigenvalues of -1e-7 |Q| that float64 would call negative.

    An item whose Q is semidefinite but for the rounding of the precision it came in gets that rounding added to its diagonal,
    before anything is solved, so that the solution and its derivative are those of one problem. What came in the solve's own
    precision is never touched.
    """
    own, given = data.Q.dtype, options.precision
    if given is None or torch.finfo(given).eps <= torch.finfo(own).eps:
        return data
    n = data.sizes[0]
    Q = (data.Q + data.Q.mT).detach() / 2
    eye = torch.eye(n, dtype=own, device=Q.device)
    largest = torch.linalg.vector_norm(Q.flatten(1), ord=torch.inf, dim=1)[:, None, None]
    rounding = 4 * n * torch.finfo(given).eps * largest
    lacks = torch.linalg.cholesky_ex(Q + n * torch.finfo(own).eps * largest * eye).info != 0
    mends = torch.linalg.cholesky_ex(Q + rounding * eye).info == 0
    return replace(data, Q=data.Q + torch.where(lacks & mends, 1.0, 0.0)[:, None, None] * rounding * eye)


def _without_variables(data: QPData, options: Options, rejected: Tensor | None) -> QPSolution:
    """Nothing to choose, but rows to hold: solved with one idle variable, which is taken away again."""
    B, (_, m, k) = data.batch, data.sizes
    p = data.p.new_zeros(B, 1)
    idle = QPData(p.new_ones(1, 1, 1), p, p.new_zeros(1, m, 1), data.h, p.new_zeros(1, k, 1), data.b)
    solution = solve(idle, options, rejected=rejected)
    stripped: QPSolution = _taken_away(solution, {"x", "z_lb", "z_ub", "lb", "ub"})
    return stripped


def _taken_away(value: Any, columns: set[str]) -> Any:
    """Fields of these names without their columns, at every level."""
    changes = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            changes[field.name] = _taken_away(part, columns)
        elif field.name in columns:
            changes[field.name] = part[:, :0]
    return replace(value, **changes)
