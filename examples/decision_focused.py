"""Predict, then optimise: learn a predictor for the decisions it leads to, not for its own sake.

The shortest path across a grid is a linear program in the costs of its edges. We predict these costs from features with a linear
model, while they truly are a steep polynomial of them: no linear model is right, so it matters where it is wrong.

    mse       two stages: fit the costs, and let the path come as it may
    regret    the true cost of the chosen path beyond the best one; Q is zero, so the layer is regularized while it learns
    SPO+      a convex bound on the regret (Elmachtoub and Grigas, 2022): needs optimal values only, whose gradients the envelope
              theorem makes exact for linear programs

    python examples/decision_focused.py [pictures/decision_focused.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import trange

import karush as kr

SIDE, FEATURES = 5, 5
EDGES = [(i, j) for i in range(SIDE**2) for j in (i + 1, i + SIDE) if j < SIDE**2 and (j == i + SIDE or j % SIDE)]
flow = np.zeros((SIDE**2, len(EDGES)))
for edge, (tail, head) in enumerate(EDGES):
    flow[tail, edge], flow[head, edge] = 1, -1
ends = np.zeros(SIDE**2)
ends[0], ends[-1] = 1, -1

x = kr.Variable(len(EDGES), nonneg=True, name="x")
c = kr.Parameter(len(EDGES), name="c")
cost = c @ x
layer = kr.compile(kr.Problem(kr.Minimize(cost), {"flow": flow @ x == ends}))


def mse(predicted: Tensor, true: Tensor) -> Tensor:
    return torch.nn.functional.mse_loss(predicted, true)


def regret(predicted: Tensor, true: Tensor, delta: float = 1.0) -> Tensor:
    chosen = layer.solve({c: predicted}, regularize=delta)[x]
    best: Tensor = layer(true).objective
    return (kr.evaluate(cost, {x: chosen, c: true}) - best).mean()


def spo_plus(predicted: Tensor, true: Tensor) -> Tensor:
    best: kr.Solution = layer(true)
    turned: kr.Solution = layer(2 * predicted - true)
    return (kr.evaluate(cost, {x: best[x], c: 2 * predicted}) - turned.objective - best.objective).mean()


def draw_data(count: int, degree: int, rng: np.random.Generator, map_: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features and true costs (Elmachtoub and Grigas, section 6.1), scaled to a mean near one, with half a width of noise."""
    features = rng.standard_normal((count, FEATURES))
    costs = ((features @ map_.T / np.sqrt(FEATURES) + 3) ** degree + 1) / 3.5**degree * rng.uniform(0.5, 1.5, (count, len(EDGES)))
    return torch.from_numpy(features), torch.from_numpy(costs)


@dataclass
class Result:
    regrets: dict[str, float]
    curves: dict[str, list[float]]


def run(train: int = 400, test: int = 500, steps: int = 150, degree: int = 8, seed: int = 0) -> Result:
    rng = np.random.default_rng(seed)
    map_ = rng.binomial(1, 0.5, (len(EDGES), FEATURES)).astype(float)
    features, costs = draw_data(train, degree, rng, map_)
    unseen, truth = draw_data(test, degree, rng, map_)
    best = layer(truth).objective.mean()
    result = Result({}, {})
    for loss in (mse, regret, spo_plus):
        torch.manual_seed(seed)
        predictor = nn.Linear(FEATURES, len(EDGES)).double()
        optimizer = torch.optim.Adam(predictor.parameters(), lr=0.05)
        curve = []
        for step in trange(steps, desc=loss.__name__, leave=False):
            value = loss(predictor(features), costs)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if step % 10 == 9:
                with torch.no_grad():
                    path = layer(predictor(unseen))[x]
                    curve.append(((truth * path).sum(1).mean() / best - 1).item())
        result.regrets[loss.__name__], result.curves[loss.__name__] = curve[-1], curve
    return result


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for name, curve in result.curves.items():
        axes.plot(range(10, 10 * len(curve) + 1, 10), [100 * value for value in curve], ".-", label=name)
    axes.set(xlabel="step", ylabel="regret on unseen data, %", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/decision_focused.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
