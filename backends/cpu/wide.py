"""Registers along the rows of one problem: Nums that are consecutive entries of an array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir

from .llvm import Lanes
from .values import BIT, DOUBLE, POINTER, Array, Index, Mask, Num


class Wide(Lanes):
    """What ``t`` writes, with Nums of ``t.along`` entries; for use within the procedure at hand."""

    def __init__(self, t: Lanes) -> None:
        vars(self).update(vars(t))
        self.W = t.along if t.W == 1 else t.W
        self.vector, self.mask_type = ir.VectorType(DOUBLE, self.W), ir.VectorType(BIT, self.W)

    def row(self, n: int) -> Iterator[tuple[Any, int]]:
        """(first, size) of the registers that cover a row of n numbers."""
        whole = n - n % self.W
        for j in self.range(0, whole, self.W):
            yield j, self.W
        if whole < n:
            yield whole, n - whole

    def entry(self, array: Array, i: Index | int) -> Num:
        """Number i of an array, in every entry."""
        return self._splat(self.b.load(self._entry(array, i), typ=DOUBLE))

    def load(self, array: Array, i: Index | int, size: int) -> Num:
        """Entries i, i+1, ... of an array of one problem; zeros from ``size`` on."""
        pointer = self._entry(array, i)
        if size == self.W:
            return Num(self, self.b.load(pointer, typ=self.vector, align=8))
        kind = ir.FunctionType(self.vector, [POINTER, ir.IntType(32), self.mask_type, self.vector])
        function = self._declared(f"llvm.masked.load.v{self.W}f64.p0", kind)
        return Num(self, self.b.call(function, [pointer, ir.IntType(32)(8), self._first(size), self.num(0.0).v]))

    def store(self, value: Num, array: Array, i: Index | int, size: int) -> None:
        """Write the first ``size`` entries to i, i+1, ..."""
        pointer = self._entry(array, i)
        if size == self.W:
            self.b.store(value.v, pointer, align=8)
            return
        kind = ir.FunctionType(ir.VoidType(), [self.vector, POINTER, ir.IntType(32), self.mask_type])
        function = self._declared(f"llvm.masked.store.v{self.W}f64.p0", kind)
        self.b.call(function, [value.v, pointer, ir.IntType(32)(8), self._first(size)])

    def spread(self, one: Num) -> Num:
        """The number of one problem in every entry."""
        return self._splat(self.b.extract_element(one.v, ir.IntType(32)(0)))

    def pick(self, value: Num, i: int, t: Lanes) -> Num:
        """Entry i, as the number ``t`` computes with."""
        return t._splat(self.b.extract_element(value.v, ir.IntType(32)(i)))

    def put(self, value: Num, i: int, one: Num) -> Num:
        """``value`` with entry i replaced."""
        number = self.b.extract_element(one.v, ir.IntType(32)(0))
        return Num(self, self.b.insert_element(value.v, number, ir.IntType(32)(i)))

    def onwards(self, value: Num, i: int) -> Num:
        """``value`` with zeros before entry i."""
        mask = ir.Constant(self.mask_type, [int(entry >= i) for entry in range(self.W)])
        return self.where(Mask(self, mask), value, 0.0)

    def total(self, value: Num, t: Lanes) -> Num:
        """The sum of all entries, halves added to halves."""
        return self._folded(value, t, lambda x, y: x + y)

    def largest(self, value: Num, t: Lanes) -> Num:
        return self._folded(value, t, self.max)

    def _folded(self, value: Num, t: Lanes, rule: Callable[[Num, Num], Num]) -> Num:
        width = self.W
        nothing = ir.Constant(self.vector, ir.Undefined)
        while width > 1:
            width //= 2
            order = ir.Constant(ir.VectorType(ir.IntType(32), self.W), [(i + width) % self.W for i in range(self.W)])
            value = rule(value, Num(self, self.b.shuffle_vector(value.v, nothing, order)))
        return self.pick(value, 0, t)

    def _entry(self, array: Array, i: Index | int) -> Any:
        return self.b.gep(array.pointer, [self.index(i)], inbounds=True, source_etype=DOUBLE)

    def _first(self, size: int) -> Any:
        return ir.Constant(self.mask_type, [int(entry < size) for entry in range(self.W)])
