"""Uses of a layer that surprise less careful code: regularised objectives, copies with functions, deep models, odd names."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import karush as kr

F = torch.float64


def test_the_objective_of_a_regularised_problem_is_differentiated_as_it_is_reported() -> None:
    y, th = kr.Variable(name="y"), kr.Parameter(name="th")
    layer = kr.compile(kr.Problem(kr.Minimize((y - th) ** 2)), regularize=1.0)
    value = torch.tensor(2.0, dtype=F, requires_grad=True)
    cost = layer(value).objective  # y = 2 th / 3, so that the cost is th² / 9
    torch.testing.assert_close(cost.detach(), torch.tensor(4.0 / 9, dtype=F))
    cost.backward()
    torch.testing.assert_close(value.grad, torch.tensor(4.0 / 9, dtype=F))


def test_expressions_use_the_functions_and_the_values_of_their_own_layer() -> None:
    c, x = kr.Parameter(3, name="c"), kr.Variable(3, name="x")
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double()
    target = kr.function(net, c, shape=3)
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - target)))
    layer = kr.compile(problem)
    value = torch.ones(3, dtype=F)
    twin, expression, variable = pickle.loads(pickle.dumps((layer, target, x)))
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    for each, what, solved in ((layer, target, x), (other, target, x), (twin, expression, variable)):
        solution = each(value)  # dropout draws once a call
        torch.testing.assert_close(solution[what], solution[solved], rtol=1e-9, atol=1e-9)
    assert (other(value)[target] == 0).all()


def test_functional_call_swaps_weights() -> None:
    x, g = kr.Variable(2, name="x"), kr.Parameter(2, name="g")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - g))), weights={g: torch.zeros(2)}, outputs="x")
    swapped = torch.func.functional_call(layer, {"g": torch.ones(2)})
    torch.testing.assert_close(swapped, torch.ones(2))


@pytest.mark.parametrize("declared", ["nonneg", "nonpos"])
def test_a_weight_can_leave_zero(declared: str) -> None:
    x, g = kr.Variable(name="x"), kr.Parameter(name="g", **{declared: True})
    layer = kr.compile(kr.Problem(kr.Minimize((x - g) ** 2)), weights={g: 0.0}, outputs=[x])
    layer().backward()
    (slope,) = (parameter.grad for parameter in layer.parameters())
    assert slope == 1


def test_equal_names_of_different_leaves_are_not_merged() -> None:
    a, b = kr.Parameter(name="a"), kr.Parameter(name="a")
    assert kr.evaluate(a - b, {a: 3.0, b: 1.0}) == 2
    with pytest.raises(kr.InputError, match="twice"):
        kr.evaluate(a + 1, {a: 3.0, "a": 1.0})


def test_a_solution_is_no_sequence() -> None:
    x = kr.Variable(2, name="x")
    solution = kr.Problem(kr.Minimize(kr.sum_squares(x - 1))).solve()
    assert "x" in solution
    assert x in solution
    assert "y" not in solution
    with pytest.raises(TypeError):
        iter(solution)  # type: ignore[call-overload]  # that is the test
    mistakes: dict[Any, str] = {0: "expected a variable", kr.objective: r"solution\.objective"}  # no overload takes them
    for mistake, told in mistakes.items():
        with pytest.raises(kr.InputError, match=told):
            solution[mistake]


def test_deep_and_shared_models_compile() -> None:
    v = kr.Variable(600, name="v")
    total: kr.Expression = v[0] ** 2
    for i in range(1, 600):
        total = total + (v[i] - 1) ** 2
    doubled: kr.Expression = kr.sum(v)
    for _ in range(40):
        doubled = (doubled + doubled) / 2
    problem = kr.Problem(kr.Minimize(total), [doubled <= 100])
    assert len(repr(problem)) < 2000
    layer = kr.compile(problem)
    torch.testing.assert_close(layer()["v"].sum(), torch.tensor(100.0))
    assert copy.deepcopy(layer)()["v"].shape == (600,)


def test_names_of_the_compiler_are_free_for_the_user() -> None:
    v = kr.Variable(2, name="abs1")
    solution = kr.Problem(kr.Minimize(kr.norm1(v - 1) + 0.1 * kr.sum_squares(v))).solve()
    torch.testing.assert_close(solution["abs1"], torch.ones(2))


def test_solve_of_a_problem_takes_what_a_layer_takes() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - c)), {"sum": kr.sum(x) == 1})
    value = torch.tensor([1.0, 2.0])
    for solution in (problem.solve(value), problem.solve(c=value), problem.solve({c: value})):
        torch.testing.assert_close(solution[x], torch.tensor([0.0, 1.0]))
    layer = kr.compile(problem)
    with pytest.raises(kr.InputError, match="expected a mapping"):
        layer.solve(value)  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(kr.InputError, match="unknown option warm"):
        layer.solve({c: value}, warm=True)
    with pytest.raises(kr.InputError, match="option eps"):
        layer.solve({c: value}, eps=-1.0)
    with pytest.raises(TypeError):
        problem.constraints["other"] = x >= 0  # type: ignore[index]  # read-only


def test_weights_are_no_inputs() -> None:
    x, g = kr.Variable(2, name="x"), kr.Parameter(2, name="g")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - g))), weights={g: torch.zeros(2)})
    with pytest.raises(kr.InputError, match="g is a weight"):
        layer(g=torch.ones(2))


def test_residuals_have_the_shape_of_the_batch() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    solution = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c)), [x >= 0]))(torch.randn(2, 3, 2))
    assert solution.residuals.scaled.shape == (2, 3, 4)
    assert solution.residuals.worst.shape == solution.status.shape == solution.gradient_flags.shape == (2, 3)


@pytest.mark.parametrize("rows", [False, True])
def test_problems_without_variables_are_answered(rows: bool) -> None:
    th, none = kr.Parameter(name="th"), kr.Variable(0, name="none")
    constraints = [th + kr.sum(none) <= 1, kr.sum(none) == 0] if rows else []
    layer = kr.compile(kr.Problem(kr.Minimize(th**2 + kr.sum_squares(none)), constraints), on_failure="return")
    solution = layer(torch.tensor([0.5, 2.0], dtype=F))
    torch.testing.assert_close(solution.objective, torch.tensor([0.25, 4.0], dtype=F))
    assert solution.status.tolist() == [0, kr.Status.PRIMAL_INFEASIBLE if rows else 0]


def test_declared_matrices_are_checked_under_vmap() -> None:
    x, P, q = kr.Variable(3, name="x"), kr.Parameter((3, 3), PSD=True, name="P"), kr.Parameter(3, name="q")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, P) + q @ x), [x >= -1]), outputs=x, on_failure="nan")
    P4 = torch.stack([torch.eye(3).double() * scale for scale in (1.0, 2.0, -1.0, 3.0)])
    q4 = torch.randn(4, 3).double()
    mapped = torch.func.vmap(lambda P, q: layer(P=P, q=q))(P4, q4)
    torch.testing.assert_close(mapped, layer(P=P4, q=q4), equal_nan=True)
    assert mapped.isnan().any(1).tolist() == [False, False, True, False]


def test_several_inputs_come_by_position_only_in_a_stated_order() -> None:
    """Here u appears first in the model and v was declared first: two inputs of one shape would change places silently."""
    v, u = kr.Parameter(2, name="v"), kr.Parameter(2, name="u")
    y = kr.Variable(2, name="y")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(y - u)), [y <= v])
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    with pytest.raises(kr.InputError, match="in no stated order"):
        kr.compile(problem)(first, second)
    ordered = kr.compile(problem, inputs=[v, u], outputs=y)
    torch.testing.assert_close(ordered(first, second), kr.compile(problem, outputs=y)(v=first, u=second))
    kr.compile(problem, weights={u: second})(first)  # one alone is no question
