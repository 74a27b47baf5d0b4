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
from karush.dsl.sign import Sign

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


def test_definiteness_is_inferred() -> None:
    from karush.dsl.definite import definiteness

    L, P = kr.Parameter((4, 2), name="L"), kr.Parameter((4, 4), name="P", PSD=True)
    N = kr.Parameter((4, 4), name="N", NSD=True)
    for matrix in (
        L @ L.T,
        P,
        P + np.eye(4),
        g * P,
        2 * P,
        P + L @ L.T,
        kr.diag(kr.exp(kr.Parameter(4, name="d"))),
        -N,
        kr.inv(P),
        P.T,
    ):
        assert definiteness(matrix).nonneg, matrix
    for matrix in (-P, N, -2 * P, N - P):
        assert definiteness(matrix).nonpos, matrix
    M = kr.Parameter((4, 4), name="M")
    for matrix in (
        kr.transpose(M, (0, 1)) @ M,
        kr.diag(kr.exp(kr.Parameter(3, name="d")), 1),
        P - L @ L.T,
        p * P,
        kr.Parameter((4, 4), name="S", symmetric=True),
        L @ np.ones((2, 4)),
    ):
        assert definiteness(matrix) == Sign(), matrix


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
