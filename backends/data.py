"""The two types that cross the engine's border: problems in, solutions out.

minimize 1/2 x'Qx + p'x   subject to  Gx <= h,  Ax = b,  lb <= x <= ub
L = 1/2 x'Qx + p'x + y'(Ax - b) + z'(Gx - h) - z_lb'(x - lb) + z_ub'(x - ub),      s = h - Gx
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .batching import transformed

Shape = tuple[int, ...]


@dataclass(frozen=True)
class QPData:
    """A batch of quadratic programs; every tensor has one leading batch axis, of size B, or 1 where it is shared.

    Q (·,n,n), read as (Q + Q')/2; p (·,n); G (·,m,n); h (·,m), +inf for an absent row; A (·,k,n); b (·,k); lb, ub (·,n), or None
    for no such bound anywhere, ±inf for an absent one.
    """

    Q: Tensor
    p: Tensor
    G: Tensor
    h: Tensor
    A: Tensor
    b: Tensor
    lb: Tensor | None = None
    ub: Tensor | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(n, m, k): variables, inequalities, equalities."""
        return self.Q.shape[2], self.G.shape[1], self.A.shape[1]

    @property
    def blocks(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """All fields."""
        return self.Q, self.p, self.G, self.h, self.A, self.b, self.lb, self.ub

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that are there, in the order of the fields."""
        return tuple([block for block in self.blocks if block is not None])

    @property
    def frame(self) -> Frame:
        """What it looks like to an engine."""
        B = self.batch
        own = tuple([B > 1 and block is not None and len(block) > 1 for block in self.blocks])
        return Frame(*self.sizes, self.lb is not None, self.ub is not None, (B,), B, own, True)

    @cached_property
    def batch(self) -> int:
        """B; an empty batch makes all empty."""
        sizes = [tensor.shape[0] for tensor in self.tensors]
        return 0 if 0 in sizes else max(sizes)

    def select(self, items: Tensor) -> QPData:
        """The problems with these indices; what is shared stays shared, but for p, which carries the batch."""

        def take(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor.index_select(0, items)

        bounds = (None if bound is None else take(bound) for bound in (self.lb, self.ub))
        blocks = (take(tensor) for tensor in (self.Q, self.p, self.G, self.h, self.A, self.b))
        return QPData(*blocks, *bounds).expanded_to(len(items))

    def __repr__(self) -> str:
        n, m, k = self.sizes
        there = {field.name: tensor for field in fields(self) if (tensor := getattr(self, field.name)) is not None}
        shared = " ".join(name for name, tensor in there.items() if tensor.shape[0] == 1 < self.batch)
        told = f"blocks {' '.join(there)}" + (f", shared {shared}" if shared else "")
        return f"QPData(batch {self.batch}, n = {n}, m = {m}, k = {k}; {told}; {self.p.dtype}, {self.p.device})"

    def __getitem__(self, items: slice) -> QPData:
        """Some of the problems; what is shared stays shared."""

        def take(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor[items]

        bounds = (None if bound is None else take(bound) for bound in (self.lb, self.ub))
        return QPData(*(take(tensor) for tensor in (self.Q, self.p, self.G, self.h, self.A, self.b)), *bounds)

    def expanded_to(self, size: int) -> QPData:
        """The same problems with joint batch ``size``, where all tensors may be shared: p carries it, at no cost."""
        if self.batch == size:
            return self
        return replace(self, p=self.p[:size] if size == 0 else self.p.expand(size, -1))

    def bounds_as_rows(self) -> QPData:
        """The same problems without bounds: -x <= -lb and x <= ub join G, for all variables where there is such a bound."""
        n, G, h = self.sizes[0], self.G, self.h
        for bound, sign in ((self.lb, -1.0), (self.ub, 1.0)):
            if bound is not None:
                G = torch.cat([G, sign * torch.eye(n, dtype=G.dtype, device=G.device).expand(G.shape[0], -1, -1)], 1)
                B = max(h.shape[0], bound.shape[0])
                h = torch.cat([h.expand(B, -1), sign * bound.expand(B, -1)], 1)
        return QPData(self.Q, self.p, G, h, self.A, self.b)

    def to_standard_form(self) -> QPData:
        """The same problems in OptNet's form: bounds that some item has become rows of G. Differentiable."""
        n, _, _ = self.sizes
        G, h = self.G, self.h
        for bound, sign in ((self.lb, -1.0), (self.ub, 1.0)):
            if bound is None:
                continue
            columns = torch.isfinite(bound.detach()).any(0).nonzero().squeeze(1)
            rows = sign * torch.eye(n, dtype=G.dtype, device=G.device)[columns]
            G = torch.cat([G, rows.expand(G.shape[0], -1, -1)], 1)
            B = max(h.shape[0], bound.shape[0])
            h = torch.cat([h.expand(B, -1), sign * bound[:, columns].expand(B, -1)], 1)
        return QPData(self.Q, self.p, G, h, self.A, self.b)


class Frame(NamedTuple):
    """What tensors say of a batch of problems by their shapes: ``batch`` are its dimensions, B their product.

    ``own``: for Q, p, G, h, A, b, lb, ub, whether each item has its own. A shared tensor, or that of a single problem, has none.
    ``plain``: tensors that are not shared have just the batch axes of ``batch``; those that are have one, of size 1. Otherwise
    ``axes`` are the batch axes that each of the eight has.
    """

    n: int
    m: int
    k: int
    lower: bool
    upper: bool
    batch: Shape
    B: int
    own: tuple[bool, ...]
    plain: bool
    axes: tuple[Shape, ...] = ()

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self[:3]

    @property
    def cores(self) -> tuple[Shape, ...]:
        """Shapes of the tensors of one problem."""
        n, m, k = self[:3]
        return (n, n), (n,), (m, n), (m,), (k, n), (k,), (n,), (n,)

    @property
    def names(self) -> tuple[str, ...]:
        """What a solution consists of; without bounds their multipliers are zero."""
        return NAMES[self.lower, self.upper]


NAMES = {
    (lower, upper): ("x", "y", "z", "s", *("z_lb",) * lower, *("z_ub",) * upper)
    for lower in (False, True) for upper in (False, True)
}  # fmt: skip


@dataclass(frozen=True)
class Residuals:
    """Residuals on the original data: columns are inequalities, equalities, dual, gap; (B, 4) each."""

    scaled: Tensor
    absolute: Tensor

    @property
    def primal_ineq(self) -> Tensor:
        return self.scaled[..., 0]

    @property
    def primal_eq(self) -> Tensor:
        return self.scaled[..., 1]

    @property
    def dual(self) -> Tensor:
        return self.scaled[..., 2]

    @property
    def gap(self) -> Tensor:
        return self.scaled[..., 3]

    @property
    def worst(self) -> Tensor:
        """The largest scaled residual of each item."""
        return self.scaled.amax(-1)


@dataclass(frozen=True)
class Active:
    """What holds with equality at the solution, as the derivative sees it; bool, (B, m), (B, n), (B, n)."""

    rows: Tensor
    lb: Tensor
    ub: Tensor


@dataclass(frozen=True)
class Ray:
    """A verified certificate of an item without a solution; zero for all others.

    PRIMAL_INFEASIBLE: z, z_lb, z_ub >= 0 and y with G'z + A'y - z_lb + z_ub = 0 and h'z + b'y - lb'z_lb + ub'z_ub < 0.
    DUAL_INFEASIBLE: x with Qx = 0, Gx <= 0, Ax = 0, p'x < 0 that leaves every bound in place.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    z_lb: Tensor
    z_ub: Tensor


class Source(Protocol):
    """Where a solution has what nobody has asked for yet."""

    def later(self, name: str, x: Tensor) -> object: ...


@dataclass(frozen=True)
class QPSolution:
    """Solutions of a batch. Differentiable: x y z z_lb z_ub s; detached: everything else.

    x (B,n); y (B,k); z, s (B,m); z_lb, z_ub (B,n), zero where there is no bound; status int8 and iterations int32, (B,).
    ``ok`` marks the accepted items: the others have zero gradient.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    z_lb: Tensor
    z_ub: Tensor
    s: Tensor
    # detached
    status: Tensor
    ok: Tensor
    iterations: Tensor
    residuals: Residuals
    active: Active
    ray: Ray

    @classmethod
    def of(cls, names: Sequence[str], known: Sequence[Tensor], source: Source) -> QPSolution:
        """With all other fields made when they are asked for: few ask, and of a small problem they would take half the time."""
        solution = object.__new__(cls)
        vars(solution).update(zip(names, known, strict=True), _source=source)
        return solution

    if not TYPE_CHECKING:  # which knows all fields, and is to report all others

        def __getattr__(self, name: str) -> object:
            own = vars(self)
            if name not in self.__dataclass_fields__ or "_source" not in own:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            # Whoever asks first leaves it to all others: no mode of his may stick, and what a transform makes is its own.
            with torch.inference_mode(False), torch.enable_grad():
                made = own["_source"].later(name, own["x"])
            return made if transformed() else own.setdefault(name, made)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __repr__(self) -> str:
        n, m, k = self.x.shape[-1], self.z.shape[-1], self.y.shape[-1]
        batch = tuple(self.status.shape)
        accepted = f"{int(self.ok.sum())} of {self.ok.numel()} accepted"
        return f"QPSolution(batch {batch}, n = {n}, m = {m}, k = {k}; {accepted}; {self.x.dtype}, {self.x.device})"

    @property
    def warm_start(self) -> WarmStart:
        """What a later call may start from, along one flat batch axis."""
        B = self.status.numel()
        parts = (self.x, self.y, self.z, self.z_lb, self.z_ub)
        return WarmStart(*(part.detach().reshape(B, part.shape[-1]) for part in parts))


@dataclass(frozen=True)
class WarmStart:
    """Solutions to start from, detached, along one flat batch axis: x (B,n), y (B,k), z (B,m), z_lb and z_ub (B,n).

    ``start[indices]`` are those of some items, in any order: what a shuffled batch of the next epoch needs.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    z_lb: Tensor
    z_ub: Tensor

    def __getitem__(self, items: slice | Tensor | list[int]) -> WarmStart:
        return WarmStart(*(part[items] for part in (self.x, self.y, self.z, self.z_lb, self.z_ub)))

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(n, m, k)."""
        return self.x.shape[1], self.z.shape[1], self.y.shape[1]


for _type in (QPData, Residuals, Active, Ray, QPSolution):
    torch.export.register_dataclass(_type)


def mapped(function: Callable[..., Tensor], *values: Any) -> Any:
    """A solution, or a part of one, made tensor by tensor from those given, all of one kind."""
    first = values[0]
    if isinstance(first, Tensor):
        return function(*values)
    made = {field.name: mapped(function, *(getattr(value, field.name) for value in values)) for field in fields(first)}
    return replace(first, **made)
