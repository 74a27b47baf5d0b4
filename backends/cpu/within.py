"""The products of ``matrices`` for one problem alone, with registers along its rows.

    matrices    an entry is W numbers, one of each problem            a tile is tile x tile entries
    within      an entry is one number, a register V of a row         a tile is V rows of up to ``ACROSS`` registers

The same arithmetic by the same names, for few problems, and for large ones, of which W together leave the caches. Rows end where
they end: the last register of a row is read and written in part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .llvm import Lanes
from .values import Array, Cell, Index, Num
from .wide import Wide

ACROSS = 3  # registers of a row in a tile: with V rows, accumulators for most of the registers there are
ALONG = 4  # registers, or rows, that a product works on at a time, to hide what an addition takes


def _groups(t: Lanes, n: int, start: Index | int, count: int) -> Iterator[tuple[Any, int, int]]:
    """(first column, registers, numbers in the last register) of groups that cover start..n; start is a multiple of V, or n."""
    V = t.along
    whole = n - n % V
    end: Index | int = start
    if count > 1 and whole >= count * V:
        for j in t.range(start, whole - (count - 1) * V, count * V):
            yield j, count, V
        # what the loop has left: the same count, whatever the start
        end = _after(t, start, whole, count * V)
    for j in t.range(end, whole, V):
        yield j, 1, V
    if n % V and not (isinstance(start, int) and start >= n):
        yield whole, 1, n % V


def _after(t: Lanes, start: Index | int, stop: int, step: int) -> Index | int:
    """Where a loop over whole steps from ``start`` ends."""
    if isinstance(start, int):
        return start + (max(stop - start, 0) // step) * step
    length = t.b.sub(t.index(stop), start.v)
    steps = t.b.sdiv(length, t.index(step))
    return Index(t, t.b.add(start.v, t.b.mul(steps, t.index(step))))


def _across(t: Lanes, n: int, rows: Index, w: Array, M: Array, out: Array, of: Callable[[Lanes, Num], Num]) -> None:
    """out = out + of(M)' of(w)."""
    v = Wide(t)
    for j, count, size in _groups(t, n, 0, ALONG):
        sums = [v.cell(v.load(out, j + c * v.W, size)) for c in range(count)]
        for r in t.range(rows):
            wr = of(v, v.spread(w[r]))
            for c, total in enumerate(sums):
                total.value = v.fma(wr, of(v, v.load(M, r * n + (j + c * v.W), size)), total.value)
        for c, total in enumerate(sums):
            v.store(total.value, out, j + c * v.W, size)


def _down(t: Lanes, n: int, rows: Index, M: Array, x: Array, out: Array, of: Callable[[Lanes, Num], Num], *, add: bool) -> None:
    """out = of(M) of(x), added to what is there if ``add``."""
    v = Wide(t)
    for i, height in t.rows(rows):
        sums = [v.cell(0.0) for _ in range(height)]
        for j, size in v.row(n):
            xj = of(v, v.load(x, j, size))
            for a, total in enumerate(sums):
                total.value = v.fma(of(v, v.load(M, (i + a) * n + j, size)), xj, total.value)
        for a, total in enumerate(sums):
            found = v.total(total.value, t)
            out[i + a] = out[i + a] + found if add else found


def _itself(v: Lanes, x: Num) -> Num:
    return x


def _size(v: Lanes, x: Num) -> Num:
    return v.abs(x)


def matvec(t: Lanes, n: int, rows: Index, M: Array, x: Array, out: Array) -> None:
    _down(t, n, rows, M, x, out, _itself, add=False)


def vecmat(t: Lanes, n: int, rows: Index, w: Array, M: Array, out: Array) -> None:
    _across(t, n, rows, w, M, out, _itself)


def symmetric(t: Lanes, n: int, M: Array, half: Array, out: Array) -> None:
    v = Wide(t)
    for i, height in t.rows(Index(t, t.index(n))):
        own = [v.spread(half[i + a]) for a in range(height)]
        sums = [v.cell(0.0) for _ in range(height)]
        for j, size in v.row(n):
            xj, across = v.load(half, j, size), v.load(out, j, size)
            for a, total in enumerate(sums):
                entry = v.load(M, (i + a) * n + j, size)
                total.value = v.fma(entry, xj, total.value)
                across = v.fma(entry, own[a], across)
            v.store(across, out, j, size)
        for a, total in enumerate(sums):
            out[i + a] = out[i + a] + v.total(total.value, t)


