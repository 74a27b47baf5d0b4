"""The torch engine: from data to solution and factored KKT system, without autograd.

    screen -> equilibrate -> interior point -> polish -> residuals -> status
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import interior_point
from .data import QPData, Residuals
from .equilibrate import equilibrate
from .polish import Factor, factorize, polish
from .products import matvec
from .residuals import Measure, Point
from .scaled import scale
from .screen import Clean, screen
from .status import Status


# A polished point with residuals below this fraction of eps is kept without asking how good the iterate was.
SURE = 0.01


@dataclass(frozen=True)
class Outcome:
    """What the engine found for every item."""

    clean: Clean
    point: Point
    factor: Factor
    residuals: Residuals
    status: Tensor
    iterations: Tensor

    def slack(self, data: QPData, x: Tensor) -> Tensor:
        """h - Gx with the h that was given: +inf stays."""
        G, h = self.clean.W[:, self.clean.k :], data.h
        finite = self.clean.rhs[:, self.clean.k :] - matvec(G, x)
        return torch.where(h == torch.inf, h, finite)


def run(data: QPData, eps: float, eps_abs: float | None, max_iter: int, rejected: Tensor | None = None) -> Outcome:
    """Solve a batch. No item raises; rejected ones carry the code they came with."""
    clean = screen(data, rejected)
    measure = Measure(clean)
    d, e = equilibrate(clean.Q, clean.W)
    qp = scale(clean, measure.floors, d, e)
    n, k, B = qp.n, qp.k, clean.batch
    m = clean.W.shape[1] - k
    nothing = clean.p.new_zeros(B, n)
    if qp.inequalities:
        # Half of eps leaves room for the difference between the cheap test of the loop and the final one.
        v, iterations = interior_point.solve(qp, eps / 2, max_iter)
        x, w, z, s = v[:, :n] * d, v[:, n : n + k + m] * e, v[:, n + k : qp.cost.shape[2]], v[:, qp.cost.shape[2] :]
        holds = z > s
        always = torch.ones(B, k, dtype=torch.bool, device=x.device)
        active = torch.cat([always, holds[:, :m]], 1)
        multipliers, masks = [nothing, nothing], [nothing.bool(), nothing.bool()]
        offset = m
        for i, bound in enumerate((clean.lower, clean.upper)):
            if bound is not None:
                multipliers[i] = z[:, offset : offset + n] / d * bound.present
                masks[i] = holds[:, offset : offset + n] & bound.present
                offset += n
        masks[1] = masks[1] & ~masks[0]
        start = Point(clean.clamp(x), w, *multipliers)
    else:
        iterations = torch.zeros(B, dtype=torch.int32, device=nothing.device)
        active = torch.ones(B, k, dtype=torch.bool, device=nothing.device)
        masks = [nothing.bool(), nothing.bool()]
        start = Point(nothing, clean.p.new_zeros(B, k), nothing, nothing)
    factor, exists = factorize(qp, active, masks[0], masks[1], d, e)
    # From an iterate with eight digits two refinements reach rounding; from nothing it takes three.
    point = polish(clean, factor, start, 2 if qp.inequalities else 3)
    residuals = measure.residuals(point)
    sure = exists & (residuals.worst <= SURE * eps)
    if not (clean.p.is_cpu and bool(sure.all())):
        before = measure.residuals(start)
        keep = sure | (exists & (residuals.worst <= before.worst))
        point, residuals = Point.where(keep, point, start), before.replaced(keep, residuals)
    status = judge(residuals, clean.rejected, iterations, eps, eps_abs, max_iter)
    return Outcome(clean, point, factor, residuals, status, iterations)


def judge(
    residuals: Residuals, rejected: Tensor, iterations: Tensor, eps: float, eps_abs: float | None, max_iter: int
) -> Tensor:
    """Statuses from residuals alone; what is neither solved nor rejected stays open as MAX_ITERATIONS or NUMERICAL_ERROR."""
    scaled = residuals.scaled.amax(1)
    absolute = residuals.absolute.amax(1)
    bound = math.inf if eps_abs is None else eps_abs
    open_code = torch.where(iterations >= max_iter, int(Status.MAX_ITERATIONS), int(Status.NUMERICAL_ERROR))
    status = torch.where((scaled <= math.sqrt(eps)) & (absolute <= math.sqrt(bound)), int(Status.SOLVED_INACCURATE), open_code)
    status = torch.where((scaled <= eps) & (absolute <= bound), int(Status.SOLVED), status)
    return torch.where(rejected != 0, rejected, status).to(torch.int8)
