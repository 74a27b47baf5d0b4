"""How much smoothing? Total-variation denoising that learns its own strength from examples.

    minimize    1/2 |x - y|² + exp(t) sum_i |x_{i+1} - x_i|

t is learned by gradient descent on the error of x against clean signals, and lands where an exhaustive search would put it.

    python examples/denoising.py [pictures/denoising.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import karush as kr


def denoiser(n: int) -> kr.Layer:
    """From noisy to clean signals; the logarithm of the strength is the weight."""
    x = kr.Variable(n, name="x")
    y = kr.Parameter(n, name="y")
    t = kr.Parameter(name="t")
    cost = 0.5 * kr.sum_squares(x - y) + kr.exp(t) * kr.norm1(kr.diff(x))
    return kr.compile(kr.Problem(kr.Minimize(cost)), outputs=x, weights={t: torch.tensor(-3.0, dtype=torch.float64)})


def signals(count: int, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Piecewise constant signals with about five jumps, and the same with noise."""
    jumps = (torch.rand(count, n, generator=generator) < 5 / n) * torch.randn(count, n, generator=generator)
    clean = jumps.double().cumsum(1)
    return clean, clean + 0.3 * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


@dataclass
class Result:
    losses: list[float]
    strengths: list[float]
    grid: Tensor
    errors: list[float]
    clean: Tensor
    noisy: Tensor
    denoised: Tensor


def run(n: int = 80, count: int = 12, steps: int = 40, seed: int = 0) -> Result:
    clean, noisy = signals(count, n, torch.Generator().manual_seed(seed))
    layer = denoiser(n)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.2)
    losses, strengths = [], []
    for _ in range(steps):
        loss = (layer(noisy) - clean).square().mean()
        optimizer.zero_grad()
        loss.backward()
        strengths.append(layer.weight("t").exp().item())
        losses.append(loss.item())
        optimizer.step()
    grid = torch.logspace(-1.3, 0.7, 15)
    errors = []
    with torch.no_grad():
        denoised = layer(noisy)
        for strength in grid:
            layer.get_parameter("t").fill_(strength.log())
            errors.append((layer(noisy) - clean).square().mean().item())
    return Result(losses, strengths, grid, errors, clean, noisy, denoised)


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(result.noisy[0], ".", color="0.7", label="noisy")
    left.plot(result.clean[0], color="C1", linewidth=3, alpha=0.6, label="clean")
    left.plot(result.denoised[0], color="C0", label="learned")
    left.legend(frameon=False)
    right.loglog(result.grid, result.errors, color="0.6", label="search")
    right.loglog(result.strengths, result.losses, ".-", color="C0", label="gradient descent")
    right.set(xlabel="strength of smoothing", title="mean squared error")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/denoising.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
