"""Between tensors outside, where each problem has a row of its own, and arrays, where W problems lie side by side.

W entries of W problems are a square; it is turned in registers, by halves, quarters, eighths:

    a0 a1 | a2 a3         a0 b0 | a2 b2         a0 b0 c0 d0
    b0 b1 | b2 b3   ->    a1 b1 | a3 b3   ->    a1 b1 c1 d1
    c0 c1 | c2 c3         c0 d0 | c2 d2         a2 b2 c2 d2
    d0 d1 | d2 d3         c1 d1 | c3 d3         a3 b3 c3 d3
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .llvm import Lanes
from .values import BYTE, DOUBLE, INT, LONG, POINTER, Array, Field, Index, Memory, Num

KINDS = {8: BYTE, 32: INT, 64: DOUBLE}  # by their bits: torch's bool, int32 and float64


def read(t: Lanes, field: Field, count: Index | int, out: Array) -> None:
    """The first ``count`` entries of every problem."""
    t.call(_read, field.address, field.stride, field.block, field.batch, Index(t, t.index(count)), out)


def read_or_zero(t: Lanes, field: Field, count: Index | int, out: Array) -> None:
    """The same, of a tensor that may be missing, at address 0: zeros then."""
    for i in t.range(count):
        out[i] = 0.0
    with t.unless(field.address, 0):
        read(t, field, count, out)


def matrix(t: Lanes, field: Field, rows: Index | int, n: int, memory: Memory) -> Array:
    """A tensor's (rows, n) as an array: copied side by side, or where it lies, if it is that of one problem."""
    if t.W == 1:
        return Array(t, field.lanes[0], n)
    copy = memory.array(rows, n)
    read(t, field, rows * n, copy)
    return copy


def flag(t: Lanes, address: Index, block: Index, batch: Index) -> Num:
    """One truth value of every problem, 0 or 1."""
    value: Any = ir.Constant(t.vector, ir.Undefined)
    base = t.b.inttoptr(address.v, POINTER)
    for lane, item in enumerate(_items(t, block, batch)):
        byte = t.b.load(t.b.gep(base, [item], source_etype=BYTE), typ=BYTE)
        value = t.b.insert_element(value, t.b.uitofp(byte, DOUBLE), INT(lane))
    return Num(t, value)


def write(
    t: Lanes, address: Index, block: Index, batch: Index, source: Array, count: Index | int, take: Array, kind: Any = DOUBLE
) -> None:
    """Copy ``count`` entries into the rows of those problems where ``take`` is not 0, as numbers of that kind."""
    bits = next(bits for bits, known in KINDS.items() if known is kind)
    t.call(_write, address, block, batch, source, Index(t, t.index(count)), take, sizes=(bits,))


def _read(t: Lanes, address: Index, stride: Index, block: Index, batch: Index, count: Index, out: Array) -> None:
    field = t.field(address, stride, block, batch)
    if t.W == 1:
        t.copy(field.lanes[0], out.pointer, count)
        return
    whole = _whole(t, count)
    for i in t.range(0, whole, t.W):
        rows = [t.b.load(t.b.gep(lane, [i.v], source_etype=DOUBLE), typ=t.vector, align=8) for lane in field.lanes]
        for a, value in enumerate(_turned(t, rows)):
            out[i + a] = Num(t, value)
    for i in t.range(whole, count):
        out[i] = field[i]


def _write(t: Lanes, bits: int, address: Index, block: Index, batch: Index, source: Array, count: Index, take: Array) -> None:
    kind, b = KINDS[bits], t.b
    base = b.inttoptr(address.v, POINTER)
    wanted = b.fcmp_ordered("!=", take[0].v, t.num(0.0).v)
    lanes = []
    for lane in range(t.W):
        item = block * t.W + lane
        there = b.and_(b.extract_element(wanted, INT(lane)), b.icmp_signed("<", item.v, batch.v))
        lanes.append((there, b.gep(base, [(item * count).v], source_etype=kind)))
    if t.W == 1 and kind is DOUBLE:
        with b.if_then(lanes[0][0]):
            t.copy(source.pointer, lanes[0][1], count)
        return

    def numbers(value: Any) -> Any:
        return value if kind is DOUBLE else b.fptosi(value, ir.VectorType(kind, t.W))

    whole = _whole(t, count)
    for i in t.range(0, whole, t.W):
        rows = _turned(t, [source[i + a].v for a in range(t.W)])
        for (there, place), row in zip(lanes, rows, strict=True):
            with b.if_then(there):
                b.store(numbers(row), b.gep(place, [i.v], source_etype=kind), align=bits // 8)
    for i in t.range(whole, count):
        column = numbers(source[i].v)
        for lane, (there, place) in enumerate(lanes):
            with b.if_then(there):
                b.store(b.extract_element(column, INT(lane)), b.gep(place, [i.v], source_etype=kind))


def _whole(t: Lanes, count: Index) -> Index:
    """``count`` rounded down to a multiple of W."""
    return Index(t, t.b.and_(count.v, ir.Constant(LONG, -t.W)))


def _items(t: Lanes, block: Index, batch: Index) -> list[Any]:
    """The problems of a block; beyond the end of the batch the last one stands in."""
    last, items = (batch - 1).v, []
    for lane in range(t.W):
        item = (block * t.W + lane).v
        items.append(t.b.select(t.b.icmp_signed("<", item, last), item, last))
    return items


def _turned(t: Lanes, rows: list[Any]) -> list[Any]:
    """W registers of W entries, rows for columns."""
    distance = 1
    while distance < t.W:
        for i in range(t.W):
            if i & distance:
                continue
            first, second = rows[i], rows[i + distance]
            upper = [t.W + j - distance if j & distance else j for j in range(t.W)]
            lower = [t.W + j if j & distance else j + distance for j in range(t.W)]
            for place, order in ((i, upper), (i + distance, lower)):
                rows[place] = t.b.shuffle_vector(first, second, ir.Constant(ir.VectorType(INT, t.W), order))
        distance *= 2
    return rows
