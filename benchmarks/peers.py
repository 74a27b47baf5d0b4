"""The peers, each by its best door, as functions (Q, p, G, h, A, b) -> x of dense batches; absent ones are left out and named."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import karush as kr

Layer = Callable[..., Tensor]


def karush(*tensors: Tensor) -> Tensor:
    return kr.solve_qp(*tensors, on_failure="return").x


def karush_torch(*tensors: Tensor) -> Tensor:
    """The engine that runs on any device."""
    return kr.solve_qp(*tensors, on_failure="return", backend="torch").x


def qpth(eps: float) -> Layer:
    """qpth runs with its default tolerance, 1e-12, which it never meets and leaves by stagnation, and with 1e-8, ours."""
    from qpth.qp import QPFunction

    def solve(Q: Tensor, p: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
        empty = torch.empty(0, dtype=Q.dtype, device=Q.device)
        equalities = (A, b) if A.shape[1] else (empty, empty)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x: Tensor = QPFunction(verbose=-1, eps=eps)(Q, p, G, h, *equalities)
        return x

    return solve


def qplayer(Q: Tensor, p: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """QPLayer of proxsuite, on all threads."""
    from proxsuite.torch.qplayer import QPFunction

    low = torch.full_like(h, -1e20)
    x: Tensor = QPFunction(eps=1e-9, maxIter=1000, omp_parallel=True)(Q, p, A, b, G, low, h)[0]
    return x


def moreau(Q: Tensor, p: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """Dense CSR patterns; zero cone first. A fresh solver would cost more than the solve: it is kept for each size."""
    B, m, n = G.shape
    k = A.shape[1]
    solver = _moreau(n, m, k, B, Q.device.type)
    P = ((Q + Q.mT) / 2).reshape(B, n * n)
    solution = solver.solve(P, torch.cat([A, G], 1).reshape(B, (m + k) * n), p, torch.cat([b, h.expand(B, -1)], 1))
    x: Tensor = solution.x
    return x


@lru_cache(maxsize=8)
def _moreau(n: int, m: int, k: int, B: int, device: str) -> Any:
    import moreau as library
    from moreau.torch import Solver

    def pattern(rows: int) -> tuple[Tensor, Tensor]:
        return torch.arange(0, rows * n + 1, n), torch.arange(n).repeat(rows)

    cones = library.Cones(num_zero_cones=k, num_nonneg_cones=m)
    settings = library.Settings(device=device, batch_size=B, enable_grad=True)
    return Solver(n, m + k, *pattern(n), *pattern(m + k), cones=cones, settings=settings)


def installed() -> dict[str, Layer]:
    """All layers that can be run here, ours first."""
    layers: dict[str, Layer] = {"karush": karush, "karush torch": karush_torch}
    if importlib.util.find_spec("qpth"):
        layers |= {"qpth 1e-12": qpth(1e-12), "qpth 1e-8": qpth(1e-8)}
    if importlib.util.find_spec("proxsuite"):
        layers["QPLayer"] = qplayer
    if importlib.util.find_spec("moreau"):
        layers["Moreau"] = moreau
    return layers
