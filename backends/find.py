"""Which engine solves what: the compiled one as far as its proofs go, the torch engine all the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from . import engine, shared
from .certificates import adjudicate
from .cpu import engine as cpu
from .cpu.outcome import Outcome
from .data import QPData, WarmStart
from .failure import SolveError
from .far import near
from .found import Found
from .options import Options
from .polish import Factor, dense
from .products import matvec
from .status import Status

# Bytes of matrices solved at a time: on a CPU what its caches hold (32 MiB shared by two cores where this was measured: n = 100 is
# 1.4 times faster than in one piece), elsewhere a bound on memory.
CACHE = 10 * 2**20
MEMORY = 2 * 2**30


def find(
    data: QPData, options: Options, rejected: Tensor | None, warm: WarmStart | None = None, begun: Outcome | None = None
) -> Found:
    """Solve, adjudicate what is left, and raise if that is the policy. Large batches go through in parts: items do not interact.

    ``begun``: what the compiled engine has found already.
    """
    if cpu.serves(data.Q, data.sizes[0], data.batch, options):
        found = _by_cpu(data, options, rejected, warm, begun)
    else:
        found = _by_torch(data, options, rejected, warm)
    if options.on_failure == "raise" and not bool(found.ok.all()):
        indices = (~found.ok).nonzero().squeeze(1)
        raise SolveError(found.solution, indices.tolist(), [Status(code) for code in found.status[indices].tolist()])
    return found


def _by_cpu(data: QPData, options: Options, rejected: Tensor | None, warm: WarmStart | None, begun: Outcome | None) -> Found:
    """What the compiled engine proves; the torch engine decides what the others are."""
    if begun is not None:
        whole, unproved = begun.found
        axes = len(begun.rest.frame.batch)
        found = Found(*(part.reshape(data.batch, *part.shape[axes:]) for part in whole))
    elif shared.serves(data.frame, options):
        found, unproved = shared.find(data, options)
    else:
        found, unproved = cpu.find(data.blocks, data.frame, options, warm).found
    if not unproved and options.eps_abs is None and rejected is None:
        return found
    sure = found.ok
    if options.eps_abs is not None:
        sure = sure & (found.absolute <= options.eps_abs).all(1)
    if rejected is not None:
        sure = sure & (rejected == 0)
    if bool(sure.all()):
        return found
    items = (~sure).nonzero().squeeze(1)
    if found.U.dim() == 2:
        *parts, _ = found.factor
        W = torch.cat([part.expand(data.batch, -1, -1) for part in (data.A, data.G)], 1)
        found = found._replace(U=dense(Factor(*parts), data.Q, W).U)
    left = _by_torch(data.select(items), options, None if rejected is None else rejected[items], None)
    return Found(*(whole.index_copy(0, items, part) for whole, part in zip(found, left, strict=True)))


def _by_torch(data: QPData, options: Options, rejected: Tensor | None, warm: WarmStart | None) -> Found:
    """Large batches go through in parts: items do not interact."""
    size = part_size(data.sizes, data.Q.element_size(), CACHE if data.Q.is_cpu else MEMORY)
    alone = options.alone(data.Q)
    if alone:  # torch's products round by the size of the batch, and by where in a cache line a matrix begins
        size = 1
    if data.batch <= size and not (alone and data.batch):
        return _part(data, options, rejected, warm)
    parts = []
    for i in range(0, data.batch, size):
        own = slice(i, i + size)
        codes, start = None if rejected is None else rejected[own], None if warm is None else warm[own]
        part = data.select(torch.tensor([i], device="cpu")) if alone else data[own]
        parts.append(_part(part, options, codes, start))
    return Found(*(torch.cat(column) for column in zip(*parts, strict=True)))


def part_size(sizes: tuple[int, int, int], element_size: int, budget: int) -> int:
    """Items of ``sizes`` (n, m, k) whose matrices fit a budget in bytes."""
    n, m, k = sizes
    entries = 4 * n * n + 3 * n * (m + k)
    return max(1, budget // max(1, entries * element_size))


def _part(data: QPData, options: Options, rejected: Tensor | None, warm: WarmStart | None) -> Found:
    """A fast attempt for all, and a careful one for what it leaves neither solved nor decided."""
    found = _attempt(data, options, rejected, warm, careful=False)
    undecided = _undecided(found.status)
    if not bool(undecided.any()):
        return found
    items = undecided.nonzero().squeeze(1)
    found = _without_far_limits(found, data, options, items)
    items = items[_undecided(found.status[items])]
    if not len(items):
        return found
    again = _attempt(data.select(items), options, None, None, careful=True)
    better = ~_undecided(again.status) | (again.scaled.amax(1) < found.scaled[items].amax(1))
    places = items[better]
    return Found(*(whole.index_copy(0, places, part[better]) for whole, part in zip(found, again, strict=True)))


def _without_far_limits(found: Found, data: QPData, options: Options, items: Tensor) -> Found:
    """``found`` with the answers of these items that do not depend on their far limits; see ``far``."""
    whole = data.select(items)
    close = near(whole)
    if not bool(close.relaxed.any()):
        return found
    again = _attempt(close.data, options, None, None, careful=False)
    proved = (again.status == Status.SOLVED) & close.holds(whole, again.x)
    taken = close.relaxed & (proved | (again.status == Status.PRIMAL_INFEASIBLE))
    again = again._replace(s=torch.where(torch.isfinite(whole.h), whole.h - matvec(whole.G, again.x), torch.inf))
    places = items[taken]
    return Found(*(all_.index_copy(0, places, part[taken]) for all_, part in zip(found, again, strict=True)))


def _undecided(status: Tensor) -> Tensor:
    """Neither solved as asked, nor shown to have no solution."""
    codes = (Status.SOLVED_INACCURATE, Status.MAX_ITERATIONS, Status.NUMERICAL_ERROR)
    return torch.stack([status == code for code in codes]).any(0)


def _attempt(data: QPData, options: Options, rejected: Tensor | None, warm: WarmStart | None, *, careful: bool) -> Found:
    eps = options.tolerance(data.Q.dtype)
    outcome = engine.run(data, eps, options.eps_abs, options.max_iter, rejected, careful=careful, warm=warm)
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
        factor.U, factor.scale, factor.weight, factor.unit, factor.flat, factor.lower, factor.upper, ok,
    )  # fmt: skip
