"""Shapes, signs, curvature and values of expressions against NumPy and the rules of convexity."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import karush as kr
from karush.dsl.expression import Constant, Expression

RNG = np.random.default_rng(1)
M = RNG.standard_normal((3, 4))
V = RNG.standard_normal(4)

# The same call on an expression and on the array, by NumPy's own function.
AFFINE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sum": (kr.sum, np.sum),
    "sum axis": (lambda x: kr.sum(x, axis=1), lambda x: np.sum(x, axis=1)),
    "sum axes": (lambda x: kr.sum(x, axis=(0, 1), keepdims=True), lambda x: np.sum(x, axis=(0, 1), keepdims=True)),
    "mean": (lambda x: kr.mean(x, axis=-1, keepdims=True), lambda x: np.mean(x, axis=-1, keepdims=True)),
    "transpose": (lambda x: x.T, lambda x: x.T),
    "reshape": (lambda x: x.reshape(2, -1), lambda x: x.reshape(2, -1)),
    "flatten": (lambda x: x.flatten(), lambda x: x.flatten()),
    "index": (lambda x: x[1], lambda x: x[1]),
    "slice": (lambda x: x[::-1, 1::2], lambda x: x[::-1, 1::2]),
    "ellipsis": (lambda x: x[..., None, 0], lambda x: x[..., None, 0]),
    "mask": (lambda x: x[M > 0], lambda x: x[M > 0]),
    "integers": (lambda x: x[[0, 2], [1, 1]], lambda x: x[[0, 2], [1, 1]]),
    "diag": (lambda x: kr.diag(x[0], 1), lambda x: np.diag(x[0], 1)),
    "diagonal": (lambda x: kr.diag(x, -1), lambda x: np.diag(x, -1)),
    "trace": (lambda x: kr.trace(x[:, :3]), lambda x: np.trace(x[:, :3])),
    "cumsum": (lambda x: kr.cumsum(x, axis=1), lambda x: np.cumsum(x, axis=1)),
    "diff": (lambda x: kr.diff(x, 2, axis=1), lambda x: np.diff(x, 2, axis=1)),
    "hstack": (lambda x: kr.hstack([x, x[:, :1]]), lambda x: np.hstack([x, x[:, :1]])),
    "vstack": (lambda x: kr.vstack([x, V]), lambda x: np.vstack([x, V])),
    "stack": (lambda x: kr.stack([x, 2 * x], axis=1), lambda x: np.stack([x, 2 * x], axis=1)),
    "concatenate": (lambda x: kr.concatenate([x, x], axis=-1), lambda x: np.concatenate([x, x], axis=-1)),
    "broadcast": (lambda x: x + V, lambda x: x + V),
    "broadcast_to": (lambda x: kr.broadcast_to(x[0], (2, 4)), lambda x: np.broadcast_to(x[0], (2, 4))),
    "matmul": (lambda x: x @ V, lambda x: x @ V),
    "rmatmul": (lambda x: np.ones((2, 3)) @ x, lambda x: np.ones((2, 3)) @ x),
    "arithmetic": (lambda x: 1 - (-x) * 2 / 4 + x, lambda x: 1 - (-x) * 2 / 4 + x),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_functions_agree_with_numpy(name: str) -> None:
    ours, theirs = AFFINE[name]
    folded = ours(Constant(M))
    assert isinstance(folded, Constant)
    np.testing.assert_allclose(folded.value, theirs(M), rtol=1e-15)
    of_variable = ours(kr.Variable(M.shape, name="x"))
    assert of_variable.shape == np.shape(theirs(M))
    assert of_variable.curvature.affine
    value = kr.evaluate(ours(X := kr.Variable(M.shape, name="x")), {X: torch.tensor(M)})
    np.testing.assert_allclose(value.numpy(), theirs(M), rtol=1e-14)


def test_arrays_and_tensors_on_the_left_defer() -> None:
    x = kr.Variable(4, name="x")
    for left in (V, torch.tensor(V)):
        for built in (left + x, left * x, left - x, left @ x):
            assert isinstance(built, Expression)
    assert (x >= V).op == ">="
    assert (x == 1).shape == (4,)


def test_equalities_keep_their_sides() -> None:
    """A multiplier's sign depends on it, and Python prefers the right side's method where its class derives from the left's."""
    variable, parameter = kr.Variable(4, name="x"), kr.Parameter(name="p")
    total = kr.sum(variable)
    assert (total == parameter).left is total
    assert (total == variable[0]).left is total
    assert (parameter == total).left is parameter


