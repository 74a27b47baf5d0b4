"""``kr.project``: the nearest point, against closed forms."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

import karush as kr
from agreement import agrees_with_cvxpy, drawn


def test_onto_the_simplex() -> None:
    x = kr.Variable(5, name="x")
    layer = kr.compile(kr.project(x, onto=[x >= 0, kr.sum(x) == 1]), outputs=x)
    v = torch.randn(20, 5, dtype=torch.float64)
    ordered, _ = v.sort(descending=True)
    excess = (ordered.cumsum(-1) - 1) / torch.arange(1, 6)
    count = (ordered > excess).sum(-1, keepdim=True)
    torch.testing.assert_close(layer(v), (v - excess.gather(-1, count - 1)).clamp(min=0), atol=1e-8, rtol=1e-8)


def test_onto_a_box_a_hyperplane_and_declared_bounds() -> None:
    v = torch.randn(8, 3, dtype=torch.float64) * 3
    x = kr.Variable(3, name="x", bounds=[-1, 2])
    torch.testing.assert_close(kr.compile(kr.project(x, onto=[]), outputs=x)(v), v.clamp(-1, 2))
    y = kr.Variable(3, name="y")
    a = torch.tensor([1.0, 2, -2], dtype=torch.float64)
    flat = kr.compile(kr.project(y, onto={"plane": a @ y == 3}), outputs=y)(point=v)
    torch.testing.assert_close(flat, v - ((v @ a - 3) / (a @ a))[:, None] * a, atol=1e-8, rtol=1e-8)


def test_the_objective_is_the_squared_distance_and_symmetry_is_a_projection() -> None:
    X = kr.Variable((3, 3), name="X", symmetric=True)
    v = torch.randn(4, 3, 3, dtype=torch.float64)
    solution = kr.project(X, onto=()).solve(v)
    torch.testing.assert_close(solution[X], (v + v.mT) / 2)
    torch.testing.assert_close(solution.objective, ((v - v.mT) / 2).square().sum((1, 2)))


def test_of_a_function_of_parameters_and_of_an_affine_expression() -> None:
    x, theta = kr.Variable(3, name="x"), kr.Parameter(3, name="theta")
    problem = kr.project(x[:2] - x[1:], onto=[kr.abs(x) <= 1, x[0] == 0.5], point=kr.tanh(theta)[:2])
    assert list(problem.parameters) == ["theta"]
    agrees_with_cvxpy(problem, drawn(problem))


def test_softly_and_in_part() -> None:
    x, on = kr.Variable(2, name="x"), kr.Parameter(2, name="on", boolean=True)
    problem = kr.project(x, onto=[kr.soft(x >= 0, 1.0, "l2").where(on)])
    out = problem.solve(point=torch.tensor([-2.0, -2.0], dtype=torch.float64), on=[True, False])
    torch.testing.assert_close(out[x], torch.tensor([-1.0, -2.0], dtype=torch.float64))


@pytest.mark.parametrize("make", [lambda: kr.project(kr.Parameter(2), []), lambda: kr.project(cast(Any, 3.0), [])])
def test_without_a_variable_it_says_what_to_write(make: Any) -> None:
    with pytest.raises(kr.DefinitionError, match="point="):
        make()


def test_a_point_of_another_shape_is_refused() -> None:
    with pytest.raises(kr.DefinitionError, match=r"\(2,\)"):
        kr.project(kr.Variable(2), [], point=torch.ones(3))
