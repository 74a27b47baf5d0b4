"""Every example runs, smaller than it is shown, keeps what it claims, and draws its picture."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[2] / "examples"

pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """``load("relu")`` is that example as a module; without data, so that every machine runs the same."""

    def module(name: str) -> ModuleType:
        monkeypatch.setenv("KARUSH_DATA", os.devnull)
        path = FOLDER / f"{name}.py"
        if not path.exists():
            pytest.skip(f"examples/{name}.py is not beside these tests: they run outside the repository")
        spec = importlib.util.spec_from_file_location(f"examples.{name}", path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, loaded)
        spec.loader.exec_module(loaded)
        return loaded

    return module


def drawn(example: ModuleType, result: Any, folder: Path) -> None:
    """The picture can be written, and is not empty."""
    picture = folder / "picture.png"
    example.draw(result).savefig(picture, dpi=40)
    assert picture.stat().st_size > 2000


def test_relu(load: Load, tmp_path: Path) -> None:
    """Value and gradient are torch.relu's, and so is everything that is learned with it."""
    example = load("relu")
    v = torch.linspace(-2, 2, 40, dtype=torch.float64, requires_grad=True)
    ours, theirs = example.relu(40)(v), torch.relu(v)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    (ours_grad,), (theirs_grad,) = (torch.autograd.grad(y.square().sum() + y.sum(), v) for y in (ours, theirs))
    torch.testing.assert_close(ours_grad, theirs_grad, rtol=0, atol=1e-8)
    result = example.run(width=8, steps=40)
    torch.testing.assert_close(result.fits["QP layer"], result.fits["torch.relu"], rtol=0, atol=1e-8)
    drawn(example, result, tmp_path)


def test_stiffness(load: Load, tmp_path: Path) -> None:
    """The blocks reach their targets; at rest, forces balance: k (x_{i+1} - x_i) + contact is the same for all springs."""
    example = load("stiffness")
    result = example.run(steps=200)
    assert result.losses[-1] < 1e-5 * result.losses[0]
    x = torch.cat([torch.zeros(1), result.positions[-2], torch.ones(1)]).diff()  # the last stiffness is one step ahead
    assert (x >= example.WIDTH - 1e-9).all()
    layer = example.equilibrium()
    positions, contact = (value.detach() for value in layer())
    force = layer.weight("k").detach() * positions.diff() - contact
    torch.testing.assert_close(force, force.mean().expand_as(force), rtol=1e-9, atol=1e-9)
    drawn(example, result, tmp_path)


def test_lqr(load: Load, tmp_path: Path) -> None:
    """What was learned costs nearly as little as the Riccati controller, on noise that it never saw."""
    example = load("lqr")
    result = example.run(steps=25, horizon=20)
    assert result.end - result.optimal < 0.05 * (result.start - result.optimal)
    assert result.end > 0.97 * result.optimal  # nothing beats the optimum by more than the noise of a finite simulation
    drawn(example, result, tmp_path)


def test_mpc(load: Load, tmp_path: Path) -> None:
    """The weights and the limit of the expert are found from its inputs alone."""
    example = load("mpc")
    result = example.run(batch=32, evaluations=40)
    for name, truth in example.TRUTH.items():
        torch.testing.assert_close(result.learned[name], truth, rtol=1e-4, atol=1e-4)
    assert (result.paths["after"] - result.paths["expert"]).abs().max() < 1e-3
    assert (result.paths["before"] - result.paths["expert"]).abs().max() > 0.1
    drawn(example, result, tmp_path)


def test_denoising(load: Load, tmp_path: Path) -> None:
    """Gradient descent ends within two percent of an exhaustive search, and far below where it began."""
    example = load("denoising")
    result = example.run(n=40, count=8, steps=40)
    assert result.losses[-1] < 1.02 * min(result.errors)
    assert result.losses[-1] < 0.6 * result.losses[0]
    drawn(example, result, tmp_path)


def test_supply_chain(load: Load, tmp_path: Path) -> None:
    """The learned policy earns at least five percent more on markets that it never saw."""
    example = load("supply_chain")
    result = example.run(steps=12, horizon=10)
    assert result.before < 0
    assert result.after < 1.05 * result.before
    drawn(example, result, tmp_path)


def test_vehicle(load: Load, tmp_path: Path) -> None:
    """Half the cost on roads that it never saw."""
    example = load("vehicle")
    result = example.run(steps=15, seconds=4.0)
    assert result.after < 0.5 * result.before
    drawn(example, result, tmp_path)


def test_markowitz(load: Load, tmp_path: Path) -> None:
    """Tuning improves the cost on unseen draws of the same market, by four percent at least."""
    example = load("markowitz")
    result = example.run(steps=20, months=6)
    assert "made-up" in result.source
    assert result.before < 0
    assert result.after < 1.04 * result.before
    drawn(example, result, tmp_path)


def test_portfolio_vix(load: Load, tmp_path: Path) -> None:
    """Risk aversion rises with volatility, and utility with it, also in the years that were not learned from."""
    example = load("portfolio_vix")
    result = example.run(assets=5, steps=15, weeks=8)
    assert "made-up" in result.source
    assert result.learned[1] > 0.1
    for period, utility in result.after.items():
        assert utility > result.before[period]
    drawn(example, result, tmp_path)


def test_portfolio_vix_on_real_prices(load: Load, data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = data("sp500_prices").parent
    example = load("portfolio_vix")
    monkeypatch.setattr(example, "DATA", folder)
    result = example.run(assets=5, steps=10, weeks=8)
    assert "stocks" in result.source
    assert result.after["first two thirds"] > result.before["first two thirds"]


@pytest.mark.parametrize("seed", [0, 1])
def test_decision_focused(load: Load, tmp_path: Path, seed: int) -> None:
    """Both losses that know the decision beat two-stage regression on unseen data, by a tenth of the regret at least."""
    example = load("decision_focused")
    result = example.run(train=200, test=200, steps=60, seed=seed)
    assert result.regrets["regret"] < 0.9 * result.regrets["mse"]
    assert result.regrets["spo_plus"] < 0.9 * result.regrets["mse"]
    drawn(example, result, tmp_path)


def test_the_surrogate_bounds_the_regret(load: Load) -> None:
    """SPO+ >= regret (Elmachtoub and Grigas, proposition 3), with equality and zero gradient where the prediction is true."""
    example = load("decision_focused")
    generator = torch.Generator().manual_seed(1)
    true = torch.rand(50, len(example.EDGES), generator=generator, dtype=torch.float64) + 0.1
    predicted = torch.randn(true.shape, generator=generator, dtype=torch.float64).abs()

    def excess(cost: Tensor) -> Tensor:
        chosen: Tensor = example.layer(cost)[example.x]
        best: Tensor = example.layer(true).objective
        return (true * chosen).sum(1) - best

    for cost, spare in ((predicted, 1e-9), (true + 0.01 * predicted, 1e-9)):
        each = torch.stack([example.spo_plus(c, t) for c, t in zip(cost, true, strict=True)])
        assert (each >= excess(cost) - spare).all()
    exact = true.clone().requires_grad_()
    loss = example.spo_plus(exact, true)
    assert abs(loss.item()) < 1e-9
    (gradient,) = torch.autograd.grad(loss, exact)
    assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("name", ["relu", "stiffness"])
def test_an_example_is_a_command(name: str, load: Load, tmp_path: Path) -> None:
    load(name)  # skips where there are no examples
    picture = tmp_path / "folder" / "picture.png"
    run = [sys.executable, str(FOLDER / f"{name}.py"), str(picture)]
    told = subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert str(picture) in told
