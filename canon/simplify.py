"""Pass 4, simplify: rows of G that bound a single variable by a constant coefficient become bounds.

    expects    ParamQP with all inequalities as rows; lb and ub are the declared bounds
    promises   ParamQP whose bounds are native: lb <= x <= ub

A row a x_j <= h with a constant is x_j <= h/a for a > 0 and x_j >= h/a for a < 0. Each side of a variable takes the first such
row; further ones stay rows. Declared bounds come first: of two constants the stricter is kept, and where a parameter takes part, or
the row does not exist for every item, the declared bound has the side and the row stays.

The way home: z of a moved row is z_ub_j / |a| or z_lb_j / |a|, since both multiply the same gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..dsl.keys import Frozen
from .blocks import Block
from .factors import fixed
from .param_qp import Gates, Multiplier, ParamQP
from .sparse import Floats, Index, Matrix, summed


@dataclass(frozen=True)
class _Side:
    """Rows that become one side of the box: row ``rows[i]`` bounds variable ``variables[i]``, its coefficient is ``a[i]``."""

    rows: Index
    variables: Index
    a: Floats


def simplify(problem: ParamQP) -> ParamQP:
    """Move single-variable rows into lb and ub."""
    single = _single(problem.G)
    lower, upper = _side(problem, single, -1), _side(problem, single, 1)
    gates, gate = problem.gates, problem.gates.G
    if not len(lower.rows) and not len(upper.rows):
        lb, ub = _stated(problem.lb), _stated(problem.ub)
        gates = gates if gate is None else Gates(_open(gate), gates.A)
        same = lb is problem.lb and ub is problem.ub and gate is None
        return problem if same else replace(problem, lb=lb, ub=ub, gates=gates)
    stays = np.ones(problem.m, dtype=bool)
    stays[lower.rows] = stays[upper.rows] = False
    kept = stays.nonzero()[0]
    if gate is not None:
        always = Block(fixed(np.ones(problem.n)).matrix)
        lb, ub = (_open(_bound(gate, replace(side, a=np.ones(len(side.a))), always, problem.n, 1.0)) for side in (lower, upper))
        gates = Gates(_open(gate.rows(kept)), gates.A, lb, ub)
    return replace(
        problem,
        G=problem.G.rows(kept),
        h=problem.h.rows(kept),
        lb=_bound(problem.h, lower, problem.lb, problem.n, -np.inf),
        ub=_bound(problem.h, upper, problem.ub, problem.n, np.inf),
        gates=gates,
        multipliers=_home(problem, kept, lower, upper) if len(kept) < problem.m else problem.multipliers,
    )


def _home(problem: ParamQP, kept: Index, lower: _Side, upper: _Side) -> tuple[Multiplier, ...]:
    """Where each entry of [y; z] went in [y; z; z_lb; z_ub], and by what it is to be multiplied."""
    n, m, k = problem.n, problem.m, problem.k
    place, weight = np.zeros(k + m, dtype=np.int64), np.ones(k + m)
    place[:k] = np.arange(k)
    place[k + kept] = k + np.arange(len(kept))
    for side, first in ((lower, k + len(kept)), (upper, k + len(kept) + n)):
        place[k + side.rows] = first + side.variables
        weight[k + side.rows] = 1 / np.abs(side.a)

    def moved(multiplier: Multiplier) -> Multiplier:
        source = multiplier.source.array
        held = Frozen(place[source]), Frozen(multiplier.weight.array * weight[source])
        return Multiplier(multiplier.name, multiplier.shape, *held, multiplier.said)

    return tuple([moved(multiplier) for multiplier in problem.multipliers])


def _single(G: Block) -> Index:
    """Rows of a single entry, which no parameter changes."""
    M = G.constant
    return np.flatnonzero((M.indptr[1:] - M.indptr[:-1] == 1) & ~_parametric_rows(G))


def _side(problem: ParamQP, rows: Index, direction: int) -> _Side:
    """The first row of each variable that bounds it in this direction; ``rows`` are those of a single entry."""
    if not len(rows):
        return _Side(rows, rows, np.zeros(0))
    G = problem.G.constant
    variables, a = G.cols[G.indptr[rows]], G.data[G.indptr[rows]]
    block = problem.lb if direction < 0 else problem.ub
    fits = a * direction > 0
    if block is not None:
        # A row weaker than the declared bound stays a row: the box already holds the stronger one.
        declared = _constant_entries(block, variables)
        value = _constant_entries(problem.h, rows) / a
        if problem.gates.G is not None:
            value[_constant_entries(problem.gates.G, rows) != 1] = np.nan
        fits &= np.isinf(declared) | (direction * value <= direction * declared)
    rows, variables, a = rows[fits], variables[fits], a[fits]
    if len(variables) < 2 or (variables[1:] > variables[:-1]).all():
        return _Side(rows, variables, a)
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


def _bound(h: Block, side: _Side, declared: Block | None, n: int, absent: float) -> Block | None:
    """The side as a column over all variables; what no row bounds keeps the declared value, or ``absent``."""
    if not len(side.rows):
        return _stated(declared)
    free = np.ones(n, dtype=bool)
    free[side.variables] = False
    rest = free.nonzero()[0]
    if declared is None:
        own = Block(Matrix(rest, np.zeros_like(rest), np.full(len(rest), absent), (n, 1), True))
    else:
        own = declared.times(Matrix(rest, rest, np.ones(len(rest)), (n, n), True))
    placed = h.times(Matrix(side.variables, side.rows, 1 / side.a, (n, h.shape[0]), True))
    return Block(summed([own.constant, placed.constant]), own.entries + placed.entries, own.products + placed.products)


def _stated(declared: Block | None) -> Block | None:
    """None where every entry is infinite."""
    return None if declared is None or (declared.fixed and np.isinf(declared.constant.toarray()).all()) else declared


def _open(gate: Block | None) -> Block | None:
    """None where every row exists."""
    return None if gate is None or (gate.fixed and (gate.constant.toarray() == 1).all()) else gate
