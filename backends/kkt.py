"""The one linear system of the engine, in the variables alone.

Every Newton step, the polish and the derivative solve, for rows W = [A; G] with weights D, and r = (r_x, r_w):

    [Q   W'   ] [dx]   [r_x]                                dw = D (W dx - r_w)
    [W  -D^-1 ] [dw] = [r_w]      <=>     (Q + W'DW) dx  =  r_x + W' D r_w

Inequalities have D = z/s. Equalities, and rows held active, have D = 1/delta: a proximal term of the method of multipliers, so
that duplicate, dependent or zero rows are as good as any. Their residual is that of the true problem, so the next step (of Newton,
or of refinement) removes what delta left: the error shrinks by delta/sigma², sigma the least singular value of the rows.
Bounds are diagonal: they add their weights to the diagonal and never become rows.

Vectors are rows, (B, 1, n): on a CPU, torch multiplies a batch of rows from the left three times faster than columns from the
right.
"""

from __future__ import annotations

import torch
from torch import Tensor

# In units of the objective and of rows and variables of length one; 1/delta is the weight of equalities.
RHO = {torch.float64: 1e-9, torch.float32: 1e-5}
DELTA = {torch.float64: 1e-6, torch.float32: 1e-3}
STRIDE = 0.6180339887498949  # its multiples less their integers: a vector that no flat direction with a pattern is orthogonal to


def rho(n: int, held: bool, dtype: torch.dtype) -> float:
    """What joins the diagonal of the scaled Q. If rows are ``held`` by 1/delta, their rounding counts too."""
    return RHO[dtype] + (rounding(n, dtype) if held else 0)


def rounding(n: int, dtype: torch.dtype) -> float:
    """More than rounding in W'W/delta can take from a pivot on a flat direction."""
    return 2 * n * torch.finfo(dtype).eps / DELTA[dtype]


class Workspace:
    """Memory for factorizations of one batch, used again by each: fresh pages cost as much as the arithmetic."""

    def __init__(self, B: int, n: int, rows: int, like: Tensor) -> None:
        self._scaled = like.new_empty(B, n, rows)
        self._H = like.new_empty(B, n, n)
        self._U = like.new_empty(B, n, n)
        self._info = torch.empty(B, dtype=torch.int32, device=like.device)

    def factor(self, Q: Tensor, W: Tensor, Wt: Tensor, D: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
        """U with U'U = Q + W'DW + diag(diagonal), and whether it exists; U lives until the next call. Wt: W' by rows."""
        scaled, H = self._scaled, self._H
        B, n, rows = scaled.shape
        torch.mul(Wt, D, out=scaled)
        if W.shape[0] == 1:
            torch.mm(scaled.view(B * n, rows), W[0], out=H.view(B * n, n))
            H += Q
        else:
            torch.baddbmm(Q.expand_as(H), scaled, W, out=H)
        H.diagonal(dim1=1, dim2=2).add_(diagonal.squeeze(1))
        torch.linalg.cholesky_ex(H, out=(self._U.mT, self._info))
        return self._U, self._info == 0


def solve(U: Tensor, r: Tensor) -> Tensor:
    """(U'U)^-1 r. Two triangular solves: several times faster on a CPU than cholesky_solve for one right-hand side."""
    half = torch.linalg.solve_triangular(U, r, upper=True, left=False)
    found: Tensor = torch.linalg.solve_triangular(U.mT, half, upper=False, left=False)
    return found


def flat(U: Tensor, unit: Tensor) -> Tensor:
    """The least eigenvalue of U'U where it is no more than regularisation, (B,1); 0 elsewhere. ``unit`` (B,1): of the objective.

    Two steps of inverse iteration find it. It is what was added to the diagonal if there is a flat direction; it is about that,
    too, where curvature is so small that refinement takes forever. What float32 adds hides too much to tell.
    """
    n, dtype = U.shape[1], U.dtype
    if dtype != torch.float64 or not n:
        return torch.zeros_like(unit)
    probe = (torch.arange(1, n + 1, dtype=dtype, device=U.device) * STRIDE).frac() + 0.5
    first = solve(U, probe.expand(len(U), 1, n))
    second = solve(U, first)
    least = (first.abs().amax(2) / second.abs().amax(2)).expand_as(unit)
    return torch.where(least <= 2 * rho(n, True, dtype) * unit, least, 0)


def rowmat(v: Tensor, M: Tensor) -> Tensor:
    """v'M for rows v (B, 1, r) and matrices (B, r, c) or one shared (1, r, c)."""
    return v @ M[0] if M.shape[0] == 1 else torch.bmm(v, M)


def dot(u: Tensor, v: Tensor) -> Tensor:
    """u'v for rows, (B, 1, 1)."""
    return torch.bmm(u, v.mT)
