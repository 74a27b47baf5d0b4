"""Items that are small enough to be looked at as dense matrices, where the sparse ways do not suffice.

What is left undecided goes to the torch engine, with its careful attempts, far limits and active sets. A singular system has its
solution of least norm from singular values: a sparse factor softens it by 1e-8, and rounding along a flat direction is multiplied
by as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import find as engines
from .. import minimum_norm
from ..data import QPData, QPSolution, mapped
from ..options import Options
from ..status import Status
from .active import Active
from .certificates import Proof
from .data import SparseData
from .engine import SURE, held_of
from .find import Found, finite_item
from .item import Floats
from .residuals import Point

SMALL = 2**18  # places in Q, G, A: at n = m = 350, a second for an item
AT_ONCE = 32  # items, of 2 MiB each at the most
UNDECIDED = Status.SOLVED_INACCURATE, Status.MAX_ITERATIONS, Status.NUMERICAL_ERROR


def small(data: SparseData) -> bool:
    n, m, k = data.sizes
    return n * (n + m + k) <= SMALL


def dense(data: SparseData, items: Sequence[int]) -> QPData:
    """These items as dense matrices."""
    made = [data.dense(i) for i in items]
    names = [name for name in QPData.__dataclass_fields__ if getattr(made[0], name) is not None]
    return QPData(**{name: torch.cat([getattr(one, name) for one in made]) for name in names})


def selected(solution: QPSolution, items: Tensor) -> QPSolution:
    """These items of a solution, without derivatives."""
    chosen: QPSolution = mapped(lambda part: part.detach()[items], solution)
    return chosen


def decided(data: SparseData, options: Options, items: Sequence[int], found: list[Found]) -> list[Found]:
    """``found`` of these items, with the answers of the torch engine for what they left undecided."""
    eps = options.tolerance(torch.float64)
    places = [at for at, one in enumerate(found) if _doubtful(one, eps)]
    if not places or not small(data):
        return found
    result, own = list(found), replace(options, on_failure="return", backend="torch")
    for first in range(0, len(places), AT_ONCE):
        some = places[first : first + AT_ONCE]
        again = engines.find(dense(data, [items[at] for at in some]), own, None)
        for row, at in enumerate(some):
            if int(again.status[row]) not in UNDECIDED or float(again.scaled[row].max()) < found[at].scaled.max():
                result[at] = _as_found(data, items[at], again, row)
    return result


def _doubtful(one: Found, eps: float) -> bool:
    """Undecided, or solved to ``eps`` but not by a polished point that proves itself: redundant rows that agree to 1e-8 let sparse
    multipliers grow until their share of the gap hides a wrong active set.
    """
    return one.status in UNDECIDED or (one.status == Status.SOLVED and float(one.scaled.max()) > SURE * eps)


def _as_found(data: SparseData, i: int, whole: Any, row: int) -> Found:
    """What the torch engine found for one item, as ``find`` says it."""

    def own(name: str) -> Any:
        return getattr(whole, name)[row].numpy()

    item = finite_item(data, i)
    point = Point(own("x"), np.concatenate([own("y"), own("z")]), own("z_lb"), own("z_ub"))
    status = Status(int(whole.status[row]))
    ray = Proof(own("ray_x"), np.concatenate([own("ray_y"), own("ray_z")]), own("ray_lb"), own("ray_ub"))
    rows, lower, upper = own("rows"), own("lower"), own("upper")
    held = None
    if bool(whole.ok[row]):
        with np.errstate(all="ignore"):
            held = held_of(item, Active(np.concatenate([np.ones(item.structure.k, dtype=bool), rows]), lower, upper))
    return Found(
        point, own("s"), status, int(whole.iterations[row]), own("scaled"), own("absolute"), ray, (rows, lower, upper), item, held
    )  # fmt: skip


def least_norm(
    data: SparseData, i: int, active: Active, r_x: Floats, r_w: Floats, r_bound: Floats
) -> tuple[Floats, Floats, Floats]:
    """(u_x, u_w, u_bound) of an item's optimality system: the least-squares solution of least norm, in the units of the problem."""
    whole, at_bound = data.dense(i), torch.from_numpy(active.lower | active.upper)[None]
    W = torch.cat([whole.A, whole.G], 1)
    x, w, bound = (torch.from_numpy(np.ascontiguousarray(part))[None] for part in (r_x, r_w, r_bound))
    found = minimum_norm.solve(whole.Q, W, x, w, bound, torch.from_numpy(active.rows)[None], at_bound)
    u_x, u_w, u_bound = (part[0].numpy() for part in found)
    return u_x, u_w, u_bound