def step_of_rows(
    t: Lanes, n: int, rows: Index, W: Array, u: Array, D: Array, left: Array, v: Array, across: Array, go: Num
) -> None:
    wide = Wide(t)
    for r, height in t.rows(rows):
        weights = [D[r + a] for a in range(height)]
        with t.if_any(sum(weights[1:], weights[0]) > 0.0):
            sums = [wide.cell(0.0) for _ in range(height)]
            for j, size in wide.row(n):
                uj = wide.load(u, j, size)
                for a, total in enumerate(sums):
                    total.value = wide.fma(wide.load(W, (r + a) * n + j, size), uj, total.value)
            steps = []
            for a, total in enumerate(sums):
                along = wide.total(total.value, t)
                step = go * weights[a] * (along - left[r + a])
                v[r + a] = step
                left[r + a] = left[r + a] - along
                steps.append(wide.spread(step))
            for j, size in wide.row(n):
                sum_j = wide.load(across, j, size)
                for a, step in enumerate(steps):
                    sum_j = wide.fma(step, wide.load(W, (r + a) * n + j, size), sum_j)
                wide.store(sum_j, across, j, size)


def sizes_of_rows(t: Lanes, n: int, rows: Index, x: Array, w: Array, M: Array, along: Array, across: Array) -> None:
    _down(t, n, rows, M, x, along, _size, add=True)
    _across(t, n, rows, w, M, across, _size)


def sizes_of_columns(t: Lanes, n: int, rows: Index, w: Array, M: Array, across: Array) -> None:
    _across(t, n, rows, w, M, across, _size)


def largest_of_rows(t: Lanes, n: int, rows: Index, M: Array, out: Array, poison: Array) -> None:
    v = Wide(t)
    unsound = v.cell(0.0)
    for i in t.range(rows):
        largest = v.cell(0.0)
        for j, size in v.row(n):
            entry = v.load(M, i * n + j, size)
            unsound.value = unsound.value + entry * 0.0
            largest.value = v.max(largest.value, v.abs(entry))
        out[i] = v.largest(largest.value, t)
    poison[0] = poison[0] + v.total(unsound.value, t)


def squares_of_rows(t: Lanes, n: int, rows: Index, M: Array, d: Array, out: Array) -> None:
    v = Wide(t)
    for i, height in t.rows(rows):
        sums = [v.cell(0.0) for _ in range(height)]
        for j, size in v.row(n):
            weight = v.load(d, j, size)
            for a, total in enumerate(sums):
                entry = v.load(M, (i + a) * n + j, size)
                total.value = v.fma(entry * entry, weight, total.value)
        for a, total in enumerate(sums):
            out[i + a] = v.total(total.value, t)


def squares_of_columns(t: Lanes, n: int, rows: Index, M: Array, w: Array, out: Array) -> None:
    v = Wide(t)
    for j, count, size in _groups(t, n, 0, ALONG):
        sums = [v.cell(v.load(out, j + c * v.W, size)) for c in range(count)]
        for r in t.range(rows):
            weight = v.spread(w[r])
            for c, total in enumerate(sums):
                entry = v.load(M, r * n + (j + c * v.W), size)
                total.value = v.fma(entry * entry, weight, total.value)
        for c, total in enumerate(sums):
            v.store(total.value, out, j + c * v.W, size)


def rescale(t: Lanes, n: int, rows: Index, M: Array, e: Array, d: Array) -> None:
    v = Wide(t)
    for i in t.range(rows):
        unit = v.spread(e[i])
        for j, size in v.row(n):
            v.store(v.load(M, i * n + j, size) * (unit * v.load(d, j, size)), M, i * n + j, size)


def factor(
    t: Lanes, n: int, rows: Index, Q: Array, W: Array, D: Array, diagonal: Array, free: Array, U: Array, inverse: Array, good: Array
) -> None:
    v = Wide(t)
    V = v.W
    fine = t.cell(1.0)
    rest = n % V

    def tile(i: Any, height: int) -> None:
        sums = _panel(t, n, rows, Q, W, D, free, U, i, height, i, 1, height)
        values = [row[0].value for row in sums]
        for a in range(height):
            pivot = v.pick(values[a], a, t) + diagonal[i + a]
            positive = pivot > 0.0
            fine.value = t.where(positive, fine.value, 0.0)
            root = t.sqrt(t.where(positive, pivot, 1.0))
            one = 1.0 / root
            inverse[i + a] = one
            row = values[a] * v.spread(one)
            for b in range(a + 1, height):
                values[b] = values[b] - v.spread(v.pick(row, b, t)) * row
            v.store(v.put(v.onwards(row, a), a, root), U, (i + a) * n + i, height)
        for j in t.range(0, i, V):
            for a in range(height):
                v.store(v.num(0.0), U, (i + a) * n + j, V)
        if height < V:
            return
        for j, count, size in _groups(t, n, i + V, ACROSS):
            sums = _panel(t, n, rows, Q, W, D, free, U, i, height, j, count, size)
            for c in range(count):
                done: list[Num] = []
                for a in range(height):
                    value = sums[a][c].value
                    for b in range(a):
                        value = value - v.spread(U[i + b, i + a]) * done[b]
                    value = value * v.spread(inverse[i + a])
                    done.append(value)
                    v.store(value, U, (i + a) * n + (j + c * V), size)

    for i in t.range(0, n - rest, V):
        tile(i, V)
    if rest:
        tile(n - rest, rest)
    good[0] = fine.value


