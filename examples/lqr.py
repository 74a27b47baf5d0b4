"""A controller that learns the Riccati equation by driving.

The plant is x⁺ = A x + B u + noise, and a step costs x'x + u'u. The controller looks one step ahead and guesses the rest:

    minimize    |u|² + |S (A x + B u)|²

and learns S from the cost of simulated trajectories. The best S is known in closed form: S'S solves the Riccati equation.

    python examples/lqr.py [pictures/lqr.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.linalg import solve_discrete_are
from torch import Tensor
from tqdm import trange

import karush as kr

NOISE = 0.5


def controller(A: np.ndarray, B: np.ndarray) -> kr.Layer:
    """From the state to the input; S is the weight."""
    n, m = B.shape
    u = kr.Variable(m, name="u")
    x = kr.Parameter(n, name="x")
    S = kr.Parameter((n, n), name="S")
    cost = kr.sum_squares(u) + kr.sum_squares(S @ (A @ x + B @ u))
    return kr.compile(kr.Problem(kr.Minimize(cost)), outputs=u, weights={S: 0.2 * torch.eye(n, dtype=torch.float64)})


def average_cost(layer: kr.Layer, A: Tensor, B: Tensor, horizon: int, batch: int, seed: int) -> Tensor:
    """Mean stage cost of simulated trajectories; the noise depends on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, len(A), generator=generator, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(horizon):
        u = layer(x)
        total = total + (x.square().sum(1) + u.square().sum(1)).mean()
        x = x @ A.T + u @ B.T + NOISE * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return total / horizon


@dataclass
class Result:
    costs: list[float]
    optimal: float
    start: float
    end: float


def run(n: int = 4, m: int = 2, steps: int = 60, horizon: int = 40, batch: int = 16, seed: int = 0) -> Result:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    A /= np.abs(np.linalg.eigvals(A)).max()  # on the edge of stability
    B = rng.standard_normal((n, m))
    plant = torch.from_numpy(A), torch.from_numpy(B)
    riccati = solve_discrete_are(A, B, np.eye(n), np.eye(m))
    layer, best = controller(A, B), controller(A, B)
    best.get_parameter("S").data = torch.from_numpy(np.linalg.cholesky(riccati).T.copy())
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)

    def tested(controller: kr.Layer) -> float:
        """Its cost under noise that no step of learning sees."""
        with torch.no_grad():
            return average_cost(controller, *plant, 2 * horizon, 4 * batch, seed=1_000_000 + seed).item()

    start, costs = tested(layer), []
    for step in trange(steps, desc="lqr", leave=False):
        cost = average_cost(layer, *plant, horizon, batch, seed=step)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    return Result(costs, tested(best), start, tested(layer))


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot(result.costs, color="C0", label="while learning, fresh noise at each step")
    axes.axhline(result.optimal, color="C1", linestyle="--", label="Riccati")
    axes.set(xlabel="step", ylabel="mean stage cost", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/lqr.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
