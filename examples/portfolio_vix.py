"""A portfolio that reads the fear gauge: risk aversion as a learned function of the market's volatility.

Each week the policy sees its drifted weights h and v, the market's volatility of the last month (standing in for the VIX, in
units of its own history), and trades to

    maximize    mu'w - exp(a + b v) |F w|² - kappa |w - h|_1 - short sum(max(-w, 0))
    subject to  sum(w) = 1,   |w|_1 <= 1.5,   |w_i| <= 0.5

The coefficient exp(a + b v) is written in the model as it is. a and b are learned on the first two thirds of the history, for a
utility in which losses count twice; the last third is only looked at.

    python examples/portfolio_vix.py [pictures/portfolio_vix.png]
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
KAPPA, SHORT, WEEK = 0.0005, 0.0002, 5


def market(assets: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns of weeks, standardized log volatility of the 21 days before each, and whose: stocks, or made up where no data are."""
    file, source = DATA / "sp500_prices" / "sp500_prices.npz", f"{assets} stocks, 1990 to 2022"
    if file.is_file():
        price = np.load(file, allow_pickle=False)["price"][:, :assets].astype(float)
        daily = price[1:] / price[:-1]
    else:
        rng, source = np.random.default_rng(0), "a made-up market, calm and stormy"
        storm = np.repeat(rng.random(200) < 0.3, 40)[:, None]
        all_together = np.where(storm, -0.0005, 0.001) + np.where(storm, 0.02, 0.007) * rng.standard_normal((8000, 1))
        daily = 1 + all_together * np.linspace(0.5, 1.5, assets) + 0.01 * rng.standard_normal((8000, assets))
    days = range(21, len(daily) - WEEK, WEEK)
    v = np.log([daily[day - 21 : day].mean(1).std() for day in days])
    return np.stack([daily[day : day + WEEK].prod(0) - 1 for day in days]), (v - v.mean()) / v.std(), source


def policy(past: np.ndarray) -> kr.Layer:
    """From weights h and volatility v to traded weights; a and b are weights of the layer."""
    n = past.shape[1]
    w, h, v = kr.Variable(n, name="w"), kr.Parameter(n, name="h"), kr.Parameter(name="v")
    a, b = kr.Parameter(name="a"), kr.Parameter(name="b")
    risk = kr.exp(a + b * v) * kr.sum_squares(np.linalg.cholesky(np.cov(past.T)).T @ w)
    gain = past.mean(0) @ w - KAPPA * kr.norm1(w - h) - SHORT * kr.sum(kr.neg(w))
    rows = {"budget": kr.sum(w) == 1, "leverage": kr.norm1(w) <= 1.5, "position": kr.abs(w) <= 0.5}
    start = {a: torch.tensor(1.0, dtype=torch.float64), b: torch.tensor(0.0, dtype=torch.float64)}
    return kr.compile(kr.Problem(kr.Maximize(gain - risk), rows), outputs=w, weights=start)


def trade(layer: kr.Layer, returns: Tensor, v: Tensor, starts: Tensor, weeks: int) -> tuple[Tensor, Tensor]:
    """Mean utility of weekly returns in percent, losses twice, on windows of history; and the returns (weeks, windows)."""
    h = torch.full((len(starts), returns.shape[1]), 1 / returns.shape[1], dtype=torch.float64)
    earned = []
    for week in range(weeks):
        w = layer(h=h, v=v[starts + week])
        grown = w * (1 + returns[starts + week])
        earned.append(100 * (grown.sum(1) - 1 - KAPPA * (w - h).abs().sum(1) - SHORT * w.clamp(max=0).neg().sum(1)))
        h = grown / grown.sum(1, keepdim=True)
    r = torch.stack(earned)
    return torch.minimum(r, 2 * r).mean(), r.detach()


@dataclass
class Result:
    source: str
    learned: tuple[float, float]
    before: dict[str, float]
    after: dict[str, float]
    wealth: dict[str, Tensor]


def run(assets: int = 10, steps: int = 40, weeks: int = 13, batch: int = 48, seed: int = 0) -> Result:
    table, volatility, source = market(assets)
    split, end = 2 * len(table) // 3, len(table) - weeks
    returns, v, layer = torch.from_numpy(table), torch.from_numpy(volatility), policy(table[:split])
    periods = {"first two thirds": torch.arange(0, split - weeks, weeks), "last third": torch.arange(split, end, weeks)}

    def score() -> tuple[dict[str, float], Tensor]:
        with torch.no_grad():
            traded = {name: trade(layer, returns, v, starts, weeks) for name, starts in periods.items()}
        wealth = torch.cat([1 + r.T.reshape(-1) / 100 for _, r in traded.values()]).cumprod(0)
        return {name: utility.item() for name, (utility, _) in traded.items()}, wealth

    before, untuned = score()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in trange(steps, desc="portfolio", leave=False):
        utility, _ = trade(layer, returns, v, torch.randint(split - weeks, (batch,), generator=generator), weeks)
        optimizer.zero_grad()
        (-utility).backward()
        optimizer.step()
    after, tuned = score()
    return Result(source, (layer.weight("a").item(), layer.weight("b").item()), before, after, {"before": untuned, "after": tuned})


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.6])
    v = torch.linspace(-2, 3, 50)
    a, b = result.learned
    left.semilogy(v, (a + b * v).exp())
    left.set(xlabel="volatility (standardized)", title="learned risk aversion")
    for (name, wealth), color in zip(result.wealth.items(), ("C1", "C0"), strict=True):
        right.semilogy(wealth, color=color, label=name)
    right.axvline(2 / 3 * len(result.wealth["after"]), color="0.6", linestyle=":")
    right.set(xlabel="week; learned left of the dotted line", title=f"wealth ({result.source})")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/portfolio_vix.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
