"""Batches of sparse quadratic programs: values on static patterns, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..data import QPData
from ..failure import input_error
from .structure import Pattern, Structure

SMALL = 2**24  # places in Q, G, A up to which an item is looked at as dense matrices


@dataclass(frozen=True)
class SparseData:
    """What ``QPData`` is for dense matrices, with the same names; every tensor has one leading axis, of size B, or 1 if shared.

    Q, A, G (·, entries): values on the patterns of ``structure``, of Q those of the upper triangle. The rest as in ``QPData``.
    """

    structure: Structure
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
        return self.structure.sizes

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors that are there, in the order of the fields."""
        fields = (self.Q, self.p, self.G, self.h, self.A, self.b, self.lb, self.ub)
        return tuple(field for field in fields if field is not None)

    @cached_property
    def batch(self) -> int:
        """B; an empty batch makes all empty."""
        sizes = {tensor.shape[0] for tensor in self.tensors}
        return 0 if 0 in sizes else max(sizes)

    def expanded_to(self, size: int) -> SparseData:
        """The same problems with joint batch ``size``, where all tensors may be shared: p carries it, at no cost."""
        if self.batch == size:
            return self
        return replace(self, p=self.p[:size] if size == 0 else self.p.expand(size, -1))

    def regularized(self, delta: float) -> SparseData:
        """With delta/2 |x|² added. The diagonal of Q is part of every pattern that is made for a model."""
        s = self.structure
        added = self.Q.new_zeros(len(s.Q))
        added[torch.from_numpy(s.on)] = delta
        return replace(self, Q=self.Q + added)

    @property
    def small(self) -> bool:
        """Whether one item may be looked at as dense matrices."""
        n, m, k = self.sizes
        return n * (n + m + k) <= SMALL

    def dense(self, index: int) -> QPData:
        """One item with dense matrices, detached, a batch of one. Raises InputError where these would be large."""
        s = self.structure
        if not self.small:
            why = f"it works on dense matrices, too large for n={s.n}, m={s.m}, k={s.k}"
            mend = "try it on a smaller instance of the model\nsolution.residuals, .status and .raw.ray are there for every size"
            raise input_error("I13", "explaining an item in words is for smaller models", why, mend, label="")

        def own(part: Tensor) -> Tensor:
            return part.detach()[min(index, part.shape[0] - 1)][None]

        def full(where: Pattern, values: Tensor) -> Tensor:
            made = values.new_zeros(1, where.height, where.width)
            made[0, torch.from_numpy(where.rows), torch.from_numpy(where.cols)] = values[0]
            return made

        Q = full(s.Q, own(self.Q))
        Q = Q + Q.mT - torch.diag_embed(Q.diagonal(dim1=1, dim2=2))
        p, h, b = own(self.p), own(self.h), own(self.b)
        lb, ub = (None if bound is None else own(bound) for bound in (self.lb, self.ub))
        return QPData(Q, p, full(s.G, own(self.G)), h, full(s.A, own(self.A)), b, lb, ub)

    def __repr__(self) -> str:
        n, m, k = self.sizes
        told = f"entries Q {len(self.structure.whole_Q.source)}, G {len(self.structure.G)}, A {len(self.structure.A)}"
        return f"SparseData(batch {self.batch}, n = {n}, m = {m}, k = {k}; {told}; {self.p.dtype}, {self.p.device})"
