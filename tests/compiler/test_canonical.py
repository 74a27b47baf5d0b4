"""The canonical form against sympy: Hessian, gradient and Jacobians of what the user wrote, at symbolic parameters.

Smooth models over x keep their variables, so Q, p, G, h, A, b must be the derivatives of the objective and the constraints,
exactly, for random rational values of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
import torch

import karush as kr
from karush.canon.canonicalize import canonicalize
from karush.canon.factors import Fixed

Derived = tuple[Any, list[Any], list[Any]]  # the objective, the inequalities <= 0 and the equalities == 0, in sympy
W = np.array([[1.0, 2, 0, -1], [0, 1, 3, 1]])


def x4() -> kr.Variable:
    return kr.Variable(4, name="x")


def ridge() -> tuple[kr.Problem, Callable[..., Derived]]:
    x, B, y, g = x4(), kr.Parameter((3, 4), name="B"), kr.Parameter(3, name="y"), kr.Parameter(name="g", nonneg=True)
    problem = kr.Problem(kr.Minimize(kr.sum_squares(B @ x - y) + g * kr.sum_squares(x)), [W @ x <= y[:2], kr.sum(x) == g])

    def symbols(x: sympy.Matrix, B: sympy.Matrix, y: sympy.Matrix, g: sympy.Matrix) -> Derived:
        r = B * x - y
        cost = (r.T * r)[0] + g[0] * (x.T * x)[0]
        rows = sympy.Matrix(W.astype(int).tolist()) * x - sympy.Matrix(y[:2])
        return cost, list(rows), [sum(x) - g[0]]

    return problem, symbols


def form() -> tuple[kr.Problem, Callable[..., Derived]]:
    x, P, c, w = x4(), kr.Parameter((4, 4), name="P", PSD=True), kr.Parameter(4, name="c"), kr.Parameter(4, name="w", nonneg=True)
    cost = 0.5 * kr.quad_form(x - c, P) + kr.sum(kr.multiply(w, kr.square(2 * x + 1))) + (c * w) @ x
    problem = kr.Problem(kr.Minimize(cost), [2 * kr.cumsum(x) + kr.diff(kr.hstack([x, 0.0])) <= c, (W @ x) * kr.sum(c) == 1])

    def symbols(x: sympy.Matrix, P: sympy.Matrix, c: sympy.Matrix, w: sympy.Matrix) -> Derived:
        d = x - c
        cost = (d.T * P * d)[0] / 2 + sum(w[i] * (2 * x[i] + 1) ** 2 + c[i] * w[i] * x[i] for i in range(4))
        shifted = [*x[1:], sympy.Integer(0)]
        rows = [2 * sum(x[: i + 1]) + shifted[i] - x[i] - c[i] for i in range(4)]
        return cost, rows, [entry * sum(c) - 1 for entry in sympy.Matrix(W.astype(int).tolist()) * x]

    return problem, symbols


def nested() -> tuple[kr.Problem, Callable[..., Derived]]:
    x, R, S = x4(), kr.Parameter((2, 3), name="R"), kr.Parameter((3, 4), name="S")
    problem = kr.Problem(kr.Minimize(3 * kr.sum_squares(R @ (S @ x) - 1)), [R @ (S @ x) >= -1])

    def symbols(x: sympy.Matrix, R: sympy.Matrix, S: sympy.Matrix) -> Derived:
        r = R * S * x
        return 3 * sum((entry - 1) ** 2 for entry in r), [-1 - entry for entry in r], []

    return problem, symbols


@pytest.mark.parametrize("model", [ridge, form, nested])
def test_blocks_are_the_derivatives(model: Callable[[], tuple[kr.Problem, Callable[..., Derived]]]) -> None:
    problem, symbols = model()
    rng = np.random.default_rng(2)
    values = {name: _draw(leaf, rng) for name, leaf in problem.parameters.items()}
    data = kr.compile(problem).standard_form(**{name: torch.tensor(value) for name, value in values.items()})
    x = sympy.Matrix(sympy.symbols("x0:4"))
    exact = {name: sympy.Matrix(np.atleast_1d(value).astype(int).tolist()) for name, value in values.items()}
    cost, inequalities, equalities = symbols(x=x, **exact)
    at_zero = dict.fromkeys(x, 0)
    _same(data.Q[0], sympy.hessian(cost, x))
    _same(data.p[0], sympy.Matrix([cost]).jacobian(x).T.subs(at_zero))
    for rows, matrix, right in ((inequalities, data.G, data.h), (equalities, data.A, data.b)):
        if rows:
            stacked = sympy.Matrix(rows)
            _same(matrix[0], stacked.jacobian(x))
            _same(right[0], -stacked.subs(at_zero))
        else:
            assert matrix.shape[1] == 0


def _draw(leaf: kr.Parameter, rng: np.random.Generator) -> np.ndarray:
    raw = np.asarray(rng.integers(1, 5, leaf.shape), dtype=float)
    return raw @ raw.T if leaf.attributes.PSD else raw


def _same(ours: torch.Tensor, exact: sympy.Matrix) -> None:
    expected = np.array(exact.tolist(), dtype=float).reshape(ours.shape)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-14, atol=1e-13)


def test_single_variable_rows_become_bounds() -> None:
    x, u = x4(), kr.Parameter(4, name="u")
    rows = {"low": -2 * x <= 4, "high": x <= u, "again": x <= 5, "pair": x[:2] + x[2:] <= 1}
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x)), rows)
    qp = canonicalize(problem).qp
    assert (qp.n, qp.m, qp.k) == (4, 6, 0)  # "again" stays a row: its side is taken
    data = kr.compile(problem).standard_form(u=torch.arange(4.0))
    assert data.lb is not None
    assert data.lb[0].tolist() == [-2, -2, -2, -2]
    assert data.ub is not None
    assert data.ub[0].tolist() == [0, 1, 2, 3]


def test_routes_are_the_cheapest_that_fit() -> None:
    x, P, q = x4(), kr.Parameter((4, 4), name="P", PSD=True), kr.Parameter(4, name="q")
    qp = canonicalize(kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, P) - q @ x), [kr.sum(x) == 1])).qp
    assert qp.Q.describe(qp.program.sizes).startswith("view")
    assert qp.p.describe(qp.program.sizes).startswith("scale -1")
    assert qp.A.fixed
    assert not qp.grams


def test_a_gram_product_does_not_become_a_sparse_map() -> None:
    """w' (A x - b)² with A 1000 x 200: as a sparse map from w to Q it would hold 4e7 entries."""
    x, w = kr.Variable(200, name="x"), kr.Parameter(1000, name="w", nonneg=True)
    A, b = np.random.default_rng(0).standard_normal((1000, 200)), np.ones(1000)
    qp = canonicalize(kr.Problem(kr.Minimize(kr.sum(kr.multiply(w, kr.square(A @ x - b)))))).qp
    held = sum(len(entries.rows) for entries in qp.Q.entries)
    held += sum(f.matrix.nnz if isinstance(f, Fixed) else len(f.rows) for p in qp.Q.products for f in p.term)
    assert held <= 2 * A.size