def _panel(
    t: Lanes, n: int, rows: Index, Q: Array, W: Array, D: Array, free: Array, U: Array,
    i: Any, height: int, j: Any, count: int, size: int,
) -> list[list[Cell]]:  # fmt: skip
    """F(Q + W'DW)F - U'U for rows i.. and ``count`` registers from column j on."""
    v = Wide(t)
    at = [j + c * v.W for c in range(count)]
    sums = _gram_panel(t, n, rows, Q, W, D, i, height, j, count, size)

    def add(left: list[Num], right: list[Num]) -> None:
        for a in range(height):
            for c in range(count):
                sums[a][c].value = v.fma(left[a], right[c], sums[a][c].value)

    masks = [v.load(free, column, size) for column in at]
    for a in range(height):
        for c in range(count):
            sums[a][c].value = sums[a][c].value * (v.spread(free[i + a]) * masks[c])
    for r in t.range(i):
        add([-v.spread(U[r, i + a]) for a in range(height)], [v.load(U, r * n + column, size) for column in at])
    return sums


def _gram_panel(
    t: Lanes, n: int, rows: Index, Q: Array, W: Array, D: Array, i: Any, height: int, j: Any, count: int, size: int
) -> list[list[Cell]]:
    """Q + W'DW for rows i.. and ``count`` registers from column j on."""
    v = Wide(t)
    at = [j + c * v.W for c in range(count)]
    sums = [[v.cell(v.load(Q, (i + a) * n + column, size)) for column in at] for a in range(height)]
    for r in t.range(rows):
        weight = v.spread(D[r])
        left = [v.spread(W[r, i + a]) for a in range(height)]
        right = [weight * v.load(W, r * n + column, size) for column in at]
        for a in range(height):
            for c in range(count):
                sums[a][c].value = v.fma(left[a], right[c], sums[a][c].value)
    return sums


def gram(t: Lanes, n: int, rows: Index, Q: Array, W: Array, D: Array, out: Array) -> None:
    V = t.along

    def panels(i: Any, height: int) -> None:
        for j, count, size in _groups(t, n, i, ACROSS):
            for a, row in enumerate(_gram_panel(t, n, rows, Q, W, D, i, height, j, count, size)):
                for c, total in enumerate(row):
                    Wide(t).store(total.value, out, (i + a) * n + (j + c * V), size)

    rest = n % V
    for i in t.range(0, n - rest, V):
        panels(i, V)
    if rest:
        panels(n - rest, rest)


def solve(t: Lanes, n: int, U: Array, inverse: Array, r: Array) -> None:
    v = Wide(t)
    V = v.W
    rest = n % V

    def down(j: Any, height: int) -> None:
        even, odd = v.cell(v.load(r, j, height)), v.cell(0.0)
        for i in t.range(0, j, 2):  # j is a multiple of V, and V is even
            even.value = v.fma(v.load(U, i * n + j, height), -v.spread(r[i]), even.value)
            odd.value = v.fma(v.load(U, (i + 1) * n + j, height), -v.spread(r[i + 1]), odd.value)
        left = even.value + odd.value
        for b in range(height):
            value = v.pick(left, b, t) * inverse[j + b]
            r[j + b] = value
            left = left - v.spread(value) * v.load(U, (j + b) * n + j, height)

    def up(i: Any, height: int) -> None:
        sums = [v.cell(0.0) for _ in range(height)]
        if height == V:
            for j, _, size in _groups(t, n, i + V, 1):
                found = v.load(r, j, size)
                for a, total in enumerate(sums):
                    total.value = v.fma(v.load(U, (i + a) * n + j, size), found, total.value)
        values = [r[i + a] - v.total(total.value, t) for a, total in enumerate(sums)]
        for a in reversed(range(height)):
            value = values[a] * inverse[i + a]
            r[i + a] = value
            for b in range(a):
                values[b] = values[b] - U[i + b, i + a] * value

    for j in t.range(0, n - rest, V):
        down(j, V)
    if rest:
        down(n - rest, rest)
        up(n - rest, rest)
    whole = n - rest
    for i in t.range(0, whole, V):
        up(whole - V - i, V)
