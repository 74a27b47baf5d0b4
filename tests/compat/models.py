"""Models as people write them in cvxpy, one or more for every atom that a quadratic program can represent.

``MODELS`` maps a name to a function that builds a problem; every solution is unique. ``fill`` gives its parameters values, which
respect declared attributes. Nothing here knows karush.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy
import numpy as np

cp: Any = cvxpy  # its atoms carry no types

RNG = np.random.default_rng(1951)
F = RNG.standard_normal((5, 4))
M = RNG.standard_normal((3, 4))
W = RNG.standard_normal(4)


def par(*shape: int, name: str | None = None, **attributes: Any) -> Any:
    return cp.Parameter(shape, name=name, **attributes)


def vector(cost: Callable[[Any], Any], *rows: Callable[[Any], Any], **attributes: Any) -> Callable[[], Any]:
    """A problem in x of length 4, strictly convex around a parameter."""

    def build() -> Any:
        x = cp.Variable(4, name="x", **attributes)
        return cp.Problem(cp.Minimize(cp.sum_squares(x - par(4, name="c")) + cost(x)), [row(x) for row in rows])

    return build


def matrix(cost: Callable[[Any], Any], *rows: Callable[[Any], Any], shape: tuple[int, ...] = (3, 4), **attributes: Any) -> Any:
    """A problem in X of shape (3, 4), or another."""

    def build() -> Any:
        X = cp.Variable(shape, name="X", **attributes)
        centre = np.random.default_rng(3).standard_normal(shape)
        return cp.Problem(cp.Minimize(cp.sum_squares(X - centre) + cost(X)), [row(X) for row in rows])

    return build


def weighted(expression: Any) -> Any:
    """A linear cost that tells every entry from every other: an order of entries got wrong is a wrong answer."""
    weights = np.random.default_rng(5).standard_normal(expression.shape)
    return cp.sum(cp.multiply(weights, expression))


def _maximize() -> Any:
    x = cp.Variable(4, name="x", nonneg=True)
    return cp.Problem(cp.Maximize(par(4) @ x - cp.sum_squares(x) + cp.min(x) - cp.huber(x[0])), [cp.sum(x) <= 1])


def _markowitz() -> Any:
    x = cp.Variable(6, name="x")
    L, mu, gamma = par(6, 3, name="L"), par(6, name="mu"), par(name="gamma", nonneg=True)
    risk = gamma * cp.sum_squares(L.T @ x) + 0.1 * cp.sum_squares(x)
    return cp.Problem(cp.Maximize(mu @ x - risk - 0.1 * cp.norm1(x)), [cp.sum(x) == 1, x <= 0.6])


def _labels() -> Any:
    x = cp.Variable(3, name="x[0]")
    budget, floor = cp.sum(x) == 1, x >= -1
    budget.label, floor.label = "budget", "floor"
    return cp.Problem(cp.Minimize(cp.sum_squares(x - par(3))), [budget, floor])


def _structured() -> Any:
    S = cp.Variable((3, 3), name="S", symmetric=True)
    D = cp.Variable((3, 3), name="D", diag=True)
    Z = cp.Variable((3, 3), name="Z", sparsity=[(0, 1, 2), (2, 0, 1)])
    C = par(3, 3)
    cost = cp.sum_squares(S - C) + cp.sum_squares(D - C) + cp.sum_squares(Z - 2 * C)
    return cp.Problem(cp.Minimize(cost + weighted(S @ np.ones(3))), [cp.trace(D) == 1, S[0, 1] <= 0.1, cp.sum(Z) >= 0])


def _bounded() -> Any:
    lower = par(4, name="lower", nonpos=True)
    x = cp.Variable(4, name="x", bounds=[lower, np.array([0.5, np.inf, 0.2, 1.0])])
    y = cp.Variable(2, name="y", bounds=[-1, None])
    z = cp.Variable(2, name="z", pos=True)
    w = cp.Variable(2, name="w", neg=True)
    c = par(4, name="c")
    cost = cp.sum_squares(x - 2 * c) + cp.sum_squares(y - 2 * c[:2]) + cp.sum_squares(z - c[2:]) + cp.sum_squares(w - c[2:])
    return cp.Problem(cp.Minimize(cost), [cp.sum(x) + cp.sum(y) == 0.3])


def _several_shapes() -> Any:
    x, y, Y = cp.Variable(name="x"), cp.Variable((1, 1), name="y"), cp.Variable((2, 1, 3), name="Y")
    cost = cp.sum_squares(x - 1) + cp.square(y - par()) + cp.sum_squares(Y - 0.3)
    return cp.Problem(cp.Minimize(cost), [x + y <= 1, Y[:, 0, 1] == x, cp.sum(Y, axis=(0, 2)) >= 2])


def _zero_and_cones() -> Any:
    x = cp.Variable(4, name="x")
    rows = [cp.constraints.Zero(cp.sum(x) - 1), cp.constraints.NonNeg(x - 0.1)]
    return cp.Problem(cp.Minimize(cp.sum_squares(x - par(4))), rows)


MODELS: dict[str, Callable[[], Any]] = {
    # Operators
    "arithmetic": vector(lambda x: cp.sum(2 * x - x / 4 + (-x) * par() + 1), lambda x: 3 - x >= par(4), lambda x: x + 3 >= W),
    "parameter over parameter": vector(lambda x: cp.sum(x / (1 + par(nonneg=True))) + cp.sum_squares(x) / par(pos=True)),
    "multiply": vector(lambda x: cp.sum(cp.multiply(par(4), x)), lambda x: cp.multiply(x, W) <= 0.5),
    "@": vector(lambda x: cp.sum_squares(par(3, 4) @ x), lambda x: x @ par(4, 2) <= 1, lambda x: W @ x >= -0.2),
    "matrix @ matrix": matrix(lambda X: weighted(M.T @ X), lambda X: X @ par(4, 2) <= 1, lambda X: W @ X.T <= 1),
    "scalar broadcast": matrix(lambda X: cp.sum_squares(X - par()), lambda X: par(4) >= X, lambda X: np.ones((3, 1)) >= X),
    "index": matrix(
        lambda X: weighted(X[1, ::-1]) + X[-1, -1], lambda X: X[::2, 1:3] <= 0.2, lambda X: X[:, 0] >= -0.5, lambda X: X[2] <= 1
    ),
    "masks and lists": matrix(
        lambda X: weighted(X[np.eye(3, 4) > 0]) + weighted(X[[0, 2], [1, 3]]),
        lambda X: X[:, [1, 1, 3]] <= 0.3,
        lambda X: X[np.array([True, False, True])] >= -1,
        lambda X: X[None, 1] <= 0.4,
    ),
    "transpose": matrix(lambda X: weighted(X.T), lambda X: X.T @ par(3) <= 0.1),
    "axes": matrix(
        lambda X: weighted(cp.transpose(X, (2, 0, 1))) + weighted(cp.swapaxes(X, 0, 2)) + weighted(cp.moveaxis(X, 0, 1)),
        lambda X: cp.permute_dims(X, [1, 2, 0])[0] <= 0.2,
        shape=(2, 3, 2),
    ),
    "reshape F": matrix(lambda X: weighted(cp.reshape(X, (2, 6), order="F")), lambda X: cp.reshape(X, (4, 3), order="F")[0] <= 0.1),
    "reshape C": matrix(lambda X: weighted(cp.reshape(X, (6, -1), order="C"))),
    "reshape of three axes": matrix(lambda X: weighted(cp.reshape(X, (3, 4), order="F")), shape=(2, 3, 2)),
    "vec": matrix(lambda X: weighted(cp.vec(X, order="F")), lambda X: cp.vec(X, order="C")[:3] <= 0.1),
    "flatten": matrix(lambda X: weighted(X.flatten(order="F")), lambda X: X.flatten(order="C")[5:] <= 0.3),
    "squeeze": matrix(lambda X: weighted(cp.squeeze(X)), shape=(3, 1, 2)),
    "sum": matrix(lambda X: weighted(cp.sum(X, axis=0)), lambda X: cp.sum(X, axis=1, keepdims=True) <= 0.5),
    "mean": matrix(lambda X: cp.mean(X) + weighted(cp.mean(X, axis=1)), lambda X: cp.mean(X, axis=0) <= par(4)),
    "cumsum": matrix(
        lambda X: weighted(cp.cumsum(X, axis=1)), lambda X: cp.cumsum(X, axis=0) <= 1, lambda X: cp.cumsum(X, None) <= 2
    ),
    "diff": matrix(lambda X: cp.sum_squares(cp.diff(X, axis=1)), lambda X: cp.diff(X, 2, axis=0) <= 0.1),
    "trace": matrix(lambda X: cp.trace(X @ par(4, 3))),
    "diag": matrix(lambda X: weighted(cp.diag(X[:, :3])) + weighted(cp.diag(X[0], 1)), lambda X: cp.diag(X[:3, 1:], -1) <= 0.1),
    "upper_tri": matrix(lambda X: cp.sum(np.arange(6.0) @ cp.upper_tri(X)), lambda X: cp.upper_tri(X) <= 0.3, shape=(4, 4)),
    "vec_to_upper_tri": vector(lambda x: weighted(cp.vec_to_upper_tri(x[:3])) + weighted(cp.vec_to_upper_tri(x[1:], strict=True))),
    "hstack": vector(lambda x: weighted(cp.hstack([x, 2 * x[:2], 1.0])), lambda x: cp.hstack([par(2), x[0]]) <= 3),
    "hstack of matrices": matrix(lambda X: weighted(cp.hstack([X, M @ np.ones((4, 1))]))),
    "vstack": vector(lambda x: weighted(cp.vstack([x, par(4), -x])), lambda x: cp.vstack([x[0], x[1]]) <= 0.4),
    "stack and concatenate": matrix(
        lambda X: weighted(cp.stack([X, 2 * X], axis=1)) + weighted(cp.concatenate([X, M], axis=0)),
        lambda X: cp.concatenate([X[0], par(2)], axis=0) <= 3,
    ),
    "bmat": matrix(lambda X: weighted(cp.bmat([[X, M], [np.ones((1, 4)), X[1:2]]])), lambda X: cp.bmat([[X[0], X[1]]]) <= 0.5),
    "broadcast_to": vector(lambda x: weighted(cp.broadcast_to(x, (3, 4)))),
    "kron": matrix(
        lambda X: weighted(cp.kron(np.array([[1.0, 2.0], [0.0, -1.0]]), X)), lambda X: cp.kron(X[:2, :2], np.ones((1, 2))) <= 0.6
    ),
    "convolve": vector(lambda x: weighted(cp.convolve([1.0, -2.0, 0.5], x)), lambda x: cp.convolve(par(2), x) <= 1),
    "outer": vector(lambda x: weighted(cp.outer(x, W)), lambda x: cp.outer(par(2), x) <= 1),
    "vdot": vector(lambda x: cp.vdot(par(4), x) + cp.scalar_product(x, W)),
    "einsum": matrix(lambda X: weighted(cp.einsum("ij,kj->ki", X, np.arange(8.0).reshape(2, 4)))),
    "partial_trace": matrix(
        lambda X: weighted(cp.partial_trace(X, (2, 2), 0)) + weighted(cp.partial_transpose(X, (2, 2), 1)), shape=(4, 4)
    ),
    "conjugate": vector(lambda x: W @ cp.conj(x)),
    "wraps": matrix(
        lambda X: weighted(cp.symmetric_wrap(X)) + cp.quad_form(X[0], cp.psd_wrap(par(3, 3, PSD=True))),
        shape=(3, 3),
    ),
    # Piecewise linear
    "abs": vector(lambda x: cp.sum(cp.multiply(par(4, nonneg=True), cp.abs(x))), lambda x: cp.abs(x[0]) <= 0.1),
    "norm1": vector(lambda x: par(nonneg=True) * cp.norm1(F @ x - par(5)), lambda x: cp.norm(x, 1) <= 2),
    "norm_inf": vector(lambda x: cp.norm_inf(x), lambda x: cp.norm(x - 1, "inf") <= 2),
    "norms along axes": matrix(
        lambda X: cp.sum(cp.norm(X, 1, axis=0)) + cp.max(cp.norm(X, np.inf, axis=1)), lambda X: cp.pnorm(X, 1) <= 5
    ),
    "matrix norms": matrix(lambda X: cp.norm(X, 1) + cp.norm(X, "inf")),
    "mixed_norm": matrix(lambda X: cp.mixed_norm(X, 1, np.inf) + cp.mixed_norm(X, np.inf, 1)),
    "norm of single entries": matrix(lambda X: cp.sum(cp.norm(X, 2, axis=1)) + cp.norm(X[0], 2), shape=(4, 1)),
    "max": matrix(lambda X: cp.max(X) + cp.sum(cp.max(X, axis=1)), lambda X: cp.max(X, axis=0, keepdims=True) <= 0.5),
    "min": matrix(lambda X: -cp.min(X) - cp.sum(cp.min(X, axis=0)), lambda X: cp.min(X, axis=1) >= -0.3),
    "maximum": vector(lambda x: cp.sum(cp.maximum(x, par(4), 2 * x - 1)), lambda x: cp.maximum(x, -x, 0) <= 1),
    "minimum": vector(lambda x: -2 * cp.sum(cp.minimum(x, 0.1)), lambda x: cp.minimum(x[0], x[1]) >= -0.2),
    "pos and neg": vector(lambda x: cp.sum(cp.pos(x)) + par(nonneg=True) * cp.sum(cp.neg(x - 0.2))),
    "scalene": vector(lambda x: cp.sum(cp.scalene(x, 0.5, 2.0)) + cp.sum(cp.scalene(x, par(nonneg=True), 1))),
    "ptp": matrix(lambda X: cp.ptp(X) + cp.sum(cp.square(cp.ptp(X, axis=0)))),
    "cummax": vector(lambda x: cp.sum(cp.cummax(x)), lambda x: cp.cummax(x)[2] <= 0.2),
    "sum_largest": vector(lambda x: cp.sum_largest(x, 2) + cp.sum_largest(x, 2.5), lambda x: cp.sum_largest(x, 3) <= 1),
    "sorted sums of matrices": matrix(
        lambda X: cp.sum(cp.cummax(X, axis=1)) + cp.sum(cp.sum_largest(X, 2, axis=0)) + cp.dotsort(X, np.arange(3.0)),
        lambda X: cp.cummax(X, axis=0)[2] <= 0.6,
    ),
    "sorted by parameters": vector(lambda x: cp.dotsort(x, par(3)) + par(nonneg=True) * cp.sum_largest(F @ x - par(5), 2)),
    "sum_smallest": vector(lambda x: -cp.sum_smallest(x, 2), lambda x: cp.sum_smallest(x, 1) >= -0.4),
    "cvar": vector(lambda x: 3 * cp.cvar(F @ x, 0.5), lambda x: cp.cvar(x, 0.75) <= 0.5),
    "dotsort": vector(lambda x: cp.dotsort(x, [3.0, 1.0]) + cp.dotsort(x, W)),
    "tv": vector(lambda x: cp.tv(x)),
    "indicator": vector(lambda x: cp.transforms.indicator([cp.abs(x) <= 0.8, cp.sum(x) == 0.3, cp.NonNeg(x[0] + 0.1)])),
    "suppfunc": vector(lambda x: (lambda u: cp.suppfunc(u, [cp.norm1(u) <= 1, u >= -0.4, u[0] == 0.1])(x))(cp.Variable(4))),
    "suppfunc of a matrix": matrix(
        lambda X: (lambda U: cp.suppfunc(U, [cp.abs(U) <= 1, cp.sum(U, axis=0) == 0.2])(X - 1))(cp.Variable((3, 4)))
    ),
    "nested": vector(lambda x: cp.max(cp.abs(x) + cp.pos(F[:4] @ x)), lambda x: cp.norm1(cp.pos(x)) <= 1),
    # Quadratic
    "square": vector(lambda x: cp.sum(cp.multiply(par(4, nonneg=True), cp.square(x - 1))) + cp.sum(cp.power(x, 2)) + x[0] ** 2),
    "powers": vector(
        lambda x: cp.sum(cp.power(x, 1)) + cp.sum(cp.power(par(4, pos=True), 3) @ x) + cp.power(par(), 2) * x[0] + x[1] ** 0
    ),
    "sum_squares": matrix(lambda X: par(nonneg=True) * cp.sum_squares(X) + cp.sum(cp.sum_squares(X, axis=0))),
    "quad_over_lin": vector(lambda x: cp.quad_over_lin(F @ x, 2.0) + cp.quad_over_lin(x, par(pos=True))),
    "quad_form": vector(
        lambda x: cp.quad_form(x, F.T @ F) + cp.quad_form(x - par(4), par(4, 4, PSD=True)) - cp.quad_form(x, par(4, 4, NSD=True))
    ),
    "quad_form of sums": vector(lambda x: cp.quad_form(x, par(4, 4, PSD=True) + 2 * par(4, 4, PSD=True) + np.eye(4))),
    "quad_form of a nearly symmetric matrix": vector(lambda x: cp.quad_form(x, F.T @ F, assume_PSD=True)),
    "huber": vector(lambda x: cp.sum(cp.huber(x, 0.3)) + cp.sum(cp.huber(F @ x, par(nonneg=True)))),
    "variance": vector(lambda x: cp.var(x) + cp.var(F @ x, ddof=1)),
    "squares of piecewise": vector(lambda x: cp.square(cp.norm1(x)) + cp.sum_squares(cp.abs(x)) + cp.square(cp.pos(cp.max(x)))),
    # Functions of parameters
    "products of parameters": vector(
        lambda x: (par() * par(4)) @ x + cp.abs(par(4)) @ cp.abs(x) + cp.sum_squares(par(3, 3) @ par(3, 4) @ x)
    ),
    "functions of parameters": vector(
        lambda x: cp.exp(par()) * cp.norm1(x) + cp.sqrt(par(pos=True)) * x[0] + cp.log(par(pos=True)) * x[1],
        lambda x: x <= cp.square(par(4)),
        lambda x: x >= -cp.inv_pos(par(pos=True)) - cp.logistic(par(4)),
    ),
    "more functions of parameters": vector(
        lambda x: cp.log_sum_exp(par(3)) * x[0] + cp.norm(par(3), 2) * cp.abs(x[1]) + cp.pnorm(par(3), 3) * cp.abs(x[2]),
        lambda x: x <= 2 + cp.geo_mean(par(3, pos=True)) + cp.std(par(3)) - cp.entr(par(pos=True)),
        lambda x: (
            x[0]
            >= -3 - cp.log1p(par(pos=True)) - cp.kl_div(par(pos=True), 2.0) - cp.rel_entr(par(pos=True), 3.0) - cp.tr_inv(np.eye(2))
        ),
        lambda x: cp.prod(par(3)) * x[1] <= 3 + cp.matrix_frac(par(2), np.eye(2)) + cp.harmonic_mean(par(3, pos=True)),
    ),
    "functions of constants": vector(
        lambda x: cp.lambda_max(np.diag([1.0, 2.0])) * cp.sum(x) + cp.log_det(2 * np.eye(3)) * x[0], lambda x: x <= cp.normNuc(M)
    ),
    "norms of parameters": vector(
        lambda x: cp.norm(par(3, 2), "fro") * cp.norm1(x) + cp.mixed_norm(par(2, 3), 2, 1) * cp.abs(x[0])
    ),
    # Whole models
    "maximize": _maximize,
    "markowitz": _markowitz,
    "labels": _labels,
    "structured variables": _structured,
    "bounded variables": _bounded,
    "several shapes": _several_shapes,
    "cones": _zero_and_cones,
    "signed variables": vector(lambda x: cp.sum(x), lambda x: cp.sum(x) <= 0.7, nonneg=True),
    "trivial constraints": lambda: (lambda x: cp.Problem(cp.Minimize(cp.sum_squares(x)), [True, x >= 0.2]))(
        cp.Variable(2, name="x")
    ),
    "no objective": lambda: (lambda x: cp.Problem(cp.Minimize(0), [x == par(2)]))(cp.Variable(2, name="x")),
}


def fill(problem: Any, seed: int = 0) -> dict[int, np.ndarray]:
    """Values for all parameters, by cvxpy's id, within their declared attributes."""
    rng = np.random.default_rng(seed)
    values = {}
    for parameter in sorted(problem.parameters(), key=lambda p: p.id):
        raw = np.asarray(rng.standard_normal(parameter.shape))
        given = parameter.attributes
        if given["PSD"] or given["NSD"]:
            raw = (raw @ raw.T / 4) * (1 if given["PSD"] else -1)
        elif given["nonneg"] or given["pos"]:
            raw = np.abs(raw) + 0.1
        elif given["nonpos"] or given["neg"]:
            raw = -np.abs(raw) - 0.1
        values[parameter.id] = raw
    return values
