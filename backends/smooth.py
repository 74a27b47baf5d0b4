"""The solution smoothed by a logarithmic barrier: the point of the central path where every s_i z_i is mu.

    minimize 1/2 x'Qx + p'x - mu sum(log(h - Gx))   subject to   Ax = b

    Qx + p + A'y + G'z = 0      Ax = b      Gx + s = h      s_i z_i = mu

It is a smooth function of the data wherever the feasible set has an interior: no active set, no kinks, and gradients that do not
vanish at the vertices of a linear program. It is not the solution of the problem, but of a neighbour whose objective is at most
M mu larger. Differentiating, with ds = -(s/z) dz:

    [Q  A'   G'  ] [dx]   [-dp - dQ x - dA'y - dG'z]
    [A           ] [dy] = [db - dA x               ]        K symmetric, so one solve K l = g serves the gradient:
    [G     -s/z  ] [dz]   [dh - dG x               ]

    dp: -l_x    db: l_y    dh: l_z    dQ: -(l_x x' + x l_x')/2    dA: -(l_y x' + y l_x')    dG: -(l_z x' + z l_x')

A gradient g_s that arrives at s counts as -(s/z) g_s at z. First derivatives only: s/z is a function of the data itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from . import interior_point, kkt, linear
from .alone import joined
from .data import Active, QPData, QPSolution, Ray, Residuals
from .equilibrate import equilibrate
from .failure import SolveError
from .find import find
from .options import Options
from .polish import Factor
from .products import outer_like, summed_like
from .residuals import Measure, Point
from .scaled import scale
from .screen import screen
from .status import Status

SHARP = 1e-3


def solve(data: QPData, options: Options, rejected: Tensor | None) -> QPSolution:
    """The smoothed solution of each item of a batch. Bounds are rows like all others here."""
    if options.alone(data.Q):
        return _one_by_one(data, options, rejected)
    return _together(data, options, rejected)


def _together(data: QPData, options: Options, rejected: Tensor | None) -> QPSolution:
    n, m, _ = data.sizes
    rows = data.bounds_as_rows()
    held: list[QPSolution] = []
    x, y, z, s = Smooth.apply(held, options, rejected, rows.Q, rows.p, rows.G, rows.h, rows.A, rows.b)
    found = held[0]
    sides = [data.lb is not None, data.ub is not None]
    ends = iter(z[:, m:].split(n, 1))
    z_lb, z_ub = (next(ends) if side else x.new_zeros(x.shape) for side in sides)
    nothing = torch.zeros_like(x, dtype=torch.bool)
    ray = replace(found.ray, z=found.ray.z[:, :m])
    active = Active(torch.zeros_like(z[:, :m], dtype=torch.bool), nothing, nothing)
    return replace(found, x=x, y=y, z=z[:, :m], z_lb=z_lb, z_ub=z_ub, s=s[:, :m], active=active, ray=ray)


def _one_by_one(data: QPData, options: Options, rejected: Tensor | None) -> QPSolution:
    quiet, items = replace(options, on_failure="return"), torch.arange(data.batch).split(1)
    parts = [_together(data.select(item), quiet, None if rejected is None else rejected[item]) for item in items]
    whole: QPSolution = joined(parts)
    if options.on_failure == "raise":
        _raise_failed(whole)
    return whole


def _raise_failed(solution: QPSolution) -> None:
    if not bool(solution.ok.all()):
        items = (~solution.ok).nonzero().squeeze(1)
        raise SolveError(solution, items.tolist(), [Status(code) for code in solution.status[items].tolist()])


class Smooth(Function):
    """(Q, p, G, h, A, b) -> (x, y, z, s); statuses and residuals are put into ``held``."""

    @staticmethod
    def forward(
        ctx: Any, held: list[QPSolution], options: Options, rejected: Tensor | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        data = QPData(*tensors)
        solution, factor, give = _central(data, options, rejected)
        held.append(solution)
        ctx.save_for_backward(*tensors, solution.x, solution.y, solution.z, solution.ok, give, *vars(factor).values())
        return solution.x, solution.y, solution.z, solution.s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, needs = ctx.saved_tensors, ctx.needs_input_grad[3:]
        if not torch.is_grad_enabled():
            return None, None, None, *_pulled(saved, needs, grads)
        with torch.no_grad():
            found = _pulled(saved, needs, grads)
        return None, None, None, *(None if grad is None else Once.apply(grad, saved[6], *grads) for grad in found)


class Once(Function):
    """A gradient that cannot be differentiated again, and says so instead of passing for a constant."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, *depends_on: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise NotImplementedError("a smoothed solution has first derivatives only; smoothing=0 has all of them")


