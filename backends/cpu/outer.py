"""Outer products of one problem after the other, with registers along the rows of the result."""

from __future__ import annotations

from collections.abc import Sequence

from .llvm import Lanes
from .values import Array, Field, Index, Num
from .wide import Wide


def outer_sum(
    t: Lanes,
    address: Index,
    block: Index,
    batch: Index,
    rows: Index | int,
    n: int,
    signs: Sequence[float],
    a: Index,
    u: Field,
    b: Field,
    w: Index,
) -> None:
    """out = s a u' + r b w' for each problem of the block, s, r = ``signs``; out (rows, n) lies at ``address``.

    ``a`` (rows) and ``w`` (n) are addresses of results, ``u`` (n) and ``b`` (rows) fields. One pass: memory is what it costs.
    """
    for lane in range(t.W):
        item = block * t.W + lane
        with t.below(item, batch):
            out, left, right = (t.numbers(base, item * size) for base, size in ((address, rows * n), (a, rows), (w, n)))
            arrays = out, left, Array(t, u.lanes[lane]), Array(t, b.lanes[lane]), right
            t.call(outer, Index(t, t.index(rows)), *map(t.num, signs), *arrays, sizes=(n,))


def outer(t: Lanes, n: int, rows: Index, s: Num, r: Num, out: Array, a: Array, u: Array, b: Array, w: Array) -> None:
    """out = s a u' + r b w' of one problem."""
    v = Wide(t)
    s, r = v.spread(s), v.spread(r)
    for i in t.range(rows):
        ai, bi = v.entry(a, i) * s, v.entry(b, i) * r
        for j, size in v.row(n):
            v.store(v.fma(ai, v.load(u, j, size), bi * v.load(w, j, size)), out, i * n + j, size)
