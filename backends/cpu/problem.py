"""A block of problems in the lanes: read, judged and equilibrated. The same steps as ``screen``, ``equilibrate`` and ``scaled`` of
the torch engine, with the same constants.

Everything lives in the units of the equilibration, which are powers of two, so that going there and back is exact:

    x = D x^,  w = E w^   (w = (y, z) belongs to W = [A; G]),      z_lb = z_lb^ / D      s = s^ / E

Rows that are absent (h = +inf) become 0'x <= 1, absent bounds have coefficient 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .constants import CONVEX, NO_LIMIT, PASSES, rounding
from .dual import Dual
from .llvm import Lanes
from .normal import Normal
from .patterned import Places
from .quadratic import Dense, Diagonal, Patterned, Quadratic
from .quasidefinite import Quasidefinite
from .rows import Dense as DenseRows
from .rows import Patterned as PatternedRows
from .rows import Rows
from .values import Array, Field, Num

HUGE = 1e300
DENSE, DIAGONAL, SPARSE = "dense", "diagonal", "sparse"  # plans: what Q and W are, and by which system they are solved


@dataclass(frozen=True)
class Sizes:
    """n variables; m inequalities, k equalities; nl, nu: n where there are lower, upper bounds, else 0."""

    n: Any
    m: Any
    k: Any
    nl: Any
    nu: Any
    plan: str = DENSE
    along: int = 1  # numbers in a register, for one problem alone
    places: Places | None = None  # of the plan SPARSE

    @property
    def rows(self) -> Any:
        """Rows of W = [A; G]."""
        return self.m + self.k

    @property
    def inequalities(self) -> Any:
        """M: rows of G and bounds."""
        return self.m + self.nl + self.nu

    def rounding(self, t: Lanes) -> Num | float:
        """What held rows add to the regularisation of the diagonal."""
        return rounding(self.n) if isinstance(self.n, int) else t.num(self.n) * rounding(1)

    @property
    def multipliers(self) -> Any:
        """Entries of (y, z), bounds included."""
        return self.k + self.m + self.nl + self.nu


class Problem:
    """Arrays of one block. Vectors over (y, z) have the rows of W first, then lower, then upper bounds."""

    def __init__(self, memory: Any, s: Sizes) -> None:
        n, K, all_ = s.n, s.rows, s.multipliers
        self.sizes = s
        self.Q: Quadratic
        self.W: Rows
        self.system: Normal | Dual | Quasidefinite
        if s.places is not None:
            self.Q, self.W = Patterned(memory, s.places), PatternedRows(memory, s.places)
            self.system = Quasidefinite(memory, self.Q, self.W)
        elif s.plan == DIAGONAL:
            self.Q, self.W = Diagonal(memory, n), DenseRows(memory, n, K)
            self.system = Dual(memory, self.Q, self.W, s.along)
        else:
            self.Q, self.W = Dense(memory, n), DenseRows(memory, n, K)
            self.system = Normal(memory, self.Q, self.W)
        self.p: Array = memory.array(n)
        self.rhs: Array = memory.array(all_)
        self.lower: Array = memory.array(n)  # 1 where there is a bound, else 0
        self.upper: Array = memory.array(n)
        # of the equilibration
        self.d: Array = memory.array(n)
        self.e: Array = memory.array(K)
        # floors of residuals (see ``residuals``): rows, columns; and what the loop divides by
        self.row_floor: Array = memory.array(K)
        self.column_floor: Array = memory.array(n)
        self.x_floor: Array = memory.array(n)
        self.w_floor: Array = memory.array(all_)
        # the factorization, and the weights of rows and bounds that enter it
        self.D: Array = memory.array(all_)


@dataclass(frozen=True)
class Scales:
    """Numbers of a block, as in ``backends/scaled.py``: floor of the gap, sizes; and who can be iterated on."""

    gap_floor: Num
    unit: Num
    curvature: Num
    theta: Num
    rhs_size: Num
    alive: Num


@dataclass(frozen=True)
class Fields:
    """The tensors of the problem, and a solution of a similar one."""

    Q: Field
    p: Field
    G: Field
    h: Field
    A: Field
    b: Field
    lb: Field
    ub: Field
    x0: Field
    y0: Field
    z0: Field
    z_lb0: Field
    z_ub0: Field


def read(t: Lanes, qp: Problem, f: Fields) -> Scales:
    """Load a block, find out which items are finite and convex, and bring it to the units of its equilibration."""
    s = qp.sizes
    n, K = s.n, s.rows
    poison, crossed = t.cell(0.0), t.cell(0.0)  # 0 * v is NaN unless v is finite
    largest_Q, largest_p = t.cell(0.0), t.cell(0.0)
    typical = t.cell(0.0)

    # column_floor holds max |Q_j| for a while, row_floor max |W_i|
    system = qp.system
    qp.Q.read(t, f.Q)
    qp.W.read(t, f.A, s.k, f.G, s.m)
    system.good[0] = 0.0  # poison, for a while: NaN is told wherever it stands, in absent rows too
    qp.Q.largest(t, qp.column_floor, system.good)
    qp.W.largest(t, qp.row_floor, system.good)
    poison.value = system.good[0]
    for i in t.range(n):
        largest_Q.value = t.max(largest_Q.value, qp.column_floor[i])
    for j in t.range(n):
        value = f.p[j]
        poison.value = poison.value + value * 0.0
        qp.p[j] = value
        largest_p.value = t.max(largest_p.value, t.abs(value))
    for rhs, first, count in ((f.b, 0, s.k), (f.h, s.k, s.m)):
        for i in t.range(count):
            value = rhs[i]
            row = i + first
            # A row without coefficients asks nothing of x, unless its right-hand side is negative; at 0 it is active.
            infinite = value.same(float("inf"))
            absent = infinite | (value > qp.row_floor[row] * NO_LIMIT) if count is s.m else t.false()
            with t.if_any(absent):
                qp.W.drop(t, row, absent)
            largest = t.where(absent, 0.0, qp.row_floor[row])
            value = t.where(absent, 1.0, value)
            poison.value = poison.value + value * 0.0
            qp.rhs[row] = value
            qp.row_floor[row] = largest
            ratio = t.abs(value) / t.where(largest > 0.0, largest, 1.0)
            typical.value = t.max(typical.value, t.where(largest > 0.0, ratio, 0.0))
    for bound, present, first, count, sign in (
        (f.lb, qp.lower, K, s.nl, -1.0),
        (f.ub, qp.upper, K + s.nl, s.nu, 1.0),
    ):
        for j in t.range(n):
            present[j] = 0.0
        for j in t.range(count):
            value = bound[j] * sign  # +inf where absent
            absent = value >= NO_LIMIT
            poison.value = poison.value + t.where(absent, 0.0, value) * 0.0
            present[j] = t.where(absent, 0.0, 1.0)
            qp.rhs[j + first] = t.where(absent, 1.0, value)
            typical.value = t.max(typical.value, t.where(absent, 0.0, t.abs(value)))
    for j in t.range(s.nl):
        with t.when(s.nu, n):
            gap = qp.rhs[K + s.nl + j] + qp.rhs[K + j]  # ub - lb
            both = (qp.lower[j] > 0.0) & (qp.upper[j] > 0.0)
            crossed.value = t.where(both & (gap < 0.0), 1.0, crossed.value)

    # Is Q + CONVEX |Q| I positive definite?
    size = largest_Q.value
    shift = t.where(size > 0.0, size * CONVEX, 1.0)
    for j in t.range(n):
        system.diagonal[j] = shift
        system.free[j] = 1.0
    system.convex(t, qp.D)
    alive = t.where(poison.value.same(0.0) & (crossed.value < 0.5), system.good[0], 0.0)

    # Fair floors
    guess = t.where(size > 0.0, largest_p.value / t.where(size > 0.0, size, 1.0), 0.0)
    X = t.max(typical.value, guess)
    X = t.where(X > 0.0, t.min(X, 1.0), 1.0)
    objective = X * (X * size + largest_p.value)
    objective = t.where(objective > 0.0, t.min(objective, 1.0), 1.0)
    for j in t.range(n):
        floor = t.min(X * qp.column_floor[j] + t.abs(qp.p[j]), 1.0)
        qp.column_floor[j] = t.where(floor > 0.0, floor, objective)
    for i in t.range(K):
        qp.row_floor[i] = t.where(qp.row_floor[i] > 0.0, X * t.min(qp.row_floor[i], 1.0), 1.0)
    _equilibrate(t, qp)
    return _scale(t, qp, objective, alive)


def _equilibrate(t: Lanes, qp: Problem) -> None:
    """Scales d and e, from squares d², e² that start at one; see ``equilibrate``. x_floor and w_floor hold what a pass finds."""
    s = qp.sizes
    n, K = s.n, s.rows
    for j in t.range(n):
        qp.d[j] = 1.0
    for i in t.range(K):
        qp.e[i] = 1.0
    for _ in t.range(PASSES):
        qp.Q.squares(t, qp.d, qp.x_floor)
        qp.W.squares(t, qp.e, qp.d, qp.x_floor, qp.w_floor)
        for i in t.range(K):
            qp.e[i] = _shrunk(t, qp.e[i], qp.w_floor[i])
        for j in t.range(n):
            qp.d[j] = _shrunk(t, qp.d[j], qp.x_floor[j])
    for j in t.range(n):
        qp.d[j] = t.even_root(qp.d[j])
    for i in t.range(K):
        qp.e[i] = t.even_root(qp.e[i])


def _shrunk(t: Lanes, square: Num, length: Num) -> Num:
    """A squared scale over the length of its row; that of a zero or overflowing row stays."""
    length = square * length
    fit = (length > 0.0) & (length < HUGE)
    return square / t.sqrt(t.where(fit, length, 1.0))


def _scale(t: Lanes, qp: Problem, objective: Num, alive: Num) -> Scales:
    s = qp.sizes
    n, K = s.n, s.rows
    size_Q, size_p, size_rhs = t.cell(0.0), t.cell(0.0), t.cell(0.0)
    qp.Q.rescale(t, qp.d)
    qp.W.rescale(t, qp.e, qp.d)
    qp.Q.largest(t, qp.x_floor, qp.system.good)
    for i in t.range(n):
        size_Q.value = t.max(size_Q.value, qp.x_floor[i])
        p, d = qp.p[i], qp.d[i]
        qp.x_floor[i] = d * (qp.column_floor[i] + t.abs(p))
        qp.column_floor[i] = d * qp.column_floor[i]
        qp.p[i] = d * p
        size_p.value = t.max(size_p.value, t.abs(d * p))
    for i in t.range(K):
        e = qp.e[i]
        rhs, floor = qp.rhs[i], qp.row_floor[i]
        # Rows and variables without any data get a floor of 1: dividing 0 by 0 must not look like an error.
        qp.w_floor[i] = e * (t.where(floor > 0.0, floor, 1.0) + t.abs(rhs))
        qp.row_floor[i] = e * floor
        qp.rhs[i] = e * rhs
        size_rhs.value = t.max(size_rhs.value, t.abs(e * rhs))
    for first, count in ((K, s.nl), (K + s.nl, s.nu)):
        for j in t.range(count):
            rhs, d = qp.rhs[j + first], qp.d[j]
            qp.w_floor[j + first] = (1.0 + t.abs(rhs)) / d
            qp.rhs[j + first] = rhs / d
            size_rhs.value = t.max(size_rhs.value, t.abs(rhs / d))
    one = t.num(1.0)
    p_size = t.where(size_p.value > 0.0, size_p.value, one)
    rhs_size = t.where(size_rhs.value > 0.0, size_rhs.value, one)
    # Multipliers are of the size of p over that of x, and x is of the size of the right-hand sides.
    theta = p_size / rhs_size
    unit = t.max(size_Q.value, theta)
    curvature = t.where(size_Q.value > 0.0, size_Q.value, unit)
    return Scales(objective, unit, curvature, theta, rhs_size, alive)


def rows(t: Lanes, qp: Problem, x: Array, out: Array) -> None:
    """out = (Ax, Cx), C = [G; -I_lower; I_upper]."""
    s = qp.sizes
    qp.W.times(t, x, out)
    for j in t.range(s.nl):
        out[s.rows + j] = -x[j] * qp.lower[j]
    for j in t.range(s.nu):
        out[s.rows + s.nl + j] = x[j] * qp.upper[j]


def columns(t: Lanes, qp: Problem, w: Array, out: Array) -> None:
    """out = out + A'y + C'z."""
    s = qp.sizes
    qp.W.across(t, w, out)
    for j in t.range(s.nl):
        out[j] = out[j] - w[s.rows + j] * qp.lower[j]
    for j in t.range(s.nu):
        out[j] = out[j] + w[s.rows + s.nl + j] * qp.upper[j]
