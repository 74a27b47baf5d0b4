"""Running a small supply chain with a one-step optimiser that learned what stock is worth.

Two suppliers with random prices, four warehouses, two shops with random demand, eight links. Every day the policy decides what to
ship, u, knowing stock h, prices p and demand d, and guesses the value of tomorrow's stock by a quadratic:

    minimize    [p; 0.05; -revenue]'u + |S h⁺|² + q'h⁺
    subject to  h⁺ = h + (in - out) u,   0 <= h⁺ <= h_max,   0 <= u <= u_max,   out u <= h,   u_sold <= d

S and q are learned from the simulated cost of shipping and storage.

    python examples/supply_chain.py [pictures/supply_chain.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import trange

import karush as kr

# Links: two from the suppliers, four between warehouses (0 -> 2, 0 -> 3, 1 -> 3, 3 -> 2), two to the shops.
INTO = np.array([[1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0]], float)
OUT = np.array([[0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 0, 1]], float)
NET = torch.from_numpy(INTO - OUT)
SHIPPING, REVENUE, H_MAX, U_MAX, STORAGE = 0.05, 1.3, 3.0, 2.0, 0.01


def policy() -> kr.Layer:
    """From stock, prices and demand to shipments; S and q are weights."""
    u = kr.Variable(8, name="u", nonneg=True)
    h, p, d = kr.Parameter(4, name="h"), kr.Parameter(2, name="p"), kr.Parameter(2, name="d")
    S, q = kr.Parameter((4, 4), name="S"), kr.Parameter(4, name="q")
    tomorrow = h + (INTO - OUT) @ u
    cost = p @ u[:2] + SHIPPING * kr.sum(u[2:6]) - REVENUE * kr.sum(u[6:]) + kr.sum_squares(S @ tomorrow) + q @ tomorrow
    rows = {"room": tomorrow <= H_MAX, "stock": OUT @ u <= h, "links": u <= U_MAX, "demand": u[6:] <= d}
    start = {S: torch.eye(4, dtype=torch.float64), q: torch.full((4,), -H_MAX, dtype=torch.float64)}
    return kr.compile(kr.Problem(kr.Minimize(cost), rows), outputs=u, weights=start)


def simulate(layer: kr.Layer, horizon: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mean cost of a day, and mean stock (horizon, 4)."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.tensor([0.0, 0.1, 0.0, 0.4], dtype=torch.float64)
    h = H_MAX * torch.rand(batch, 4, generator=generator, dtype=torch.float64)
    total, stock = torch.zeros((), dtype=torch.float64), []
    for _ in range(horizon):
        price, demand = (mean + 0.2 * torch.randn(batch, 4, generator=generator, dtype=torch.float64)).exp().split(2, 1)
        u = layer(h=h.clamp(min=0), p=price, d=demand)  # what was emptied may be -1e-17
        trade = (price * u[:, :2]).sum(1) + SHIPPING * u[:, 2:6].sum(1) - REVENUE * u[:, 6:].sum(1)
        total = total + (trade + STORAGE * (h + h**2).sum(1)).mean()
        h = h + u @ NET.T
        stock.append(h.detach().mean(0))
    return total / horizon, torch.stack(stock)


@dataclass
class Result:
    costs: list[float]
    before: float
    after: float
    stock: dict[str, Tensor]


def run(steps: int = 60, horizon: int = 20, batch: int = 8, seed: int = 0) -> Result:
    layer = policy()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    with torch.no_grad():
        before, untuned = simulate(layer, horizon, 64, seed=1_000_000 + seed)
    costs = []
    for step in trange(steps, desc="supply chain", leave=False):
        cost, _ = simulate(layer, horizon, batch, seed=step)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    with torch.no_grad():
        after, tuned = simulate(layer, horizon, 64, seed=1_000_000 + seed)
    return Result(costs, before.item(), after.item(), {"before": untuned, "after": tuned})


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    first, *others = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    first.plot(result.costs, color="0.7", label="while learning, fresh markets")
    for (name, value), color in zip({"before": result.before, "after": result.after}.items(), ("C1", "C0"), strict=True):
        first.axhline(value, color=color, linestyle="--", label=f"{name}, unseen markets")
    first.set(xlabel="step", title="cost of a day")
    first.legend(frameon=False, fontsize=8)
    for axes, (name, stock) in zip(others, result.stock.items(), strict=True):
        axes.plot(stock, label=[f"warehouse {i + 1}" for i in range(4)])
        axes.set(xlabel="day", title=f"stock {name} learning", ylim=(0, H_MAX))
    others[0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/supply_chain.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
