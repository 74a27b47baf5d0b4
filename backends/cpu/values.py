"""What the programs of this folder compute with; ``llvm`` explains the language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir

if TYPE_CHECKING:
    from .llvm import Lanes

DOUBLE, LONG, BIT = ir.DoubleType(), ir.IntType(64), ir.IntType(1)
BYTE, INT = ir.IntType(8), ir.IntType(32)  # torch's bool and int32
POINTER = ir.PointerType()


class Num:
    """One double per lane."""

    __slots__ = ("t", "v")

    def __init__(self, t: Lanes, v: Any) -> None:
        self.t, self.v = t, v

    def __add__(self, other: Num | float) -> Num:
        return self.t.binary("fadd", self, other)

    __radd__ = __add__

    def __sub__(self, other: Num | float) -> Num:
        return self.t.binary("fsub", self, other)

    def __rsub__(self, other: float) -> Num:
        return self.t.binary("fsub", self.t.num(other), self)

    def __mul__(self, other: Num | float) -> Num:
        return self.t.binary("fmul", self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Num | float) -> Num:
        return self.t.binary("fdiv", self, other)

    def __rtruediv__(self, other: float) -> Num:
        return self.t.binary("fdiv", self.t.num(other), self)

    def __neg__(self) -> Num:
        return Num(self.t, self.t.b.fneg(self.v))

    def __lt__(self, other: Num | float) -> Mask:
        return self.t.compare("<", self, other)

    def __le__(self, other: Num | float) -> Mask:
        return self.t.compare("<=", self, other)

    def __gt__(self, other: Num | float) -> Mask:
        return self.t.compare(">", self, other)

    def __ge__(self, other: Num | float) -> Mask:
        return self.t.compare(">=", self, other)

    def same(self, other: Num | float) -> Mask:
        return self.t.compare("==", self, other)


class Mask:
    """One truth value per lane. Comparisons with NaN are false."""

    __slots__ = ("t", "v")

    def __init__(self, t: Lanes, v: Any) -> None:
        self.t, self.v = t, v

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.t, self.t.b.and_(self.v, other.v))

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.t, self.t.b.or_(self.v, other.v))

    def __invert__(self) -> Mask:
        return Mask(self.t, self.t.b.not_(self.v))


class Index:
    """An integer known when the code runs."""

    __slots__ = ("t", "v")

    def __init__(self, t: Lanes, v: Any) -> None:
        self.t, self.v = t, v

    def __add__(self, other: Index | int) -> Index:
        return Index(self.t, self.t.b.add(self.v, self.t.index(other)))

    __radd__ = __add__

    def __sub__(self, other: Index | int) -> Index:
        return Index(self.t, self.t.b.sub(self.v, self.t.index(other)))

    def __rsub__(self, other: int) -> Index:
        return Index(self.t, self.t.b.sub(self.t.index(other), self.v))

    def masked(self, mask: int) -> Index:
        """The bits of ``mask``: with -2^k, a multiple of 2^k that is not above."""
        return Index(self.t, self.t.b.and_(self.v, ir.Constant(LONG, mask)))

    def __mul__(self, other: Index | int) -> Index:
        return Index(self.t, self.t.b.mul(self.v, self.t.index(other)))

    __rmul__ = __mul__


class Cell:
    """A Num that may be assigned again, in loops too."""

    __slots__ = ("place", "t")

    def __init__(self, t: Lanes, value: Num | float) -> None:
        self.t = t
        with t.b.goto_entry_block():
            self.place = t.b.alloca(t.vector)
        self.value = t.num(value)

    @property
    def value(self) -> Num:
        return Num(self.t, self.t.b.load(self.place, typ=self.t.vector))

    @value.setter
    def value(self, value: Num | float) -> None:
        self.t.b.store(self.t.num(value).v, self.place)


@dataclass(frozen=True)
class Array:
    """Nums in memory, ``cols`` to a row."""

    t: Lanes
    pointer: Any
    cols: Index | int = 1

    def _at(self, key: Any) -> Any:
        t = self.t
        if isinstance(key, tuple):
            i, j = key
            key = i * self.cols + j
        return t.b.gep(self.pointer, [t.index(key)], inbounds=True, source_etype=t.vector)

    def __getitem__(self, key: Any) -> Num:
        t = self.t
        return Num(t, t.b.load(self._at(key), typ=t.vector, align=8 * t.W))

    def __setitem__(self, key: Any, value: Num | float) -> None:
        t = self.t
        t.b.store(t.num(value).v, self._at(key), align=8 * t.W)

    def tail(self, start: Index | int) -> Array:
        """The array from entry ``start`` on."""
        t = self.t
        return Array(t, t.b.gep(self.pointer, [t.index(start)], inbounds=True, source_etype=t.vector), self.cols)


@dataclass(frozen=True)
class Field:
    """A tensor outside: a row of ``stride`` doubles for each problem. ``lanes``: where the rows of this block begin."""

    t: Lanes
    lanes: tuple[Any, ...]
    address: Index
    stride: Index
    block: Index
    batch: Index

    def __getitem__(self, i: Index | int) -> Num:
        """One entry of every problem."""
        t = self.t
        value: Any = ir.Constant(t.vector, ir.Undefined)
        for lane, pointer in enumerate(self.lanes):
            entry = t.b.load(t.b.gep(pointer, [t.index(i)], inbounds=True, source_etype=DOUBLE), typ=DOUBLE)
            value = t.b.insert_element(value, entry, ir.Constant(ir.IntType(32), lane))
        return Num(t, value)


class Memory:
    """Arrays, one after the other from where a pointer points to."""

    def __init__(self, t: Lanes, pointer: Any) -> None:
        self.t, self.pointer = t, pointer

    def array(self, rows: Index | int, cols: Index | int = 1) -> Array:
        t = self.t
        given = Array(t, t.opaque(self.pointer), cols)
        self.pointer = t.b.gep(self.pointer, [t.index(rows * cols)], source_etype=t.vector)
        return given


class Counter:
    """How many Nums the arrays of a program take, for sizes that are known."""

    def __init__(self) -> None:
        self.total = 0

    def array(self, rows: int, cols: int = 1) -> None:
        self.total += rows * cols
