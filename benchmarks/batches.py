"""From one problem to 100,000: forward and backward of OptNet's random problems as the batch grows, and the memory that it takes.

Times are interleaved in this process. Who needs longer than ``LONG_S`` for a step is left out of larger batches. *memory* is
measured in a process for each contestant, which solves one batch after the other: the most that it held by then, problems and
gradients included, over what it held after a single one. *residual* is the worst of the first 500 items.

`python -m benchmarks.batches`
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import partial

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.cold_start import fresh
from benchmarks.qp_vs_peers import residual
from benchmarks.random_qps import random_qps
from benchmarks.timing import Outputs, Step, interleaved, most_memory, ratio, shown, spread, step, told

SIZE = (10, 20, 5)
BATCHES = (1, 10, 100, 1_000, 10_000, 100_000)
PATIENCE_S, LONG_S = 2.0, 10.0
LEFT_OUT = ("karush torch", "qpth 1e-12")
CHECKED = 500


def call(layer: peers.Layer, problem: list[Tensor]) -> Outputs:
    return layer(*(tensor.detach().requires_grad_() for tensor in problem))


def alone() -> None:
    """The other side of ``memory``: a contestant and its batches are arguments of this process."""
    warnings.filterwarnings("ignore")  # of peers, on which of their solvers they take
    name, *sizes = sys.argv[1:]
    held, layer = [], peers.installed()[name]
    for size in sizes:
        step(partial(call, layer, random_qps(int(size), *SIZE)))
        held.append(most_memory())
    print(json.dumps(held))


def memory(name: str, batches: list[int]) -> list[float]:
    """MiB for each batch, over that of the first one."""
    held = fresh("from benchmarks.batches import alone; alone()", name, *batches)
    return [most - held[0] for most in held]


def _told(who: str, error: Exception) -> None:
    print(f"  {who} raises {type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}")


def main(repeats: int = 9) -> None:
    warnings.filterwarnings("ignore", module="moreau")  # on which of its solvers it takes
    layers = {name: layer for name, layer in peers.installed().items() if name not in LEFT_OUT}
    print(f"\n(n, m, k) = {SIZE}, forward and backward, milliseconds, {told()}")
    print(f"{'batch':>8}  {'':<12}{'forward':>12}{'backward':>12}{'total (quartiles)':>32}{'an item':>14}{'':>9}{'residual':>10}")
    went: dict[str, list[int]] = {name: [] for name in layers}
    for batch in BATCHES:
        problem = random_qps(batch, *SIZE)
        calls = {name: partial(step, partial(call, layer, problem)) for name, layer in layers.items()}
        found = interleaved(calls, repeats, PATIENCE_S, _told)
        ours = _totals(found["karush"])
        for name, steps in found.items():
            totals = _totals(steps)
            with torch.no_grad():
                x = layers[name](*(tensor[:CHECKED] for tensor in problem))
            middle, forward, backward = (spread(part)[0] for part in (totals, *map(list, zip(*steps, strict=True))))
            print(
                f"{batch:>8}  {name:<12}{forward:12.3f}{backward:12.3f}{shown(totals):>32}{1e3 * middle / batch:11.2f} us"
                f"{ratio(totals, ours):8.1f}x{residual([tensor[:CHECKED] for tensor in problem], x):10.0e}",
                flush=True,
            )
            went[name].append(batch)
            if middle > 1e3 * LONG_S:
                del layers[name]
    print(f"\nmemory, MiB over that of one problem\n{'':<12}" + "".join(f"{batch:>10,}" for batch in BATCHES))
    for name, batches in went.items():
        print(f"{name:<12}" + "".join(f"{held:10.1f}" for held in memory(name, batches)), flush=True)


def _totals(steps: list[Step]) -> list[float]:
    return [one.total for one in steps]


if __name__ == "__main__":
    main()