x, y = kr.Variable(4, name="x"), kr.Variable(4, name="y", nonneg=True)
g, p = kr.Parameter(name="g", nonneg=True), kr.Parameter(name="p")

CURVATURES: list[tuple[Expression, str, str]] = [
    (x, "affine", "unknown"),
    (y, "affine", "nonnegative"),
    (2 * x + p, "affine", "unknown"),
    (-2 * y, "affine", "nonpositive"),
    (p * x, "affine", "unknown"),
    (kr.abs(x), "convex", "nonnegative"),
    (-kr.abs(x), "concave", "nonpositive"),
    (g * kr.abs(x), "convex", "nonnegative"),
    (p * kr.abs(x), "unknown", "unknown"),
    (-g * kr.abs(x), "concave", "nonpositive"),
    (kr.max(x), "convex", "unknown"),
    (kr.max(y), "convex", "nonnegative"),
    (kr.min(x), "concave", "unknown"),
    (kr.maximum(x, 1), "convex", "nonnegative"),
    (kr.minimum(y, 1), "concave", "nonnegative"),
    (kr.pos(x), "convex", "nonnegative"),
    (kr.neg(x), "convex", "nonnegative"),
    (kr.square(x), "convex", "nonnegative"),
    (kr.square(kr.pos(x)), "convex", "nonnegative"),
    (kr.square(kr.max(x)), "unknown", "nonnegative"),
    (kr.abs(kr.norm1(x)), "convex", "nonnegative"),
    (kr.norm_inf(x) - kr.min(x), "convex", "unknown"),
    (kr.norm1(x) - kr.norm_inf(x), "unknown", "unknown"),
    (kr.huber(x), "convex", "nonnegative"),
    (kr.quad_form(x, np.eye(4)), "convex", "nonnegative"),
    (kr.quad_form(x, -np.eye(4)), "concave", "nonpositive"),
    (kr.exp(p), "affine", "nonnegative"),
    (kr.exp(p) * kr.abs(x), "convex", "nonnegative"),
    (kr.abs(p) - 1, "affine", "unknown"),
    (p**2 * kr.norm1(x), "convex", "nonnegative"),
    (kr.assume(p, nonpos=True) * kr.abs(x), "concave", "nonpositive"),
    (x / kr.exp(p), "affine", "unknown"),
]


@pytest.mark.parametrize(("expression", "curvature", "sign"), CURVATURES, ids=[repr(case[0]) for case in CURVATURES])
def test_curvature_and_sign(expression: Expression, curvature: str, sign: str) -> None:
    assert str(expression.curvature) == curvature
    assert str(expression.sign) == sign


def test_signs_hold_for_sampled_values() -> None:
    rng = np.random.default_rng(5)
    for expression, _, _ in CURVATURES:
        known = {x: rng.standard_normal((50, 4)), y: rng.random((50, 4)), g: rng.random(50), p: rng.standard_normal(50)}
        if "assume" in repr(expression):
            known[p] = -np.abs(known[p])
        used = {leaf: torch.tensor(value) for leaf, value in known.items() if leaf.name in repr_names(expression)}
        value = kr.evaluate(expression, used)
        assert not expression.sign.nonneg or (value >= 0).all(), expression
        assert not expression.sign.nonpos or (value <= 0).all(), expression


def repr_names(expression: Expression) -> set[str]:
    from karush.dsl.walk import leaves

    return {leaf.label({}) for leaf in leaves([expression])}


L, R = kr.Parameter((4, 2), name="L"), kr.Parameter((3, 4, 2), name="R")
P, N = kr.Parameter((4, 4), name="P", PSD=True), kr.Parameter((4, 4), name="N", NSD=True)
A, B = kr.Parameter((4, 4), name="A"), kr.Parameter((4, 4), name="B", symmetric=True)
d, C = kr.Parameter(4, name="d"), kr.Parameter((4, 4), name="C", PSD=True)

