"""The small language of the programs in this folder, traced into LLVM.

A program is Python that computes with ``Num``: one double for each of W problems, the lanes of a vector register. Running it once
writes the code: operators append instructions, ``for i in t.range(n)`` writes a loop whose body Python runs through once,
``t.leave(mask)`` leaves it when no lane needs it any more. What lanes may do differently they do by ``t.where``: there are no
branches by lane, so that nothing an item does can reach its mates.

    Num     W doubles            + - * / < <= > >=, t.where, t.max, t.min, t.abs, t.sqrt, t.fma
    Mask    W truth values       & | ~
    Index   one integer          + - *, shared by all lanes
    Cell    a Num that changes   cell.value
    Array   Nums in memory       a[i], a[i, j], row by row
    Field   a tensor outside     one row per problem; read by lanes, written lane by lane

A procedure is a program of its own that others call: its code exists once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from .values import BIT, DOUBLE, LONG, POINTER, Array, Cell, Field, Index, Mask, Num


class Lanes:
    """Writes one LLVM module for W lanes. ``tile``: side of the square of accumulators that fits into registers.

    ``matrices``: the module whose procedures programs call for products and factorizations. With W = 1 these put ``along`` entries
    of a row into a register.
    """

    def __init__(self, W: int, tile: int, matrices: Any, along: int = 1) -> None:
        self.W, self.tile, self.matrices, self.along = W, tile, matrices, along
        self.module = ir.Module("karush")
        self.vector = ir.VectorType(DOUBLE, W)
        self.mask_type = ir.VectorType(BIT, W)
        self._procedures: dict[str, ir.Function] = {}
        self._exits: list[Any] = []
        self.b: ir.IRBuilder

    # Functions

    def function(self, name: str, arguments: int, program: Callable[..., None], *, longs: int = 0) -> None:
        """A public function of ``arguments`` pointers and ``longs`` integers; the program receives them raw."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * arguments + [LONG] * longs)
        written = ir.Function(self.module, kind, name)
        self._write(written, lambda: program(self, *written.args))

    def call(self, program: Callable[..., None], *arguments: Any, sizes: tuple[int, ...] = ()) -> None:
        """Call a program as a procedure, written once for its constant ``sizes``. Arguments: Array, Index or Num."""
        name = "_".join([program.__name__, *map(str, sizes)])
        kinds = [POINTER if isinstance(a, Array) else LONG if isinstance(a, Index) else self.vector for a in arguments]
        if name not in self._procedures:
            written = ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name)
            written.linkage = "internal"
            written.attributes.add("noinline")
            for argument, kind in zip(written.args, kinds, strict=True):
                if kind is POINTER:
                    argument.add_attribute("noalias")
            self._procedures[name] = written
            inside = [
                Array(self, raw, given.cols) if isinstance(given, Array) else type(given)(self, raw)
                for raw, given in zip(written.args, arguments, strict=True)
            ]
            self._write(written, lambda: program(self, *sizes, *inside))
        values = [a.pointer if isinstance(a, Array) else a.v for a in arguments]
        self.b.call(self._procedures[name], values)

    def _write(self, function: ir.Function, body: Callable[[], None]) -> None:
        outer = getattr(self, "b", None), self._exits
        self.b, self._exits = ir.IRBuilder(function.append_basic_block("entry")), []
        start = function.append_basic_block("start")
        self.b.branch(start)
        self.b.position_at_end(start)
        body()
        self.b.ret_void()
        if outer[0] is not None:
            self.b, self._exits = outer

    # Control

    def range(self, start: Index | int, stop: Index | int | None = None, step: int = 1) -> Iterator[Any]:
        """Loop over start, start + step, ... below stop; the body is written once."""
        if stop is None:
            start, stop = 0, start
        if isinstance(start, int) and isinstance(stop, int):
            if start >= stop:
                return
            if start + step >= stop:
                yield start
                return
        b = self.b
        before = b.block
        head, body, after = (b.append_basic_block(part) for part in ("head", "body", "after"))
        first, end = self.index(start), self.index(stop)
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(LONG)
        i.add_incoming(first, before)
        b.cbranch(b.icmp_signed("<", i, end), body, after)
        b.position_at_end(body)
        self._exits.append(after)
        yield Index(self, i)
        self._exits.pop()
        i.add_incoming(b.add(i, ir.Constant(LONG, step)), b.block)
        b.branch(head)
        b.position_at_end(after)

    def tiles(self, n: int, start: Index | int = 0) -> Iterator[tuple[Any, int]]:
        """(first, size) of tiles that cover start..n; start is a multiple of ``tile``, or n itself."""
        rest = n % self.tile
        for i in self.range(start, n - rest, self.tile):
            yield i, self.tile
        if rest and not (isinstance(start, int) and start >= n):
            yield n - rest, rest

    def tiles_down(self, n: int) -> Iterator[tuple[Any, int]]:
        """The tiles of 0..n, last one first."""
        rest, whole = n % self.tile, n // self.tile
        if rest:
            yield n - rest, rest
        for i in self.range(whole):
            yield ((whole - 1) * self.tile - i * self.tile if isinstance(i, Index) else (whole - 1 - i) * self.tile), self.tile

    def rows(self, count: Index) -> Iterator[tuple[Any, int]]:
        """Rows 0..count in groups of four, then one by one."""
        whole = Index(self, self.b.and_(count.v, ir.Constant(LONG, -4)))
        for i in self.range(0, whole, 4):
            yield i, 4
        for i in self.range(whole, count):
            yield i, 1

    def leave(self, idle: Mask) -> None:
        """Leave the innermost loop if no lane is left: ``idle`` in all lanes."""
        b = self.b
        on = b.append_basic_block("on")
        bits = b.bitcast(idle.v, ir.IntType(self.W))
        b.cbranch(b.icmp_signed("==", bits, ir.Constant(ir.IntType(self.W), -1)), self._exits[-1], on)
        b.position_at_end(on)

    def leave_at(self, i: Index, last: Index | int) -> None:
        """Leave the innermost loop at i == last."""
        b = self.b
        on = b.append_basic_block("on")
        b.cbranch(b.icmp_signed("==", i.v, self.index(last)), self._exits[-1], on)
        b.position_at_end(on)

    @contextmanager
    def when(self, a: Index, b: Index | int) -> Iterator[None]:
        """Only if a == b."""
        with self.b.if_then(self.b.icmp_signed("==", a.v, self.index(b))):
            yield

    @contextmanager
    def unless(self, a: Index, b: Index | int) -> Iterator[None]:
        """Only if a != b."""
        with self.b.if_then(self.b.icmp_signed("!=", a.v, self.index(b))):
            yield

    @contextmanager
    def below(self, a: Index, b: Index | int) -> Iterator[None]:
        """Only if a < b."""
        with self.b.if_then(self.b.icmp_signed("<", a.v, self.index(b))):
            yield

    @contextmanager
    def if_any(self, mask: Mask) -> Iterator[None]:
        """Only if some lane asks for it."""
        bits = self.b.bitcast(mask.v, ir.IntType(self.W))
        with self.b.if_then(self.b.icmp_signed("!=", bits, ir.Constant(ir.IntType(self.W), 0))):
            yield

    def either(self, a: Index, first: Array, second: Array) -> Array:
        """The first array if a != 0, else the second."""
        there = self.b.icmp_signed("!=", a.v, self.index(0))
        return Array(self, self.b.select(there, first.pointer, second.pointer), first.cols)

    # Numbers

    def num(self, value: Num | Index | float) -> Num:
        if isinstance(value, Num):
            return value
        if isinstance(value, Index):
            return self._splat(self.b.sitofp(value.v, DOUBLE))
        return Num(self, ir.Constant(self.vector, [float(value)] * self.W))

    def index(self, value: Index | int) -> Any:
        return value.v if isinstance(value, Index) else ir.Constant(LONG, value)

    def cell(self, value: Num | float) -> Cell:
        return Cell(self, value)

    def binary(self, name: str, x: Num | float, y: Num | float) -> Num:
        return Num(self, getattr(self.b, name)(self.num(x).v, self.num(y).v))

    def compare(self, relation: str, x: Num | float, y: Num | float) -> Mask:
        return Mask(self, self.b.fcmp_ordered(relation, self.num(x).v, self.num(y).v))

    def where(self, mask: Mask, x: Num | float, y: Num | float) -> Num:
        return Num(self, self.b.select(mask.v, self.num(x).v, self.num(y).v))

    def max(self, x: Num, y: Num | float) -> Num:
        """The larger; NaN in x stays."""
        return self.where(x < y, y, x)

    def min(self, x: Num, y: Num | float) -> Num:
        """The smaller; NaN in x stays."""
        return self.where(x > y, y, x)

    def fma(self, x: Num, y: Num, z: Num) -> Num:
        """xy + z, in one rounding where the machine has it."""
        return self._intrinsic("fmuladd", x, y, z)

    def abs(self, x: Num) -> Num:
        return self._intrinsic("fabs", x)

    def sqrt(self, x: Num) -> Num:
        return self._intrinsic("sqrt", x)

    def even_root(self, x: Num) -> Num:
        """sqrt(x) rounded to a power of two, for x > 0: of x = 2^e (1 + f), 2^floor((e+1)/2)."""
        b, wide = self.b, ir.VectorType(LONG, self.W)

        def constant(value: int) -> Any:
            return ir.Constant(wide, [value] * self.W)

        exponent = b.sub(b.lshr(b.bitcast(x.v, wide), constant(52)), constant(1023))
        half = b.ashr(b.add(exponent, constant(1)), constant(1))
        return Num(self, b.bitcast(b.shl(b.add(half, constant(1023)), constant(52)), self.vector))

    def false(self) -> Mask:
        return Mask(self, ir.Constant(self.mask_type, [0] * self.W))

    def _splat(self, scalar: Any) -> Num:
        one = self.b.insert_element(ir.Constant(self.vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), self.W), [0] * self.W)
        return Num(self, self.b.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), order))

    def _declared(self, name: str, kind: Any) -> Any:
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)

    def _intrinsic(self, name: str, *arguments: Num) -> Num:
        kind = ir.FunctionType(self.vector, [self.vector] * len(arguments))
        return Num(self, self.b.call(self._declared(f"llvm.{name}.v{self.W}f64", kind), [a.v for a in arguments]))

    # The world outside

    def word(self, pointer: Any, i: Index | int) -> Index:
        """Integer i of a table."""
        return Index(self, self.b.load(self.b.gep(pointer, [self.index(i)], source_etype=LONG), typ=LONG))

    def put_word(self, pointer: Any, i: int, value: int) -> None:
        """Set integer i of a table."""
        self.b.store(ir.Constant(LONG, value), self.b.gep(pointer, [self.index(i)], source_etype=LONG))

    def number(self, pointer: Any, i: Index | int) -> Num:
        """Double i of a table, in all lanes."""
        return self._splat(self.b.load(self.b.gep(pointer, [self.index(i)], source_etype=DOUBLE), typ=DOUBLE))

    def numbers(self, address: Index, start: Index) -> Array:
        """Plain doubles from ``start`` on, for ``wide`` alone."""
        base = self.b.inttoptr(address.v, POINTER)
        return Array(self, self.b.gep(base, [start.v], source_etype=DOUBLE))

    def field(self, address: Index, stride: Index, block: Index, batch: Index) -> Field:
        """The rows of a block; beyond the end of the batch the last problem stands in."""
        b = self.b
        base = b.inttoptr(address.v, POINTER)
        lanes = []
        for lane in range(self.W):
            item = (block * self.W + lane).v
            last = (batch - 1).v
            item = b.select(b.icmp_signed("<", item, last), item, last)
            lanes.append(b.gep(base, [b.mul(item, stride.v)], inbounds=True, source_etype=DOUBLE))
        return Field(self, tuple(lanes), address, stride, block, batch)

    def opaque(self, pointer: Any) -> Any:
        """The same pointer, of which the compiler does not see what it was computed from.

        Otherwise its loop strength reduction weighs the distances of all arrays from each other, which takes most of the time.
        """
        kind = ir.FunctionType(POINTER, [POINTER])
        return self.b.call(self._declared("llvm.launder.invariant.group.p0", kind), [pointer])

    def copy(self, source: Any, target: Any, count: Index) -> None:
        """Copy doubles in one piece, from pointer to pointer."""
        kind = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, LONG, BIT])
        size = self.b.mul(count.v, ir.Constant(LONG, 8))
        self.b.call(self._declared("llvm.memcpy.p0.p0.i64", kind), [target, source, size, ir.Constant(BIT, 0)])
