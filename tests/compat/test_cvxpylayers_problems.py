"""``karush.compat.cvxpylayers.CvxpyLayer`` on the kinds of problems, and of multipliers, that cvxpylayers is used for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import karush as kr
from compat.models import cp, par
from compat.tensors import T, gradcheck, randn
from karush.compat.cvxpylayers import CvxpyLayer


def test_equality() -> None:
    x, b = cp.Variable(6), par(6)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x)), [np.eye(6) @ x == b]), [b], [x])
    gradcheck(layer, randn(6))


def test_relu() -> None:
    x, p = cp.Variable(5), par(5)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - p)), [x >= 0]), [p], [x])
    given = randn(4, 5)
    (value,) = layer(given)
    torch.testing.assert_close(value, given.relu(), atol=1e-9, rtol=1e-9)
    gradcheck(layer, given)


def test_sparsemax_on_a_simplex() -> None:
    x, p = cp.Variable(6, nonneg=True), par(6)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - p)), [cp.sum(x) == 1]), [p], [x])
    (value,) = layer(randn(3, 6))
    assert (value >= 0).all()  # exactly
    torch.testing.assert_close(value.sum(1), torch.ones(3, dtype=T), atol=1e-12, rtol=0)
    gradcheck(layer, randn(3, 6))


def test_linear_program_on_a_simplex() -> None:
    x, c = cp.Variable(5), par(5)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(c @ x), [cp.sum(x) == 1, x >= 0]), [c], [x])
    given = randn(3, 5)
    (value,) = layer(given)
    torch.testing.assert_close(value, nn.functional.one_hot(given.argmin(1), 5).to(T), atol=1e-8, rtol=0)


def test_one_norm_and_box() -> None:
    x, A, b, g = cp.Variable(4), par(6, 4), par(6), par(nonneg=True)
    cost = cp.sum_squares(A @ x - b) + g * cp.norm1(x)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cost), [x <= 0.3, x >= -0.3]), [A, b, g], [x])
    gradcheck(layer, randn(6, 4), randn(6), torch.tensor(0.7, dtype=T, requires_grad=True))


def quadratic(form: Any, *more: Any, maximize: bool = False) -> CvxpyLayer:
    """A quadratic form with a matrix among the parameters, a linear term, and a box."""
    x, q = cp.Variable(4), par(4)
    cost = form(x) + (-1 if maximize else 1) * (q @ x)
    problem = cp.Problem(cp.Maximize(cost) if maximize else cp.Minimize(cost), [x >= -1, x <= 1])
    return CvxpyLayer(problem, [*more, q], [x])


def definite(*batch: int, seed: int = 0) -> Tensor:
    raw = randn(*batch, 4, 4, grad=False, seed=seed)
    return raw @ raw.mT + torch.eye(4, dtype=T)


P, R = par(4, 4, PSD=True), par(4, 4, PSD=True)
N = par(4, 4, NSD=True)
FORMS: dict[str, tuple[Any, ...]] = {
    "P": (lambda x: cp.quad_form(x, P), [P]),
    "P + R": (lambda x: cp.quad_form(x, P + R), [P, R]),
    "2 P": (lambda x: cp.quad_form(x, 2 * P), [P]),
    "two forms": (lambda x: cp.quad_form(x, P) + cp.quad_form(x, R), [P, R]),
    "a constant beside": (lambda x: cp.quad_form(x, P) + 3.0, [P]),
    "-N": (lambda x: cp.quad_form(x, -N), [N]),
}


@pytest.mark.parametrize("name", FORMS)
def test_matrices_of_quadratic_forms(name: str) -> None:
    form, matrices = FORMS[name]
    layer = quadratic(form, *matrices)
    signs = [-1.0 if matrix is N else 1.0 for matrix in matrices]
    given = [sign * definite(2, seed=index) for index, sign in enumerate(signs)]
    q = randn(2, 4)
    (x,) = layer(*given, q)
    total = given[0].abs() * 0
    for sign, value in zip(signs, given, strict=True):
        total = total + sign * value * (2 if name == "2 P" else 1)
    one = kr.solve_qp(2 * total, q, lb=-1.0, ub=1.0).x
    torch.testing.assert_close(x, one, atol=1e-9, rtol=1e-9)
    leaves = [value.requires_grad_() for value in given]
    gradcheck(lambda *v: layer(*[(each + each.mT) / 2 for each in v[:-1]], v[-1])[0], *leaves, q)


def test_a_concave_form_is_maximized() -> None:
    layer = quadratic(lambda x: cp.quad_form(x, N), N, maximize=True)
    value, q = -definite(), randn(4)
    (x,) = layer(value, q)
    torch.testing.assert_close(x, kr.solve_qp(-2 * value, q, lb=-1.0, ub=1.0).x, atol=1e-9, rtol=1e-9)


def test_a_symmetric_matrix_is_not_enough() -> None:
    S = par(4, 4, symmetric=True)
    with pytest.raises(ValueError, match="quad_form"):
        quadratic(lambda x: cp.quad_form(x, S), S)


def test_a_quadratic_form_in_a_constraint_is_refused() -> None:
    x, S, p = cp.Variable(4), par(4, 4, PSD=True), par(4)
    with pytest.raises(ValueError, match="quadratic"):
        CvxpyLayer(cp.Problem(cp.Minimize(p @ x), [cp.quad_form(x, S) <= 1]), [S, p], [x])


def test_parameters_inside_both_places_of_a_quadratic_form() -> None:
    """cvxpylayers refuses all of these."""
    x, S, p = cp.Variable(4), par(4, 4, PSD=True), par(4)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.quad_form(x - p, S) + cp.quad_form(2 * x + p, S))), [S, p], [x])
    value, q = definite(), randn(4)
    torch.testing.assert_close(layer(value, q)[0], -q / 5, atol=1e-9, rtol=1e-9)  # (x - p) + 2 (2x + p) = 0
    torch.testing.assert_close(layer(3 * value, 2 * q)[0], -2 * q / 5, atol=1e-9, rtol=1e-9)  # and once more with other values


def test_what_is_not_dpp_runs_too() -> None:
    x, p, q = cp.Variable(3), par(nonneg=True), par(3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - q) * cp.exp(p) + p * p * cp.norm1(x)), [x <= cp.square(q)])
    assert not problem.is_dpp()
    gradcheck(CvxpyLayer(problem, [p, q], [x]), torch.tensor(0.3, dtype=T, requires_grad=True), randn(3))


def test_structured_parameters_and_variables() -> None:
    D, S, X = par(3, 3, diag=True), par(3, 3, symmetric=True), cp.Variable((3, 3), symmetric=True)
    layer = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(X - S) + cp.trace(D @ X))), [D, S], [X])
    s = randn(2, 3, 3, grad=False)
    (value,) = layer(torch.diag_embed(torch.ones(2, 3, dtype=T)), s + s.mT)
    torch.testing.assert_close(value, s + s.mT - torch.eye(3, dtype=T) / 2, atol=1e-9, rtol=1e-9)


# Duals


def dual_layer(*which: int) -> tuple[CvxpyLayer, Any]:
    x, c, b = cp.Variable(3), par(3), par(2)
    rows = [np.array([[1.0, 1, 1], [1, -1, 0]]) @ x == b, x >= 0, x[0] <= 0.4]
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x) + c @ x), rows)
    return CvxpyLayer(problem, [c, b], [rows[i].dual_variables[0] for i in which]), problem


@pytest.mark.parametrize("which", [(0,), (1,), (2, 0), (0, 1, 2)])
def test_duals(which: tuple[int, ...]) -> None:
    layer, problem = dual_layer(*which)
    c, b = torch.tensor([[1.0, 2, 3], [-3, 0, 1]], dtype=T), torch.tensor([[1.0, 0.1], [0.8, -0.2]], dtype=T)
    values = layer(c, b)
    for i in range(2):
        for parameter, value in zip(problem.parameters(), (c[i], b[i]), strict=True):
            parameter.value = value.numpy()
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        for at, ours in zip(which, values, strict=True):
            np.testing.assert_allclose(ours[i].numpy(), problem.constraints[at].dual_value, atol=1e-6)


def test_duals_are_differentiable() -> None:
    layer, _ = dual_layer(0, 1, 2)
    c, b = torch.tensor([-3.0, 0, 1], dtype=T, requires_grad=True), torch.tensor([0.8, -0.2], dtype=T, requires_grad=True)
    gradcheck(lambda *given: torch.cat([value.reshape(-1) for value in layer(*given)]), c, b)


def test_duals_of_a_maximization() -> None:
    x, c = cp.Variable(2), par(2)
    budget = cp.sum(x) <= 1
    layer = CvxpyLayer(cp.Problem(cp.Maximize(c @ x - cp.sum_squares(x)), [budget]), [c], [x, budget.dual_variables[0]])
    _, price = layer(torch.tensor([4.0, 4.0], dtype=T))
    torch.testing.assert_close(price, torch.tensor(3.0, dtype=T), atol=1e-9, rtol=1e-9)
