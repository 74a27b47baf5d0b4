"""Why an item has no solution: the least-squares problems of ``backends.certificates``, posed and checked with sparse matrices.

    (a)  minimize 1/2 |t|² + 1/2 |u|²     subject to  Gx - t <= h,  Ax - u = b,  lb <= x <= ub
    (b)  minimize 1/2 |v|²                subject to  Qd = v_1,  Ad = v_2,  Gd - t <= 0,  p'd = -1,  signs of d

The multipliers of (a), if they are not zero, prove that there is no x; a d that makes (b) zero proves endless descent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from . import engine
from .item import Floats, Index, Item, dot
from .structure import Pattern, pattern, shared

ZERO, DECREASE, NEGLIGIBLE, MAX_ITER = 1e-12, 1e-7, 1e-6, 80


@dataclass(frozen=True, eq=False)
class Proof:
    """A verified ray: (y, z) and multipliers of bounds, or a direction x. Largest component one."""

    x: Floats | None
    w: Floats | None
    z_lb: Floats
    z_ub: Floats


def infeasible(item: Item) -> Proof | None:
    """Problem (a), whose multipliers are tried as a contradiction."""
    s = item.structure
    n, r = s.n, s.k + s.m
    length = np.sqrt(np.bincount(s.W.rows, item.W**2, minlength=r)) if r else np.zeros(0)
    unit = np.where(length > 0, 1 / np.where(length > 0, length, 1), 1)
    rows, cols = np.concatenate([s.W.rows, np.arange(r)]), np.concatenate([s.W.cols, n + np.arange(r)])
    values = np.concatenate([item.W * unit[s.W.rows], np.full(r, -1.0)])
    problem = _posed(n, r, rows, cols, values, item.rhs * unit, s.k, item.lb, item.ub)
    w = engine.run(problem, ZERO, None, MAX_ITER).point.w * unit
    worth = np.abs(w) / unit
    largest, size = float(worth.max(initial=0)), float(np.abs(w).max(initial=0))
    if not size or not np.isfinite(size):
        return None
    for ray in (np.where(worth > NEGLIGIBLE * largest, w, 0) / size, w / size):
        proof = _empty(item, ray)
        if proof is not None:
            return proof
    return None


def _empty(item: Item, w: Floats) -> Proof | None:
    """Whether w = (y, z), with what the bounds can absorb, is a contradiction."""
    drift = item.times_Wt(w)
    lower, upper = np.isfinite(item.lb), np.isfinite(item.ub)
    z_lb, z_ub = np.where(lower, np.maximum(drift, 0), 0), np.where(upper, np.maximum(-drift, 0), 0)
    lb, ub = np.where(lower, item.lb, 0), np.where(upper, item.ub, 0)
    left = np.abs(drift - z_lb + z_ub)
    value = dot(w, item.rhs) - dot(lb, z_lb) + dot(ub, z_ub)
    nothing = item.largest_of_rows == 0  # a row without coefficients has no units
    size = dot(np.abs(w), np.abs(item.rhs) + nothing) + dot(np.abs(lb), z_lb) + dot(np.abs(ub), z_ub)
    proven = bool((left <= ZERO * item.magnitude.times_Wt(np.abs(w))).all()) and value < -DECREASE * size
    return Proof(None, w, z_lb, z_ub) if proven else None


def unbounded(item: Item) -> Proof | None:
    """Problem (b), whose solution is tried as a direction of endless descent."""
    s = item.structure
    n, k, m = s.n, s.k, s.m
    norm = math.sqrt(dot(item.p, item.p))
    if norm == 0:
        return None
    Q = s.whole_Q
    total = n + k + m
    # Equalities: Q, A, p; then the inequalities of G. Their slack variables come in the order Q, A, G.
    height = total + 1
    at_p = n + k
    W_rows = np.where(s.W.rows < k, n + s.W.rows, n + 1 + s.W.rows)
    rows = np.concatenate([Q.pattern.rows, W_rows, np.full(n, at_p)])
    cols = np.concatenate([Q.pattern.cols, s.W.cols, np.arange(n)])
    values = np.concatenate([item.Q[Q.source], item.W, item.p / norm])
    length = np.sqrt(np.bincount(rows, values**2, minlength=height))
    values = values / np.where(length > 0, length, 1)[rows]
    slack_rows = np.concatenate([np.arange(n + k), n + 1 + k + np.arange(m)])
    rows, cols = np.concatenate([rows, slack_rows]), np.concatenate([cols, n + np.arange(total)])
    values = np.concatenate([values, np.full(total, -1.0)])
    rhs = np.zeros(height)
    rhs[at_p] = -1.0
    lb, ub = np.where(np.isfinite(item.lb), 0.0, -np.inf), np.where(np.isfinite(item.ub), 0.0, np.inf)
    problem = _posed(n, total, rows, cols, values, rhs, n + k + 1, lb, ub)
    d = np.minimum(np.maximum(engine.run(problem, ZERO, None, MAX_ITER).point.x[:n], lb), ub)
    size = float(np.abs(d).max(initial=0))
    if not size or not np.isfinite(size):
        return None
    for ray in (np.where(np.abs(d) > NEGLIGIBLE * size, d, 0) / size, d / size):
        if _falls(item, ray):
            return Proof(ray, None, np.zeros(n), np.zeros(n))
    return None


def _falls(item: Item, d: Floats) -> bool:
    k, size = item.structure.k, np.abs(d)
    Wd, row_size = item.times_W(d), ZERO * item.magnitude.times_W(size)
    flat = bool((np.abs(item.times_Q(d)) <= ZERO * item.magnitude.times_Q(size)).all())
    stays = bool((np.abs(Wd[:k]) <= row_size[:k]).all()) and bool((Wd[k:] <= row_size[k:]).all())
    return flat and stays and dot(item.p, d) < -DECREASE * dot(item.magnitude.p, size)


def _posed(n: int, r: int, rows: Index, cols: Index, values: Floats, rhs: Floats, k: int, lb: Floats, ub: Floats) -> Item:
    """min 1/2 |v|² over (x, v), v of length r, subject to the given rows, the first k of which are equalities."""
    width, at = n + r, np.arange(n, n + r)
    Q = Pattern(at, at, width, width)
    first = rows < k
    A, place_A = pattern(rows[first], cols[first], k, width)
    G, place_G = pattern(rows[~first] - k, cols[~first], len(rhs) - k, width)
    A_values, G_values = np.zeros(len(A)), np.zeros(len(G))
    A_values[place_A], G_values[place_G] = values[first], values[~first]
    free = np.full(r, np.inf)
    sides = np.concatenate([lb, -free]), np.concatenate([ub, free])
    return Item(shared(Q, A, G), np.ones(r), np.zeros(width), np.concatenate([A_values, G_values]), rhs, *sides)
