"""Constraints and problems as values: residuals, violations, named relations, sums, multiples, and what kind of model it is."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

import catalogue
import karush as kr

x, y, p = kr.Variable(3, name="x"), kr.Variable(3, name="y"), kr.Parameter(3, name="p")
AT = {"x": torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]), "p": torch.tensor([0.5, 0.5, 0.5])}
GAP = np.array([[0.5, -2.5, 0], [-0.5, -0.5, -0.5]])  # x - p


@pytest.mark.parametrize(
    ("constraint", "residual", "violation"),
    [
        (x <= p, GAP, GAP.clip(0)),
        (x >= p, -GAP, (-GAP).clip(0)),
        (x == p, GAP, abs(GAP)),
        (kr.Zero(x - p), GAP, abs(GAP)),
        (kr.NonNeg(x - p), -GAP, (-GAP).clip(0)),
        (kr.NonPos(x - p), GAP, GAP.clip(0)),
        ((x == p).where([True, True, False]), GAP, abs(GAP) * [1, 1, 0]),
    ],
)
def test_residual_and_violation(constraint: kr.Constraint, residual: np.ndarray, violation: np.ndarray) -> None:
    np.testing.assert_allclose(kr.evaluate(constraint.residual, AT).numpy(), residual)
    np.testing.assert_allclose(kr.evaluate(constraint.violation(), AT).numpy(), violation)
    assert (constraint.shape, constraint.size) == ((3,), 3)


def test_an_absent_bound_is_never_violated() -> None:
    assert kr.evaluate((x <= np.array([np.inf, 0, 1])).violation(), {"x": AT["x"]}).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_constraints_travel() -> None:
    switched = (x <= p).where(kr.Parameter(3, name="on"))
    for copied in (copy.deepcopy(switched), pickle.loads(pickle.dumps(switched))):
        assert copied.key == switched.key
        assert copied.active is not None
        assert repr(copied) == repr(switched)
    soft = kr.soft(x <= p, 2.0, penalty="l2")
    assert pickle.loads(pickle.dumps(soft)).key == soft.key


def test_objectives_add_and_scale() -> None:
    f, g = kr.sum_squares(x), kr.norm1(x)
    both = kr.Minimize(f) + 2 * kr.Minimize(g)
    assert isinstance(both, kr.Minimize)
    torch.testing.assert_close(kr.evaluate(both.expression, {"x": AT["x"]}), kr.evaluate(f + 2 * g, {"x": AT["x"]}))
    assert isinstance(-kr.Minimize(f), kr.Maximize)
    assert isinstance(kr.Minimize(f) * -2, kr.Maximize)
    assert isinstance(kr.Minimize(f) / 2, kr.Minimize)
    assert isinstance(sum([kr.Minimize(f), kr.Minimize(g)]), kr.Minimize)  # which begins with 0 + ...
    assert isinstance(kr.Minimize(f) - kr.Maximize(-g), kr.Minimize)
    with pytest.raises(kr.DefinitionError, match=r"-kr\.Maximize"):
        kr.Minimize(f) + kr.Maximize(-g)


def test_problems_add_and_scale() -> None:
    shared = kr.sum(x) == 1
    first = kr.Problem(kr.Minimize(kr.sum_squares(x)), {"budget": shared, "low": x >= 0})
    second = kr.Problem(kr.Minimize(kr.sum_squares(x - y)), [shared, y <= 2])
    total = first + 3 * second
    assert isinstance(total, kr.Problem)
    assert list(total.constraints) == ["budget", "low", "constraint2"]
    plain = kr.Problem(kr.Minimize(kr.sum_squares(x) + 3 * kr.sum_squares(x - y)), [shared, x >= 0, y <= 2])
    ours, theirs = total.solve(), plain.solve()
    torch.testing.assert_close(ours.objective, theirs.objective)
    torch.testing.assert_close(sum([second], first).solve()[x], (first + second).solve()[x])
    assert (-kr.Problem(kr.Minimize(kr.sum_squares(x)))).objective.sign == -1
    with pytest.raises(kr.ModelError, match="taken"):
        first + kr.Problem(kr.Minimize(kr.sum(x)), {"low": x >= 1})


def test_a_multiple_by_a_parameter() -> None:
    g = kr.Parameter(name="g", nonneg=True)
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - 1)), [kr.sum(x) == 1]) * g
    assert list(problem.parameters) == ["g"]
    torch.testing.assert_close(problem.solve(g=2.0).objective, torch.tensor(2 * 4 / 3))


@pytest.mark.parametrize("name", [name for name in catalogue.CASES if name != "function"])
def test_is_dpp_agrees_with_cvxpy_where_it_can_state_the_model(name: str) -> None:
    problem = catalogue.CASES[name]()
    assert problem.is_dcp()
    assert problem.is_qp()
    try:
        model = problem.to_cvxpy()
    except Exception:  # cvxpy does not know the function, or wants numbers where a parameter stands
        return
    assert problem.is_dpp() == model.problem.is_dpp(), problem


@pytest.mark.parametrize(
    ("cost", "dpp"),
    [
        (lambda g: g * kr.sum_squares(x), True),
        (lambda g: g * g * kr.sum_squares(x), False),
        (lambda g: kr.sum_squares(g * x - p), True),
        (lambda g: kr.sum_squares(x) / (1 + g), False),
        (lambda g: g * kr.sum_squares(x - p), False),
        (lambda g: kr.exp(g) * kr.norm1(x), False),
        (lambda g: kr.norm1(kr.multiply(p, x)) + kr.exp(g), True),
    ],
)
def test_is_dpp(cost: object, dpp: bool) -> None:
    problem = kr.Problem(kr.Minimize(cost(kr.Parameter(name="g", nonneg=True))))  # type: ignore[operator]  # a lambda
    assert problem.is_dpp() is dpp
    assert problem.to_cvxpy().problem.is_dpp() is dpp


def test_what_a_problem_says_of_soft_and_switched_constraints() -> None:
    rows = {"cap": (x <= p).where(kr.Parameter(3, name="on", boolean=True)), "goal": kr.soft(kr.sum(x) == 1, 2.0, "l2")}
    text = repr(kr.Problem(kr.Minimize(kr.sum_squares(x)), rows))
    assert "x <= p where on" in text
    assert "soft(sum(x) == 1, 2, l2)" in text