POSITIVE = [
    L @ L.T,
    L.T @ L,
    A.T @ P @ A,
    L @ kr.diag(kr.exp(d[:2])) @ L.T,
    A @ L @ L.T @ A.T,
    A @ (L @ L.T) @ A.T,
    M @ P @ M.T,
    P,
    P + np.eye(4),
    g * P,
    2 * P,
    P / kr.exp(p),
    P + L @ L.T,
    P - N,
    kr.diag(kr.exp(d)),
    kr.diag(d**2),
    kr.outer(d, d),
    -N,
    N * N,
    kr.multiply(P, C),
    kr.kron(P, C),
    kr.kron(np.eye(2), P),
    kr.kron(P, np.eye(2)),
    kr.kron(N, N),
    kr.inv(P),
    P.T,
    B @ B,
    A @ B @ B @ A.T,
    R @ kr.swapaxes(R, 1, 2),
    kr.transpose(R, (0, 2, 1)) @ R,
    0.5 * L @ L.T,
    g * A @ P @ A.T / 3,
    (0.5 * L) @ (0.5 * L).T,
    (A @ L) @ (A @ L).T,
    (A @ P @ L).T @ (A @ P @ L),
    (p * L) @ (p * L).T,
    A @ P.T @ A.T,
    B @ P @ B,
    kr.psd_wrap(A),
    kr.assume(A, PSD=True) + kr.broadcast_to(P, (4, 4)),
    kr.Constant(np.stack([np.eye(3), np.ones((3, 3))])),
]
NEGATIVE = [
    -P,
    N,
    -2 * P,
    N - P,
    -(L @ L.T),
    kr.multiply(P, N),
    kr.kron(N, P),
    A @ N @ A.T,
    -0.5 * L @ L.T,
    -R @ kr.swapaxes(R, 1, 2),
]
INDEFINITE = [
    kr.transpose(A, (0, 1)) @ A,
    kr.diag(kr.exp(d[:3]), 1),
    kr.diag(d),
    P - L @ L.T,
    p * P,
    B,
    P @ C,
    A @ B @ A.T,
    A @ A,
    p * L @ L.T,
    A @ P @ A,
    (A @ L) @ (A.T @ L).T,
    (p * L) @ (g * L).T,
    kr.kron(A, P),
    kr.kron(B, np.eye(2)),
    kr.multiply(A, A),
    L @ np.ones((2, 4)),
    kr.outer(d, 2 * d),
    kr.Constant(np.stack([np.eye(3), -np.eye(3)])),
]


def sampled(matrix: Expression) -> np.ndarray:
    """Its value at random parameters with their declared attributes."""
    rng = np.random.default_rng(12)
    values = {}
    for leaf in matrix.parameters():
        raw = rng.standard_normal((20, *leaf.shape))
        facts = leaf.attributes
        if facts.PSD or facts.NSD:
            raw = (raw @ np.swapaxes(raw, 1, 2)) * (1 if facts.PSD else -1)
        values[leaf] = torch.tensor(np.abs(raw) if facts.nonneg else raw + np.swapaxes(raw, 1, 2) if facts.symmetric else raw)
    if "assume" in matrix.atoms():
        values = {leaf: value @ value.mT for leaf, value in values.items()}
    return kr.evaluate(matrix, values).numpy()


@pytest.mark.parametrize("matrix", POSITIVE + NEGATIVE, ids=repr)
def test_definiteness_is_inferred_and_holds(matrix: Expression) -> None:
    positive = any(matrix is known for known in POSITIVE)
    assert (matrix.is_psd(), matrix.is_nsd()) == (positive, not positive)
    value = sampled(matrix)
    eigenvalues = np.linalg.eigvalsh((value + np.swapaxes(value, -1, -2)) / 2) * (1 if positive else -1)
    assert eigenvalues.min() >= -1e-9 * np.abs(eigenvalues).max()


def test_a_form_of_data_has_the_sign_of_its_matrix() -> None:
    assert kr.quad_form(d, P).is_nonneg()
    assert kr.quad_form(d, N).is_nonpos()
    assert not kr.quad_form(d, A).is_nonneg()
    assert (kr.quad_form(d, P) * kr.norm1(x)).is_convex()


