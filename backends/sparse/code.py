"""A few words of a language for loops over index tables, written straight into LLVM.

``Int`` and ``Real`` are numbers in registers, ``Wide`` are ``LANES`` reals side by side; ``Ints`` and ``Reals`` are tables in
memory. ``for i in c.range(a, b)`` writes a loop whose body Python runs through once. Registers are as wide as eight doubles: where
the machine has narrower ones, LLVM takes several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from llvmlite import ir

LANES = 8
DOUBLE, LONG, POINTER = ir.DoubleType(), ir.IntType(64), ir.PointerType()
WIDE = ir.VectorType(DOUBLE, LANES)


Number = TypeVar("Number", "Int", "Real")


@dataclass(frozen=True)
class Int:
    """An integer known when the code runs."""

    c: Code
    v: Any

    def __add__(self, other: Int | int) -> Int:
        return Int(self.c, self.c.b.add(self.v, self.c.long(other)))

    def __sub__(self, other: Int | int) -> Int:
        return Int(self.c, self.c.b.sub(self.v, self.c.long(other)))

    def __mul__(self, other: Int | int) -> Int:
        return Int(self.c, self.c.b.mul(self.v, self.c.long(other)))

    def __floordiv__(self, other: int) -> Int:
        return Int(self.c, self.c.b.sdiv(self.v, self.c.long(other)))

    def most(self, other: Int | int) -> Int:
        b, right = self.c.b, self.c.long(other)
        return Int(self.c, b.select(b.icmp_signed(">", self.v, right), self.v, right))

    def least(self, other: Int | int) -> Int:
        b, right = self.c.b, self.c.long(other)
        return Int(self.c, b.select(b.icmp_signed("<", self.v, right), self.v, right))


@dataclass(frozen=True)
class Real:
    """A double, or ``LANES`` of them."""

    c: Code
    v: Any

    def __add__(self, other: Real) -> Real:
        return Real(self.c, self.c.b.fadd(self.v, other.v))

    def __sub__(self, other: Real) -> Real:
        return Real(self.c, self.c.b.fsub(self.v, other.v))

    def __mul__(self, other: Real) -> Real:
        return Real(self.c, self.c.b.fmul(self.v, other.v))

    def __truediv__(self, other: Real) -> Real:
        return Real(self.c, self.c.b.fdiv(self.v, other.v))

    def __neg__(self) -> Real:
        return Real(self.c, self.c.b.fneg(self.v))


@dataclass(frozen=True)
class Ints:
    """A table of integers."""

    c: Code
    pointer: Any

    def __getitem__(self, i: Int | int) -> Int:
        return Int(self.c, self.c.b.load(self.c.place(self.pointer, i, LONG), typ=LONG))

    def __setitem__(self, i: Int | int, value: Int) -> None:
        self.c.b.store(value.v, self.c.place(self.pointer, i, LONG))

    def tail(self, start: Int) -> Ints:
        return Ints(self.c, self.c.place(self.pointer, start, LONG))


@dataclass(frozen=True)
class Reals:
    """A table of doubles."""

    c: Code
    pointer: Any

    def __getitem__(self, i: Int | int) -> Real:
        return Real(self.c, self.c.b.load(self.c.place(self.pointer, i, DOUBLE), typ=DOUBLE))

    def __setitem__(self, i: Int | int, value: Real) -> None:
        self.c.b.store(value.v, self.c.place(self.pointer, i, DOUBLE))

    def wide(self, i: Int | int) -> Real:
        """Entries i, i+1, ... to a register."""
        return Real(self.c, self.c.b.load(self.c.place(self.pointer, i, DOUBLE), typ=WIDE, align=8))

    def put_wide(self, i: Int | int, value: Real) -> None:
        self.c.b.store(value.v, self.c.place(self.pointer, i, DOUBLE), align=8)

    def tail(self, start: Int) -> Reals:
        return Reals(self.c, self.c.place(self.pointer, start, DOUBLE))


class Code:
    """Writes functions into one LLVM module."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.b: ir.IRBuilder

    @contextmanager
    def function(self, name: str, pointers: int, longs: int) -> Iterator[list[Any]]:
        """A public function without result; the body receives its arguments raw."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * pointers + [LONG] * longs)
        written = ir.Function(self.module, kind, name)
        self.b = ir.IRBuilder(written.append_basic_block("entry"))
        start = written.append_basic_block("start")
        self.b.branch(start)
        self.b.position_at_end(start)
        yield list(written.args)
        self.b.ret_void()

    def long(self, value: Int | int) -> Any:
        return value.v if isinstance(value, Int) else ir.Constant(LONG, value)

    def real(self, value: float) -> Real:
        return Real(self, ir.Constant(DOUBLE, value))

    def zeros(self) -> Real:
        return Real(self, ir.Constant(WIDE, [0.0] * LANES))

    def place(self, pointer: Any, i: Int | int, kind: Any) -> Any:
        return self.b.gep(pointer, [self.long(i)], inbounds=True, source_etype=kind)

    def range(self, start: Int | int, stop: Int | int, step: int = 1) -> Iterator[Int]:
        """Loop over start, start + step, ... below stop."""
        b = self.b
        before = b.block
        head, body, after = (b.append_basic_block(part) for part in ("head", "body", "after"))
        first, end = self.long(start), self.long(stop)
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(LONG)
        i.add_incoming(first, before)
        b.cbranch(b.icmp_signed("<", i, end), body, after)
        b.position_at_end(body)
        yield Int(self, i)
        i.add_incoming(b.add(i, ir.Constant(LONG, step)), b.block)
        b.branch(head)
        b.position_at_end(after)

    def down(self, stop: Int) -> Iterator[Int]:
        """Loop over stop - 1, ..., 0."""
        for i in self.range(0, stop):
            yield stop - i - 1

    @contextmanager
    def when(self, relation: str, left: Int, right: Int | int) -> Iterator[None]:
        with self.b.if_then(self.b.icmp_signed(relation, left.v, self.long(right))):
            yield

    def fold(self, count: Int, first: list[Real], step: Callable[[Int, list[Real]], list[Real]]) -> list[Real]:
        """``step(i, values)`` for i = 0, ..., count - 1; the values stay in registers."""
        b = self.b
        before = b.block
        head, body, after = (b.append_basic_block(part) for part in ("head", "body", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(LONG)
        held = [b.phi(value.v.type) for value in first]
        i.add_incoming(ir.Constant(LONG, 0), before)
        for phi, value in zip(held, first, strict=True):
            phi.add_incoming(value.v, before)
        b.cbranch(b.icmp_signed("<", i, count.v), body, after)
        b.position_at_end(body)
        found = step(Int(self, i), [Real(self, phi) for phi in held])
        i.add_incoming(b.add(i, ir.Constant(LONG, 1)), b.block)
        for phi, value in zip(held, found, strict=True):
            phi.add_incoming(value.v, b.block)
        b.branch(head)
        b.position_at_end(after)
        return [Real(self, phi) for phi in held]

    def above(self, left: Real, right: Real) -> Any:
        return self.b.fcmp_ordered(">", left.v, right.v)

    def choose(self, condition: Any, yes: Number, no: Number) -> Number:
        return type(yes)(self, self.b.select(condition, yes.v, no.v))

    def pointer(self, address: Int) -> Any:
        return self.b.inttoptr(address.v, POINTER)

    def spread(self, one: Real) -> Real:
        """The number in every lane."""
        inserted = self.b.insert_element(ir.Constant(WIDE, ir.Undefined), one.v, ir.Constant(ir.IntType(32), 0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return Real(self, self.b.shuffle_vector(inserted, ir.Constant(WIDE, ir.Undefined), order))

    def total(self, wide: Real) -> Real:
        """The sum over lanes, halves added to halves."""
        width, value, nothing = LANES, wide.v, ir.Constant(WIDE, ir.Undefined)
        while width > 1:
            width //= 2
            order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [(i + width) % LANES for i in range(LANES)])
            value = self.b.fadd(value, self.b.shuffle_vector(value, nothing, order))
        return Real(self, self.b.extract_element(value, ir.Constant(ir.IntType(32), 0)))

    def fma(self, x: Real, y: Real, z: Real) -> Real:
        """xy + z."""
        kind = x.v.type
        name = "llvm.fmuladd.v8f64" if kind == WIDE else "llvm.fmuladd.f64"
        function = self.module.globals.get(name) or ir.Function(self.module, ir.FunctionType(kind, [kind] * 3), name)
        return Real(self, self.b.call(function, [x.v, y.v, z.v]))

    def clear(self, target: Reals, count: Int) -> None:
        """Zero ``count`` doubles."""
        name, byte, bit = "llvm.memset.p0.i64", ir.IntType(8), ir.IntType(1)
        kind = ir.FunctionType(ir.VoidType(), [POINTER, byte, LONG, bit])
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        self.b.call(function, [target.pointer, byte(0), (count * 8).v, bit(0)])

    def copy(self, source: Reals, target: Reals, count: Int) -> None:
        """Copy ``count`` doubles."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, LONG, ir.IntType(1)])
        name = "llvm.memcpy.p0.p0.i64"
        function = self.module.globals.get(name) or ir.Function(self.module, kind, name)
        self.b.call(function, [target.pointer, source.pointer, (count * 8).v, ir.IntType(1)(0)])
