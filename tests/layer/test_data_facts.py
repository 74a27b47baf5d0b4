"""What is said of data: attributes of parameters, declared values, and constraints that no variable takes part in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import karush as kr

GOOD, BAD = kr.Status.SOLVED, kr.Status.INVALID_INPUT
MASK = np.array([[True, False], [False, True]])


def layer_of(p: kr.Parameter, *rows: Any, **options: Any) -> kr.Layer:
    """min |x|² with x == p, entry by entry."""
    x = kr.Variable(p.shape, name="x")
    return kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), [x == p, *rows]), **options)


# Attributes: of each item of each call


ATTRIBUTES: list[tuple[Any, dict[str, Any], list[Any], list[Any]]] = [
    (2, {"nonneg": True}, [0.0, 1.0], [0.0, -1e-9]),
    (2, {"nonpos": True}, [0.0, -1.0], [0.0, 1e-9]),
    (2, {"pos": True}, [1e-9, 1.0], [0.0, 1.0]),
    (2, {"neg": True}, [-1e-9, -1.0], [0.0, -1.0]),
    (2, {"boolean": True}, [0.0, 1.0], [0.0, 0.999]),
    (2, {"bounds": [-1, [0.5, np.inf]]}, [0.5, 9.0], [0.6, 0.0]),
    (2, {"bounds": [None, 1]}, [-5.0, 1.0], [0.0, 1.1]),
    ((2, 2), {"symmetric": True}, [[1.0, 2], [2, 3]], [[1.0, 2], [2.1, 3]]),
    ((2, 2), {"diag": True}, [[1.0, 0], [0, 3]], [[1.0, 0], [1e-9, 3]]),
    ((2, 2), {"sparsity": np.nonzero(MASK)}, [[1.0, 0], [0, 3]], [[1.0, 1e-9], [0, 3]]),
    ((2, 2), {"sparsity": MASK}, [[0.0, 0], [0, 3]], [[1.0, 0], [1, 3]]),
    ((2, 2), {"PSD": True, "nonneg": True}, [[1.0, 1], [1, 1]], [[2.0, -1], [-1, 2]]),
    ((2, 2), {"NSD": True}, [[-1.0, 1], [1, -1]], [[1.0, 0], [0, -1]]),
]


@pytest.mark.parametrize(("shape", "attributes", "good", "bad"), ATTRIBUTES, ids=lambda value: str(value)[:30])
def test_values_are_checked_per_item(shape: Any, attributes: dict[str, Any], good: Any, bad: Any) -> None:
    p = kr.Parameter(shape, name="p", **attributes)
    values = torch.tensor([good, bad, good], dtype=torch.float64, requires_grad=True)
    layer = layer_of(p)
    solution = layer.solve({"p": values}, on_failure="return")
    code = kr.Status.NONCONVEX if "NSD" in attributes else BAD
    assert solution.status.tolist() == [GOOD, code, GOOD]
    solution["x"].sum().backward()
    assert values.grad is not None
    assert bool((values.grad[1] == 0).all())
    torch.testing.assert_close(values.grad[0], torch.ones_like(values[0]))
    with pytest.raises(kr.SolveError, match=f"p is not .*{next(iter(attributes))}"):
        layer(values)
    kr.assume(kr.Parameter(shape), **attributes)  # an assumption states the same


@pytest.mark.parametrize(
    ("attributes", "raw", "value"),
    [
        ({"pos": True}, [-1.0, 2.0], [1.0, 2.0]),
        ({"neg": True}, [-1.0, 2.0], [-1.0, -2.0]),
        ({"bounds": [-1, 1]}, [1.5, -4.25], [0.5, -0.25]),
        ({"bounds": [None, 1]}, [1.5, -4.0], [0.5, -4.0]),
        ({"bounds": [0, [1, np.inf]]}, [-0.25, -3.0], [0.25, 3.0]),
        ({"bounds": [2, 2]}, [1.0, 3.0], [2.0, 2.0]),
        ({"sparsity": np.array([True, False])}, [1.0, 2.0], [1.0, 0.0]),
    ],
)
def test_weights_keep_their_attributes_while_they_are_trained(attributes: Any, raw: list[float], value: list[float]) -> None:
    p = kr.Parameter(2, name="p", **attributes)
    layer = layer_of(p, weights={p: value})
    assert layer.weight("p").tolist() == value
    with torch.no_grad():
        layer.get_parameter("p").copy_(torch.tensor(raw))
    torch.testing.assert_close(layer.weight("p"), torch.tensor(value))
    torch.testing.assert_close(layer()["x"], torch.tensor(value))


def test_a_boolean_cannot_be_trained() -> None:
    p = kr.Parameter(2, name="p", boolean=True)
    with pytest.raises(kr.InputError, match="boolean"):
        layer_of(p, weights={p: [0.0, 1.0]})


# Declared values


def test_a_declared_value_is_used_unless_another_is_passed() -> None:
    p, q = kr.Parameter(2, name="p", value=[1.0, 2.0]), kr.Parameter(2, name="q")
    x = kr.Variable(2, name="x")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - p - q))))
    zeros = torch.zeros(3, 2, dtype=torch.float32)
    first = layer(zeros)  # q comes first: what has a value stands last
    assert first["x"].dtype == torch.float32
    torch.testing.assert_close(first["x"], torch.tensor([[1.0, 2.0]]).expand(3, 2))
    torch.testing.assert_close(layer(q=zeros, p=torch.ones(2))["x"], torch.ones(3, 2))
    torch.testing.assert_close(layer({p: torch.ones(2), "q": zeros})["x"], torch.ones(3, 2))
    assert [name for name, _ in layer.named_parameters()] == []
    torch.testing.assert_close(kr.evaluate(p + q, {q: torch.ones(2)}), torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(first[p * 2], torch.tensor([[2.0, 4.0]]).expand(3, 2))
    with pytest.raises(kr.InputError, match="missing inputs: q"):
        layer(p=torch.ones(2))


def test_a_value_alone_makes_a_problem_without_inputs_and_two_models_two_plans() -> None:
    for number in (1.0, 2.0):
        p = kr.Parameter(name="p", value=number)
        x = kr.Variable(name="x")
        assert float(kr.Problem(kr.Minimize(kr.square(x - p))).solve()[x]) == pytest.approx(number)
        assert kr.Problem(kr.Minimize(kr.square(x - p))).to_cvxpy().parameters["p"].value == number


def test_a_value_that_breaks_what_is_declared_of_it_is_refused() -> None:
    with pytest.raises(kr.DefinitionError, match="not nonneg"):
        layer_of(kr.Parameter(2, name="p", nonneg=True, value=[1.0, -1.0]))
    with pytest.raises(kr.DefinitionError, match=r"\(3,\)"):
        kr.Parameter(2, value=[1.0, 2, 3])
    with pytest.raises(kr.DefinitionError, match="NaN"):
        kr.Parameter(2, value=[1.0, np.nan])


def test_an_input_that_the_problem_does_not_have_is_reported() -> None:
    p, unused = kr.Parameter(2, name="p"), kr.Parameter(2, name="unused")
    with pytest.raises(kr.DefinitionError, match="unused"):
        layer_of(p, inputs=[p, unused])


# Constraints without variables


def test_assumptions_about_parameters_are_checked_per_item() -> None:
    p, q = kr.Parameter(2, name="p"), kr.Parameter(name="q")
    layer = layer_of(p, kr.sum(p) <= q, on_failure="return")
    values = torch.tensor([[0.0, 1.0], [2.0, 2.0]], dtype=torch.float64, requires_grad=True)
    solution = layer(p=values, q=torch.tensor(1.0))
    assert solution.status.tolist() == [GOOD, BAD]
    assert solution.dual("constraint1").tolist() == [0, 0]
    solution["x"].sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.tensor([[1.0, 1], [0, 0]], dtype=torch.float64))


def test_an_assumption_that_fails_is_named() -> None:
    x, p = kr.Variable(2, name="x"), kr.Parameter(2, name="p")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - p)), {"normalised": kr.sum(p) == 1, "ball": kr.norm1(x) <= 1})
    with pytest.raises(kr.SolveError, match=r"'normalised'.*sum\(p\) == 1"):
        problem.solve(torch.tensor([1.0, 1.0]))
    assert bool(problem.solve(torch.tensor([1 / 3, 2 / 3])).ok)  # up to rounding, of float32 here
    assert bool(problem.solve(torch.randn(100, 2).softmax(-1)).ok.all())


@pytest.mark.parametrize(
    ("left", "right", "holds"),
    [(1.0, np.inf, True), (np.inf, 1.0, False), (np.inf, np.inf, True), (-np.inf, -1.0, True), (1 + 1e-12, 1.0, True)],
)
def test_assumptions_at_the_edges(left: float, right: float, holds: bool) -> None:
    x, p, q = kr.Variable(name="x"), kr.Parameter(name="p"), kr.Parameter(name="q")
    problem = kr.Problem(kr.Minimize(kr.square(x)), [p <= q])
    values = {"p": torch.tensor(left, dtype=torch.float64), "q": torch.tensor(right, dtype=torch.float64)}
    assert bool(problem.solve(values, on_failure="return").ok) is holds
    values["p"] = torch.tensor(torch.nan, dtype=torch.float64)
    assert not bool(problem.solve(values, on_failure="return").ok)


def test_an_assumption_may_be_switched_off() -> None:
    x, p, on = kr.Variable(name="x"), kr.Parameter(2, name="p"), kr.Parameter(2, name="on", boolean=True)
    problem = kr.Problem(kr.Minimize(kr.square(x)), [(p >= 0).where(on)])
    switches = torch.tensor([[True, False], [True, True]])
    solution = problem.solve({"p": torch.tensor([1.0, -1.0]), "on": switches}, on_failure="return")
    assert solution.status.tolist() == [GOOD, BAD]


def test_true_constants_vanish_and_false_ones_are_told_at_once() -> None:
    x = kr.Variable(2, name="x")
    true = kr.Constant([1.0, 2.0]) <= 2
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - 1)), {"true": true, "rounded": kr.Constant(0.1 + 0.2) == 0.3})
    solution = problem.solve()
    assert solution.dual(true).tolist() == [0, 0]
    with pytest.raises(kr.DCPError, match=r"'false' is never satisfied[\s\S]*2 <= 1 is false, at \(1,\)"):
        kr.Problem(kr.Minimize(kr.sum(x)), {"false": kr.Constant([1.0, 2.0]) <= 1})
    kr.Problem(kr.Minimize(kr.sum_squares(x)), [(kr.Constant([1.0, 2.0]) <= 1).where([True, False])])