def test_equal_models_have_equal_plans() -> None:
    def build() -> kr.Problem:
        x, q = x4(), kr.Parameter(4, name="q")
        return kr.Problem(kr.Minimize(kr.sum_squares(x - q)), [x >= 0])

    first, second = canonicalize(build()).qp, canonicalize(build()).qp
    assert first == second
    assert hash(first) == hash(second)
    x, q = x4(), kr.Parameter(4, name="q")
    assert canonicalize(kr.Problem(kr.Minimize(kr.sum_squares(x - q)), [x >= 0.5])).qp != first


def test_the_text_of_a_canonical_problem() -> None:
    x, L = kr.Variable(3, name="x"), kr.Parameter((3, 2), name="L")
    gamma, mu = kr.Parameter(name="gamma", nonneg=True), kr.Parameter(3, name="mu")
    problem = kr.Problem(
        kr.Minimize(gamma * kr.sum_squares(L.T @ x) - mu @ x + kr.norm1(x)), {"budget": kr.sum(x) == 1, "long only": x >= 0}
    )
    assert str(canonicalize(problem).qp).splitlines() == TEXT


TEXT = """\
ParamQP    n = 6, m = 6, k = 1
input      gamma () nonneg
input      L (3, 2)
input      mu (3,)
program    %0 = input gamma ()
program    %1 = input mu (3,)
program    %2 = input L (3, 2)
Q          (6, 6) zero
p          (6, 1) constant (3) + scatter %1
G          (6, 6) constant (12)
h          (6, 1) zero
A          (1, 6) constant (3)
b          (1, 1) constant (1)
lb         (6, 1) constant (3)
constant   (1, 1) zero
gram       gram of E = scatter %2, e = zero, weight scatter %0
variable   x (3,) = x[0:3]
variable   <abs 1> (3,) = x[3:6]
multiplier budget () = y[0:1]
multiplier long only (3,) = z_lb[0:3]""".splitlines()
