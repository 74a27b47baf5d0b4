"""What a call of the compiled engine writes: solutions in tensors of their own, all the rest in one or two pieces of memory.

Of a small problem the arithmetic takes less time than torch takes to make twenty tensors. So what few ask for stays where it was
written until somebody does, and the backward pass reads it there, by its address.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Active, Frame, Ray, Residuals, Shape
from ..found import Found

_DOUBLE, _INT, _FLAG = torch.float64, torch.int32, torch.bool
OUTCOME = {"scaled": _DOUBLE, "absolute": _DOUBLE, "iterations": _INT, "sure": _FLAG, "rows": _FLAG, "lower": _FLAG, "upper": _FLAG}
FACTOR = {"U": _DOUBLE, "scale": _DOUBLE, "weight": _DOUBLE, "unit": _DOUBLE, "flat": _DOUBLE}
_NOWHERE = torch.zeros((), dtype=_FLAG, device="cpu")


class Places(NamedTuple):
    """Where the parts of B items lie: their first bytes, the shapes of one item's, and the doubles that each memory takes."""

    B: int
    start: dict[str, int]
    shape: dict[str, Shape]
    outcome: int
    factor: int


@lru_cache(maxsize=256)
def places(B: int, sizes: tuple[int, int, int], U: Shape, packed: bool) -> Places:
    """``packed``: the factor lies behind the outcome. Marks have their places where there are no bounds, too."""
    n, m, k = sizes
    shape: dict[str, Shape] = {
        "scaled": (4,), "absolute": (4,), "iterations": (), "sure": (), "rows": (m,), "lower": (n,), "upper": (n,),
        "U": U, "scale": (n,), "weight": (k + m,), "unit": (1,), "flat": (1,),
    }  # fmt: skip
    start, ends, end = {}, [], 0
    for kinds in (OUTCOME, FACTOR):
        for name, kind in kinds.items():
            start[name] = end
            end += B * math.prod(shape[name]) * kind.itemsize
        ends.append(end := -(-end // 8) * 8)
        end = end if packed else 0
    return Places(B, start, shape, ends[0] // 8, ends[1] // 8)


class Held(NamedTuple):
    """The fields of ``Factor``, and which items it holds for."""

    U: Tensor
    scale: Tensor
    weight: Tensor
    unit: Tensor
    flat: Tensor
    lower: Tensor
    upper: Tensor
    ok: Tensor

    @property
    def dual(self) -> bool:
        """Whether the factor is that of the system in the multipliers."""
        return self.U.dim() == 2

    @property
    def marks(self) -> tuple[Tensor, Tensor]:
        return self.lower, self.upper

    @property
    def held(self) -> Held:
        return self


class Rest(NamedTuple):
    """What was found besides solutions: for the derivative, and for fields of a solution that nobody has asked for yet."""

    outcome: Tensor
    factor: Tensor | None  # None: where ``outcome`` is, or nobody wanted it
    places: Places
    frame: Frame

    @property
    def dual(self) -> bool:
        """Whether the factor is that of the system in the multipliers."""
        return len(self.places.shape["U"]) == 1

    @property
    def without_factor(self) -> Rest:
        """What a solution holds: it may outlive the backward pass, and the factor must not."""
        return Rest(self.outcome, None, self.places, self.frame)

    def part(self, name: str) -> Tensor:
        """In memory of its own, of shape batch + that of one item's."""
        memory, kind = (self.outcome, OUTCOME[name]) if name in OUTCOME else (self.factor_memory, FACTOR[name])
        start, shape = self.places.start[name], self.places.shape[name]
        size = self.places.B * math.prod(shape) * kind.itemsize
        return memory.view(-1).view(torch.uint8)[start : start + size].view(kind).reshape((*self.frame.batch, *shape)).clone()

    @property
    def factor_memory(self) -> Tensor:
        return self.outcome if self.factor is None else self.factor

    @property
    def marks(self) -> tuple[Tensor, Tensor]:
        """Variables at their lower and at their upper bound."""
        batch = self.frame.batch
        lower, upper = (
            self.part(name) if there else torch.zeros((*batch, self.frame.n), dtype=_FLAG, device="cpu")
            for name, there in (("lower", self.frame.lower), ("upper", self.frame.upper))
        )
        return lower, upper

    @property
    def held(self) -> Held:
        """The factored system in tensors."""
        U, scale, weight, unit, flat = (self.part(name) for name in FACTOR)
        return Held(U, scale, weight, unit, flat, *self.marks, self.part("sure"))

    def later(self, name: str, x: Tensor) -> object:
        """A field of a solution, all of whose items are solved."""
        batch, (n, m, k) = self.frame.batch, self.frame.sizes
        if name in ("z_lb", "z_ub"):  # zero, and so is its gradient
            return torch.where(_NOWHERE, x, 0)
        if name == "status":
            return torch.zeros(batch, dtype=torch.int8, device="cpu")
        if name == "ok":
            return torch.ones(batch, dtype=torch.bool, device="cpu")
        if name == "iterations":
            return self.part(name)
        if name == "residuals":
            return Residuals(self.part("scaled"), self.part("absolute"))
        if name == "active":
            return Active(self.part("rows"), *self.marks)
        return Ray(*(torch.zeros((*batch, size), dtype=_DOUBLE, device="cpu") for size in (n, k, m, n, n)))


class Outcome(NamedTuple):
    """Solutions (see ``Frame.names``), the rest, and whether some items are not solved: theirs is void."""

    solution: tuple[Tensor, ...]
    rest: Rest
    left: bool

    @property
    def found(self) -> tuple[Found, bool]:
        """All of it, ``ok`` the items that are solved; and whether others are left."""
        rest, batch = self.rest, self.rest.frame.batch
        own = dict(zip(rest.frame.names, self.solution, strict=True))
        x, y, z, s = self.solution[:4]
        z_lb, z_ub = (own[name] if name in own else torch.zeros_like(x) for name in ("z_lb", "z_ub"))
        rays = tuple(torch.zeros_like(part) for part in (x, y, z, x, x))
        iterations, scaled, absolute, rows = (rest.part(name) for name in ("iterations", "scaled", "absolute", "rows"))
        status, held = torch.zeros(batch, dtype=torch.int8, device="cpu"), rest.held
        if rest.places.B == 1:  # whose flag is not written if it is not solved, and may lie in memory that nobody cleared
            held = held._replace(ok=torch.full(batch, not self.left, device="cpu"))
        outcome = status, iterations, scaled, absolute, rows
        return Found(*(x, y, z, z_lb, z_ub, s, *outcome, *rays, *held)), self.left
