"""ReLU is a quadratic program: the smallest optimisation layer there is (OptNet, theorem 2).

    minimize    |x - (W u + c)|²     subject to    x >= 0        has the solution    x = max(W u + c, 0)

Two equal networks learn the same curve, one with torch.relu, one with this layer: they cannot be told apart.

    python examples/relu.py [pictures/relu.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import karush as kr


def relu(width: int) -> kr.Layer:
    """max(v, 0), as an optimisation layer with outputs."""
    x = kr.Variable(width, nonneg=True, name="x")
    v = kr.Parameter(width, name="v")
    return kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - v))), outputs=x)


@dataclass
class Result:
    u: Tensor
    target: Tensor
    fits: dict[str, Tensor]
    losses: dict[str, list[float]]


def run(width: int = 16, steps: int = 300, seed: int = 0) -> Result:
    u = torch.linspace(-3, 3, 64, dtype=torch.float64)[:, None]
    target = torch.sin(2 * u) + 0.3 * u
    result = Result(u, target, {}, {})
    for name, activation in (("torch.relu", nn.ReLU()), ("QP layer", relu(width))):
        torch.manual_seed(seed)  # the same start for both
        network = nn.Sequential(nn.Linear(1, width), activation, nn.Linear(width, 1)).double()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        losses = []
        for _ in range(steps):
            loss = (network(u) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        result.fits[name], result.losses[name] = network(u).detach(), losses
    return result


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(result.u[:, 0], result.target[:, 0], color="0.7", linewidth=4, label="target")
    for (name, fit), style in zip(result.fits.items(), ("-", "--"), strict=True):
        left.plot(result.u[:, 0], fit[:, 0], style, label=name)
        right.semilogy(result.losses[name], style, label=name)
    left.set(xlabel="u", title="what both networks learned")
    right.set(xlabel="step", title="mean squared error")
    left.legend(frameon=False)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/relu.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
