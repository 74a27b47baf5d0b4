"""Why an item has no solution: a ray that proves it, checked on the original data.

    infeasible:  z, z_lb, z_ub >= 0,  G'z + A'y - z_lb + z_ub = 0,  h'z + b'y - lb'z_lb + ub'z_ub < 0
    unbounded:   Qd = 0,  Gd <= 0,  Ad = 0,  p'd < 0,  d_j >= 0 where only lb is finite, <= 0 where only ub is, = 0 where both are

Mehrotra's method yields neither. Items that the engine leaves open are taken out of the batch, and for each two least-squares
problems that always have a solution are solved by the same engine:

    (a)  minimize 1/2 |t|² + 1/2 |u|²     subject to  Gx - t <= h,  Ax - u = b,  lb <= x <= ub
    (b)  minimize 1/2 |v|² + 1/2 |t|²     subject to  Qd... = v,  Gd - t <= 0,  p'd = -1,  signs of d

In (a) the multipliers of the two rows, which equal t and u, with those of the bounds are a ray if they are not zero: the
multipliers of a nearest point. In (b) d is a ray if the minimum is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import engine
from .data import QPData, Ray
from .products import matvec, vecmat
from .screen import Clean
from .status import Status

# Components of a ray's residual, each over the size of its own terms: little above rounding, because along a direction of curvature
# 1e-8 the objective may still turn, far away. DECREASE: the least that p'd or h'z must fall short of zero, in the same units.
ZERO = {torch.float64: 1e-12, torch.float32: 1e-4}
DECREASE = {torch.float64: 1e-7, torch.float32: 1e-3}
NEGLIGIBLE = 1e-6  # of a ray's largest component: tried without
MAX_ITER = 80


def adjudicate(data: QPData, outcome: engine.Outcome) -> tuple[Tensor, Ray]:
    """Statuses in which every open item with a verified ray has its verdict, and the rays."""
    n, m, k = data.sizes
    clean, status = outcome.clean, outcome.status
    B = clean.batch
    ray = Ray(*(clean.p.new_zeros(B, size) for size in (n, k, m, n, n)))
    crossed = _crossed_bounds(data, clean)
    if crossed is not None:
        ray = Ray(ray.x, ray.y, ray.z, crossed, crossed)
    is_open = (status == Status.MAX_ITERATIONS) | (status == Status.NUMERICAL_ERROR)
    if not bool(is_open.any()):
        return status, ray
    items = is_open.nonzero().squeeze(1)
    part = _Part.of(clean, items)
    infeasible, y, z, z_lb, z_ub = _farkas(part)
    unbounded, d = _recession(part)
    unbounded = unbounded & ~infeasible
    code = torch.where(infeasible, int(Status.PRIMAL_INFEASIBLE), status[items])
    code = torch.where(unbounded, int(Status.DUAL_INFEASIBLE), code).to(torch.int8)
    found = (d * unbounded.unsqueeze(1), *(v * infeasible.unsqueeze(1) for v in (y, z, z_lb, z_ub)))
    whole = (ray.x, ray.y, ray.z, ray.z_lb, ray.z_ub)
    return status.index_copy(0, items, code), Ray(
        *(all_of.index_copy(0, items, new) for all_of, new in zip(whole, found, strict=True))
    )


@dataclass(frozen=True)
class _Part:
    """The open items alone, finite; ``lower``/``upper`` mark the bounds there are, lb and ub are zero elsewhere."""

    Q: Tensor
    p: Tensor
    W: Tensor
    rhs: Tensor
    k: int
    lb: Tensor
    ub: Tensor
    lower: Tensor
    upper: Tensor

    @staticmethod
    def of(clean: Clean, items: Tensor) -> _Part:
        B = clean.batch

        def take(tensor: Tensor) -> Tensor:
            return tensor.expand(B, *tensor.shape[1:])[items]

        none = clean.p.new_zeros(len(items), clean.Q.shape[2])
        lb, lower = (take(clean.lower.value), take(clean.lower.present)) if clean.lower else (none, none.bool())
        ub, upper = (take(clean.upper.value), take(clean.upper.present)) if clean.upper else (none, none.bool())
        Q, p, W, rhs = (take(tensor) for tensor in (clean.Q, clean.p, clean.W, clean.rhs))
        return _Part(Q, p, W, rhs, clean.k, lb, ub, lower, upper)


def _farkas(part: _Part) -> tuple[Tensor, ...]:
    """Problem (a) in (x, v), v = (u, t): whether its multipliers prove infeasibility, and y, z, z_lb, z_ub."""
    B, r, n = part.W.shape
    k = part.k
    # Rows are brought to unit length: distances to them are then distances in x.
    length = torch.linalg.vector_norm(part.W, dim=2)
    unit = torch.where(length > 0, 1 / length, 1)
    W, rhs = part.W * unit.unsqueeze(2), part.rhs * unit
    Q = torch.diag(torch.cat([W.new_zeros(n), W.new_ones(r)])).unsqueeze(0)
    rows = torch.cat([W, -torch.eye(r, dtype=W.dtype, device=W.device).expand(B, -1, -1)], 2)
    infinite = W.new_full((B, r), torch.inf)
    lb = torch.cat([torch.where(part.lower, part.lb, -torch.inf), -infinite], 1)
    ub = torch.cat([torch.where(part.upper, part.ub, torch.inf), infinite], 1)
    problem = QPData(Q, W.new_zeros(1, n + r), rows[:, k:], rhs[:, k:], rows[:, :k], rhs[:, :k], lb, ub)
    found = engine.run(problem, ZERO[W.dtype], None, MAX_ITER).point
    w = found.w * unit
    cleaned, raw = _cleaned(w, 1 / unit)
    return _first(lambda ray: _proves_empty(part, ray), (cleaned, raw, _balanced(part, cleaned)))


def _balanced(part: _Part, w: Tensor) -> Tensor:
    """The nearest w on the same rows with W'w = 0, where no bound absorbs what is left.

    Where most right-hand sides are a millionth of the contradiction, multipliers come with ten digits, and a proof wants twelve.
    """
    drift = vecmat(w, part.W)
    absorbed = (part.lower & (drift > 0)) | (part.upper & (drift < 0))
    length = torch.linalg.vector_norm(part.W, dim=2)
    unit = torch.where(length > 0, 1 / length, 1) * (w != 0)
    W = part.W * unit.unsqueeze(2) * ~absorbed.unsqueeze(1)
    scaled = w * length
    balanced = scaled - matvec(W, matvec(torch.linalg.pinv(W), scaled))
    k = part.k
    balanced = torch.cat([balanced[:, :k], balanced[:, k:].clamp(min=0)], 1)
    return balanced * unit


def _proves_empty(part: _Part, w: Tensor) -> tuple[Tensor, ...]:
    """Whether w = (y, z), with what the bounds can absorb, is a contradiction; then y, z, z_lb, z_ub."""
    k = part.k
    drift = vecmat(w, part.W)
    z_lb, z_ub = torch.where(part.lower, drift.clamp(min=0), 0), torch.where(part.upper, (-drift).clamp(min=0), 0)
    combined = drift - z_lb + z_ub
    terms = vecmat(w.abs(), part.W.abs())
    value = torch.linalg.vecdot(w, part.rhs) - torch.linalg.vecdot(part.lb, z_lb) + torch.linalg.vecdot(part.ub, z_ub)
    # A row without coefficients has no units: as in ``residuals``, 0'x <= -1e-17 is rounding, not a contradiction.
    empty = (part.W == 0).all(2)
    scale = (
        torch.linalg.vecdot(w.abs(), part.rhs.abs() + empty)
        + torch.linalg.vecdot(part.lb.abs(), z_lb)
        + torch.linalg.vecdot(part.ub.abs(), z_ub)
    )
    proven = (combined.abs() <= ZERO[w.dtype] * terms).all(1) & (value < -DECREASE[w.dtype] * scale)
    return proven, w[:, :k], w[:, k:], z_lb, z_ub


def _recession(part: _Part) -> tuple[Tensor, ...]:
    """Problem (b) in (d, v), v = (Qd, Ad, t): whether d proves unboundedness, and d."""
    B, r, n = part.W.shape
    k = part.k
    unit = 1 / torch.linalg.vector_norm(part.p, dim=1, keepdim=True).clamp(min=torch.finfo(part.p.dtype).tiny)
    p = part.p * unit
    rows = torch.cat([part.Q, part.W], 1)
    length = torch.linalg.vector_norm(rows, dim=2, keepdim=True)
    rows = rows / torch.where(length > 0, length, 1)
    total = n + r
    Q = torch.diag(torch.cat([p.new_zeros(n), p.new_ones(total)])).unsqueeze(0)
    rows = torch.cat([rows, -torch.eye(total, dtype=p.dtype, device=p.device).expand(B, -1, -1)], 2)
    direction = torch.cat([p, p.new_zeros(B, total)], 1).unsqueeze(1)
    A = torch.cat([rows[:, : n + k], direction], 1)
    b = torch.cat([p.new_zeros(1, n + k), p.new_full((1, 1), -1.0)], 1)
    infinite = p.new_full((B, total), torch.inf)
    lb = torch.cat([torch.where(part.lower, 0.0, -torch.inf).to(p.dtype), -infinite], 1)
    ub = torch.cat([torch.where(part.upper, 0.0, torch.inf).to(p.dtype), infinite], 1)
    problem = QPData(Q, p.new_zeros(1, n + total), rows[:, n + k :], p.new_zeros(1, r - k), A, b, lb, ub)
    d = engine.run(problem, ZERO[p.dtype], None, MAX_ITER).point.x[:, :n]
    d = torch.where(part.lower, d.clamp(min=0), d)
    d = torch.where(part.upper, d.clamp(max=0), d)
    proven, ray = _first(lambda ray: _proves_unbounded(part, ray), _cleaned(d, torch.ones_like(d)))
    return proven, ray


def _proves_unbounded(part: _Part, d: Tensor) -> tuple[Tensor, ...]:
    """Whether d, which respects the signs that bounds demand, is a direction of endless descent; then d."""
    k, zero, size = part.k, ZERO[d.dtype], d.abs()
    Wd = matvec(part.W, d)
    flat = (matvec(part.Q, d).abs() <= zero * matvec(part.Q.abs(), size)).all(1)
    row_size = zero * matvec(part.W.abs(), size)
    stays = (Wd[:, :k].abs() <= row_size[:, :k]).all(1) & (Wd[:, k:] <= row_size[:, k:]).all(1)
    falls = torch.linalg.vecdot(part.p, d) < -DECREASE[d.dtype] * torch.linalg.vecdot(part.p.abs(), size)
    return flat & stays & falls, d


def _cleaned(ray: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """The ray without its negligible components, and as it is; largest component 1. ``unit``: what a component is worth."""
    worth = ray.abs() * unit
    largest = worth.amax(1, keepdim=True) if ray.shape[1] else worth
    size = ray.abs().amax(1, keepdim=True) if ray.shape[1] else worth
    ray = ray / torch.where(size > 0, size, 1)
    return torch.where(worth > NEGLIGIBLE * largest, ray, 0), ray


def _first(check: Callable[[Tensor], tuple[Tensor, ...]], candidates: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Per item, the check's answer for the first candidate that passes it."""
    first = check(candidates[0])
    for candidate in candidates[1:]:
        better, second = first[0], check(candidate)
        chosen = (torch.where(better.unsqueeze(1), a, b) for a, b in zip(first[1:], second[1:], strict=True))
        first = (better | second[0], *chosen)
    return first


def _crossed_bounds(data: QPData, clean: Clean) -> Tensor | None:
    """Unit rays z_lb = z_ub = e_j where lb_j > ub_j."""
    if data.lb is None or data.ub is None:
        return None
    crossed = (data.lb > data.ub).expand(clean.batch, -1)
    first = crossed & (crossed.cumsum(1) == 1)
    return (first & (clean.rejected == Status.PRIMAL_INFEASIBLE).unsqueeze(1)).to(clean.p.dtype)
