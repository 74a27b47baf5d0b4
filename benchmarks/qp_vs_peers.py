"""karush beside its peers, in one process: forward and backward with all six gradients, dense random problems, float64.

Peers return no duals of one convention, so the residuals of all are those of x with the multipliers that fit it best, by least
squares on its active rows. A second table says where the time of karush goes: into native code or Python and torch, and which part
of the operations that the machine can do meanwhile are those of the method.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

import karush as kr
from benchmarks import flops, peers
from benchmarks.peers import Layer
from benchmarks.random_qps import random_qps
from benchmarks.timing import now, ratio, spread, told
from karush.backends.cpu import threads


class Case(NamedTuple):
    """(n, m, k), and how many of them; without gradients it is called under no_grad."""

    size: tuple[int, int, int]
    batch: int
    gradients: bool = True

    def __str__(self) -> str:
        return f"{self.size!s:>15} x {self.batch}{'' if self.gradients else ' no_grad'}".ljust(31)


CASES = [
    Case((5, 10, 0), 128), Case((10, 20, 5), 128), Case((20, 40, 5), 128), Case((50, 50, 10), 128), Case((100, 100, 20), 128),
    Case((10, 20, 5), 1), Case((10, 20, 5), 1, gradients=False), Case((100, 100, 0), 1), Case((10, 20, 5), 8192),
]  # fmt: skip
PATIENCE_S, LONG_S = 20.0, 0.1  # of the timed calls of a peer together, and of one


class Times(NamedTuple):
    """Milliseconds."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        return self.forward + self.backward


def once(layer: Layer, problem: list[Tensor], weight: Tensor, gradients: bool = True) -> Times:
    """One forward and backward pass; the forward pass alone without gradients."""
    leaves = [tensor.detach().requires_grad_(gradients) for tensor in problem]
    clock = time.perf_counter if weight.is_cuda else now
    synchronize(weight)
    start = clock()
    with torch.set_grad_enabled(gradients):
        x = layer(*leaves)
    synchronize(weight)
    middle = clock()
    if not gradients:
        return Times(1e3 * (middle - start), 0.0)
    (x * weight).sum().backward()
    synchronize(weight)
    return Times(1e3 * (middle - start), 1e3 * (clock() - middle))


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


def drawn(case: Case, device: str) -> tuple[list[Tensor], Tensor]:
    """The problems, and the gradient of the loss by x."""
    weight = torch.randn(case.batch, case.size[0], dtype=torch.float64)
    return random_qps(case.batch, *case.size, device), weight.to(device)


def compare(case: Case, repeats: int, device: str) -> None:
    """Print a line per layer; repeats are interleaved, so that what else the machine does falls on all alike.

    Every timed call comes after one of the same layer that is not timed: a training loop does not call its peers in between, and
    what they leave in the caches is no property of the layer. Of calls that take ``LONG_S`` it is no part either, and they go fewer
    rounds, down to three.
    """
    problem, weight = drawn(case, device)
    layers = peers.installed()
    seconds: dict[str, float] = {}
    for name, layer in layers.items():
        for _ in range(2):
            seconds[name] = once(layer, problem, weight, case.gradients).total / 1e3
    times: dict[str, list[Times]] = {name: [] for name in layers}
    for turn in range(repeats):
        for name, layer in layers.items():
            if turn >= max(3, PATIENCE_S / seconds[name]):
                continue
            if seconds[name] < LONG_S:
                once(layer, problem, weight, case.gradients)
            times[name].append(once(layer, problem, weight, case.gradients))
    for name, runs in times.items():
        forward, backward = median(t.forward for t in runs), median(t.backward for t in runs)
        middle, low, high = spread([t.total for t in runs])
        x = layers[name](*problem).detach()
        print(
            f"{case}{name:<13}{forward:9.3f} "
            + (f"{backward:9.3f} {100 * backward / forward:7.1f} %" if case.gradients else f"{'-':>9} {'-':>9}")
            + f"{f'{middle:.3f} ({low:.3f}-{high:.3f})':>34} "
            f"{ratio([t.total for t in runs], [t.total for t in times['karush']]):7.2f}x "
            f"{residual([t[:500] for t in problem], x[:500]):9.1e}",
            flush=True,
        )


