"""P K P' = L D L' front by front, for quasi-definite K: the numeric part, compiled.

For each supernode, children first:

    F  =  entries of K  +  what the children left over            (f x f, lower triangle)

    F  =  [L1   ] [D    ] [L1' L2']        L1 (w x w) unit lower triangular,   S = F22 - L2 D L2'  is left for the parent
          [L2  I] [    S] [    I ]

A quasi-definite matrix has such factors in any order, with signs of D known beforehand: a pivot that comes out with the wrong one,
or nearly zero, is rounding, and becomes ``bump``. The columns of F are eliminated ``BLOCK`` at a time, the rest is
updated in tiles of registers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding
from numpy.typing import NDArray

from ..cpu import machine
from ..cpu.llvm import Lanes
from .code import LANES, Code, Int, Ints, Real, Reals
from .symbolic import PADDING, Analysis, address

Floats = NDArray[np.float64]

TINY = 1e-3  # a pivot of this many ``bump`` is zero
BLOCK = 32  # columns that are eliminated before the rest is updated
TINY_FRONT = 8  # rows up to which a front is eliminated number by number
TILE = 4  # columns of a tile of registers
TABLES = (
    "first", "width", "front", "columns_at", "rows_at", "rows", "places", "consecutive",
    "entry_ends", "entry_place", "entry_source", "child_ends", "children", "stack_at", "thin",
)  # fmt: skip


class Factorization:
    """L and D of one matrix: plain arrays, never written to again."""

    def __init__(self, analysis: Analysis, L: Floats, D: Floats, bumped: int) -> None:
        self._analysis, self._L, self.D, self.bumped = analysis, L, D, bumped

    def solve(self, r: Floats) -> Floats:
        """K^-1 r."""
        a = self._analysis
        x = np.ascontiguousarray(r[a.order])
        room = np.zeros(a.largest + 2 * PADDING)
        words = np.concatenate([_words(a), _addresses(self._L, self.D, x, room), [len(a.first)]])
        _kernels()["solve"](address(words), 0, 0, 0, 0)
        found = np.empty_like(x)
        found[a.order] = x
        return found


def factor(analysis: Analysis, values: Floats, signs: Floats, bump: float, room_for_L: Floats | None = None) -> Factorization:
    """Factor the matrix with these values at the entries that were analysed. ``signs`` of D, in the order of K's rows.

    ``room_for_L``: memory from ``room_for_L_of`` that holds L instead of new memory, as long as nobody else uses it.
    """
    a = analysis
    room = _room(a)
    L, D = (room_for_L_of(a) if room_for_L is None else room_for_L), np.empty(a.N)
    signs = signs[a.order]
    numbers, count = np.array([TINY * bump, bump]), np.zeros(1, dtype=np.int64)
    words = np.concatenate([_words(a), _addresses(L, D, values, signs, *room, numbers, count), [len(a.first)]])
    _kernels()["factor"](address(words), 0, 0, 0, 0)
    return Factorization(a, L, D, int(count[0]))


def room_for_L_of(a: Analysis) -> Floats:
    """Memory for L, and zeros behind it, because registers reach beyond the last row."""
    L = np.empty(a.stored + 2 * PADDING)
    L[a.stored :] = 0
    return L


KEPT = 2**28  # bytes of working memory that a thread keeps for its next factorization
_local = threading.local()


def _room(a: Analysis) -> tuple[Floats, Floats, Floats]:
    """Front, stack and packed columns: the thread's own, until it factors a larger matrix."""
    sizes = (a.largest + TILE) * (a.largest + PADDING) + LANES, a.stacked + LANES, (a.largest + TILE) * BLOCK
    held: tuple[Floats, Floats, Floats] | None = getattr(_local, "room", None)
    if held is None or any(len(part) < size for part, size in zip(held, sizes, strict=True)):
        held = np.zeros(sizes[0]), np.zeros(sizes[1]), np.zeros(sizes[2])
        if 8 * sum(sizes) <= KEPT:
            _local.room = held
    return held


def _words(a: Analysis) -> NDArray[np.int64]:
    return a.words(TABLES)


