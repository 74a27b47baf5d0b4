"""Items of a batch, one after the other: screened, solved, adjudicated. No item raises, and none sees its mates.

What all items share is the structure with its one symbolic analysis. Several items run on as many threads as torch has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data import WarmStart
from ..options import Options
from ..screen import NO_LIMIT
from ..status import Status
from . import certificates, engine, multifrontal
from .active import Held
from .data import SparseData
from .item import Floats, Item
from .residuals import Point
from .structure import Structure

CONVEX = 1e-10  # Q counts as convex if Q + CONVEX |Q| I has a factor
MEMORY = 2**30  # bytes of factors that a batch keeps for its derivative; the others are factored again


@dataclass(frozen=True, eq=False)
class Found:
    """One item: its best point and how good it is; ``held`` is there if it was accepted."""

    point: Point
    s: Floats
    status: Status
    iterations: int
    scaled: Floats
    absolute: Floats
    ray: certificates.Proof
    active: tuple[Any, Any, Any]
    item: Item
    held: Held | None


def find(data: SparseData, options: Options, rejected: Tensor | None, warm: WarmStart | None, items: Sequence[int]) -> list[Found]:
    """Solve these items of a batch."""
    arrays = {name: None if (part := getattr(data, name)) is None else part.detach().numpy() for name in _FIELDS}
    codes = None if rejected is None else rejected.tolist()
    kept = max(1, MEMORY // max(1, 8 * data.structure.analysis.stored)) if items else 0

    def one(place: int) -> Found:
        i = items[place]
        own = {name: None if part is None else part[i if len(part) > 1 else 0] for name, part in arrays.items()}
        start = None
        if warm is not None:
            parts = (warm.x, torch.cat([warm.y, warm.z], 1), warm.z_lb, warm.z_ub)
            start = Point(*(part[i].numpy() for part in parts))
        with np.errstate(all="ignore"):
            found = _found(data.structure, own, options, 0 if codes is None else codes[i], start)
        return found if place < kept or found.held is None else replace(found, held=found.held.without_factor())

    return in_threads(one, len(items))


_FIELDS = ("Q", "p", "G", "h", "A", "b", "lb", "ub")


def in_threads(function: Callable[[int], Any], count: int) -> list[Any]:
    """[function(0), function(1), ...], on as many threads as torch has."""
    threads = min(count, torch.get_num_threads())
    if threads < 2:
        return [function(i) for i in range(count)]
    with ThreadPoolExecutor(threads, thread_name_prefix="karush") as pool:
        return list(pool.map(function, range(count)))


def _found(structure: Structure, own: dict[str, Any], options: Options, code: int, start: Point | None) -> Found:
    n, m, k = structure.sizes
    lb = np.full(n, -np.inf) if own["lb"] is None else own["lb"]
    ub = np.full(n, np.inf) if own["ub"] is None else own["ub"]
    own = own if code else _repaired(structure, own, options.precision)
    code = code or _screened(structure, own, lb, ub)
    h = own["h"]
    if code:
        crossed = np.zeros(n)
        if code == Status.PRIMAL_INFEASIBLE:
            crossed[np.argmax(lb > ub)] = 1.0
        nothing, rows = np.zeros(n), np.zeros(k + m)
        point = Point(nothing, rows, nothing, nothing)
        empty = Item(structure, np.zeros(len(structure.Q)), nothing, np.zeros(len(structure.W)), rows, nothing, nothing)
        ray = certificates.Proof(None, None, crossed, crossed)
        masks = rows[k:] > 0, nothing > 0, nothing > 0
        return Found(point, h, Status(code), 0, np.zeros(4), np.zeros(4), ray, masks, empty, None)
    item, absent = _item(structure, own, lb, ub), _absent(structure, own)
    outcome = engine.run(item, options.tolerance(torch.float64), options.eps_abs, options.max_iter, start)
    status, none = outcome.status, np.zeros(n)
    ray = certificates.Proof(None, None, none, none)
    if status in (Status.MAX_ITERATIONS, Status.NUMERICAL_ERROR):
        proof = certificates.infeasible(item)
        if proof is not None:
            status, ray = Status.PRIMAL_INFEASIBLE, proof
        elif (proof := certificates.unbounded(item)) is not None:
            status, ray = Status.DUAL_INFEASIBLE, proof
    accepted = status == Status.SOLVED or (status == Status.SOLVED_INACCURATE and options.accept == "inaccurate")
    point = outcome.point
    point.w[k:][absent] = 0.0  # a row that is not there has no multiplier, small as it may be
    if not accepted:
        point = Point(*(np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0) for part in vars(point).values()))
    slack = np.where(absent, h, item.rhs[k:] - item.times_W(point.x)[k:])
    active = outcome.held.active
    masks = active.rows[k:], active.lower, active.upper
    residuals = outcome.residuals
    held = outcome.held if accepted else None
    return Found(
        point, slack, status, outcome.iterations, residuals.scaled, residuals.absolute, ray, masks, item, held
    )  # fmt: skip


def _item(structure: Structure, own: dict[str, Any], lb: Floats, ub: Floats) -> Item:
    W, rhs = np.concatenate([own["A"], own["G"]]), np.concatenate([own["b"], own["h"]])
    absent = _absent(structure, own)
    lb, ub = np.where(lb <= -NO_LIMIT, -np.inf, lb), np.where(ub >= NO_LIMIT, np.inf, ub)
    if absent.any():
        rhs[structure.k :][absent] = 1.0
        W[len(structure.A) :][absent[structure.G.rows]] = 0.0
    return Item(structure, own["Q"], own["p"], W, rhs, lb, ub)


def _absent(structure: Structure, own: dict[str, Any]) -> NDArray[np.bool_]:
    """Rows of G that are not there: an infinite right-hand side, or one that lies beyond ``NO_LIMIT``."""
    largest = np.zeros(len(own["h"]))
    np.maximum.at(largest, structure.G.rows, np.abs(own["G"]))
    with np.errstate(over="ignore"):
        absent: NDArray[np.bool_] = (own["h"] == np.inf) | (own["h"] > NO_LIMIT * largest)
    return absent


def finite_item(data: SparseData, i: int) -> Item:
    """One item of a batch, whose data can be used."""
    n = data.structure.n
    parts = {name: getattr(data, name) for name in _FIELDS}
    own = {name: None if part is None else part.detach()[i if len(part) > 1 else 0].numpy() for name, part in parts.items()}
    lb = np.full(n, -np.inf) if own["lb"] is None else own["lb"]
    ub = np.full(n, np.inf) if own["ub"] is None else own["ub"]
    return _item(data.structure, own, lb, ub)


def _repaired(structure: Structure, own: dict[str, Any], precision: torch.dtype | None) -> dict[str, Any]:
    """Q as its own precision meant it, as in ``backends.solve``: what lacks but its rounding gets that on its diagonal."""
    Q = own["Q"]
    if precision is None or torch.finfo(precision).eps <= torch.finfo(torch.float64).eps or convex(structure, Q):
        return own
    mended = Q.copy()
    mended[structure.on] += 4 * structure.n * torch.finfo(precision).eps * float(np.abs(Q).max(initial=0))
    return {**own, "Q": mended} if convex(structure, mended) else own


def _screened(structure: Structure, own: dict[str, Any], lb: Floats, ub: Floats) -> int:
    """A status code if the item cannot or need not be iterated on, 0 otherwise."""
    finite = all(np.isfinite(own[name]).all() for name in ("Q", "p", "G", "A", "b"))
    if not finite or np.isnan(own["h"]).any() or (own["h"] == -np.inf).any():
        return Status.INVALID_INPUT
    if np.isnan(lb).any() or np.isnan(ub).any() or (lb == np.inf).any() or (ub == -np.inf).any():
        return Status.INVALID_INPUT
    if not convex(structure, own["Q"]):
        return Status.NONCONVEX
    return Status.PRIMAL_INFEASIBLE if (lb > ub).any() else 0


def convex(structure: Structure, Q: Floats) -> bool:
    """Whether Q is positive semidefinite but for rounding: by its diagonal and row sums, else by its factors."""
    s = structure
    largest = float(np.abs(Q).max(initial=0))
    shift = CONVEX * largest if largest > 0 else 1.0
    diagonal = np.full(s.n, shift)
    diagonal[s.Q.rows[s.on]] += Q[s.on]
    beside = np.abs(Q[s.off])
    sums = np.bincount(s.Q.rows[s.off], beside, minlength=s.n) + np.bincount(s.Q.cols[s.off], beside, minlength=s.n)
    if bool((diagonal >= sums).all()):
        return True
    if bool((diagonal < 0).any()):
        return False
    values = np.concatenate([Q[s.off], diagonal])
    return multifrontal.factor(s.analysis_of_Q, values, np.ones(s.n), 1e-3 * shift).bumped == 0
