"""At what kind of point a gradient was taken, without a dense factorization.

The flags are those of ``backends.flags``. Where that one counts singular values, here the softened system of the active set is
asked: a direction that it leaves as it is, when it should shrink everything by rho or delta (see ``active``), is flat, or a
dependence of rows. What is asked with is a vector that no such direction with a pattern is orthogonal to. The reciprocal
condition number is that of the equilibrated system, from a few steps of inverse iteration: a figure to within a small factor. Small
items are looked at as dense matrices, so that an item is told the same in batches that other engines solve.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import QPSolution
from ..flags import Conditioning, GradientFlag
from ..flags import conditioning as exact_conditioning
from ..options import EPS
from . import hard
from .active import Active, Held, factorize, unmatched
from .data import SparseData
from .engine import scale
from .find import finite_item
from .item import Floats, Item, dot, equilibrate
from .residuals import Measure

STRIDE = 0.6180339887498949  # its multiples less their integers have no pattern
SEEN = 1e-5  # of the probe, in what is left of it
STEPS = 4  # of inverse iteration


def conditioning(data: SparseData, solution: QPSolution, own: Tensor | None = None) -> Conditioning:
    """Flags, reciprocal condition number and margin of each item, (B,). ``own``: the columns that count, all by default."""
    if hard.small(data):
        parts = [
            exact_conditioning(hard.dense(data, items.tolist()), hard.selected(solution, items), own)
            for items in torch.arange(len(solution.x), device="cpu").split(hard.AT_ONCE)
        ]
        return Conditioning(*(torch.cat(column) for column in zip(*((p.flags, p.rcond, p.margin) for p in parts), strict=True)))
    columns = None if own is None else own.numpy()
    found = [_one(data, solution, i, columns) for i in range(len(solution.x))]
    flags = torch.tensor([flag for flag, _, _ in found], dtype=torch.int64, device="cpu")
    rcond, margin = (torch.tensor([each[part] for each in found], dtype=torch.float64, device="cpu") for part in (1, 2))
    return Conditioning(flags, rcond, margin)


def _one(data: SparseData, solution: QPSolution, i: int, own: Any) -> tuple[int, float, float]:
    if not bool(solution.ok[i]):
        return int(GradientFlag.masked), math.nan, math.nan
    with np.errstate(all="ignore"):
        item = finite_item(data, i)
        k, active = item.structure.k, solution.active
        rows = np.concatenate([np.ones(k, dtype=bool), active.rows[i].numpy()])
        d, e = equilibrate(item)
        qp = scale(item, Measure(item).fair, d, e, careful=False)
        held = factorize(qp, Active(rows, active.lb[i].numpy(), active.ub[i].numpy()), d, e)
        margin = _margin(item, solution, i)
        flags = int(GradientFlag.weakly_active) if margin <= math.sqrt(EPS[torch.float64]) else 0
        x, w = (np.modf(STRIDE * (1 + np.arange(size)))[0] - 0.5 for size in (qp.n, len(item.rhs)))
        lost_x, lost_w = unmatched(held, np.where(held.still, 0, x) / d, np.where(rows, w, 0) / e)
        seen = np.abs(lost_x * d)
        # Numbers that are none, from factors that overflow, are the worst of all.
        if not float((seen if own is None else seen[own]).max(initial=0)) <= SEEN:
            flags |= int(GradientFlag.nonunique)
        if not float(np.abs(lost_w * e).max(initial=0)) <= SEEN:
            flags |= int(GradientFlag.licq)
        rcond = 0.0 if flags & (GradientFlag.nonunique | GradientFlag.licq) else _rcond(item, held, x, w)
        if rcond < math.sqrt(EPS[torch.float64]) and not flags & (GradientFlag.nonunique | GradientFlag.licq):
            flags |= int(GradientFlag.ill_conditioned)
    return flags, rcond, margin


def _rcond(item: Item, held: Held, x: Floats, w: Floats) -> float:
    """min |eigenvalue| / max |eigenvalue| of the equilibrated system of the active set, estimated."""
    free, rows, d, e = ~held.still, held.active.rows, held.d, held.e
    if not free.any():
        return 1.0

    def times(x: Floats, w: Floats) -> tuple[Floats, Floats]:
        x, w = np.where(free, d * x, 0), np.where(rows, e * w, 0)
        return np.where(free, d * (item.times_Q(x) + item.times_Wt(w)), 0), np.where(rows, e * item.times_W(x), 0)

    def back(x: Floats, w: Floats) -> tuple[Floats, Floats]:
        u_x, u_w = held.apply(x / d, w / e)
        return u_x / d, u_w / e

    def grown(step: Any) -> float:
        v_x, v_w, growth = np.where(free, x, 0), np.where(rows, w, 0), 0.0
        for _ in range(STEPS):
            size = math.sqrt(dot(v_x, v_x) + dot(v_w, v_w))
            if not size:
                return 0.0
            v_x, v_w = step(v_x / size, v_w / size)
            growth = math.sqrt(dot(v_x, v_x) + dot(v_w, v_w))
        return growth

    product = grown(times) * grown(back)
    if not math.isfinite(product):
        return 0.0
    return min(1.0, 1 / product) if product > 0 else 1.0


def _margin(item: Item, solution: QPSolution, i: int) -> float:
    """min over inequalities of max(s / its terms, pull of z / pull of the objective); inf where there are none."""
    x, k = solution.x[i].detach().numpy(), item.structure.k
    z, s = solution.z[i].detach().numpy(), solution.s[i].detach().numpy()
    size, p = np.abs(x), float(item.magnitude.p.max(initial=0))
    largest = float(item.largest_of_Q.max(initial=0))
    unknown = math.sqrt(EPS[torch.float64]) * largest * Measure(item).typical
    gradient = max(float(np.abs(item.times_Q(x)).max(initial=0)) + p, unknown if largest + p > 0 else 1.0, 1e-300)
    length = np.sqrt(np.bincount(item.structure.W.rows, item.W**2, minlength=len(item.rhs)))[k:]
    terms = np.minimum(length, 1) + np.abs(item.rhs[k:]) + item.magnitude.times_W(size)[k:]
    found = np.maximum(np.abs(s) / np.maximum(terms, 1e-300), z * length / gradient)
    least = float(found[np.isfinite(s) & (length > 0)].min(initial=math.inf))
    for bound, multiplier in ((item.lb, solution.z_lb), (item.ub, solution.z_ub)):
        at = np.isfinite(bound)
        away = np.abs(x - bound)[at] / (1 + np.abs(bound) + size)[at]
        pull = multiplier[i].detach().numpy()[at] / gradient
        least = min(least, float(np.maximum(away, pull).min(initial=math.inf)))
    return least