def _addresses(*arrays: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([address(array) for array in arrays], dtype=np.int64)


# The programs


@lru_cache(maxsize=1)
def _kernels() -> dict[str, machine.Kernel]:
    programs: dict[str, Callable[[Lanes], None]] = {
        "factor": lambda t: _write_factor(Code(t.module)),
        "solve": lambda t: _write_solve(Code(t.module)),
    }
    written = b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in ("code", "multifrontal"))
    about = hashlib.sha256(written).hexdigest()
    return {name: machine.prepared(name, program, machine.Layout(1), about) for name, program in programs.items()}


def _tall() -> int:
    """Registers to a column of a tile."""
    return 3 if binding.get_host_cpu_features().get("avx512f") else 1


REALS_OF_FACTOR = "L", "D", "values", "signs", "F", "stack", "pack", "numbers"
REALS_OF_SOLVE = "L", "D", "x", "room"


class _Tables:
    """What the words of a call point to, by name: tables of integers, then of reals, then ``counts``; then how many supernodes."""

    def __init__(self, c: Code, words: Any, reals: tuple[str, ...], counts: tuple[str, ...] = ()) -> None:
        table = Ints(c, words)
        kinds = [(name, Ints) for name in TABLES] + [(name, Reals) for name in reals] + [(name, Ints) for name in counts]
        self.of: dict[str, Any] = {name: kind(c, c.pointer(table[i])) for i, (name, kind) in enumerate(kinds)}
        self.supernodes = table[len(kinds)]

    def __getitem__(self, names: str) -> Any:
        found = tuple(self.of[name] for name in names.split())
        return found if len(found) > 1 else found[0]


def _write_factor(c: Code) -> None:
    with c.function("factor", 3, 2) as arguments:
        t = _Tables(c, arguments[0], REALS_OF_FACTOR, ("bumped",))
        first, width, front, child_ends, entry_ends, thin = t["first width front child_ends entry_ends thin"]
        F, values, places, sources = t["F values entry_place entry_source"]
        for s in c.range(0, t.supernodes):
            w, f, begin = width[s], front[s], first[s]
            ld = f + PADDING
            D, signs = t["D"].tail(begin), t["signs"].tail(begin)
            with c.when("==", thin[s], 1):
                column = t["L"].tail(t["columns_at"][s])
                c.clear(column, f)
                for e in c.range(entry_ends[s], entry_ends[s + 1]):
                    column[places[e]] = values[sources[e]]
                pivot = _pivot(c, t, column[0], signs[0])
                D[0] = pivot
                inverse = c.real(1.0) / pivot
                for i in c.range(1, f):
                    column[i] = column[i] * inverse
            with c.when("==", thin[s], 0):
                c.clear(F, (f + TILE) * ld)
                for e in c.range(entry_ends[s], entry_ends[s + 1]):
                    F[places[e]] = values[sources[e]]
                for at in c.range(child_ends[s], child_ends[s + 1]):
                    child = t["children"][at]
                    with c.when("==", thin[child], 1):
                        _spread(c, t, child, ld)
                    with c.when("==", thin[child], 0):
                        _extend(c, t, child, ld)
                with c.when("<=", f, TINY_FRONT):
                    _tiny(c, t, D, signs, w, f, ld)
                with c.when(">", f, TINY_FRONT):
                    for start in c.range(0, w, BLOCK):
                        stop = (start + BLOCK).least(w)
                        _panel(c, t, D, signs, start, stop, f, ld)
                        with c.when("<", stop, f):
                            _update(c, t, D, start, stop, f, ld)
                _keep(c, t, s, w, f, ld)


def _spread(c: Code, t: _Tables, child: Int, ld: Int) -> None:
    """Subtract l d l' of a thin child, which nobody has written down."""
    front, rows_at, F = t["front rows_at F"]
    at, column_of_L = t["places"].tail(rows_at[child]), t["L"].tail(t["columns_at"][child])
    d = -t["D"][t["first"][child]]
    for j in c.range(1, front[child]):
        column, factor = F.tail(at[j] * ld), column_of_L[j] * d
        for i in c.range(j, front[child]):
            column[at[i]] = c.fma(column_of_L[i], factor, column[at[i]])


def _pivot(c: Code, t: _Tables, pivot: Real, sign: Real) -> Real:
    """The pivot, if it has its sign."""
    bump, bumped = t["numbers bumped"]
    usable = c.above(pivot * sign, bump[0])
    bumped[0] = c.choose(usable, bumped[0], bumped[0] + 1)
    chosen: Real = c.choose(usable, pivot, sign * bump[1])
    return chosen


