"""OptNet's random dense problems (its section 4.1), with equalities that the same point satisfies."""

from __future__ import annotations

import torch
from torch import Tensor


def random_qps(B: int, n: int, m: int, k: int, device: str = "cpu", seed: int = 0) -> list[Tensor]:
    """Q, p, G, h, A, b in float64: U ~ U(0,1), Q = U'U + 1e-3 I; G, p, A, x0 ~ N(0,1); h = G x0 + U(0,1); b = A x0."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(B, *shape, dtype=torch.float64, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(B, *shape, dtype=torch.float64, generator=generator)

    U = uniform(n, n)
    Q = U.mT @ U + 1e-3 * torch.eye(n, dtype=torch.float64)
    p, G, A, x0 = normal(n), normal(m, n), normal(k, n), normal(n, 1)
    h = (G @ x0).squeeze(2) + uniform(m)
    b = (A @ x0).squeeze(2)
    return [tensor.to(device) for tensor in (Q, p, G, h, A, b)]
