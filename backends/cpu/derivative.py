"""The backward pass of a range of blocks: l = K^-1 g with the kept factor, refined, then the outer products.

``backends/adjoint.py`` derives it, ``backends/linear.py`` is the same solve over torch. The system of the active set, in the units
of the problem, with S = ``scale`` (0 on variables at a bound), D = ``weight`` (0 on inactive rows):

    u_x = S (U'U)^-1 S (r_x + W' D r_w)      u_w = D (W u_x - r_w)

    dQ = -(l_x x' + x l_x')/2      dG = -(l_z x' + z l_x')      dA = -(l_y x' + y l_x')

Items whose residual does not vanish have no or many solutions, those whose updates do not fade are not solved yet, and those whose
solution has a part along a flat direction have a shorter one; ``lost`` marks them, and torch finds the solution of least norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from .constants import ACCURATE, CONSISTENT, DELTA, REFINEMENTS, RHO, SEEN, STEADY, STRIDE, rounding
from .llvm import Lanes
from .outer import outer_sum
from .values import Array, Counter, Index, Mask, Memory, Num

SIZES = ("batch", "m", "k")
TENSORS = ("Q", "G", "A", "g_x", "g_y", "g_z", "g_w", "U", "scale", "weight", "unit", "ok", "x", "y", "z")
RESULTS = ("l_x", "l_y", "l_z", "l_w", "lost", "dQ", "dG", "dA")  # the last three may be null
WORDS = len(SIZES) + 2 * len(TENSORS) + len(RESULTS)


class System:
    """Arrays of one block; its matrices are ``Matrices``."""

    def __init__(self, memory: Any, n: int, m: Any, k: Any) -> None:
        K = m + k
        self.inverse: Array = memory.array(n)
        self.scale: Array = memory.array(n)
        self.weight: Array = memory.array(K)
        self.row_unit: Array = memory.array(K)
        # right-hand side, what is left of it, the solution and its update
        self.r_x: Array = memory.array(n)
        self.r_w: Array = memory.array(K)
        self.left_x: Array = memory.array(n)
        self.left_w: Array = memory.array(K)
        self.u_x: Array = memory.array(n)
        self.u_w: Array = memory.array(K)
        self.du: Array = memory.array(n)
        self.half: Array = memory.array(n)
        self.along: Array = memory.array(K)
        self.marks: Array = memory.array(2)


@dataclass(frozen=True)
class Matrices:
    """Q as it was given, U, and the rows: A, which begin at 0, and G, which begin at k."""

    Q: Array
    U: Array
    A: Array
    G: Array
    k: Index
    m: Index

    @property
    def rows(self) -> tuple[tuple[Array, Index | int, Index], ...]:
        return (self.A, 0, self.k), (self.G, self.k, self.m)


def write(t: Lanes, n: int) -> None:
    """Write the function derivative(words, unused, scratch, first block, last block) for problems of n variables."""

    def body(t: Lanes, words: Any, unused: Any, scratch: Any, first: Any, last: Any) -> None:
        for block in t.range(Index(t, first), Index(t, last)):
            _block(t, n, words, scratch, block)

    t.function("derivative", 3, body, longs=2)


@cache
def scratch_size(n: int, m: int, k: int) -> int:
    """Nums of working memory."""
    counter = Counter()
    System(counter, n, m, k)
    return counter.total + n * (2 * n + m + k)  # for the matrices


def _block(t: Lanes, n: int, words: Any, scratch: Any, block: Index) -> None:
    batch, m, k = (t.word(words, i) for i in range(len(SIZES)))
    first = len(SIZES)
    given = {
        name: t.field(t.word(words, first + 2 * i), t.word(words, first + 2 * i + 1), block, batch)
        for i, name in enumerate(TENSORS)
    }
    first += 2 * len(TENSORS)
    address = {name: t.word(words, first + i) for i, name in enumerate(RESULTS)}
    rows = m + k
    memory = Memory(t, scratch)
    a = System(memory, n, m, k)
    heights: tuple[tuple[str, Index | int], ...] = ("Q", n), ("U", n), ("A", k), ("G", m)
    Q, U, A, G = (t.matrix(given[name], height, n, memory) for name, height in heights)
    M = Matrices(Q, U, A, G, k, m)

    ok = given["ok"][0] > 0.0
    unit = given["unit"][0] * DELTA
    for i in t.range(n):
        a.inverse[i] = 1.0 / M.U[i, i]
        scale = given["scale"][i]
        a.scale[i] = scale
        a.r_x[i] = given["g_x"][i]
        a.u_x[i] = t.where(scale > 0.0, 0.0, given["g_w"][i])
    for gradient, (_, start, count) in zip(("g_y", "g_z"), M.rows, strict=True):
        for i in t.range(count):
            weight = given["weight"][i + start]
            a.weight[i + start] = weight
            a.row_unit[i + start] = t.sqrt(weight * unit)
            a.r_w[i + start] = t.where(weight > 0.0, given[gradient][i], 0.0)
            a.u_w[i + start] = 0.0

    size = t.cell(0.0)
    for j in t.range(n):
        size.value = t.max(size.value, t.abs(a.u_x[j]))
    error = t.cell(_left(t, n, a, M))
    first_error = t.max(size.value, error.value)
    # Sizes in the units of the equilibration: of the last update, and of all of them together.
    update, total = t.cell(0.0), t.cell(0.0)
    for _ in t.range(REFINEMENTS):
        # A lane that is done stays as it is: what its mates still need is no business of its own.
        running = ok & ~(error.value <= first_error * ACCURATE)
        t.leave(~running)
        for i in t.range(rows):
            a.along[i] = a.weight[i] * a.left_w[i]
        for j in t.range(n):
            a.du[j] = a.left_x[j]
        for W, start, count in M.rows:
            t.call(t.matrices.vecmat, count, a.along.tail(start), W, a.du, sizes=(n,))
        for j in t.range(n):
            a.du[j] = a.du[j] * a.scale[j]
        t.call(t.matrices.solve, M.U, a.inverse, a.du, sizes=(n,))
        update.value = 0.0
        for j in t.range(n):
            update.value = t.max(update.value, t.abs(a.du[j]))
            du = t.where(running, a.du[j] * a.scale[j], 0.0)
            a.du[j] = du
            a.u_x[j] = a.u_x[j] + du
        for W, start, count in M.rows:
            t.call(t.matrices.matvec, count, W, a.du, a.along.tail(start), sizes=(n,))
        for i in t.range(rows):
            rest = a.along[i] - a.left_w[i]
            update.value = t.max(update.value, t.abs(rest * a.row_unit[i] / unit))
            a.u_w[i] = a.u_w[i] + t.where(running, a.weight[i] * rest, 0.0)
        total.value = total.value + update.value
        error.value = _left(t, n, a, M)

    steady = (error.value <= first_error * CONSISTENT) & (update.value <= total.value * STEADY)
    found = (error.value <= first_error * ACCURATE) | steady
    found = found & ~_sees_flat(t, n, a, M.U, given["unit"][0])
    a.marks[0] = 1.0
    a.marks[1] = t.where(ok & ~found, 1.0, 0.0)
    for j in t.range(n):
        bound = t.where(a.scale[j] > 0.0, 0.0, a.left_x[j])
        a.left_x[j] = t.where(ok, bound, 0.0)
        a.u_x[j] = t.where(ok, a.u_x[j], 0.0)
    for i in t.range(rows):
        a.u_w[i] = t.where(ok, a.u_w[i], 0.0)
    results: tuple[tuple[str, Array, Index | int], ...] = (
        ("l_x", a.u_x, n), ("l_y", a.u_w, k), ("l_z", a.u_w.tail(k), m), ("l_w", a.left_x, n), ("lost", a.marks.tail(1), 1),
    )  # fmt: skip
    for name, source, length in results:
        t.write(address[name], block, batch, source, length, a.marks)
    outer: tuple[tuple[str, str, str, Index | int, float], ...]
    outer = ("dQ", "x", "l_x", n, -0.5), ("dG", "z", "l_z", m, -1.0), ("dA", "y", "l_y", k, -1.0)
    for name, left, right, height, factor in outer:
        with t.unless(address[name], 0):
            outer_sum(t, address[name], block, batch, height, n, factor, address[right], given["x"], given[left], address["l_x"])


def _left(t: Lanes, n: int, a: System, M: Matrices) -> Num:
    """What the solution so far leaves of the right-hand side, and its length in the units of the factor."""
    for j in t.range(n):
        a.du[j] = 0.0
        a.half[j] = a.u_x[j] * 0.5
    t.call(t.matrices.symmetric, M.Q, a.half, a.du, sizes=(n,))
    for W, start, count in M.rows:
        t.call(t.matrices.vecmat, count, a.u_w.tail(start), W, a.du, sizes=(n,))
        t.call(t.matrices.matvec, count, W, a.u_x, a.along.tail(start), sizes=(n,))
    length = t.cell(0.0)
    for j in t.range(n):
        left = a.r_x[j] - a.du[j]
        a.left_x[j] = left
        length.value = t.max(length.value, t.abs(left * a.scale[j]))
    for i in t.range(M.m + M.k):
        left = a.r_w[i] - a.along[i]
        a.left_w[i] = left
        length.value = t.max(length.value, t.abs(left * a.row_unit[i]))
    return length.value


def _sees_flat(t: Lanes, n: int, a: System, U: Array, unit: Num) -> Mask:
    """Whether the solution has a part along a direction without curvature that no row holds."""
    probe = t.cell(0.0)
    for j in t.range(n):
        probe.value = probe.value + STRIDE
        probe.value = t.where(probe.value > 1.0, probe.value - 1.0, probe.value)
        a.du[j] = probe.value + 0.5
    first = _solved(t, n, a, U)
    least = first / _solved(t, n, a, U)
    flat = least <= unit * (2.0 * (RHO + rounding(n)))
    seen = t.cell(0.0)
    with t.if_any(flat):
        size = t.cell(0.0)
        for j in t.range(n):
            a.du[j] = a.scale[j] * a.u_x[j]
            size.value = t.max(size.value, t.abs(a.du[j]))
        along = _solved(t, n, a, U) * least
        seen.value = t.where(flat & (along > size.value * SEEN), 1.0, 0.0)
    return seen.value > 0.0


def _solved(t: Lanes, n: int, a: System, U: Array) -> Num:
    """Apply (U'U)^-1 to ``du``; the largest entry of the result."""
    t.call(t.matrices.solve, U, a.inverse, a.du, sizes=(n,))
    largest = t.cell(0.0)
    for j in t.range(n):
        largest.value = t.max(largest.value, t.abs(a.du[j]))
    return largest.value
