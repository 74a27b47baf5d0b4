"""Large batches stay within the bytes that docs/layer.md states, and training does not grow."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import karush as kr
from load.memory import resident

F = torch.float64
TESTS = Path(__file__).resolve().parents[1]
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
STRESS = pytest.mark.stress


@ON_LINUX
@pytest.mark.parametrize(
    ("what", "B", "engine"),
    [
        ("layer", 20_000, "cpu"),
        pytest.param("layer", 100_000, "cpu", marks=STRESS),
        pytest.param("shared", 100_000, "cpu", marks=STRESS),
        pytest.param("batched", 100_000, "cpu", marks=STRESS),
        pytest.param("shared", 20_000, "torch", marks=STRESS),
        pytest.param("batched", 20_000, "torch", marks=STRESS),
    ],
)
def test_a_large_batch_keeps_to_its_bytes(what: str, B: int, engine: str) -> None:
    """Forward and backward; three stretches of fifty items are solved again by themselves."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "load.memory", what, str(B), engine]
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert 0.7 * found["bound"] < found["taken"] <= found["bound"], found
    assert found["worst"] <= 1e-12
    assert found["spread"] > 0.01  # the items do differ


def tensors() -> int:
    gc.collect()
    return sum(issubclass(type(held), torch.Tensor) for held in gc.get_objects())


@ON_LINUX
@pytest.mark.parametrize("steps", [60, pytest.param(2000, marks=STRESS)])
def test_training_does_not_grow(steps: int) -> None:
    """Batches of many sizes, items that fail, and now and then a step that raises: no tensor is left behind, no memory either."""
    x, u = kr.Variable(6, name="x"), kr.Parameter(6, name="u")
    cap, w = kr.Parameter(name="cap"), kr.Parameter(6, name="w", nonneg=True)
    problem = kr.Problem(kr.Minimize(kr.sum(kr.multiply(w, kr.square(x - u)))), {"cap": kr.sum(x) <= cap, "low": x >= 0})
    network = torch.nn.Linear(4, 6, dtype=F)
    layer = kr.compile(problem, weights={w: torch.ones(6, dtype=F)}, outputs=[x, kr.objective], on_failure="return")
    optimizer = torch.optim.Adam([*network.parameters(), *layer.parameters()], lr=1e-3)
    drawn = torch.Generator().manual_seed(0)

    def train(i: int) -> None:
        B = 1 + (7 * i) % 23
        caps = torch.rand(B, dtype=F, generator=drawn) - (0.1 if i % 5 == 0 else -0.1)  # some have no solution
        value, cost = layer(u=network(torch.randn(B, 4, dtype=F, generator=drawn)), cap=caps)
        optimizer.zero_grad()
        (value.square().sum() + 0.1 * cost.sum()).backward()
        optimizer.step()
        if i % 7 == 0:
            with pytest.raises(kr.SolveError):
                layer.solve({u: torch.ones(3, 6, dtype=F), cap: -1.0}, on_failure="raise")

    for i in range(max(30, steps // 4)):
        train(i)
    before, start = tensors(), resident()
    for i in range(steps):
        train(i)
    assert tensors() <= before
    if steps >= 1000:
        assert resident() - start < 2**20 * steps / 1000


def test_no_graph_outlives_its_outputs() -> None:
    Q, p = torch.eye(3, dtype=F).expand(5, 3, 3).clone().requires_grad_(), torch.ones(5, 3, dtype=F, requires_grad=True)
    for _ in range(2):  # the first leaves what is checked of such a call, the second the zeros that all solves of this size share
        kr.solve_qp(Q, p, lb=0.0)
    before = tensors()
    solution = kr.solve_qp(Q, p, lb=0.0)
    assert tensors() > before
    del solution
    assert tensors() == before
