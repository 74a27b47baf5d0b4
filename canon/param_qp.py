"""ParamQP: what the compiler proved. Sizes, the derived-parameter program, the route of every block, and the way back.

    minimize    1/2 x'Qx + p'x + constant      subject to   Gx <= h,  Ax = b,  lb <= x <= ub

It holds no expression, pickles, prints, and compares by value through ``digest``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from ..dsl.atoms import Shape
from ..dsl.diagnostics import InternalError
from ..dsl.keys import Frozen
from ..dsl.sign import Attributes
from .blocks import Block, Gram
from .program import Program


@dataclass(frozen=True)
class Input:
    """A parameter as the user declared it; ``default`` is used where a call passes nothing."""

    name: str
    shape: Shape
    attributes: Attributes
    default: Frozen | None = None


@dataclass(frozen=True)
class Check:
    """Declared facts about a slot of the program, verified per item at run time."""

    slot: int
    attributes: Attributes
    text: str


@dataclass(frozen=True)
class Assumption:
    """A constraint without variables, verified per item at run time: the slots of its sides, and of where it is meant."""

    name: str
    op: str
    left: int
    right: int
    active: int | None
    text: str

    @property
    def slots(self) -> tuple[int, ...]:
        return (self.left, self.right) if self.active is None else (self.left, self.right, self.active)


@dataclass(frozen=True)
class Retrieved:
    """A user's variable: entries ``start`` onward of x, ``size`` of them.

    ``source``: for each entry of the variable, in C order, which of these it is, -1 for a zero; None where all are, in order.
    """

    name: str
    shape: Shape
    start: int
    source: Frozen | None = None

    @cached_property
    def size(self) -> int:
        return int(np.prod(self.shape)) if self.source is None else int(self.source.array.max(initial=-1)) + 1


@dataclass(frozen=True)
class Gates:
    """Columns that are 0 where a row or bound does not exist for an item; None where all always do.

    ``G`` holds for the rows of G and h, ``A`` for those of A and b.
    """

    G: Block | None = None
    A: Block | None = None
    lb: Block | None = None
    ub: Block | None = None

    @property
    def blocks(self) -> Mapping[str, Block]:
        """Those that are there, by letter."""
        named = {"G": self.G, "A": self.A, "lb": self.lb, "ub": self.ub}
        return {name: block for name, block in named.items() if block is not None}


@dataclass(frozen=True)
class Multiplier:
    """A user's constraint: its multiplier is weight * [y; z; z_lb; z_ub][source], or zero where ``source`` is empty.

    ``text`` is the constraint, printed.
    """

    name: str
    shape: Shape
    source: Frozen
    weight: Frozen
    text: str


NAMED = 12  # inputs and variables that a repr names


@dataclass(frozen=True, eq=False, repr=False)
class ParamQP:
    """The canonical parametric problem. ``sign`` is -1 where the user maximises."""

    inputs: tuple[Input, ...]
    program: Program
    checks: tuple[Check, ...]
    Q: Block
    p: Block
    G: Block
    h: Block
    A: Block
    b: Block
    lb: Block | None
    ub: Block | None
    constant: Block
    grams: tuple[Gram, ...]
    sign: int
    variables: tuple[Retrieved, ...]
    multipliers: tuple[Multiplier, ...]
    assumptions: tuple[Assumption, ...] = ()
    gates: Gates = Gates()
    expansions: tuple[Retrieved, ...] = ()  # what stands in place of atoms, such as t >= |x|; named <atom number>
    bound: tuple[Input, ...] = ()  # parameters that were made constants, with their values

    @property
    def n(self) -> int:
        """Number of variables, those of expansions included."""
        return self.Q.shape[0]

    @property
    def m(self) -> int:
        """Number of rows of G."""
        return self.G.shape[0]

    @property
    def k(self) -> int:
        """Number of rows of A."""
        return self.A.shape[0]

    @property
    def blocks(self) -> Mapping[str, Block]:
        """All blocks that exist, by letter."""
        named = {name: getattr(self, name) for name in ("Q", "p", "G", "h", "A", "b", "lb", "ub", "constant")}
        return {name: block for name, block in named.items() if block is not None}

    @cached_property
    def digest(self) -> str:
        """A hash of the content: equal problems have equal digests."""
        state = hashlib.sha256()
        for part in _flat(self):
            state.update(part)
        return state.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ParamQP) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def verify(self, stage: str) -> None:
        """Blocks have the sizes of the problem and read existing slots; multipliers point at existing rows."""
        n, m, k = self.n, self.m, self.k
        wanted = {"Q": (n, n), "p": (n, 1), "G": (m, n), "h": (m, 1), "A": (k, n), "b": (k, 1), "lb": (n, 1), "ub": (n, 1)}
        for name, block in self.blocks.items():
            if block.shape != wanted.get(name, (1, 1)):
                raise InternalError(f"{stage}: {name} has shape {block.shape}, expected {wanted.get(name)}\n{self}")
            if any(slot >= len(self.program.steps) for slot in block.slots):
                raise InternalError(f"{stage}: {name} reads a slot that does not exist\n{self}")
            for entries in block.entries:
                if entries.source.max(initial=-1) >= self.program.sizes[entries.slot]:
                    raise InternalError(f"{stage}: {name} reads beyond slot {entries.slot}\n{self}")
        for name, block in self.gates.blocks.items():
            if block.shape != (wanted[name][0], 1) or any(slot >= len(self.program.steps) for slot in block.slots):
                raise InternalError(f"{stage}: the gate of {name} does not fit\n{self}")
        for multiplier in self.multipliers:
            if multiplier.source.array.max(initial=-1) >= k + m + 2 * n:
                raise InternalError(f"{stage}: the multiplier of {multiplier.name} does not exist\n{self}")

    def __repr__(self) -> str:
        inputs = ", ".join(f"{i.name}{i.shape}" for i in self.inputs[:NAMED]) + (", ..." if len(self.inputs) > NAMED else "")
        variables = ", ".join(f"{v.name}{v.shape}" for v in self.variables[:NAMED])
        more = ", ..." if len(self.variables) > NAMED else ""
        return f"ParamQP(n={self.n}, m={self.m}, k={self.k}; {inputs} -> {variables}{more})"

    def __str__(self) -> str:
        sizes = self.program.sizes
        lines = [f"ParamQP    n = {self.n}, m = {self.m}, k = {self.k}"]
        lines += [f"input      {i.name} {i.shape} {' '.join(i.attributes.declared)}".rstrip() for i in self.inputs]
        lines += [f"bound      {i.name} {i.shape}" for i in self.bound]
        lines += [f"program    {line}" for line in str(self.program).splitlines()]
        lines += [f"check      %{check.slot} {' '.join(check.attributes.declared)}" for check in self.checks]
        lines += [f"assumed    {fact.name}: {fact.text}" for fact in self.assumptions]
        lines += [f"{name:<10} {block.shape} {block.describe(sizes)}" for name, block in self.blocks.items()]
        lines += [f"exists     {name} {block.describe(sizes)}" for name, block in self.gates.blocks.items()]
        lines += [f"gram       {gram.describe(sizes)}" for gram in self.grams]
        lines += [f"variable   {v.name} {v.shape} = x[{v.start}:{v.start + v.size}]" for v in (*self.variables, *self.expansions)]
        lines += [f"multiplier {d.name} {d.shape} = {self._rows(d)}" for d in self.multipliers]
        return "\n".join(lines)

    def _rows(self, multiplier: Multiplier) -> str:
        """Where the entries of a multiplier stand, such as y[0:3] or z_lb[0:20]."""
        ends = np.cumsum([0, self.k, self.m, self.n, self.n])
        source, parts = multiplier.source.array, []
        for name, start, end in zip(("y", "z", "z_lb", "z_ub"), ends, ends[1:], strict=False):
            inside = source[(source >= start) & (source < end)] - start
            if len(inside):
                parts.append(f"{name}[{inside.min()}:{inside.max() + 1}]")
        return ", ".join(parts) or "nothing"


def _flat(value: Any) -> list[bytes]:
    """The content of nested dataclasses, tuples and arrays as bytes, with their kinds so that nothing collides."""
    if isinstance(value, Frozen):
        value = value.array
    if sparse.issparse(value):
        return [b"sparse", *(part for a in (value.indptr, value.indices, value.data) for part in _flat(np.asarray(a)))]
    if isinstance(value, np.ndarray):
        return [b"array", str((value.dtype.kind, value.shape)).encode(), np.ascontiguousarray(value).tobytes()]
    if is_dataclass(value) and not isinstance(value, type):
        inner = [part for field in fields(value) for part in _flat(getattr(value, field.name))]
        return [b"(", type(value).__name__.encode(), *inner, b")"]
    if isinstance(value, tuple | list):
        return [b"[", *(part for item in value for part in _flat(item)), b"]"]
    return [b"=", repr(value).encode(), b";"]
