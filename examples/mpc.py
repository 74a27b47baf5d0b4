"""Reading a controller's mind: model-predictive control with limits, learned from what an expert does.

From a state x0 both expert and learner plan T steps of a double integrator ahead and apply the first input:

    minimize    sum_t q'(x_t)² + r u_t²  + 10 q'(x_T)²
    subject to  x_{t+1} = A x_t + B u_t,   x_0 = x0,   |u_t| <= u_max

The learner knows neither the weights q nor the limit u_max; it sees states and first inputs only. Only the ratios of weights
matter, so r is fixed.

    python examples/mpc.py [pictures/mpc.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import karush as kr

A, B = np.array([[1.0, 0.2], [0.0, 1.0]]), np.array([[0.02], [0.2]])
TRUTH = {"q": torch.tensor([2.0, 0.3], dtype=torch.float64), "u_max": torch.tensor(0.8, dtype=torch.float64)}
GUESS = {"q": torch.ones(2, dtype=torch.float64), "u_max": torch.tensor(2.0, dtype=torch.float64)}


def controller(horizon: int, values: dict[str, Tensor]) -> kr.Layer:
    """From a batch of states to first inputs; q and u_max are weights."""
    X = kr.Variable((horizon + 1, 2), name="X")
    x0 = kr.Parameter(2, name="x0")
    q = kr.Parameter(2, nonneg=True, name="q")
    u_max = kr.Parameter(nonneg=True, name="u_max")
    U = kr.Variable((horizon, 1), name="U", bounds=[-u_max, u_max])
    cost = kr.sum(X**2 @ q) + 0.1 * kr.sum_squares(U) + 10 * X[-1] ** 2 @ q
    rows = {"start": X[0] == x0, "dynamics": X[1:] == X[:-1] @ A.T + U @ B.T}
    return kr.compile(kr.Problem(kr.Minimize(cost), rows), outputs=U[0], weights=values)


@dataclass
class Result:
    losses: list[float]
    learned: dict[str, Tensor]
    paths: dict[str, Tensor]


def drive(layer: kr.Layer, steps: int = 40) -> Tensor:
    """States (steps, 2) of the closed loop from rest at distance 2."""
    x = torch.tensor([2.0, 0.0], dtype=torch.float64)
    states = [x]
    with torch.no_grad():
        for _ in range(steps):
            x = torch.from_numpy(A) @ x + torch.from_numpy(B) @ layer(x)
            states.append(x)
    return torch.stack(states)


def run(horizon: int = 10, batch: int = 64, evaluations: int = 60, seed: int = 0) -> Result:
    states = torch.randn(batch, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expert, learner = controller(horizon, TRUTH), controller(horizon, GUESS)
    paths = {"expert": drive(expert), "before": drive(learner)}
    with torch.no_grad():
        observed = expert(states)
    optimizer = torch.optim.LBFGS(learner.parameters(), max_eval=evaluations, line_search_fn="strong_wolfe", tolerance_change=0)
    losses: list[float] = []

    def imitation() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (learner(states) - observed).square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(imitation)
    return Result(losses, {name: learner.weight(name).detach() for name in TRUTH}, paths | {"after": drive(learner)})


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles: dict[str, Any] = {
        "expert": {"color": "0.7", "linewidth": 5},
        "before": {"color": "C1", "linestyle": "--"},
        "after": {"color": "C0"},
    }
    for name, path in result.paths.items():
        left.plot(path[:, 0], path[:, 1], label=name, **styles[name])
    left.set(xlabel="position", ylabel="velocity", title="closed loop")
    left.legend(frameon=False)
    right.semilogy(result.losses)
    right.set(xlabel="evaluation of L-BFGS", title="squared error of the imitated input")
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/mpc.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
