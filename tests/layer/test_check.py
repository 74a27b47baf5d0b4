"""layer.check: right layers pass with all numbers, and every kind of wrong one is caught."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
import torch

import catalogue
import karush as kr
from karush.backends import layer as layers
from karush.backends.adjoint import KKTSolve
from karush.backends.solution import Solution
from karush.backends.solve import solve

pytest.importorskip("clarabel")
pytestmark = pytest.mark.filterwarnings("ignore:The problem includes expressions")
F = torch.float64


def model(**options: Any) -> tuple[kr.Layer, dict[str, torch.Tensor]]:
    x = kr.Variable(4, name="x")
    u, cap = kr.Parameter(4, name="u"), kr.Parameter(name="cap")
    w = kr.Parameter(4, name="w", nonneg=True)
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - u) + w @ kr.abs(x)), {"cap": kr.sum(x) <= cap, "box": x <= 1})
    given = {"u": [0.3, 1.9, -0.7, 1.2], "cap": 1.1, "w": [0.2, 0.0, 0.1, 0.3]}
    return kr.compile(problem, backend="torch", **options), {name: torch.tensor(value, dtype=F) for name, value in given.items()}


@pytest.mark.parametrize("name", catalogue.CASES)
def test_every_model_of_the_catalogue_passes(name: str) -> None:
    problem = catalogue.CASES[name]()
    batch = catalogue.batch(problem, 2)
    report = kr.compile(problem).check(batch)
    assert report.ok, report
    assert report.worst("residual") <= 1e-8
    assert report.worst("objective") <= 1e-9
    if batch:
        assert report.worst("gradient") <= 1e-5


def test_the_report_says_what_was_compared() -> None:
    layer, given = model()
    report = layer.check(given)
    assert report.ok
    assert report.regular
    assert {line.name for line in report.comparisons if line.what == "gradient"} == {"u", "cap", "w"}
    assert {line.name for line in report.comparisons if line.what == "multiplier"} == {"cap", "box"}
    assert all(line.error is not None for line in report.comparisons)
    assert "check: ok" in str(report)


def test_items_weights_and_dtypes() -> None:
    layer, given = model(weights={"w": [0.2, 0.0, 0.1, 0.3]})
    batch = {"u": torch.stack([given["u"], -given["u"]]).float(), "cap": given["cap"].float()}
    for item in (0, 1, (1,)):
        report = layer.check(batch, item=item)
        assert report.ok, report
        assert "w" in {line.name for line in report.comparisons}
    assert report.index == (1,)
    with pytest.raises(kr.InputError, match="check: no item 2"):
        layer.check(batch, item=2)


def test_failures_must_agree() -> None:
    x, u = kr.Variable(2, name="x"), kr.Parameter(name="u")
    infeasible = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), [x >= 1, x <= u]))
    unbounded = kr.compile(kr.Problem(kr.Minimize(u * kr.sum(x)), [x[0] == x[1]]))
    for layer, status in ((infeasible, kr.Status.PRIMAL_INFEASIBLE), (unbounded, kr.Status.DUAL_INFEASIBLE)):
        report = layer.check(u=0.5)
        assert report.ok
        assert report.status is report.oracle is status
    assert infeasible.check(u=1.0).status is kr.Status.SOLVED
    assert infeasible.check(u=torch.nan).status is kr.Status.INVALID_INPUT


def test_what_is_not_unique_is_not_compared() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    edge = kr.compile(kr.Problem(kr.Minimize(c @ x), {"simplex": kr.sum(x) == 1, "positive": x >= 0}))
    report = edge.check(c=torch.ones(2, dtype=F))
    assert report.ok
    assert not report.regular
    skipped = [line for line in report.comparisons if line.error is None]
    assert {line.what for line in skipped} >= {"solution"}
    assert all(line.note for line in skipped)
    assert report.worst("gradient") < 1e-6  # of the objective


def test_regularized_layers_are_checked_as_they_are() -> None:
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(c @ x), [kr.sum(x) == 1, x >= 0]), regularize=0.5)
    report = layer.check(c=torch.tensor([0.1, 0.2, 0.25], dtype=F))
    assert report.ok, report
    assert report.regular


def test_a_wrong_derivative_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = model()
    right: Callable[..., tuple[torch.Tensor, ...]] = KKTSolve.apply
    monkeypatch.setattr(KKTSolve, "apply", lambda *args: (1.001 * right(*args)[0], *right(*args)[1:]))
    report = layer.check(given)
    assert not report.ok
    assert report.worst("gradient") > 1e-4
    assert report.worst("solution") < 1e-6
    assert "FAILED" in str(report)


def test_a_wrong_solution_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = model()

    def wrong(*args: Any, **kwargs: Any) -> kr.QPSolution:
        found = solve(*args, **kwargs)
        object.__setattr__(found, "x", found.x * (1 + 1e-5))
        return found

    monkeypatch.setattr(layers, "solve", wrong)
    report = layer.check(given)
    assert not report.ok
    assert report.worst("solution") > 1e-6
    assert report.worst("residual") > 1e-8


def test_a_wrong_multiplier_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = model()

    def wrong(*args: Any, **kwargs: Any) -> kr.QPSolution:
        found = solve(*args, **kwargs)
        object.__setattr__(found, "z", -found.z)
        return found

    monkeypatch.setattr(layers, "solve", wrong)
    report = layer.check(given)
    assert not report.ok
    assert report.worst("multiplier") > 0.1


def test_without_clarabel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, given = model()
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "clarabel":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setitem(__import__("sys").modules, "clarabel", None)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(kr.DefinitionError, match=r"clarabel.*\n[\s\S]*karush\[cvxpy\]"):
        layer.check(given)


def test_explanations_belong_to_solutions() -> None:
    layer, given = model()
    solution = layer(given)
    assert isinstance(solution, Solution)
    assert isinstance(solution.explain(), kr.Verdict)