@pytest.mark.parametrize("matrix", INDEFINITE, ids=repr)
def test_no_definiteness_is_claimed(matrix: Expression) -> None:
    assert not matrix.is_psd()
    assert not matrix.is_nsd()


def test_a_definiteness_that_cannot_be_known_has_no_counterexample_in_the_rules() -> None:
    """Most of the matrices of which nothing is claimed do take both signs, so that a rule for them would be wrong."""
    both = 0
    for matrix in INDEFINITE:
        value = sampled(matrix)
        eigenvalues = np.linalg.eigvalsh((value + np.swapaxes(value, -1, -2)) / 2)
        both += bool(eigenvalues.min() < -1e-9 and eigenvalues.max() > 1e-9)
    assert both >= len(INDEFINITE) - 1  # outer(d, 2 * d) is definite, and is not recognized


SQUARES: list[tuple[Expression, str]] = [
    (x @ x, "sum_squares(x)"),
    (x * x, "x**2"),
    ((x - 1) @ (x - 1), "sum_squares(x - 1)"),
    (-x @ x, "-sum_squares(x)"),
    ((-x) @ (-x), "sum_squares(x)"),
    (0.5 * x @ x, "0.5 * sum_squares(x)"),
    ((2 * x) * (x / 4), "0.5 * x**2"),
    (g * x @ x, "g * sum_squares(x)"),
    (x @ P @ x, "quad_form(x, P)"),
    (x.T @ P @ x, "quad_form(x, P)"),
    (x @ (P @ x), "quad_form(x, P)"),
    ((P @ x) @ x, "quad_form(x, P.T)"),
    (0.5 * x @ P @ x, "0.5 * quad_form(x, P)"),
    (x @ A @ A.T @ x, "quad_form(x, A @ A.T)"),
    ((A @ x) @ (A @ x), "sum_squares(A @ x)"),
    ((A @ x) @ P @ (A @ x), "quad_form(A @ x, P)"),
    (kr.norm(x - 1) ** 2, "sum_squares(x - 1)"),
    (kr.norm2(x) * kr.norm2(x), "sum_squares(x)"),
    ((3 * kr.norm2(x)) ** 2, "9 * sum_squares(x)"),
    (kr.norm1(x) * kr.norm1(x), "norm1(x)**2"),
]


@pytest.mark.parametrize(("expression", "printed"), SQUARES, ids=[printed for _, printed in SQUARES])
def test_products_with_itself_are_squares(expression: Expression, printed: str) -> None:
    from karush.dsl.printing import text

    assert text(expression) == printed
    assert expression.is_qpwa()


@pytest.mark.parametrize(
    "product",
    [x @ y, x * y, x @ x[::-1], (x + 1) @ x, x @ A @ y, kr.max(x) * kr.min(x), x.reshape(4, 1) @ x.reshape(1, 4)],
    ids=repr,
)
def test_other_products_of_variables_are_none(product: Expression) -> None:
    with pytest.raises(kr.DCPError) as caught:
        kr.Problem(kr.Minimize(kr.sum(product)))
    assert caught.value.diagnostics[0].code == "D01"


def test_questions() -> None:
    asked = kr.abs(p * x) + kr.Constant(2.0)
    assert [leaf.name for leaf in asked.variables()] == ["x"]
    assert [leaf.name for leaf in asked.parameters()] == ["p"]
    assert [float(constant.value.flat[0]) for constant in asked.constants()] == [2.0]
    assert asked.atoms() == ["broadcast_to", "multiply", "abs", "add"]
    assert (asked.size, asked.ndim, asked.shape) == (4, 1, (4,))
    assert asked.is_pwl()
    assert asked.is_dcp()
    assert asked.is_dpp()
    assert not (kr.exp(p) * x).is_dpp()
    assert not asked.is_quadratic()
    assert kr.sum_squares(x - p).is_quadratic()
    assert not kr.square(kr.norm1(x)).is_quadratic()
    assert kr.square(kr.norm1(x)).is_qpwa()
    assert not kr.huber(x).is_quadratic()
    assert kr.exp(p).is_constant()
    assert kr.exp(p).is_nonneg()
    assert (-kr.exp(p)).is_nonpos()
    assert (-kr.abs(x)).is_concave()
    assert not (-kr.abs(x)).is_convex()
    assert P.is_psd()
    assert not P.is_nsd()
    assert not d.is_psd()
    low, high = kr.abs(x).get_bounds()
    assert low.tolist() == [0.0] * 4
    assert np.isinf(high).all()


