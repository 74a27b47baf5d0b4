"""karush beside its peers, in one process: forward and backward with all six gradients, dense random problems, float64.

Peers return no duals of one convention, so the residuals of all are those of x with the multipliers that fit it best, by least
squares on its active rows.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from benchmarks import peers
from benchmarks.peers import Layer
from benchmarks.random_qps import random_qps

CASES = [
    ((5, 10, 0), 128), ((10, 20, 5), 128), ((20, 40, 5), 128), ((50, 50, 10), 128), ((100, 100, 20), 128),
    ((10, 20, 5), 1), ((100, 100, 0), 1), ((10, 20, 5), 8192),
]  # fmt: skip
PATIENCE_S = 60.0  # a peer whose single call takes longer than a tenth of it is measured fewer times


class Times(NamedTuple):
    """Milliseconds."""

    forward: float
    backward: float


def once(layer: Layer, problem: list[Tensor], weight: Tensor) -> Times:
    """One forward and backward pass."""
    leaves = [tensor.detach().requires_grad_() for tensor in problem]
    synchronize(weight)
    start = time.perf_counter()
    x = layer(*leaves)
    synchronize(weight)
    middle = time.perf_counter()
    (x * weight).sum().backward()
    synchronize(weight)
    return Times(1e3 * (middle - start), 1e3 * (time.perf_counter() - middle))


def synchronize(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def residual(problem: list[Tensor], x: Tensor) -> float:
    """The worst over all items of the scaled residuals of x, recomputed in NumPy from the data."""
    worst = 0.0
    for Q, p, G, h, A, b, point in zip(*(tensor.cpu().numpy() for tensor in (*problem, x)), strict=True):
        size = np.abs(point)
        primal = np.maximum(G @ point - h, 0) / (np.minimum(1, np.abs(G).max(1)) + np.abs(h) + np.abs(G) @ size)
        equal = np.abs(A @ point - b) / (1e-300 + np.minimum(1, np.abs(A).max(1, initial=0)) + np.abs(b) + np.abs(A) @ size)
        gradient = Q @ point + p
        active = np.abs(G @ point - h) <= 1e-5 * (1 + np.abs(h))
        columns = np.hstack([A.T, G[active].T])
        multipliers = np.linalg.lstsq(columns, -gradient, rcond=None)[0]
        if multipliers[len(b) :].min(initial=0) < 0:
            columns = np.hstack([A.T, -A.T, G[active].T])
            multipliers = nnls(columns, -gradient, maxiter=50 * columns.shape[1])[0]
        dual = np.abs(gradient + columns @ multipliers)
        terms = np.minimum(1, np.abs(p) + np.abs(Q).max(1)) + np.abs(Q) @ size + np.abs(p) + np.abs(columns) @ np.abs(multipliers)
        worst = max(worst, primal.max(initial=0), equal.max(initial=0), (dual / terms).max())
    return worst


def compare(size: tuple[int, int, int], batch: int, repeats: int, device: str) -> None:
    """Print a line per layer; repeats are interleaved, so that what else the machine does falls on all alike.

    Every timed call comes after one of the same layer that is not timed: a training loop does not call its peers in between, and
    what they leave in the caches is no property of the layer.
    """
    problem = random_qps(batch, *size, device)
    weight = torch.randn(batch, size[0], dtype=torch.float64).to(device)
    layers = peers.installed()
    slowest = 0.0
    for layer in layers.values():
        start = time.perf_counter()
        once(layer, problem, weight)
        once(layer, problem, weight)
        slowest = max(slowest, (time.perf_counter() - start) / 2)
    repeats = max(3, min(repeats, int(PATIENCE_S / slowest)))
    times: dict[str, list[Times]] = {name: [] for name in layers}
    for _ in range(repeats):
        for name, layer in layers.items():
            once(layer, problem, weight)
            times[name].append(once(layer, problem, weight))
    for name, runs in times.items():
        forward, backward = median(t.forward for t in runs), median(t.backward for t in runs)
        ratio = median((r.forward + r.backward) / (o.forward + o.backward) for r, o in zip(runs, times["karush"], strict=True))
        x = layers[name](*problem).detach()
        print(
            f"{size!s:>15} x {batch:<5}{name:<13}{forward:9.3f} {backward:9.3f} {forward + backward:9.3f} {ratio:7.2f}x "
            f"{100 * backward / forward:7.1f} % {residual([t[:500] for t in problem], x[:500]):9.1e}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="three repeats of the three small sizes")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    threads, layers = torch.get_num_threads(), len(peers.installed())
    print(f"torch {torch.__version__}, {options.device}, {threads} threads, milliseconds; {layers} layers")
    columns = f"{'forward':>9} {'backward':>9} {'total':>9} {'':>8} {'bwd/fwd':>9} {'residual':>9}"
    print(f"{'(n, m, k)':>15}   {'batch':<5}{'':<13}{columns}")
    for size, batch in CASES[:3] if options.quick else CASES:
        compare(size, batch, 3 if options.quick else options.repeats, options.device)


if __name__ == "__main__":
    main()
