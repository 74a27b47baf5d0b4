"""The backward pass of a range of blocks: l = K^-1 g with the kept factor, refined, then the outer products.

``backends/adjoint.py`` derives it, ``backends/linear.py`` is the same solve over torch. The system of the active set, in the units
of the problem, with S = ``scale`` (0 on variables at a bound), D = ``weight`` (0 on inactive rows):

    u_x = S (U'U)^-1 S (r_x + W' D r_w)      u_w = D (W u_x - r_w)

Each refinement reads every matrix once: it carries the residuals on, and what the next one needs of them follows. With a = W u_x,

    v = D (a - r_w)        r_x <- r_x - Q u_x - W'v        r_w <- r_w - a        so that   W' D r_w = -W'v

With OptNet's d_x = -l_x, the gradients are

    dp = d_x      dQ = (d_x x' + x d_x')/2      dG = z d_x' - l_z x'      dA = y d_x' - l_y x'      dh = l_z      db = l_y

Items whose residual does not vanish have no or many solutions, those whose updates do not fade are not solved yet, and those whose
solution has a part along a flat direction have a shorter one; ``lost`` marks them, and torch finds the solution of least norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from . import transfer
from .constants import ACCURATE, CONSISTENT, DELTA, REFINEMENTS, SEEN, STEADY
from .dual import KeptDual
from .llvm import Lanes
from .normal import KeptNormal
from .outer import outer_sum
from .patterned import Places
from .problem import DENSE, DIAGONAL, SPARSE, Sizes
from .quasidefinite import KeptQuasidefinite
from .rows import KeptDense, KeptPatterned, KeptRows
from .values import BYTE, Array, Counter, Field, Index, Mask, Memory, Num

SIZES = ("batch", "m", "k", "tables")
LOST = len(SIZES)  # becomes 1 where an item is lost
# g_x to g_w may be missing, at address 0: zeros then
TENSORS = ("Q", "G", "A", "g_x", "g_y", "g_z", "g_w", "U", "scale", "weight", "unit", "flat", "x", "y", "z")
RESULTS = ("d_x", "l_y", "l_z", "l_w", "lost", "dQ", "dG", "dA")  # l_w and the last three may be missing
WORDS = LOST + 2 + 2 * len(TENSORS) + len(RESULTS)  # with the address of the flags ``ok``, before those of the results


class System:
    """Arrays of one block; its matrices are ``Matrices``."""

    def __init__(self, memory: Any, n: int, m: Any, k: Any) -> None:
        K = m + k
        self.scale: Array = memory.array(n)
        self.weight: Array = memory.array(K)
        self.row_unit: Array = memory.array(K)
        # what is left of the right-hand side, with what the factor is applied to, and the solution
        self.left_x: Array = memory.array(n)
        self.left_w: Array = memory.array(K)
        self.rhs: Array = memory.array(n)
        self.u_x: Array = memory.array(n)
        self.u_w: Array = memory.array(K)
        # of one refinement
        self.du: Array = memory.array(n)
        self.v: Array = memory.array(K)
        self.Qu: Array = memory.array(n)
        self.Wv: Array = memory.array(n)
        self.marks: Array = memory.array(2)
        self.unit: Array = memory.array(1)
        self.flat: Array = memory.array(1)


@dataclass(frozen=True)
class Matrices:
    """The kept system, the rows W = [A; G], and how many there are."""

    kept: KeptNormal | KeptDual | KeptQuasidefinite
    W: KeptRows
    height: Index


def write(t: Lanes, n: int, name: str = "derivative", *, plan: str = DENSE) -> None:
    """Write the function derivative(words, unused, scratch, first block, last block).

    For problems of n variables; of any number for the plan SPARSE, which leaves the gradients of matrices to others.
    """

    def body(t: Lanes, words: Any, unused: Any, scratch: Any, first: Any, last: Any) -> None:
        for block in t.range(Index(t, first), Index(t, last)):
            _block(t, n, plan, words, scratch, block)

    t.function(name, 3, body, longs=2)


@cache
def scratch_size(s: Sizes) -> int:
    """Nums of working memory."""
    counter = Counter()
    System(counter, s.n, s.m, s.k)
    if s.places is not None:
        return counter.total + int(s.places.w) + KeptQuasidefinite.size(s.places)
    kept = KeptDual if s.plan == DIAGONAL else KeptNormal
    return counter.total + int(s.n * s.rows) + kept.size(s.n, s.rows, s.along)


def _block(t: Lanes, n: Any, plan: str, words: Any, scratch: Any, block: Index) -> None:
    batch, m, k, tables = (t.word(words, i) for i in range(len(SIZES)))
    places = Places.at(t, tables) if plan == SPARSE else None
    n = n if places is None else places.n
    first = LOST + 1
    given = {
        name: t.field(t.word(words, first + 2 * i), t.word(words, first + 2 * i + 1), block, batch)
        for i, name in enumerate(TENSORS)
    }
    first += 2 * len(TENSORS)
    ok = transfer.flag(t, t.word(words, first), block, batch) > 0.0
    address = {name: t.word(words, first + 1 + i) for i, name in enumerate(RESULTS)}
    memory = Memory(t, scratch)
    a = System(memory, n, m, k)
    unit = _prepared(t, n, m, k, a, given)
    Q, U, A, G = (given[name] for name in ("Q", "U", "A", "G"))
    if places is not None:
        kept = KeptQuasidefinite(t, places, Q, U, memory)
        M = Matrices(kept, KeptPatterned(t, places, A, k, G, m, memory), m + k)
    else:
        W = KeptDense.of(t, n, A, k, G, m, memory)
        dense = KeptDual(t, n, Q, U, W, a.weight, memory) if plan == DIAGONAL else KeptNormal(t, n, Q, U, memory)
        M = Matrices(dense, W, m + k)

    first_error = t.cell(_length(t, n, a, M))
    moves = t.cell(0.0)
    for j in t.range(n):
        moves.value = t.max(moves.value, t.abs(a.u_x[j]))
    with t.if_any(moves.value > 0.0):  # multipliers of bounds have gradients: they move x there
        first_error.value = t.max(first_error.value, _moved(t, n, a, M))
    for j in t.range(n):
        a.rhs[j] = a.left_x[j]
    for i in t.range(m + k):
        a.v[i] = a.weight[i] * a.left_w[i]
    M.W.across(t, a.v, a.rhs)
    error = t.cell(_length(t, n, a, M))
    # Sizes in the units of the equilibration: of the last update, and of all of them together.
    update, total = t.cell(0.0), t.cell(0.0)
    for _ in t.range(REFINEMENTS):
        # A lane that is done stays as it is: what its mates still need is no business of its own.
        running = ok & ~(error.value <= first_error.value * ACCURATE)
        t.leave(~running)
        update.value = _refined(t, n, a, M, unit, running)
        total.value = total.value + update.value
        error.value = _length(t, n, a, M)

    steady = (error.value <= first_error.value * CONSISTENT) & (update.value <= total.value * STEADY)
    found = (error.value <= first_error.value * ACCURATE) | steady
    found = found & ~_sees(t, n, a, M)
    a.marks[0], a.marks[1] = 1.0, t.where(ok & ~found, 1.0, 0.0)
    with t.if_any(ok & ~found):
        t.put_word(words, LOST, 1)
    for j in t.range(n):
        a.left_x[j] = t.where(ok, t.where(a.scale[j] > 0.0, 0.0, a.left_x[j]), 0.0)
        a.u_x[j] = t.where(ok, -a.u_x[j], 0.0)
    for i in t.range(m + k):
        a.u_w[i] = t.where(ok, a.u_w[i], 0.0)
    results: tuple[tuple[str, Array, Index | int], ...] = ("d_x", a.u_x, n), ("l_y", a.u_w, k), ("l_z", a.u_w.tail(k), m)
    for name, source, length in results:
        transfer.write(t, address[name], block, batch, source, length, a.marks)
    transfer.write(t, address["lost"], block, batch, a.marks.tail(1), 1, a.marks, BYTE)
    with t.unless(address["l_w"], 0):
        transfer.write(t, address["l_w"], block, batch, a.left_x, n, a.marks)
    if places is not None:
        return
    outer: tuple[tuple[str, str, str, Index | int, float, float], ...]
    outer = ("dQ", "x", "d_x", n, 0.5, 0.5), ("dG", "z", "l_z", m, -1.0, 1.0), ("dA", "y", "l_y", k, -1.0, 1.0)
    for name, left, right, height, *signs in outer:
        with t.unless(address[name], 0):
            vectors = address[right], given["x"], given[left], address["d_x"]
            outer_sum(t, address[name], block, batch, height, n, signs, *vectors)


def _prepared(t: Lanes, n: Any, m: Index, k: Index, a: System, given: dict[str, Field]) -> Num:
    """Read the vectors: what is left of the right-hand side is all of it but for inactive rows. The unit of row multipliers."""
    height = m + k
    for name, array in (("g_x", a.left_x), ("g_w", a.u_x)):
        transfer.read_or_zero(t, given[name], n, array)
    transfer.read_or_zero(t, given["g_y"], k, a.left_w)
    transfer.read_or_zero(t, given["g_z"], m, a.left_w.tail(k))
    for name, length, array in (("scale", n, a.scale), ("weight", height, a.weight), ("unit", 1, a.unit), ("flat", 1, a.flat)):
        transfer.read(t, given[name], length, array)
    unit = a.unit[0] * DELTA
    for i in t.range(n):
        a.u_x[i] = t.where(a.scale[i] > 0.0, 0.0, a.u_x[i])
    for i in t.range(height):
        weight = a.weight[i]
        a.row_unit[i] = t.sqrt(weight * unit)
        a.left_w[i] = t.where(weight > 0.0, a.left_w[i], 0.0)
        a.u_w[i] = 0.0
    return unit


def _moved(t: Lanes, n: Any, a: System, M: Matrices) -> Num:
    """Take what u_x, as it is at first, makes of the system from the right-hand side; the length of its terms."""
    height = M.height
    for j in t.range(n):
        a.Qu[j], a.Wv[j], a.du[j] = 0.0, 0.0, 0.0
    for i in t.range(height):
        a.u_w[i] = 0.0
    M.kept.times(t, a.u_x, a.Qu)
    M.kept.sizes(t, a.u_x, a.Wv)
    M.W.times(t, a.u_x, a.v)
    M.W.sizes(t, a.u_x, a.row_unit, a.u_w, a.du)
    length = t.cell(0.0)
    for j in t.range(n):
        a.left_x[j] = a.left_x[j] - a.Qu[j]
        length.value = t.max(length.value, a.Wv[j] * a.scale[j])
    for i in t.range(height):
        a.left_w[i] = a.left_w[i] - a.v[i]
        length.value = t.max(length.value, a.u_w[i] * a.row_unit[i])
        a.u_w[i] = 0.0
    return length.value


def _refined(t: Lanes, n: Any, a: System, M: Matrices, unit: Num, running: Mask) -> Num:
    """One refinement of the lanes that need it, and its size."""
    for j in t.range(n):
        a.du[j] = a.rhs[j]
    update = t.cell(M.kept.solve(t, a.scale, a.du))
    for j in t.range(n):
        a.du[j] = t.where(running, a.du[j], 0.0)
        a.u_x[j] = a.u_x[j] + a.du[j]
        a.Qu[j], a.Wv[j] = 0.0, 0.0
    M.kept.times(t, a.du, a.Qu)
    for i in t.range(M.height):
        a.v[i] = 0.0
    go = t.where(running, 1.0, 0.0)
    M.W.step(t, a.du, a.weight, a.left_w, a.v, a.Wv, go)
    for j in t.range(n):
        left_x = a.left_x[j] - a.Qu[j] - a.Wv[j]
        a.left_x[j] = left_x
        a.rhs[j] = left_x - a.Wv[j]
    for i in t.range(M.height):
        # v is D times what W u_x lacks, and row_unit² is D times the unit
        row_unit = a.row_unit[i]
        change = t.abs(a.v[i]) / t.where(row_unit > 0.0, row_unit, 1.0)
        update.value = t.max(update.value, change)
        a.u_w[i] = a.u_w[i] + a.v[i]
    return update.value


def _length(t: Lanes, n: Any, a: System, M: Matrices) -> Num:
    """What is left, in the units of the factor."""
    length = t.cell(0.0)
    for j in t.range(n):
        length.value = t.max(length.value, t.abs(a.left_x[j] * a.scale[j]))
    for i in t.range(M.height):
        length.value = t.max(length.value, t.abs(a.left_w[i] * a.row_unit[i]))
    return length.value


def _sees(t: Lanes, n: Any, a: System, M: Matrices) -> Mask:
    """Whether the solution has a part along a flat direction; see ``linear``."""
    seen, least = t.cell(0.0), a.flat[0]
    with t.if_any(least > 0.0):
        size = t.cell(0.0)
        for j in t.range(n):
            a.du[j] = t.where(a.scale[j] > 0.0, a.u_x[j], 0.0)
            size.value = t.max(size.value, t.abs(a.scale[j] * a.u_x[j]))
        along = M.kept.solve(t, a.scale, a.du)
        seen.value = t.where((least > 0.0) & (along * least > size.value * SEEN), 1.0, 0.0)
    return seen.value > 0.0