def test_methods_iteration_and_builtins() -> None:
    array = np.random.default_rng(2).standard_normal((3, 4))
    X = kr.Variable((3, 4), name="X")
    point = {X: torch.tensor(array)}

    def value(expression: Expression) -> np.ndarray:
        return kr.evaluate(expression, point).numpy()

    pairs: list[tuple[Any, Any]] = [
        (X.sum(0), array.sum(0)),
        (X.mean((0, 1)), array.mean()),
        (X.max(1), array.max(1)),
        (X.min(), array.min()),
        (X.ptp(0), np.ptp(array, 0)),
        (X.var(1, ddof=1), array.var(1, ddof=1)),
        (X.cumsum(1), array.cumsum(1)),
        (X[:, :3].trace(), np.trace(array[:, :3])),
        (X.reshape(2, 6), array.reshape(2, 6)),
        (X.flatten(), array.reshape(-1)),
        (abs(X), np.abs(array)),
        (sum(X), array.sum(0)),
        (kr.stack([2 * row for row in X]), 2 * array),
        (kr.sum(row[0] for row in X), array[:, 0].sum()),
        (X**0, np.ones((3, 4))),
        (X**1, array),
        (X**2, array**2),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(value(ours) if ours.variables() else ours.value, theirs, rtol=1e-14, atol=1e-15)
    assert len(X) == 3
    with pytest.raises(kr.ShapeError, match="ddof"):
        X.var(ddof=12)
    for wrong in ("std", "prod"):
        with pytest.raises(AttributeError, match="of data write"):
            getattr(X, wrong)


def test_expressions_copy_and_pickle() -> None:
    expression = kr.square(x[1:]) + kr.sum(p * y)
    for twin in (pickle.loads(pickle.dumps(expression)), copy.deepcopy(expression)):
        assert repr(twin) == repr(expression)
        assert twin.span is not None
        assert expression.span is not None
        assert twin.span.resolve() == expression.span.resolve()


def test_constants_are_copied_and_read_only() -> None:
    array = np.ones(3)
    constant = Constant(array)
    array[0] = 5
    assert constant.value[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        constant.value[0] = 2


def test_a_form_of_data_is_affine_in_its_matrix_and_definiteness_may_be_assumed() -> None:
    S, q = kr.Variable((3, 3), name="S", symmetric=True), kr.Parameter(3, name="q")
    form = kr.quad_form(q, S)
    assert form.is_affine()
    S_hat, q_hat = torch.arange(9.0).reshape(3, 3), torch.tensor([1.0, -2.0, 0.5])
    assert torch.allclose(kr.evaluate(form, {S: S_hat, q: q_hat}), q_hat @ S_hat @ q_hat)
    x, P = kr.Variable(3, name="x"), kr.Parameter((3, 3), name="P")
    stated = kr.Problem(kr.Minimize(kr.quad_form(x - 1, P, assume_PSD=True)))
    solution = kr.compile(stated, on_failure="return")(torch.stack([torch.eye(3), -torch.eye(3)]))
    assert solution.ok.tolist() == [True, False]


def test_products_of_data_with_itself_are_nonnegative() -> None:
    p, q = kr.Parameter(name="p"), kr.Parameter(3, name="q")
    for square in (p * p, q * q, q @ q, (p + 1) * (p + 1), kr.vdot(q - 1, q - 1)):
        assert square.is_nonneg()
    assert not (p * q[0]).is_nonneg()
    assert float(kr.evaluate(q @ q, {q: torch.tensor([1.0, -2, 2])})) == 9.0


def test_objectives_print() -> None:
    x = kr.Variable(3, name="x")
    assert repr(kr.Minimize(kr.sum_squares(x))) == "<minimize sum_squares(x)>"
    assert kr.Maximize(kr.sum(x)).latex() == r"\text{maximize}\quad \mathbf{1}^\top x"
