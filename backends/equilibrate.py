"""Ruiz equilibration: rows and columns of the KKT matrix are brought to about unit length.

    [Q A' G']        [D    ] [Q A' G'] [D    ]
    [A 0  0 ]   <-   [  F  ] [A 0  0 ] [  F  ]        x = D x^,  y = F y^,  z = E z^,  s = s^ / E
    [G 0  0 ]        [    E] [G 0  0 ] [    E]

A pass divides every scale by the square root of its row's length. Lengths are Euclidean, so that a pass is a few products with
the squared matrices, which are formed once. Scales are rounded to powers of two: scaling and its way back are then exact.

Ruiz, A scaling algorithm to equilibrate both rows and columns norms in matrices, 2001.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .products import matvec, vecmat

PASSES = 5


def equilibrate(Q: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """Scales (d, e) of the variables, (·,n), and of the rows W = [A; G], (·,k+m). Zero rows and columns keep scale one."""
    Q2, W2 = _squares(Q), _squares(W)
    B = max(Q.shape[0], W.shape[0])
    d2, e2 = Q.new_ones(B, Q.shape[2]), Q.new_ones(B, W.shape[1])
    for _ in range(PASSES):
        # |row| squared is d_i² (Q2 d²)_i; dividing a scale by sqrt(|row|) divides its square by |row|
        x = d2 * (vecmat(d2, Q2) + vecmat(e2, W2))
        w = e2 * matvec(W2, d2)
        # rsqrt, because torch's sqrt goes through a library that wakes a thread pool for a handful of numbers
        d2 = d2 * torch.where(x > 0, x, 1).rsqrt_()
        e2 = e2 * torch.where(w > 0, w, 1).rsqrt_()
    return _power_of_two(d2), _power_of_two(e2)


def _squares(M: Tensor) -> Tensor:
    """Squares of the entries, which are capped where a sum of squares could overflow."""
    cap = torch.finfo(M.dtype).max ** 0.25
    return M.clamp(-cap, cap).square_()


def _power_of_two(squared: Tensor) -> Tensor:
    return torch.exp2(torch.round(torch.log2(squared) / 2))
