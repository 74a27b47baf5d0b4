"""Markowitz, tuned: a portfolio policy whose forecasts are learned from the utility that its trades earn.

Every month the policy sees the weights h that the market left it, and trades to

    minimize    |S w|² - mu'w + kappa |w - h|_1 + short sum(max(-w, 0))
    subject to  sum(w) = 1,   |w|_1 <= 1.5

It starts from the sample mean and covariance and is tuned, through simulated years, for a utility that counts losses twice.

    python examples/markowitz.py [pictures/markowitz.png]
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import trange

import karush as kr

DATA = Path(os.environ.get("KARUSH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
KAPPA, SHORT, LEVERAGE, CAUTION = 0.002, 0.002, 1.5, 15.0


def monthly_returns(assets: int) -> tuple[np.ndarray, str]:
    """Gross returns (months, assets) of stocks, or of a made-up market where no data are at hand; and which of them."""
    file = DATA / "sp500_prices" / "sp500_prices.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as data:
            price = data["price"][::21, :assets].astype(float)
        return price[1:] / price[:-1], "20 stocks, 1990 to 2022"
    rng = np.random.default_rng(0)
    market, own = rng.standard_normal((400, 1)), rng.standard_normal((400, assets))
    spread = np.linspace(0.5, 1.5, assets)
    return np.exp(0.01 * spread[::-1] + 0.04 * market * spread + 0.03 * own), "a made-up market"


def policy(returns: np.ndarray) -> kr.Layer:
    """From current to traded weights; S and mu are weights of the layer."""
    n = returns.shape[1]
    w, h = kr.Variable(n, name="w"), kr.Parameter(n, name="h")
    S, mu = kr.Parameter((n, n), name="S"), kr.Parameter(n, name="mu")
    cost = kr.sum_squares(S @ w) - mu @ w + KAPPA * kr.norm1(w - h) + SHORT * kr.sum(kr.neg(w))
    problem = kr.Problem(kr.Minimize(cost), {"budget": kr.sum(w) == 1, "leverage": kr.norm1(w) <= LEVERAGE})
    root = np.linalg.cholesky(CAUTION * np.cov(returns.T)).T
    start = {S: torch.from_numpy(root.copy()), mu: torch.from_numpy(returns.mean(0) - 1)}
    return kr.compile(problem, outputs=w, weights=start)


def simulate(layer: kr.Layer, returns: Tensor, months: int, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mean of the cost, minus the utility min(r, 2 r) of monthly returns r in percent; and wealth (months, batch)."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.full((batch, returns.shape[1]), 1 / returns.shape[1], dtype=torch.float64)
    earned = []
    for _ in range(months):
        w = layer(h)
        grown = w * returns[torch.randint(len(returns), (batch,), generator=generator)]
        earned.append(100 * (grown.sum(1) - 1 - KAPPA * (w - h).abs().sum(1) - SHORT * w.clamp(max=0).neg().sum(1)))
        h = grown / grown.sum(1, keepdim=True)
    r = torch.stack(earned)
    return -torch.minimum(r, 2 * r).mean(), (1 + r.detach() / 100).cumprod(0)


@dataclass
class Result:
    costs: list[float]
    before: float
    after: float
    wealth: dict[str, Tensor]
    source: str


def run(assets: int = 8, steps: int = 60, months: int = 12, batch: int = 64, seed: int = 0) -> Result:
    table, source = monthly_returns(assets)
    returns, layer = torch.from_numpy(table), policy(table)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.001)
    with torch.no_grad():
        before, wealth = simulate(layer, returns, 2 * months, 400, seed=1_000_000 + seed)
    costs = []
    for step in trange(steps, desc="markowitz", leave=False):
        cost, _ = simulate(layer, returns, months, batch, seed=step)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    with torch.no_grad():
        after, tuned = simulate(layer, returns, 2 * months, 400, seed=1_000_000 + seed)
    return Result(costs, before.item(), after.item(), {"before": wealth, "after": tuned}, source)


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(result.costs, color="0.7", label="while learning, fresh months")
    for (name, value), color in zip({"before": result.before, "after": result.after}.items(), ("C1", "C0"), strict=True):
        left.axhline(value, color=color, linestyle="--", label=f"{name}, unseen draws")
        levels = torch.quantile(result.wealth[name], torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64), dim=1)
        right.plot(levels[1], color=color, label=name)
        right.fill_between(range(levels.shape[1]), levels[0], levels[2], color=color, alpha=0.2, linewidth=0)
    left.set(xlabel="step", title="cost")
    right.set(xlabel="month", title=f"wealth, 5 to 95 % ({result.source})")
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/markowitz.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
