"""Signs and attributes: what is known about the values of an expression before any value exists."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .keys import Frozen

SQUARE = ("PSD", "NSD", "symmetric", "diag")


@dataclass(frozen=True)
class Sign:
    """What is proved of every entry: >= 0, <= 0, both (zero) or neither (unknown)."""

    nonneg: bool = False
    nonpos: bool = False

    def __add__(self, other: Sign) -> Sign:
        return SIGNS[self.nonneg and other.nonneg, self.nonpos and other.nonpos]

    def __neg__(self) -> Sign:
        return SIGNS[self.nonpos, self.nonneg]

    def __mul__(self, other: Sign) -> Sign:
        zero = (self.nonneg and self.nonpos) or (other.nonneg and other.nonpos)
        same = (self.nonneg and other.nonneg) or (self.nonpos and other.nonpos)
        opposite = (self.nonneg and other.nonpos) or (self.nonpos and other.nonneg)
        return SIGNS[zero or same, zero or opposite]

    def __str__(self) -> str:
        return {(1, 1): "zero", (1, 0): "nonnegative", (0, 1): "nonpositive", (0, 0): "unknown"}[self.nonneg, self.nonpos]


SIGNS = {(nonneg, nonpos): Sign(nonneg, nonpos) for nonneg in (False, True) for nonpos in (False, True)}
SMALLEST, LARGEST = np.minimum.reduce, np.maximum.reduce  # what the methods of arrays come to
UNKNOWN, NONNEG = SIGNS[False, False], SIGNS[True, False]


def sign_of(value: NDArray[np.float64]) -> Sign:
    """The sign of a constant without NaN."""
    if not value.size:
        return SIGNS[True, True]
    return SIGNS[bool(SMALLEST(value, None) >= 0), bool(LARGEST(value, None) <= 0)]


@dataclass(frozen=True)
class Range:
    """Constant limits of every entry, of the shape of the leaf; None where there is none."""

    low: Frozen | None
    high: Frozen | None


@dataclass(frozen=True)
class Attributes:
    """What the user declares of a leaf, a function's value or an assumption. Names are cvxpy's.

    ``sparsity``: a boolean array of the leaf's shape, False where entries are zero. ``pos`` and ``neg`` are strict on values; a
    variable takes them as ``nonneg`` and ``nonpos``.
    """

    nonneg: bool = False
    nonpos: bool = False
    pos: bool = False
    neg: bool = False
    PSD: bool = False
    NSD: bool = False
    symmetric: bool = False
    diag: bool = False
    boolean: bool = False
    sparsity: Frozen | None = None
    bounds: Range | None = None

    @cached_property
    def sign(self) -> Sign:
        low, high = (None, None) if self.bounds is None else (self.bounds.low, self.bounds.high)
        above = low is not None and bool((low.array >= 0).all())
        below = high is not None and bool((high.array <= 0).all())
        return Sign(self.nonneg or self.pos or self.boolean or above, self.nonpos or self.neg or below)

    @cached_property
    def declared(self) -> tuple[str, ...]:
        return tuple([name for name in ATTRIBUTES if getattr(self, name)])

    @cached_property
    def square(self) -> tuple[str, ...]:
        """The declared attributes that only a square matrix can have."""
        return tuple(name for name in self.declared if name in SQUARE)


ATTRIBUTES = tuple(field.name for field in fields(Attributes))
NOTHING = Attributes()