def _extend(c: Code, t: _Tables, child: Int, ld: Int) -> None:
    """Add what a child left over."""
    width, front, rows_at, stack_at, consecutive, F = t["width front rows_at stack_at consecutive F"]
    u = front[child] - width[child]
    at, left = t["places"].tail(rows_at[child] + width[child]), t["stack"].tail(stack_at[child])
    run = consecutive[child]
    for j in c.range(0, u):
        column, own = F.tail(at[j] * ld), left.tail(j * u)
        for i in c.range(j, run):
            column[at[i]] = column[at[i]] + own[i]
        start = j.most(run)
        target, source, size = column.tail(at[start]), own.tail(start), u - start
        whole = size // LANES * LANES
        for i in c.range(0, whole, LANES):
            target.put_wide(i, target.wide(i) + source.wide(i))
        for i in c.range(whole, size):
            target[i] = target[i] + source[i]


def _panel(c: Code, t: _Tables, D: Reals, signs: Reals, start: Int, stop: Int, f: Int, ld: Int) -> None:
    """Eliminate columns start..stop among themselves."""
    F, pack = t["F pack"]
    for j in c.range(start, stop):
        column = F.tail(j * ld)
        pivot = _pivot(c, t, column[j], signs[j])
        D[j] = pivot
        size = stop - j - 1
        for k in c.range(0, size):
            pack[k] = -column[j + k + 1]
        inverse = c.spread(c.real(1.0) / pivot)
        for i in c.range(j + 1, f, LANES):
            column.put_wide(i, column.wide(i) * inverse)
        for k in c.range(0, size):
            other, factor = F.tail((j + k + 1) * ld), c.spread(pack[k])
            for i in c.range(j + k + 1, f, LANES):
                other.put_wide(i, c.fma(column.wide(i), factor, other.wide(i)))


def _tiny(c: Code, t: _Tables, D: Reals, signs: Reals, w: Int, f: Int, ld: Int) -> None:
    """Eliminate all w columns of a front that is smaller than a register: numbers just written are slow to read as registers."""
    F = t["F"]
    for j in c.range(0, w):
        column = F.tail(j * ld)
        pivot = _pivot(c, t, column[j], signs[j])
        D[j] = pivot
        inverse = c.real(1.0) / pivot
        for k in c.range(j + 1, f):
            other, factor = F.tail(k * ld), -(column[k] * inverse)
            for i in c.range(k, f):
                other[i] = c.fma(column[i], factor, other[i])
        for i in c.range(j + 1, f):
            column[i] = column[i] * inverse


def _update(c: Code, t: _Tables, D: Reals, start: Int, stop: Int, f: Int, ld: Int) -> None:
    """F22 -= L2 D L2' in tiles of registers; what lies above the diagonal is written, and never read."""
    F, pack = t["F pack"]
    for j in c.range(0, stop - start):
        column, pivot = F.tail((start + j) * ld), -D[start + j]
        for i in c.range(stop, f + TILE):
            pack[i * BLOCK + j] = column[i] * pivot
    high = LANES * _tall()
    whole = stop + (f - stop) // high * high
    for r in c.range(stop, whole, high):
        _tiles(c, t, r, start, stop, f, ld, _tall())
    for r in c.range(whole, f, LANES):
        _tiles(c, t, r, start, stop, f, ld, 1)


def _tiles(c: Code, t: _Tables, r: Int, start: Int, stop: Int, f: Int, ld: Int, tall: int) -> None:
    """Rows r, r+1, ... of the update, up to the diagonal."""
    F, pack = t["F pack"]
    last = (r + LANES * tall).least(f)
    for k in c.range(stop, last, TILE):
        columns = [F.tail((k + q) * ld + r) for q in range(TILE)]
        first = [column.wide(LANES * v) for column in columns for v in range(tall)]
        left, right = F.tail(start * ld + r), pack.tail(k * BLOCK)

        def step(j: Int, sums: list[Any], left: Reals = left, right: Reals = right) -> list[Any]:
            rows = [left.wide(j * ld + LANES * v) for v in range(tall)]
            factors = [c.spread(right[j + q * BLOCK]) for q in range(TILE)]
            pairs = [(factor, row) for factor in factors for row in rows]
            return [c.fma(factor, row, old) for (factor, row), old in zip(pairs, sums, strict=True)]

        sums = c.fold(stop - start, first, step)
        for q, column in enumerate(columns):
            for v in range(tall):
                column.put_wide(LANES * v, sums[q * tall + v])


