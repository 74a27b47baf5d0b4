"""What a layer costs beside ``solve_qp`` on the same problem: a model whose every block is a parameter, and one with constants.

Both are to return the same x. Q has the declared attribute PSD, which the layer checks at every call and ``solve_qp`` does not.

`python -m benchmarks.overhead`
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import karush as kr
from benchmarks.random_qps import random_qps
from benchmarks.timing import interleaved, ratio, spread, step, told

SIZES = ((10, 20, 5), (50, 50, 10))
PATIENCE_S = 5.0


def model(n: int, m: int, k: int) -> tuple[kr.Layer, kr.Variable]:
    x = kr.Variable(n, name="x")
    Q, p = kr.Parameter((n, n), PSD=True, name="Q"), kr.Parameter(n, name="p")
    G, h = kr.Parameter((m, n), name="G"), kr.Parameter(m, name="h")
    A, b = kr.Parameter((k, n), name="A"), kr.Parameter(k, name="b")
    problem = kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, Q) + p @ x), [G @ x <= h, A @ x == b])
    return kr.compile(problem, outputs=x), x


def contestants(size: tuple[int, int, int], batch: int, gradients: bool) -> dict[str, Callable[[], Tensor]]:
    """Q, G, h, A and b are one for all items, p differs; so the same blocks can be constants."""
    Q, p, G, h, A, b = random_qps(batch, *size)
    blocks = {"Q": Q[0], "p": p, "G": G[0], "h": h[0], "A": A[0], "b": b[0]}
    leaves = {name: block.clone().requires_grad_(gradients) for name, block in blocks.items()}
    layer, _ = model(*size)
    constant = layer.bind({name: block for name, block in blocks.items() if name != "p"})
    alone = {name: block.clone().requires_grad_(gradients and name == "p") for name, block in blocks.items()}
    return {
        "solve_qp": lambda: kr.solve_qp(*leaves.values()).x,
        "layer": lambda: layer(**leaves),
        "solve_qp, p alone": lambda: kr.solve_qp(*alone.values()).x,
        "layer, constants bound": lambda: constant(alone["p"]),
    }


def _told(name: str, error: Exception) -> None:
    raise error


def main(repeats: int = 201) -> None:
    print(f"\na layer beside solve_qp, microseconds (quartiles), {told()}")
    print(f"  {'(n, m, k)':<14}{'batch':>6}  {'':<18}{'':<24}{'time':>24}{'over solve_qp':>15}")
    for size in SIZES:
        for batch in (1, 128):
            for gradients in (False, True):
                calls = contestants(size, batch, gradients)
                found = [call() for call in calls.values()]
                assert all(torch.allclose(part, found[0], rtol=1e-8, atol=1e-8) for part in found)
                several = {who: partial(step, call, gradients) for who, call in calls.items()}
                steps = interleaved(several, repeats, PATIENCE_S, _told)
                totals = {who: [1e3 * one.total for one in runs] for who, runs in steps.items()}
                for who, against in (("layer", "solve_qp"), ("layer, constants bound", "solve_qp, p alone")):
                    kind = "forward+backward" if gradients else "forward"
                    middle, low, high = spread(totals[who])
                    times = f"{middle:.0f} ({low:.0f}-{high:.0f})"
                    over = ratio(totals[who], totals[against])
                    print(f"  {size!s:<14}{batch:>6}  {kind:<18}{who:<24}{times:>24}{over:>14.2f}x", flush=True)


if __name__ == "__main__":
    main()
