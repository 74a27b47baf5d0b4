"""Pass 4, simplify: rows of G that bound a single variable by a constant coefficient become bounds.

    expects    ParamQP with all inequalities as rows, declared signs of variables beside it
    promises   ParamQP whose bounds are native: lb <= x <= ub

A row a x_j <= h with a constant is x_j <= h/a for a > 0 and x_j >= h/a for a < 0. Each side of a variable takes the first such
row; further ones stay rows. A declared sign is a bound too: it fills a side that no row has taken.

The way home: z of a moved row is z_ub_j / |a| or z_lb_j / |a|, since both multiply the same gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..dsl.keys import Frozen
from .blocks import Block
from .extract import Column
from .factors import Floats, Index, selection
from .param_qp import Multiplier, ParamQP


@dataclass(frozen=True)
class _Side:
    """Rows that become one side of the box: row ``rows[i]`` bounds variable ``variables[i]``, its coefficient is ``a[i]``."""

    rows: Index
    variables: Index
    a: Floats


def simplify(problem: ParamQP, columns: Sequence[Column]) -> ParamQP:
    """Move single-variable rows and declared signs into lb and ub."""
    declared_lb = np.repeat([0.0 if c.nonneg else -np.inf for c in columns], [c.size for c in columns])
    declared_ub = np.repeat([0.0 if c.nonpos else np.inf for c in columns], [c.size for c in columns])
    lower, upper = _side(problem, -1, declared_lb), _side(problem, 1, declared_ub)
    moved = np.concatenate([lower.rows, upper.rows])
    kept = np.setdiff1d(np.arange(problem.m), moved)
    keep = selection(kept, problem.m).matrix
    lb, ub = _bound(problem.h, lower, declared_lb), _bound(problem.h, upper, declared_ub)
    return replace(
        problem,
        G=problem.G.times(keep),
        h=problem.h.times(keep),
        lb=lb,
        ub=ub,
        multipliers=tuple(_home(multiplier, problem, kept, lower, upper) for multiplier in problem.multipliers),
    )


def _home(multiplier: Multiplier, problem: ParamQP, kept: Index, lower: _Side, upper: _Side) -> Multiplier:
    """Where each entry of [y; z] went in [y; z; z_lb; z_ub], and by what it is to be multiplied."""
    n, m, k = problem.n, problem.m, problem.k
    place, weight = np.zeros(k + m, dtype=np.int64), np.ones(k + m)
    place[:k] = np.arange(k)
    place[k + kept] = k + np.arange(len(kept))
    for side, first in ((lower, k + len(kept)), (upper, k + len(kept) + n)):
        place[k + side.rows] = first + side.variables
        weight[k + side.rows] = 1 / np.abs(side.a)
    source = multiplier.source.array
    return replace(multiplier, source=Frozen(place[source]), weight=Frozen(multiplier.weight.array * weight[source]))


def _side(problem: ParamQP, direction: int, declared: Floats) -> _Side:
    """The first row of each variable that bounds it in this direction."""
    G = problem.G.constant
    single = (np.diff(G.indptr) == 1) & ~_parametric_rows(problem.G)
    rows = np.flatnonzero(single)
    variables, a = G.indices[G.indptr[rows]].astype(np.int64), G.data[G.indptr[rows]]
    # A constant row weaker than the declared sign stays a row: the box already holds the stronger bound.
    value = _constant_entries(problem.h, rows) / a
    stronger = np.isinf(declared[variables]) | (direction * value <= direction * declared[variables])
    fits = (np.sign(a) == direction) & stronger
    rows, variables, a = rows[fits], variables[fits], a[fits]
    _, first = np.unique(variables, return_index=True)
    return _Side(rows[first], variables[first], a[first])


def _parametric_rows(block: Block) -> NDArray[np.bool_]:
    touched = np.zeros(block.shape[0], dtype=bool)
    for entries in block.entries:
        touched[entries.rows] = True
    for placed in block.products:
        touched[placed.row : placed.row + placed.term[0].shape[0]] = True
    return touched


def _constant_entries(h: Block, rows: Index) -> Floats:
    """Entries of a column; NaN where a parameter enters, which compares as not stronger."""
    dense = h.constant.toarray()[:, 0]
    dense[_parametric_rows(h)] = np.nan
    return np.asarray(dense[rows])


def _bound(h: Block, side: _Side, declared: Floats) -> Block | None:
    """The side as a column over all variables; what no row bounds keeps the declared value."""
    n = len(declared)
    rest = np.setdiff1d(np.arange(n), side.variables)
    if not len(side.rows) and np.isinf(declared).all():
        return None
    scaled = sparse.csr_array((1 / side.a, (side.variables, side.rows)), shape=(n, h.shape[0]))
    placed = h.times(scaled)
    filled = sparse.csr_array((declared[rest], (rest, np.zeros_like(rest))), shape=(n, 1))
    return Block(sparse.csr_array(placed.constant + filled), placed.entries, placed.products)
