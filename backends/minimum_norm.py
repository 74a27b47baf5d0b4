"""The least-squares solution of least norm of a KKT system that is singular.

    Q u_x + C'u_c = r_x,    C u_x = r_c          C: the active rows, and unit rows for variables at a bound

With V_0 an orthonormal basis of the null space of C, and ^+ the pseudoinverse with small singular values cut:

    X = V_0 (V_0'Q V_0)^+ V_0'       u_x = C^+ r_c + X (r_x - Q C^+ r_c)       u_c = (C^+)'(r_x - Q u_x)

Rows are brought to unit length first, so that a row and its multiple count alike. Used for the few items that need it: it is slow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .products import matvec, vecmat

# Singular values below this fraction of the largest belong to dependent rows; curvatures below this fraction of the terms that make
# them up, to flat directions.
DEPENDENT = {torch.float64: 1e-9, torch.float32: 1e-4}
FLAT = {torch.float64: 1e-11, torch.float32: 1e-5}


def solve(
    Q: Tensor, W: Tensor, r_x: Tensor, r_w: Tensor, r_bound: Tensor, active: Tensor, at_bound: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(u_x, u_w, u_bound), zero on inactive rows and free variables. Q symmetric."""
    dtype, rows = Q.dtype, W.shape[1]
    B = len(r_x)
    units = torch.diag_embed(at_bound.to(dtype)).expand(B, -1, -1)
    C = torch.cat([(W * active.unsqueeze(2)).expand(B, -1, -1), units], 1)
    length = torch.linalg.vector_norm(C, dim=2)
    unit = 1 / torch.where(length > 0, length, 1)
    r_c = torch.cat([r_w * active, r_bound * at_bound], 1) * unit
    C = C * unit.unsqueeze(2)
    U, S, Vt = torch.linalg.svd(C, full_matrices=False)
    kept = DEPENDENT[dtype] * S.amax(1, keepdim=True) < S
    inverse = torch.where(kept, 1 / S, 0)
    range_of_rows = Vt.mT @ (Vt * kept.unsqueeze(2))
    null = torch.eye(Q.shape[1], dtype=dtype, device=Q.device) - range_of_rows
    reduced = null @ Q @ null
    curvature, V = torch.linalg.eigh((reduced + reduced.mT) / 2)
    X = V * torch.where(curved(curvature, V, Q), 1 / curvature, 0).unsqueeze(1) @ V.mT

    def pinv(r: Tensor) -> Tensor:
        return vecmat(inverse * vecmat(r, U), Vt)

    u_x = pinv(r_c)
    # Projected before and after: eigenvectors of little curvature are mixed with the rows' own directions, by eps |Q| / curvature.
    u_x = u_x + matvec(null, matvec(X, matvec(null, r_x - vecmat(u_x, Q))))
    left = r_x - vecmat(u_x, Q)
    u_c = unit * matvec(U, inverse * matvec(Vt, left))
    return u_x, u_c[:, :rows], u_c[:, rows:]


def curved(curvature: Tensor, V: Tensor, Q: Tensor) -> Tensor:
    """Which of the directions V (B,n,n) of curvature v'Qv are not flat, (B,n).

    Rounding in Q is relative to each entry, so it hides what is small beside |v|'|Q||v|: in diag(1e-6, 1e6) nothing is flat. The
    eigenvalues themselves come with an error of eps |Q|.
    """
    dtype, size = Q.dtype, V.abs()
    terms = (size * (Q.abs() @ size)).sum(1)
    error = Q.shape[-1] * torch.finfo(dtype).eps * torch.linalg.matrix_norm(Q, ord=torch.inf).unsqueeze(1)
    return curvature > torch.maximum(FLAT[dtype] * terms, error)