def _pulled(saved: Sequence[Tensor], needs: Sequence[bool], grads: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Gradients of Q, p, G, h, A, b from those of x, y, z, s."""
    Q, p, G, h, A, b, x, y, z, ok, give, *parts = saved
    g_x, g_y, g_z, g_s = grads
    k = A.shape[1]
    keep = ok.unsqueeze(1)
    present = torch.isfinite(h)
    g_z = torch.where(present, g_z - give[:, k:] * g_s, 0)
    rows = torch.where(present.unsqueeze(2), G, 0)
    g_x, g_y, g_z = (torch.where(keep, g, 0) for g in (g_x, g_y, g_z))
    l_x, l_y, l_z, _ = linear.solve(Q, rows, A, (g_x, g_y, g_z, torch.zeros_like(g_x)), Factor(*parts), ok, give)
    return (
        outer_like(Q, -l_x / 2, x, x, -l_x / 2) if needs[0] else None, summed_like(p, -l_x) if needs[1] else None,
        outer_like(G, -l_z, x, -z, l_x) if needs[2] else None, summed_like(h, l_z) if needs[3] else None,
        outer_like(A, -l_y, x, -y, l_x) if needs[4] else None, summed_like(b, l_y) if needs[5] else None,
    )  # fmt: skip


def _central(data: QPData, options: Options, rejected: Tensor | None) -> tuple[QPSolution, Factor, Tensor]:
    """The central point, its factored KKT system, and how far its rows give way."""
    eps, mu = options.tolerance(data.Q.dtype), options.smoothing
    n, m, k = data.sizes
    if not m:  # nothing to smooth
        found = find(data, options, rejected)
        factor = Factor(*found.factor[:-1])
        return found.solution, factor, torch.zeros_like(factor.weight)
    clean = screen(data, rejected)
    measure = Measure(clean)
    d, e = equilibrate(clean.Q, clean.W)
    qp = scale(clean, measure.fair, d, e)
    # Newton's method doubles the digits: what costs one step more is worth finite differences of it.
    v, iterations = interior_point.solve(qp, eps / 2, SHARP * eps, options.max_iter, center=mu)
    x, y, z, s = v.split([n, k, m, m], 1)
    off = (s * z / mu - 1).abs().amax(1)
    x, y, z, s = x * d, y * e[:, :k], z * e[:, k:], s / e[:, k:]
    point = Point(x, torch.cat([y, z], 1), torch.zeros_like(x), torch.zeros_like(x))
    residuals = measure.residuals(point, measure.floors)
    gap_aside = residuals.scaled[:, :3].amax(1)  # the gap is that of the barrier: M mu
    central = (torch.maximum(gap_aside, off) <= eps) & (clean.rejected == 0)
    work = kkt.Workspace(clean.batch, n, k + m, x)
    weight = torch.cat([(qp.unit.squeeze(2) / kkt.DELTA[x.dtype]).expand(clean.batch, k), z / s / e[:, k:] ** 2], 1)
    U, _ = work.factor(qp.Q, qp.W, qp.Wt, weight.unsqueeze(1), qp.rho)
    none = torch.zeros_like(x, dtype=torch.bool)
    unit = qp.unit.squeeze(2).expand(clean.batch, 1)
    factor = Factor(U, d.expand_as(x), weight * e * e, unit, kkt.flat(U, unit), none, none)
    give = torch.cat([torch.zeros_like(y), s / z], 1)

    exact = find(data, replace(options, on_failure="return"), rejected).solution if not bool(central.all()) else None
    status = torch.zeros_like(clean.rejected)
    ray_of = exact.ray if exact is not None else None
    if exact is not None:
        # A problem without interior has a solution but no central path.
        said = torch.where(exact.ok, int(Status.NUMERICAL_ERROR), exact.status)
        status = torch.where(central, status, said.to(status.dtype))
    present = torch.isfinite(data.h)
    z, s = torch.where(present, z, 0), torch.where(present, s, torch.inf)
    x, y, z = (part.nan_to_num(0, 0, 0) for part in (x, y, z))
    solution = QPSolution(
        x, y, z, torch.zeros_like(x), torch.zeros_like(x), s, status, central, iterations,
        Residuals(residuals.scaled, residuals.absolute), Active(torch.zeros_like(z, dtype=torch.bool), none, none),
        ray_of or _no_ray(x, y, z),
    )  # fmt: skip
    if options.on_failure == "raise":
        _raise_failed(solution)
    return solution, factor, give


def _no_ray(x: Tensor, y: Tensor, z: Tensor) -> Ray:
    return Ray(*(torch.zeros_like(part) for part in (x, y, z, x, x)))
