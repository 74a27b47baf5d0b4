"""The peers, each by its best door, as functions (Q, p, G, h, A, b) -> x of dense batches; absent ones are left out and named."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

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
    """QPLayer of proxsuite, on as many threads as torch has.

    By itself it takes half the processors there are, and leaves OpenMP, which is torch's too, with so many for all that follows.
    """
    from proxsuite.torch import qplayer as library

    library.os = SimpleNamespace(cpu_count=lambda: 2 * torch.get_num_threads())
    low = torch.full_like(h, -1e20)
    x: Tensor = library.QPFunction(eps=1e-9, maxIter=1000, omp_parallel=True)(Q, p, A, b, G, low, h)[0]
    return x


def moreau(Q: Tensor, p: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
    """Dense CSR patterns; zero cone first. A fresh solver would cost more than the solve: it is kept for each size."""
    B, m, n = G.shape
    k = A.shape[1]
    gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (Q, p, G, h, A, b))
    solver = _moreau(n, m, k, B, Q.device.type, gradients)
    P = ((Q + Q.mT) / 2).reshape(B, n * n)
    solution = solver.solve(P, torch.cat([A, G], 1).reshape(B, (m + k) * n), p, torch.cat([b, h.expand(B, -1)], 1))
    x: Tensor = solution.x
    return x


@lru_cache(maxsize=8)
def _moreau(n: int, m: int, k: int, B: int, device: str, gradients: bool) -> Any:
    import moreau as library
    from moreau.torch import Solver

    def pattern(rows: int) -> tuple[Tensor, Tensor]:
        return torch.arange(0, rows * n + 1, n), torch.arange(n).repeat(rows)

    cones = library.Cones(num_zero_cones=k, num_nonneg_cones=m)
    settings = library.Settings(device=device, batch_size=B, enable_grad=gradients)
    return Solver(n, m + k, *pattern(n), *pattern(m + k), cones=cones, settings=settings)


class _Qpax(torch.autograd.Function):
    """qpax in JAX on the CPU: arrays are the tensors' memory, and both directions are compiled once for each size."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        import jax

        alone, with_vjp, _ = _qpax()
        arrays = [jax.numpy.from_dlpack(tensor.detach().contiguous()) for tensor in tensors]
        if any(ctx.needs_input_grad):
            found, ctx.back = with_vjp(*arrays)
        else:
            found = alone(*arrays)
        return from_dlpack(jax.block_until_ready(found))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        import jax

        found = _qpax()[2](ctx.back, jax.numpy.from_dlpack(gradients[0].contiguous()))
        return tuple(from_dlpack(part) for part in jax.block_until_ready(found))


@lru_cache(maxsize=1)
def _qpax() -> tuple[Any, Any, Any]:
    """x of a batch, x with what its gradients need, and the gradients: qpax 0.1.4 by its implicit backend.

    The default one multiplies a part of the gradient of G by its multipliers once too often, and on two cores waits forever for
    itself at (50, 50, 10) x 128. With an absolute tolerance and a smoothing of 1e-10, in place of 1e-5 and 1e-3, this one is about
    as exact as others are asked to be. XLA's own threads are off, which is faster here; they are known to wedge batches.
    """
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import jax
    from qpax import solve_qp_primal

    jax.config.update("jax_enable_x64", True)

    def one(Q: Any, p: Any, G: Any, h: Any, A: Any, b: Any) -> Any:
        return solve_qp_primal(Q, p, A, b, G, h, backend="i", solver_tol=1e-10, target_kappa=1e-10, max_iter=60)

    many = jax.vmap(one)
    return jax.jit(many), jax.jit(lambda *arrays: jax.vjp(many, *arrays)), jax.jit(lambda back, gradient: back(gradient))


def qpax(Q: Tensor, p: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
    x: Tensor = _Qpax.apply(Q, p, G, h.expand(len(Q), -1), A, b)  # type: ignore[no-untyped-call]  # torch's own
    return x


PACKAGES: dict[str, Callable[[], dict[str, Layer]]] = {
    "qpth": lambda: {"qpth 1e-12": qpth(1e-12), "qpth 1e-8": qpth(1e-8)},
    "proxsuite": lambda: {"QPLayer": qplayer},
    "moreau": lambda: {"Moreau": moreau},
    "qpax": lambda: {"qpax": qpax},
}


@lru_cache
def _absent(package: str) -> None:
    """Say so once."""
    print(f"{package} is not installed, and left out", file=sys.stderr)


def installed() -> dict[str, Layer]:
    """All layers that can be run here, ours first."""
    layers: dict[str, Layer] = {"karush": karush, "karush torch": karush_torch}
    for package, make in PACKAGES.items():
        if importlib.util.find_spec(package):
            layers |= make()
        else:
            _absent(package)
    return layers