def _keep(c: Code, t: _Tables, s: Int, w: Int, f: Int, ld: Int) -> None:
    """Columns of L to where they stay, what is left over onto the stack."""
    F, L, stack = t["F"], t["L"].tail(t["columns_at"][s]), t["stack"].tail(t["stack_at"][s])
    for j in c.range(0, w):
        c.copy(F.tail(j * ld), L.tail(j * f), f)
    u = f - w
    for j in c.range(0, u):
        c.copy(F.tail((w + j) * ld + w + j), stack.tail(j * u + j), u - j)


def _write_solve(c: Code) -> None:
    """x becomes K^-1 x: forward through the supernodes, a division, and back."""
    with c.function("solve", 3, 2) as arguments:
        t = _Tables(c, arguments[0], REALS_OF_SOLVE)
        for s in c.range(0, t.supernodes):
            f = t["front"][s]
            with c.when("<=", f, TINY_FRONT):
                _forward_tiny(c, t, s)
            with c.when(">", f, TINY_FRONT):
                _forward(c, t, s)
        for s in c.down(t.supernodes):
            f = t["front"][s]
            with c.when("<=", f, TINY_FRONT):
                _back_tiny(c, t, s)
            with c.when(">", f, TINY_FRONT):
                _back(c, t, s)


def _supernode(t: _Tables, s: Int) -> tuple[Int, Int, Reals, Reals, Ints, Reals]:
    """Width, front, its x, its D, its rows, its columns of L."""
    first = t["first"][s]
    rows, columns = t["rows"].tail(t["rows_at"][s]), t["L"].tail(t["columns_at"][s])
    return t["width"][s], t["front"][s], t["x"].tail(first), t["D"].tail(first), rows, columns


def _forward(c: Code, t: _Tables, s: Int) -> None:
    x, room = t["x room"]
    w, f, own, D, rows, columns = _supernode(t, s)
    for j in c.range(0, w):
        room[j] = own[j]
    for i in c.range(w, f):
        room[i] = c.real(0.0)
    for j in c.range(0, w):
        column, factor = columns.tail(j * f), c.spread(-room[j])
        for i in c.range(j + 1, f, LANES):
            room.put_wide(i, c.fma(column.wide(i), factor, room.wide(i)))
    for j in c.range(0, w):
        own[j] = room[j] / D[j]
    for i in c.range(w, f):
        x[rows[i]] = x[rows[i]] + room[i]


def _forward_tiny(c: Code, t: _Tables, s: Int) -> None:
    x = t["x"]
    w, f, own, D, rows, columns = _supernode(t, s)
    for j in c.range(0, w):
        column, value = columns.tail(j * f), own[j]
        for i in c.range(j + 1, f):
            x[rows[i]] = c.fma(column[i], -value, x[rows[i]])
        own[j] = value / D[j]


def _back(c: Code, t: _Tables, s: Int) -> None:
    x, room = t["x room"]
    w, f, own, _, rows, columns = _supernode(t, s)
    for i in c.range(0, f):
        room[i] = x[rows[i]]
    room.put_wide(f, c.zeros())
    for j in c.down(w):
        column = columns.tail(j * f)

        def step(i: Int, sums: list[Real], column: Reals = column, after: Int = j + 1) -> list[Real]:
            place = i * LANES + after
            return [c.fma(column.wide(place), room.wide(place), sums[0])]

        count = (f - j + LANES - 2) // LANES
        value = room[j] - c.total(c.fold(count, [c.zeros()], step)[0])
        room[j] = value
        own[j] = value


def _back_tiny(c: Code, t: _Tables, s: Int) -> None:
    x = t["x"]
    w, f, own, _, rows, columns = _supernode(t, s)
    for j in c.down(w):
        column = columns.tail(j * f)

        def step(i: Int, sums: list[Real], column: Reals = column, after: Int = j + 1) -> list[Real]:
            return [c.fma(column[i + after], -x[rows[i + after]], sums[0])]

        own[j] = c.fold(f - j - 1, [own[j]], step)[0]
