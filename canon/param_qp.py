"""ParamQP: what the compiler proved. Sizes, the derived-parameter program, the route of every block, and the way back.

    minimize    1/2 x'Qx + p'x + constant      subject to   Gx <= h,  Ax = b,  lb <= x <= ub

It holds no expression, pickles, prints, and compares by value through ``digest``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..dsl.atoms import Shape
from ..dsl.diagnostics import InternalError
from ..dsl.keys import Frozen
from ..dsl.later import Text
from ..dsl.sign import Attributes
from .blocks import Block, Gram
from .factors import Fixed
from .program import Program
from .sparse import Matrix


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
        return math.prod(self.shape) if self.source is None else int(self.source.array.max(initial=-1)) + 1


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

    ``said`` is the constraint, printed.
    """

    name: str
    shape: Shape
    source: Frozen
    weight: Frozen
    said: Text

    @property
    def text(self) -> str:
        """The constraint, printed."""
        return str(self.said)


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
        found: list[bytes] = []
        _flat(self, found)
        return hashlib.sha256(b"".join(found)).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ParamQP) and hash(self) == hash(other) and self.digest == other.digest)

    @cached_property
    def _hash(self) -> int:
        """Of the outline alone: the content is looked at only where two outlines are the same."""
        inputs = tuple([(item.name, item.shape) for item in self.inputs])
        steps = tuple([(step.op, step.args, step.shape) for step in self.program.steps])
        entries = tuple([(block.constant.nnz, len(block.entries), len(block.products)) for block in self.blocks.values()])
        return hash((self.n, self.m, self.k, self.sign, inputs, steps, entries))

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash: those of strings differ between processes."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    def verify(self, stage: str, before: ParamQP | None = None) -> None:
        """Blocks have the sizes of the problem and read existing slots; multipliers point at existing rows.

        ``before``: a problem that was verified; what a block of it reads is not looked at again, where both share a program.
        """
        n, m, k = self.n, self.m, self.k
        sizes, known = self.program.sizes, before.blocks if before is not None and before.program is self.program else {}
        wanted = {"Q": (n, n), "p": (n, 1), "G": (m, n), "h": (m, 1), "A": (k, n), "b": (k, 1), "lb": (n, 1), "ub": (n, 1)}
        for name, block in self.blocks.items():
            if block.shape != wanted.get(name, (1, 1)):
                raise InternalError(f"{stage}: {name} has shape {block.shape}, expected {wanted.get(name)}\n{self}")
            if block.fixed or known.get(name) is block:
                continue
            if any(slot >= len(self.program.steps) for slot in block.slots):
                raise InternalError(f"{stage}: {name} reads a slot that does not exist\n{self}")
            for entries in block.entries:
                if entries.source.max(initial=-1) >= sizes[entries.slot]:
                    raise InternalError(f"{stage}: {name} reads beyond slot {entries.slot}\n{self}")
        for name, block in self.gates.blocks.items():
            if block.shape != (wanted[name][0], 1) or any(slot >= len(self.program.steps) for slot in block.slots):
                raise InternalError(f"{stage}: the gate of {name} does not fit\n{self}")
        last = k + m + 2 * n - 1
        if self.multipliers and np.concatenate([multiplier.source.array for multiplier in self.multipliers]).max(initial=-1) > last:
            lost = next(one.name for one in self.multipliers if one.source.array.max(initial=-1) > last)
            raise InternalError(f"{stage}: the multiplier of {lost} does not exist\n{self}")

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


@lru_cache(maxsize=64)
def _fields(kind: type) -> tuple[str, ...] | None:
    """Names of the fields of a dataclass, None for other types."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def _flat(value: Any, found: list[bytes]) -> None:
    """Add the content of nested dataclasses, tuples and arrays as bytes, with their kinds so that nothing collides."""
    if isinstance(value, Frozen | Fixed):
        value = value.array if isinstance(value, Frozen) else value.matrix
    if isinstance(value, tuple | list):
        found.append(b"[%d" % len(value))
        for item in value:
            _flat(item, found)
    elif isinstance(value, np.ndarray):
        found += [repr((value.dtype.kind, value.shape)).encode(), np.ascontiguousarray(value).tobytes()]
    elif isinstance(value, Matrix):
        found.append(repr(value.shape).encode())
        for array in (value.rows, value.cols, value.data):
            _flat(array, found)
    elif (names := _fields(value.__class__)) is not None:
        found.append(type(value).__name__.encode())
        for name in names:
            _flat(getattr(value, name), found)
    else:
        found += [b"=", repr(value).encode(), b";"]