@contextmanager
def native() -> Iterator[list[tuple[float, int]]]:
    """Milliseconds and threads of every call of native code, while it is open."""
    calls: list[tuple[float, int]] = []
    run = threads.run

    def timed(work: threads.Work, *tables: Any) -> None:
        start = now()
        run(work, *tables)
        spent = 1e3 * (now() - start)
        calls.append((spent, min(torch.get_num_threads(), work.blocks) if work.shared else 1))

    with mock.patch.object(threads, "run", timed):
        yield calls


class Spent(NamedTuple):
    """The fastest of all calls, in milliseconds: as a whole, and their native part; and its threads."""

    whole: Times
    native: Times
    threads: int


def spent(case: Case, problem: list[Tensor], weight: Tensor, repeats: int) -> Spent:
    once(peers.karush, problem, weight, case.gradients)
    steps, inside, threads = [], [], 1
    for _ in range(repeats):
        with native() as calls:
            steps.append(once(peers.karush, problem, weight, case.gradients))
        (forward, threads), *back = calls
        inside.append(Times(forward, sum(milliseconds for milliseconds, _ in back)))
    whole, part = (Times(min(t.forward for t in runs), min(t.backward for t in runs)) for runs in (steps, inside))
    return Spent(whole, part, threads)


def limits(cases: list[Case], repeats: int) -> None:
    """Print where the time of karush goes, by itself, and how near the native part of it is to what the machine can do.

    The fastest counts on both sides, the limit being measured before and after: what others do on the machine is no part of it.
    So the limit is that of one thread times the threads in use.
    """
    peak, rows = flops.peak(), []
    for case in cases:
        problem, weight = drawn(case, "cpu")
        iterations = float(kr.solve_qp(*problem).iterations.double().mean())
        rows.append((case, iterations, spent(case, problem, weight, repeats)))
    peak = max(peak, flops.peak())
    print(f"\nkarush by itself, the fastest of {repeats}; the limit of a thread is {peak / 1e9:.0f} GFLOP/s, a product of matrices")
    print(f"{'':<31}{'':>11}{'kFLOP':>9}{'forward':>10}{'of it':>9}{'of backw.':>11}{'':>9}{'native':>9}{'of the limit':>21}")
    heads = ("iterations", 11), ("an item", 9), ("ms", 10), ("native", 9), ("native", 11), ("threads", 9), ("GFLOP/s", 9)
    print(f"{'(n, m, k)':>15}   {'batch':<13}{''.join(f'{head:>{width}}' for head, width in heads)}{'native':>11}{'call':>10}")
    for case, iterations, (whole, part, used) in rows:
        each = flops.forward(*case.size, iterations)
        rate, limit = 1e3 * case.batch * each, used * peak
        backward = f"{100 * part.backward / whole.backward:9.0f} %" if case.gradients else f"{'-':>11}"
        print(
            f"{case}{iterations:11.1f}{each / 1e3:9.1f}{whole.forward:10.3f}{100 * part.forward / whole.forward:7.0f} %{backward}"
            f"{used:9}{rate / part.forward / 1e9:9.1f}{100 * rate / part.forward / limit:9.0f} %"
            f"{100 * rate / whole.forward / limit:8.0f} %",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="three repeats of the three small sizes")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="moreau")  # on which of its solvers it takes
    print(f"torch {torch.__version__}, {options.device}, milliseconds, {told()}; {len(peers.installed())} layers")
    columns = f"{'forward':>9} {'backward':>9} {'bwd/fwd':>9}{'total (quartiles)':>34} {'':>8} {'residual':>9}"
    print(f"{'(n, m, k)':>15}   {'batch':<13}{'':<13}{columns}")
    cases = CASES[:3] if options.quick else CASES
    for case in cases:
        compare(case, 3 if options.quick else options.repeats, options.device)
    if options.device == "cpu":
        limits(cases, 3 * options.repeats)


if __name__ == "__main__":
    main()
