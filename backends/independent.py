"""Equalities turned into orthonormal rows, for the few problems in which they are nearly parallel.

A step of the iteration leaves 1/(1 + sigma²/delta) of the residual along a singular value sigma of A (see ``kkt``): where two rows
of length one are at an angle of 1e-3, that is most of it. With A = U S V', the rows of V' say the same about x:

    V'x = S^-1 U'b          A'y = V (S U'y) = V y^          so  y = U S^-1 y^

Singular values that are rounding stay what they are: S V'x = U'b, a row of nearly nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .minimum_norm import DEPENDENT
from .products import matvec, vecmat
from .scaled import Scaled


@dataclass(frozen=True)
class Turned:
    """A problem whose equalities are orthonormal, and the way from its iterates v = (x, y, z, s) to those of the original."""

    qp: Scaled
    U: Tensor
    length: Tensor

    def there(self, v: Tensor) -> Tensor:
        """From the original."""
        return self._with_y(v, lambda y: vecmat(y, self.U) * self.length)

    def back(self, v: Tensor) -> Tensor:
        """To the original."""
        return self._with_y(v, lambda y: matvec(self.U, y / self.length))

    def _with_y(self, v: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        n, k = self.qp.n, self.qp.k
        return torch.cat([v[:, :n], change(v[:, n : n + k]), v[:, n + k :]], 1)


def turned(qp: Scaled) -> Turned:
    """``qp`` with orthonormal equalities."""
    n, k = qp.n, qp.k
    A, G = qp.W[:, :k], qp.W[:, k:]
    U, S, Vt = torch.linalg.svd(A, full_matrices=k > n)
    S = torch.nn.functional.pad(S, (0, k - S.shape[1]))
    rows = torch.nn.functional.pad(Vt[:, :k], (0, 0, 0, max(0, k - n)))
    known = DEPENDENT[S.dtype] * S.amax(1, keepdim=True) < S
    length = torch.where(known, S, 1)  # what a row is divided by
    right = vecmat(qp.cost[:, 0, n : n + k], U) / length
    floor = qp.floor[:, 0, n : n + k].amax(1, keepdim=True) + right.abs()
    W = torch.cat([rows * torch.where(known, 1, S).unsqueeze(2), G], 1)
    cost, floors = (
        torch.cat([whole[:, :, :n], part.unsqueeze(1), whole[:, :, n + k :]], 2)
        for whole, part in ((qp.cost, right), (qp.floor.expand_as(qp.cost), floor))
    )
    return Turned(replace(qp, W=W, Wt=W.mT.contiguous(), cost=cost, floor=floors), U, length)
