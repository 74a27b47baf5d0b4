"""Four things that break layers, on 100 random problems each: a row of zeros, a large objective, an infeasible mate, a shared h.

Errors are the worst over all items, relative to the largest entry, of x and of the gradients of v'x in p and h, against an exact
solve of the optimality conditions in NumPy at the active set that Clarabel finds.

`python -m benchmarks.killers`
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import clarabel
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import peers
from benchmarks.peers import Layer
from benchmarks.random_qps import random_qps

Array = NDArray[np.float64]
SIZE, ITEMS = (10, 20, 5), 100
LARGE = 1e8


class Exact(NamedTuple):
    """x, and the gradients of v'x in p and h."""

    x: Array
    dp: Array
    dh: Array


def exact(problem: list[Array], v: Array) -> Exact:
    Q, p, G, h, A, b = problem
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.tol_feas, settings.tol_gap_abs, settings.tol_gap_rel = False, 1e-11, 1e-11, 1e-11
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    C = sp.csc_matrix(np.vstack([A, G]))
    found = clarabel.DefaultSolver(sp.csc_matrix(np.triu(Q)), p, C, np.concatenate([b, h]), cones, settings).solve()
    active = np.array(found.z)[len(b) :] > np.array(found.s)[len(b) :]
    rows = np.vstack([A, G[active]])
    n, r = len(p), len(rows)
    K = np.block([[Q, rows.T], [rows, np.zeros((r, r))]])
    x = np.linalg.solve(K, np.concatenate([-p, b, h[active]]))[:n]
    adjoint = np.linalg.solve(K, np.concatenate([v, np.zeros(r)]))
    dh = np.zeros(len(h))
    dh[active] = adjoint[n + len(b) :]
    return Exact(x, -adjoint[:n], dh)


def zero_row(problem: list[Tensor]) -> list[Tensor]:
    Q, p, G, h, A, b = problem
    return [Q, p, torch.cat([G, torch.zeros_like(G[:, :1])], 1), torch.cat([h, torch.ones_like(h[:, :1])], 1), A, b]


def large_objective(problem: list[Tensor]) -> list[Tensor]:
    return [LARGE * problem[0], LARGE * problem[1], *problem[2:]]


def errors(layer: Layer, problem: list[Tensor], v: Tensor, truth: list[Exact], scale: float = 1.0) -> tuple[float, float]:
    """The worst relative errors of x, and of the gradients of v'x."""
    leaves = [tensor.clone().requires_grad_() for tensor in problem]
    x = layer(*leaves)
    dp, dh = torch.autograd.grad((x * v).sum(), [leaves[1], leaves[3]])
    worst_x = worst_g = 0.0
    for i, (x_true, dp_true, dh_true) in enumerate(truth):
        worst_x = _worse(worst_x, x[i].detach().numpy() - x_true, x_true)
        worst_g = _worse(worst_g, scale * dp[i].numpy() - dp_true, dp_true)
        worst_g = _worse(worst_g, dh[i].numpy()[: len(dh_true)] - dh_true, dh_true)
    return worst_x, worst_g


def _worse(worst: float, error: Array, size: Array) -> float:
    found = float(np.abs(error).max() / max(1e-3, np.abs(size).max()))
    return found if not found <= worst else worst  # NaN is worse than anything


def with_mate(layer: Layer, problem: list[Tensor], v: Tensor, truth: list[Exact]) -> tuple[float, float]:
    """Batches of eight, the last of them infeasible."""
    worst_x = worst_g = 0.0
    for start in range(0, ITEMS - 7, 7):
        batch = [tensor[start : start + 8].clone() for tensor in problem]
        batch[2][7, 1], batch[3][7, :2] = -batch[2][7, 0], -1.0
        x, g = errors(layer, batch, v[start : start + 8], truth[start : start + 7])
        worst_x, worst_g = (a if not a <= b else b for a, b in ((x, worst_x), (g, worst_g)))
    return worst_x, worst_g


def with_shared_h(layer: Layer, problem: list[Tensor], v: Tensor) -> tuple[float, float]:
    """One h for all: its gradient is the sum over the batch."""
    Q, p, G, _, A, b = problem
    h = (G @ torch.linalg.lstsq(A, b.unsqueeze(2)).solution).squeeze(2).amax(0) + 1
    truth = [exact([t[i].numpy() for t in (Q, p, G)] + [h.numpy(), A[i].numpy(), b[i].numpy()], v[i].numpy()) for i in range(ITEMS)]
    shared = h.clone().requires_grad_()
    x = layer(Q, p, G, shared, A, b)
    (dh,) = torch.autograd.grad((x * v).sum(), shared)
    total = np.sum([item.dh for item in truth], axis=0)
    worst = 0.0
    for i, item in enumerate(truth):
        worst = _worse(worst, x[i].detach().numpy() - item.x, item.x)
    return worst, _worse(0.0, dh.numpy() - total, total)


def families(problem: list[Tensor], v: Tensor) -> Iterator[tuple[str, Callable[[Layer], tuple[float, float]]]]:
    truth = [exact([tensor[i].numpy() for tensor in problem], v[i].numpy()) for i in range(ITEMS)]
    yield "as they are", lambda layer: errors(layer, problem, v, truth)
    yield "a row of zeros", lambda layer: errors(layer, zero_row(problem), v, truth)
    yield "objective x 1e8", lambda layer: errors(layer, large_objective(problem), v, truth, LARGE)
    yield "an infeasible mate", lambda layer: with_mate(layer, problem, v, truth)
    yield "a shared h", lambda layer: with_shared_h(layer, problem, v)


def main() -> None:
    problem = random_qps(ITEMS, *SIZE, seed=5)
    v = torch.randn(ITEMS, SIZE[0], dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    layers = peers.installed()
    print(f"\nworst relative error of x / of gradients, {ITEMS} problems (n, m, k) = {SIZE} each")
    names = dict(families(problem, v))
    print(f"{'':<20}" + "".join(f"{name:>24}" for name in layers))
    for name, measure in names.items():
        told = []
        for layer in layers.values():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    x, g = measure(layer)
                told.append(f"{x:.0e} / {g:.0e}")
            except (RuntimeError, ValueError) as error:
                told.append(f"raises {type(error).__name__}")
        print(f"{name:<20}" + "".join(f"{text:>24}" for text in told), flush=True)


if __name__ == "__main__":
    main()
