"""Where a user's constraint lives in Q p G h A b lb ub.

A constraint becomes rows of A or of G, or bounds of single variables, and its entries may be spread over all of these. Its rows are
written left - right for == and <=, right - left for >=, so that everything reads C x == c or C x <= c.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..canon.param_qp import Multiplier, ParamQP
from .data import QPData
from .failure import unknown


@dataclass(frozen=True, eq=False)
class Rows:
    """A constraint in the canonical matrices.

    ``A G lb ub``: int64 indices, each into the block of its name: ``data.A[:, rows.A]``, ``data.lb[:, rows.lb]``.
    ``shape``: that of the constraint; ``source``: the place of each of its entries in [A; G; lb; ub], in C order.
    """

    name: str
    text: str
    shape: tuple[int, ...]
    source: Tensor
    sizes: tuple[int, int, int]  # n, m, k

    @property
    def A(self) -> Tensor:
        return self._part(0)

    @property
    def G(self) -> Tensor:
        return self._part(1)

    @property
    def lb(self) -> Tensor:
        return self._part(2)

    @property
    def ub(self) -> Tensor:
        return self._part(3)

    def of(self, data: QPData) -> tuple[Tensor, Tensor]:
        """C (·, size, n) and c (·, size) of these data, entry by entry of the constraint: C x == c, or C x <= c.

        A bound is a row with a single 1 or -1. Differentiable; one leading axis as in ``data``.
        """
        n, _, _ = self.sizes
        eye = torch.eye(n, dtype=data.p.dtype, device=data.p.device)[None]
        free = torch.full_like(data.p[:1], torch.inf)
        C = [data.A, data.G, -eye, eye]
        c = [data.b, data.h, free if data.lb is None else -data.lb, free if data.ub is None else data.ub]
        at = self.source.to(data.p.device)
        return _stacked(C).index_select(1, at), _stacked(c).index_select(1, at)

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"{self.name}: {self.text}, {self.describe()}"

    def describe(self) -> str:
        """The blocks and rows in words: A[0:1], lb[0:20]."""
        named = {name: getattr(self, name) for name in ("A", "G", "lb", "ub")}
        return ", ".join(f"{name}[{span(at)}]" for name, at in named.items() if len(at)) or "no rows"

    def _part(self, block: int) -> Tensor:
        n, m, k = self.sizes
        start = (0, k, k + m, k + m + n)[block]
        size = (k, m, n, n)[block]
        return self.source[(self.source >= start) & (self.source < start + size)] - start


def rows_of(qp: ParamQP, name: str, asked: object) -> Rows:
    """The rows of the constraint of this name, which was asked for as ``asked``; InputError names those that there are."""
    found = next((m for m in qp.multipliers if m.name == name), None)
    if found is None:
        raise unknown("constraint", name or asked, [m.name for m in qp.multipliers])
    return _rows(qp, found)


def all_rows(qp: ParamQP) -> tuple[Rows, ...]:
    """Those of every constraint, in order."""
    return tuple(_rows(qp, multiplier) for multiplier in qp.multipliers)


def span(at: Tensor) -> str:
    """Indices as a slice where they are one, else where they begin and end."""
    if not len(at):
        return ""
    first, last = int(at.min()), int(at.max())
    whole = len(at) == last - first + 1
    return f"{first}:{last + 1}" if whole else f"{len(at)} of {first}:{last + 1}"


def _rows(qp: ParamQP, multiplier: Multiplier) -> Rows:
    source = torch.from_numpy(np.array(multiplier.source.array, dtype=np.int64))
    return Rows(multiplier.name, multiplier.text, multiplier.shape, source, (qp.n, qp.m, qp.k))


def _stacked(parts: list[Tensor]) -> Tensor:
    sizes = {part.shape[0] for part in parts}
    B = 0 if 0 in sizes else max(sizes)
    return torch.cat([part.expand(B, *part.shape[1:]) for part in parts], 1)
