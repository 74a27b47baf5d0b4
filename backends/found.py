"""Everything a solve leaves behind, as the flat tuple of tensors that crosses autograd's border."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import engine
from .certificates import adjudicate
from .data import Active, QPData, QPSolution, Ray, Residuals
from .failure import SolveError
from .options import Options
from .status import Status

# Bytes of matrices solved at a time: on a CPU what its caches hold (32 MiB shared by two cores where this was measured: n = 100 is
# 1.4 times faster than in one piece), elsewhere a bound on memory.
CACHE = 10 * 2**20
MEMORY = 2 * 2**30


class Found(NamedTuple):
    """First what has a derivative, then what has none."""

    x: Tensor
    y: Tensor
    z: Tensor
    z_lb: Tensor
    z_ub: Tensor
    s: Tensor
    # outcome
    status: Tensor
    iterations: Tensor
    scaled: Tensor
    absolute: Tensor
    rows: Tensor
    # certificates
    ray_x: Tensor
    ray_y: Tensor
    ray_z: Tensor
    ray_lb: Tensor
    ray_ub: Tensor
    # the factored KKT system
    U: Tensor
    scale: Tensor
    weight: Tensor
    unit: Tensor
    lower: Tensor
    upper: Tensor
    ok: Tensor

    @property
    def detached(self) -> tuple[Tensor, ...]:
        return tuple(self[6:])

    @property
    def factor(self) -> tuple[Tensor, ...]:
        """The fields of ``Factor``, and which items it holds for."""
        return tuple(self[-7:])

    @property
    def solution(self) -> QPSolution:
        return QPSolution(
            self.x, self.y, self.z, self.z_lb, self.z_ub, self.s, self.status, self.ok, self.iterations,
            Residuals(self.scaled, self.absolute),
            Active(self.rows, self.lower, self.upper),
            Ray(self.ray_x, self.ray_y, self.ray_z, self.ray_lb, self.ray_ub),
        )  # fmt: skip


def find(data: QPData, options: Options, rejected: Tensor | None) -> Found:
    """Solve, adjudicate what is left, and raise if that is the policy. Large batches go through in parts: items do not interact."""
    size = _part_size(data)
    if data.batch <= size:
        found = _find(data, options, rejected)
    else:
        starts = range(0, data.batch, size)
        parts = [_find(data[i : i + size], options, None if rejected is None else rejected[i : i + size]) for i in starts]
        found = Found(*(torch.cat(column) for column in zip(*parts, strict=True)))
    if options.on_failure == "raise" and not bool(found.ok.all()):
        indices = (~found.ok).nonzero().squeeze(1)
        raise SolveError(found.solution, indices.tolist(), [Status(code) for code in found.status[indices].tolist()])
    return found


def _part_size(data: QPData) -> int:
    """Items whose matrices fit the budget of the device."""
    n, m, k = data.sizes
    entries = 4 * n * n + 3 * n * (m + k)
    budget = CACHE if data.Q.is_cpu else MEMORY
    return max(1, budget // (entries * data.Q.element_size()))


def _find(data: QPData, options: Options, rejected: Tensor | None) -> Found:
    eps = options.tolerance(data.Q.dtype)
    outcome = engine.run(data, eps, options.eps_abs, options.max_iter, rejected)
    k = data.sizes[2]
    point, factor = outcome.point, outcome.factor
    status, ray = adjudicate(data, outcome)
    ok = (status == Status.SOLVED) | ((status == Status.SOLVED_INACCURATE) & (options.accept == "inaccurate"))
    # A failed item's best iterate stays finite, and its factor multiplies zeros.
    x, w, z_lb, z_ub = (part.nan_to_num(0, 0, 0) for part in (point.x, point.w, point.z_lb, point.z_ub))
    return Found(
        x, w[:, :k], w[:, k:], z_lb, z_ub, outcome.slack(data, x),
        status, outcome.iterations, outcome.residuals.scaled, outcome.residuals.absolute, factor.weight[:, k:] > 0,
        ray.x, ray.y, ray.z, ray.z_lb, ray.z_ub,
        factor.U, factor.scale, factor.weight, factor.unit, factor.lower, factor.upper, ok,
    )  # fmt: skip
