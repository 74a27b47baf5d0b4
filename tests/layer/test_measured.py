"""``layer.explain(**inputs)``: the clock runs where the work is, and every tip is true of the layer that it is given for."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends import measure
from karush.backends.measure import STAGES, Measured

F = torch.float64
NAP = 0.02


@pytest.fixture(autouse=True)
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "PATIENCE_S", 0.0)


def portfolio(**options: Any) -> kr.Layer:
    x, L = kr.Variable(4, name="x"), kr.Parameter((4, 2), name="L")
    gamma, mu = kr.Parameter(nonneg=True, name="gamma"), kr.Parameter(4, name="mu")
    cost = gamma * kr.sum_squares(L.T @ x) + kr.sum_squares(x) - mu @ x
    return kr.compile(kr.Problem(kr.Minimize(cost), {"budget": kr.sum(x) == 1, "long only": x >= 0}), **options)


L, MU = torch.linspace(-1, 1, 8, dtype=F).reshape(4, 2), torch.linspace(0, 1, 12, dtype=F).reshape(3, 4)


def told(layer: kr.Layer, *args: Any, **inputs: Any) -> Measured:
    found = layer.explain(*args, **inputs).measured
    assert found is not None
    return found


def titles(found: Measured) -> list[str]:
    return [tip.title for tip in found.tips]


def test_without_inputs_nothing_is_measured() -> None:
    explanation = portfolio().explain()
    assert explanation.measured is None
    assert "Measured" not in str(explanation)


def test_all_stages_and_their_shares() -> None:
    found = told(portfolio(), L=L, gamma=0.5, mu=MU)
    assert tuple(stage.stage for stage in found.stages) == STAGES
    assert sum(stage.share for stage in found.stages) == pytest.approx(1)
    assert all(stage.ms > 0 for stage in found.stages)
    assert found.what.startswith("3 items, solved in float64 on cpu")
    assert "backward into L and mu" in found.what


class Slow(torch.autograd.Function):
    """Twice the argument; both ways take a nap."""

    @staticmethod
    def forward(context: Any, t: Tensor) -> Tensor:
        time.sleep(NAP)
        return 2 * t

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Tensor:
        time.sleep(3 * NAP)
        return 2 * grads[0]


def slowly(t: Tensor) -> Tensor:
    doubled: Tensor = Slow.apply(t)  # type: ignore[no-untyped-call]  # torch's
    return doubled


def test_time_is_charged_to_the_stage_that_took_it() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - kr.function(slowly, c, shape=2, batched=True)))))
    stages = {stage.stage: stage.ms for stage in told(layer, torch.ones(3, 2, dtype=F)).stages}
    assert stages["derived parameters"] >= 1e3 * NAP
    assert stages["backward"] >= 3e3 * NAP
    assert max(stages["check inputs"], stages["assemble"], stages["solution"]) < 1e3 * NAP


def test_backward_goes_where_gradients_are_asked_for() -> None:
    layer = portfolio()
    assert "backward into mu;" in told(layer, L=L, gamma=0.5, mu=MU.clone().requires_grad_()).what
    trained = portfolio(weights={"L": L})
    assert "backward into L;" in told(trained, gamma=0.5, mu=MU).what
    assert trained.get_parameter("L").grad is None  # nothing is left behind
    assert "backward into mu;" in told(portfolio(), L=L.tolist(), gamma=0.5, mu=MU.numpy()).what
    constant = portfolio().bind(L=L, gamma=0.5, mu=MU[0])
    assert [stage.stage for stage in told(constant, {}).stages] == list(STAGES[:-1])


def test_it_prints_and_shows() -> None:
    explanation = portfolio().explain(L=L.float(), gamma=0.5, mu=MU)
    assert explanation.measured is not None
    for text in (str(explanation), explanation._repr_html_()):
        assert "Measured: 3 items" in text
        assert "derived parameters" in text
        assert "Inputs are converted." in text


def test_a_call_that_fails_fails_here_too() -> None:
    with pytest.raises(kr.InputError, match="gama"):
        portfolio().explain(gama=1.0)
    x, c = kr.Variable(name="x", nonneg=True), kr.Parameter(name="c")
    with pytest.raises(kr.SolveError, match="infeasible"):
        kr.compile(kr.Problem(kr.Minimize(kr.square(x)), [x <= c])).explain(-1.0)


# Tips


def test_nothing_to_say() -> None:
    """A batch of double precision with gradients in everything."""
    leaves = {"L": L.expand(3, 4, 2).clone(), "gamma": torch.full((3,), 0.5, dtype=F), "mu": MU}
    assert titles(told(portfolio(), {name: value.requires_grad_() for name, value in leaves.items()})) == []


def test_what_does_not_change_can_be_bound() -> None:
    layer = portfolio()
    (tip,) = told(layer, L=L, gamma=0.5, mu=MU).tips
    assert tip.title == "Bind what does not change."
    assert "layer.bind(L=..., gamma=...)" in tip.text
    assert "What Q depends on" in tip.text
    assert not layer._qp.Q.fixed or layer._qp.grams
    bound = layer.bind(L=L, gamma=0.5)  # what the tip says, and what it says of it
    assert bound._qp.Q.fixed
    assert not bound._qp.grams
    torch.testing.assert_close(bound(MU)["x"], layer(L=L, gamma=0.5, mu=MU)["x"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("inputs", [{"L": L.clone().requires_grad_()}, {"gamma": torch.full((3,), 0.5, dtype=F)}])
def test_what_is_trained_or_differs_cannot(inputs: dict[str, Tensor]) -> None:
    assert "Bind what does not change." not in titles(told(portfolio(), {"L": L, "gamma": 0.5, "mu": MU} | inputs))


def test_one_item_expanded_to_a_batch() -> None:
    found = told(portfolio(), L=L.expand(3, 4, 2), gamma=torch.tensor([1.0, 2.0, 3.0], dtype=F), mu=MU)
    assert titles(found) == ["Pass what is shared without a batch."]
    assert "L." in found.tips[0].text


def test_the_torch_engine_and_why() -> None:
    inputs = {"L": L.expand(3, 4, 2).clone().requires_grad_(), "gamma": torch.ones(3, dtype=F), "mu": MU}
    for options, why in (({"backend": "torch"}, 'backend="torch"'), ({"smoothing": 0.1}, "smoothing")):
        (tip,) = told(portfolio(**options), inputs).tips
        assert tip.title == "The torch engine serves this."
        assert why in tip.text


def test_weights_that_nobody_trains() -> None:
    layer = portfolio(weights={"L": L, "gamma": 0.5})
    tip = "Bind the weights for deployment."
    assert tip not in titles(told(layer, MU))
    assert tip in titles(told(layer.eval(), MU))
    with torch.no_grad():
        assert tip in titles(told(layer.train(), MU))
    assert tip not in titles(told(layer.bind(), MU))


def test_a_batch_of_one_is_compared_with_one_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is measured: where several items take as long as one after the other, nothing is said."""
    found = told(portfolio(), L=L.clone().requires_grad_(), gamma=0.5, mu=MU[0])
    assert titles(found) == ["A batch of one."]
    assert "32 such items" in found.tips[0].text
    layer = portfolio()
    call = measure.Call(
        layer._timed, layer._bind({"L": L, "gamma": 0.5, "mu": MU[0]})[0], {"mu": MU[0]}, {}, layer._qp, layer._options, True
    )
    monkeypatch.setattr(measure, "_timed", lambda call, given: {"solve": 20.0})
    assert measure._single(call, 1, {"solve": 1.0}) is None
    assert "2.0 times as long" in str(measure._single(call, 1, {"solve": 10.0}))


def test_inputs_in_another_precision() -> None:
    inputs = {"L": L.expand(3, 4, 2).clone().requires_grad_(), "gamma": torch.ones(3, dtype=F), "mu": MU.float()}
    (tip,) = told(portfolio(), inputs).tips
    assert tip.title == "Inputs are converted."
    assert tip.text.startswith("mu: float32, made float64")


def test_at_most_three() -> None:
    layer = portfolio(weights={"gamma": 1.0}, backend="torch").eval()
    found = told(layer, L=L.float(), mu=MU.float()[:1].expand(3, 4))
    assert titles(found) == [
        "Pass what is shared without a batch.",
        "The torch engine serves this.",
        "Bind the weights for deployment.",
    ]
