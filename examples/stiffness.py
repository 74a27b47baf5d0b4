"""Which springs put the blocks where we want them? Learning through an equilibrium of mechanics.

Blocks of width w between two walls are joined by springs of stiffness k. They come to rest where the energy is least, and they
cannot pass through each other:

    minimize    1/2 sum_i k_i (x_{i+1} - x_i)²    subject to    x_0 = 0,  x_{n+1} = l,  x_{i+1} - x_i >= w

    python examples/stiffness.py [pictures/stiffness.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import karush as kr

BLOCKS, LENGTH, WIDTH = 5, 1.0, 0.05


def equilibrium() -> kr.Layer:
    """Positions of the blocks; the stiffness of the springs is a weight, and nonnegative."""
    x = kr.Variable(BLOCKS + 2, name="x")
    k = kr.Parameter(BLOCKS + 1, nonneg=True, name="k")
    energy = 0.5 * kr.sum(kr.multiply(k, kr.diff(x) ** 2))
    walls = {"left wall": x[0] == 0, "right wall": x[-1] == LENGTH}
    problem = kr.Problem(kr.Minimize(energy), {**walls, "no overlap": kr.diff(x) >= WIDTH})
    return kr.compile(problem, outputs=[x, kr.dual("no overlap")], weights={k: torch.ones(BLOCKS + 1, dtype=torch.float64)})


@dataclass
class Result:
    target: Tensor
    positions: list[Tensor]
    losses: list[float]
    stiffness: Tensor
    contact: Tensor


def run(steps: int = 300, seed: int = 0) -> Result:
    free = torch.rand(BLOCKS + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) ** 3 + 0.01
    target = (WIDTH + free / free.sum() * (LENGTH - (BLOCKS + 1) * WIDTH)).cumsum(0)[:-1]
    layer = equilibrium()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    positions, losses, contact = [], [], torch.empty(0)
    for _ in range(steps):
        x, contact = layer()
        loss = (x[1:-1] - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        positions.append(x[1:-1].detach())
        losses.append(loss.item())
    return Result(target, positions, losses, layer.weight("k").detach(), contact.detach())


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    left.plot(torch.stack(result.positions), range(len(result.positions)), color="C0", linewidth=1)
    for place, goal in zip(result.positions[-1].tolist(), result.target.tolist(), strict=True):
        left.add_patch(Rectangle((place - WIDTH / 2, len(result.positions)), WIDTH, 15, color="C0"))
        left.axvline(goal, color="0.6", linewidth=0.8, linestyle=":")
    left.set(xlim=(0, LENGTH), xlabel="position between the walls", ylabel="step", title="blocks move to their targets (dotted)")
    right.semilogy(result.losses)
    right.set(xlabel="step", title="squared distance")
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/stiffness.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
