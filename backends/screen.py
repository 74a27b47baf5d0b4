"""Items that cannot or need not be iterated on are told apart before any factorization.

A problem of a rejected item is replaced by a benign one, min |x|²/2, so that it can neither fail nor harm its mates. Absent
constraints (h, lb, ub infinite, or beyond ``NO_LIMIT``) become rows 0'x <= 1, and their bound 0: every tensor that goes on is
finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .data import QPData
from .status import Status

# Q counts as convex if Q + CONVEX |Q| I has a Cholesky factor: rounding in a Gram product stays well below it.
CONVEX = {torch.float64: 1e-10, torch.float32: 1e-5}
NO_LIMIT = 1e20  # a limit on x that is no nearer is none


@dataclass(frozen=True)
class Bound:
    """One side of lb <= x <= ub as rows e x <= e value: ``coefficient`` e is -1 or 1, 0 where absent (``value`` is 0 there)."""

    coefficient: Tensor
    value: Tensor

    @property
    def present(self) -> Tensor:
        return self.coefficient != 0

    @property
    def rhs(self) -> Tensor:
        """The right-hand side of the row; 1 where absent."""
        return torch.where(self.present, self.coefficient * self.value, 1)


@dataclass(frozen=True)
class Clean:
    """Finite data with Q symmetric and W = [A; G]; ``rhs`` belongs to W. ``rejected``: status codes, 0 for items to solve."""

    Q: Tensor
    p: Tensor
    W: Tensor
    rhs: Tensor
    lower: Bound | None
    upper: Bound | None
    k: int
    rejected: Tensor

    @property
    def bounds(self) -> tuple[Bound, ...]:
        return tuple(bound for bound in (self.lower, self.upper) if bound is not None)

    @property
    def batch(self) -> int:
        return self.rejected.shape[0]

    def select(self, items: Tensor) -> Clean:
        """These items alone; what is shared stays shared."""

        def take(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] == 1 else tensor.index_select(0, items)

        lower, upper = (
            None if bound is None else Bound(take(bound.coefficient), take(bound.value)) for bound in (self.lower, self.upper)
        )
        Q, p, W, rhs = (take(tensor) for tensor in (self.Q, self.p, self.W, self.rhs))
        return Clean(Q, p, W, rhs, lower, upper, self.k, self.rejected.index_select(0, items))

    def clamp(self, x: Tensor) -> Tensor:
        """x moved into its bounds."""
        if self.lower is not None:
            x = torch.where(self.lower.present, torch.maximum(x, self.lower.value), x)
        if self.upper is not None:
            x = torch.where(self.upper.present, torch.minimum(x, self.upper.value), x)
        return x


def screen(data: QPData, rejected: Tensor | None) -> Clean:
    """Judge every item, replace what is rejected, and bring the rest to finite form."""
    B, k = data.batch, data.sizes[2]
    Q = (data.Q + data.Q.mT).div_(2)
    W = torch.cat([_expand(data.A, data.G), _expand(data.G, data.A)], 1) if k and data.sizes[1] else data.A if k else data.G
    h = data.h
    codes = torch.zeros(B, dtype=torch.int8, device=Q.device) if rejected is None else rejected.clone()

    largest = _largest(Q)
    finite = torch.isfinite(largest + _largest(data.p)) & torch.isfinite(_largest(W) + _largest(data.b))
    invalid = ~finite | (torch.isnan(h) | (h == -torch.inf)).any(1)
    if data.lb is not None:
        invalid = invalid | (torch.isnan(data.lb) | (data.lb == torch.inf)).any(1)
    if data.ub is not None:
        invalid = invalid | (torch.isnan(data.ub) | (data.ub == -torch.inf)).any(1)
    shift = torch.where(largest > 0, CONVEX[Q.dtype] * largest, 1)
    shifted = Q.clone()
    shifted.diagonal(dim1=1, dim2=2).add_(shift.unsqueeze(1))
    nonconvex = torch.linalg.cholesky_ex(shifted).info != 0
    for code, found in ((Status.INVALID_INPUT, invalid), (Status.NONCONVEX, nonconvex)):
        codes = torch.where((codes == 0) & found, int(code), codes)
    if data.lb is not None and data.ub is not None:
        crossed = (data.lb > data.ub).any(1)
        codes = torch.where((codes == 0) & crossed, int(Status.PRIMAL_INFEASIBLE), codes)

    p, b, lb, ub = data.p, data.b, data.lb, data.ub
    if bool((codes != 0).any()):
        bad = codes != 0
        Q = torch.where(bad[:, None, None], torch.eye(Q.shape[1], dtype=Q.dtype, device=Q.device), Q)
        W = torch.where(bad[:, None, None], 0, W)
        p, b = torch.where(bad[:, None], 0, p), torch.where(bad[:, None], 0, b)
        h = torch.where(bad[:, None], torch.inf, h)
        lb = None if lb is None else torch.where(bad[:, None], -torch.inf, lb)
        ub = None if ub is None else torch.where(bad[:, None], torch.inf, ub)
    # A row without coefficients asks nothing of x, unless its right-hand side is negative; at 0 it is active.
    absent = (h == torch.inf) | (h > NO_LIMIT * _largest_of_rows(W[:, k:]))
    if bool(absent.any()):
        G = torch.where(absent.unsqueeze(2), 0, W[:, k:])
        W = torch.cat([W[:, :k].expand(G.shape[0], -1, -1), G], 1)
        h = torch.where(absent, 1, h)
    size = max(b.shape[0], h.shape[0])
    rhs = torch.cat([b.expand(size, -1), h.expand(size, -1)], 1)
    return Clean(Q, p, W, rhs, _bound(lb, -1.0), _bound(ub, 1.0), k, codes)


def _largest_of_rows(M: Tensor) -> Tensor:
    """max |entry| of each row, (·, rows)."""
    return M.abs().amax(2) if M.shape[1] else M.new_zeros(M.shape[:2])


def _bound(value: Tensor | None, sign: float) -> Bound | None:
    if value is None:
        return None
    present = torch.isfinite(value) & (sign * value < NO_LIMIT)
    return Bound(torch.where(present, sign, 0.0).to(value.dtype), torch.where(present, value, 0))


def _expand(M: Tensor, other: Tensor) -> Tensor:
    return M.expand(max(M.shape[0], other.shape[0]), -1, -1)


def _largest(M: Tensor) -> Tensor:
    """max |entry| of each item, NaN if there is one; 0 for an empty tensor."""
    if not M.shape[1:].numel():
        return M.new_zeros(M.shape[0])
    largest: Tensor = torch.linalg.vector_norm(M.flatten(1), ord=torch.inf, dim=1)
    return largest
