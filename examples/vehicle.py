"""Keeping a car on its lane: a one-step quadratic program that learns, by driving, what its next state is worth.

In coordinates along the lane the car has lateral error e, heading error psi and speed v; the road has curvature kappa and wants
speed v_des. The policy chooses acceleration a and steering z, the tangent of the wheel's angle beyond the road's:

    minimize    a² + z² + |S y|² + q'y    subject to    y = next (e, psi, v - v_des),   |a| <= 2,   |z| <= 0.6

The prediction is nonlinear in the state and affine in (a, z): the sines and quotients are coefficients, written as they are.

    python examples/vehicle.py [pictures/vehicle.png]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import trange

import karush as kr

H, LENGTH = 0.2, 2.8  # seconds, metres between the axles


def policy() -> kr.Layer:
    """From (e, psi, v, v_des, kappa) to (a, z); S and q are weights."""
    state = kr.Parameter(5, name="state")
    S, q = kr.Parameter((3, 3), name="S"), kr.Parameter(3, name="q")
    u = kr.Variable(2, name="u", bounds=[(-2.0, -0.6), (2.0, 0.6)])
    a, z = u
    e, psi, v, v_des, kappa = state
    turn = kappa + z / LENGTH - kappa * kr.cos(psi) / (1 - e * kappa)
    y = kr.hstack([e + H * v * kr.sin(psi), psi + H * v * turn, v + H * a - v_des])
    cost = kr.sum_squares(u) + kr.sum_squares(S @ y) + q @ y
    start = {S: torch.eye(3, dtype=torch.float64), q: torch.zeros(3, dtype=torch.float64)}
    return kr.compile(kr.Problem(kr.Minimize(cost)), outputs=u, weights=start)


def drive(layer: kr.Layer, seconds: float, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mean cost of a step on random roads, and states (steps, batch, 5)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(scale: float) -> Tensor:
        return scale * torch.randn(batch, generator=generator, dtype=torch.float64)

    def change(value: Tensor, new: Tensor, probability: float) -> Tensor:
        return torch.where(torch.rand(batch, generator=generator) < probability, new, value)

    e, psi, v, v_des, kappa = normal(0.5), normal(0.1), 4 + normal(0.3), 4.5 + normal(0.5), normal(0.05)
    total, states = torch.zeros((), dtype=torch.float64), []
    for _ in range(int(seconds / H)):
        state = torch.stack([e, psi, v, v_des, kappa], 1)
        a, z = layer(state).unbind(1)
        total = total + ((v - v_des) ** 2 + e**2 + psi**2 + a**2 + z**2).mean()
        states.append(state.detach())
        turn = kappa + z / LENGTH - kappa / (1 - e * kappa) * psi.cos()
        e, psi, v = e + H * v * psi.sin() + normal(0.05), psi + H * v * turn + normal(0.01), v + H * a + normal(0.05)
        v_des, kappa = change(v_des, 4.5 + normal(0.7), 0.02), change(kappa, normal(0.1), 0.05)
    return total / len(states), torch.stack(states)


def tested(layer: kr.Layer, seconds: float, seed: int) -> tuple[float, Tensor]:
    with torch.no_grad():
        cost, states = drive(layer, seconds, 100, seed)
    return cost.item(), states


@dataclass
class Result:
    costs: list[float]
    before: float
    after: float
    errors: dict[str, Tensor]


def run(steps: int = 60, seconds: float = 8.0, batch: int = 16, seed: int = 0) -> Result:
    layer = policy()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    before, untuned = tested(layer, 2 * seconds, 1_000_000 + seed)
    costs = []
    for step in trange(steps, desc="vehicle", leave=False):
        cost, _ = drive(layer, seconds, batch, seed=step)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    after, tuned = tested(layer, 2 * seconds, 1_000_000 + seed)
    return Result(costs, before, after, {"before": untuned[..., 0], "after": tuned[..., 0]})


def draw(result: Result) -> Figure:
    figure = Figure(figsize=(9, 3), layout="constrained")
    first, *others = figure.subplots(1, 3)
    first.plot(result.costs)
    first.set(xlabel="step", title="cost on fresh roads", yscale="log")
    largest = float(max(errors.abs().max() for errors in result.errors.values()))
    for axes, (name, errors) in zip(others, result.errors.items(), strict=True):
        axes.plot(H * torch.arange(len(errors)), errors[:, :30], color="C0", linewidth=0.6, alpha=0.6)
        axes.set(xlabel="seconds", title=f"metres off the lane, {name}", ylim=(-largest, largest))
    return figure


if __name__ == "__main__":
    path = Path(sys.argv[1] if sys.argv[1:] else "pictures/vehicle.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(run()).savefig(path, dpi=110)
    print(f"picture: {path}")
