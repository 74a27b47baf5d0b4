"""Models that exercise every atom, operator and constraint type once, each with a unique solution.

``CASES`` maps a name to a function that builds the problem; ``values`` draws one item of its parameters from a seeded generator,
respecting declared attributes. Everything that compares with an oracle runs over this table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import karush as kr

RNG = np.random.default_rng(20170804)
F = RNG.standard_normal((6, 4))
C = RNG.standard_normal((3, 4))


def x4() -> kr.Variable:
    return kr.Variable(4, name="x")


def near(x: kr.Variable) -> kr.Expression:
    """A strictly convex cost around a parameter, which makes the solution unique."""
    return kr.sum_squares(x - kr.Parameter(x.shape, name="c"))


def vector(objective: Callable[[kr.Variable], Any], *rows: Callable[[kr.Variable], Any]) -> Callable[[], kr.Problem]:
    """A problem in x of length 4: near(x) + objective(x)."""

    def build() -> kr.Problem:
        x = x4()
        return kr.Problem(kr.Minimize(near(x) + objective(x)), [row(x) for row in rows])

    return build


def matrix(objective: Callable[[kr.Variable], Any], *rows: Callable[[kr.Variable], Any]) -> Callable[[], kr.Problem]:
    """A problem in X of shape (3, 4)."""

    def build() -> kr.Problem:
        X = kr.Variable((3, 4), name="X")
        return kr.Problem(kr.Minimize(near(X) + objective(X)), [row(X) for row in rows])

    return build


def par(*shape: int, name: str = "a", **attributes: bool) -> kr.Parameter:
    return kr.Parameter(shape, name=name, **attributes)


def nothing(x: kr.Variable) -> float:
    return 0.0


def _maximize() -> kr.Problem:
    x = x4()
    c = par(4, name="c")
    return kr.Problem(kr.Maximize(c @ x - kr.sum_squares(x) + kr.min(x)), {"cap": kr.sum(x) <= 1, "floor": x >= -1})


def _two_variables() -> kr.Problem:
    x, y = x4(), kr.Variable((2, 2), name="y")
    a = par(4, 4)
    cost = kr.sum_squares(a @ x - y.reshape(4)) + 0.5 * kr.sum_squares(x) + kr.sum_squares(y - par(2, 2, name="c"))
    return kr.Problem(kr.Minimize(cost), {"link": x[:2] == y[0], "cap": y <= 1})


def _quad_form_everywhere() -> kr.Problem:
    x = x4()
    P, c, g = par(4, 4, name="P", PSD=True), par(4, name="c"), par(name="g", nonneg=True)
    return kr.Problem(kr.Minimize((g + 0.1) * kr.quad_form(x - c, P + np.eye(4)) + kr.sum(x)), [x <= 1])


def _portfolio() -> kr.Problem:
    x = kr.Variable(6, name="x")
    L, gamma, mu = par(6, 3, name="L"), par(name="gamma", nonneg=True), par(6, name="mu")
    risk = gamma * kr.sum_squares(L.T @ x) + 0.1 * kr.sum_squares(x)
    return kr.Problem(kr.Minimize(risk - mu @ x + 0.1 * kr.norm1(x)), {"budget": kr.sum(x) == 1, "long only": x >= 0})


def _learned() -> kr.Problem:
    x = x4()
    c, A, v = par(4, name="c"), par(2, 4, name="A"), par(4, name="v")
    return kr.Problem(kr.Minimize(0.05 * kr.sum_squares(x) - c @ x), {"rules": A @ x == A @ kr.exp(v), "sign": x >= 0})


def _equality_only() -> kr.Problem:
    x = x4()
    return kr.Problem(kr.Minimize(near(x)), [par(2, 4) @ x == par(2, name="b")])


def _unconstrained() -> kr.Problem:
    x = x4()
    return kr.Problem(kr.Minimize(kr.sum_squares(par(6, 4) @ x - par(6, name="b")) + 0.1 * kr.sum_squares(x)))


def _linear_program() -> kr.Problem:
    x = x4()
    return kr.Problem(kr.Minimize(par(4, name="c") @ x), [x >= -1, x <= 1, kr.sum(x) == 0.5])


def _function(x: kr.Variable) -> kr.Expression:
    theta = par(4)
    return kr.sum(kr.multiply(kr.function(torch.exp, theta, shape=4, nonneg=True), kr.square(x)))


def _support(x: kr.Variable) -> kr.Expression:
    u, t = kr.Variable((2, 2)), kr.Variable(2, nonneg=True)
    inside = [u <= par(name="top", nonneg=True) + 0.1, u[0] >= -t, kr.sum(t) <= par(name="all", nonneg=True), kr.sum(u[1]) == 0.2]
    return kr.suppfunc(u, {"inside": inside})(x.reshape(2, 2) - 0.1)


def _declared_signs() -> kr.Problem:
    x, y = kr.Variable(3, name="x", nonneg=True), kr.Variable(3, name="y", nonpos=True)
    c = par(3, name="c")
    return kr.Problem(kr.Minimize(kr.sum_squares(x - c) + kr.sum_squares(y - c)), {"sum": kr.sum(x + y) <= 0.3})


def _no_parameters() -> kr.Problem:
    x = x4()
    return kr.Problem(kr.Minimize(kr.sum_squares(F @ x - 1.0)), [x >= 0.1, kr.sum(x) <= 2])


CASES: dict[str, Callable[[], kr.Problem]] = {
    # Operators and affine atoms
    "add, subtract, scale": vector(lambda x: kr.sum(2 * x - x / 4 + (-x) * par(4) + 1), lambda x: 3 - x >= par(4, name="b")),
    "matrix product": vector(lambda x: kr.sum_squares(F @ x), lambda x: par(3, 4) @ x <= 1),
    "vector products": vector(lambda x: par(4) @ x + x @ np.ones(4), lambda x: x @ par(4, 2, name="b") <= 1),
    "nested products": vector(lambda x: kr.sum_squares(par(2, 3) @ (par(3, 4, name="b") @ x))),
    "index": vector(lambda x: x[0] - x[-1] + kr.sum(x[1:3]), lambda x: x[::2] <= 0.2, lambda x: x[::-1][:2] >= -0.5),
    "advanced index": matrix(lambda X: kr.sum(X[[0, 2], [1, 3]]) + kr.sum(X[np.eye(3, 4) > 0]), lambda X: X[:, [1, 1]] <= 0.3),
    "matrix variable": matrix(lambda X: kr.sum(par(2, 3) @ X @ np.ones(4)), lambda X: X @ par(4, 2, name="b") <= 1),
    "transpose": matrix(lambda X: kr.sum_squares(X.T @ par(3)), lambda X: X.T[1] <= 0.1),
    "reshape": matrix(lambda X: kr.sum(X.reshape(2, 6) @ par(6)), lambda X: X.flatten()[3:6] == 0.2),
    "sum": matrix(lambda X: kr.sum(X, axis=0) @ par(4), lambda X: kr.sum(X, axis=1, keepdims=True) <= 0.5),
    "mean": matrix(lambda X: 3 * kr.mean(X), lambda X: kr.mean(X, axis=0) <= par(4)),
    "stacking": vector(
        lambda x: kr.sum_squares(kr.vstack([x, par(4)]) @ np.arange(4.0)),
        lambda x: kr.hstack([x, 2 * x[:2]]) <= 0.8,
        lambda x: kr.concatenate([x, par(2, name="b") * 0.1 - x[1:3]]) >= -2,
        lambda x: kr.stack([x, x[::-1]]) @ np.ones(4) <= 1.5,
    ),
    "diag": vector(lambda x: kr.sum(kr.diag(x) @ par(4, 2)), lambda x: kr.diag(kr.diag(x, 1), 1) <= 0.4),
    "thin diagonals": matrix(
        lambda X: kr.sum(kr.diag(X[:1]) * par(1)) + kr.sum(kr.diag(X[:, 2:3])) + kr.sum(kr.diag(X, 2)),
        lambda X: kr.diag(X.T, -1) <= 0.2,
    ),
    "stacks of matrices": matrix(
        lambda X: kr.sum_squares(X.reshape(3, 2, 2) @ par(2)), lambda X: par(2, name="b") @ X.reshape(3, 2, 2) <= 1
    ),
    "trace": matrix(lambda X: kr.trace(X @ par(4, 3)), lambda X: kr.diag(X[:, :3]) <= 0),
    "cumsum": matrix(lambda X: kr.sum_squares(kr.cumsum(X, 1)), lambda X: kr.cumsum(X, 0) <= par(3, 4)),
    "diff": vector(lambda x: kr.sum_squares(kr.diff(x)), lambda x: kr.diff(x, 2) <= 0.1),
    "broadcast": matrix(lambda X: kr.sum_squares(X - par(4)), lambda X: par(3, 1, name="b") >= X, lambda X: par(name="d") >= X[0]),
    # Piecewise linear
    "abs": vector(lambda x: kr.sum(kr.multiply(par(4, nonneg=True), kr.abs(x))), lambda x: kr.abs(x[0]) <= 0.1),
    "norm1": vector(lambda x: par(nonneg=True) * kr.norm1(F @ x - par(6, name="b"))),
    "norm_inf": vector(lambda x: kr.norm_inf(x), lambda x: kr.norm_inf(x - 1) <= 2),
    "max": matrix(lambda X: kr.max(X) + kr.sum(kr.max(X, axis=1)), lambda X: kr.max(X, axis=0, keepdims=True) <= 0.5),
    "min": vector(lambda x: -kr.min(x), lambda x: kr.min(x) >= -0.3),
    "maximum": vector(lambda x: kr.sum(kr.maximum(x, par(4), 2 * x - 1)), lambda x: kr.maximum(x, -x) <= 1),
    "minimum": vector(lambda x: -2 * kr.sum(kr.minimum(x, 0.1)), lambda x: kr.minimum(x[0], x[1]) >= -0.2),
    "ptp": vector(lambda x: kr.ptp(x) + kr.square(kr.ptp(F[:3] @ x - par(3))), lambda x: kr.ptp(x[:2]) <= 0.4),
    "cummax": matrix(lambda X: kr.sum(kr.cummax(X, 1) @ par(4, nonneg=True)), lambda X: kr.cummin(X, 0)[-1] >= -0.2),
    "sum_largest": vector(
        lambda x: kr.sum_largest(F @ x - par(6), 2.5) - kr.sum_smallest(x, 2), lambda x: kr.sum_largest(x, 2) <= 0.7
    ),
    "dotsort": vector(lambda x: kr.dotsort(x, [2.0, 1, 1]) + kr.dotsort(x - par(4), par(3, name="w"))),
    "indicator": vector(
        lambda x: 2 * kr.indicator([kr.abs(x) <= 0.8, x[1:] <= 0.3, kr.sum(x) == 0.5 * kr.tanh(par())]),
        lambda x: kr.indicator([x[:2] <= 0.1]) <= 1,
    ),
    "suppfunc": vector(lambda x: _support(x)),
    "pos and neg": vector(lambda x: kr.sum(kr.pos(x)) + par(nonneg=True) * kr.sum(kr.neg(x - 0.2))),
    "nested": vector(lambda x: kr.max(kr.abs(x) + kr.pos(F[:4] @ x)), lambda x: kr.norm1(kr.pos(x)) <= 1),
    # Quadratic
    "square": vector(lambda x: kr.sum(kr.multiply(par(4, nonneg=True), kr.square(x - 1))), lambda x: kr.sum(x) == 1),
    "square of piecewise": vector(lambda x: kr.square(kr.norm1(x)) + kr.sum_squares(kr.pos(x - 0.1))),
    "sum_squares": vector(lambda x: par(nonneg=True) * kr.sum_squares(par(5, 4, name="B") @ x - par(5, name="b"))),
    "quad_form": vector(lambda x: kr.quad_form(x, par(4, 4, PSD=True)) - kr.quad_form(x, np.diag([-1.0, -2, 0, 0]))),
    "quad_form everywhere": _quad_form_everywhere,
    "quad_form factor": vector(lambda x: (lambda L: kr.quad_form(x, L @ L.T))(par(4, 2))),
    "quad_form of rows": matrix(
        lambda X: (
            par(3, nonneg=True) @ kr.quad_form(X, par(4, 4, name="P", PSD=True))
            + kr.sum(kr.quad_form(par(3, 3, name="M") @ X, np.eye(4)))
        )
    ),
    "huber": vector(lambda x: kr.sum(kr.huber(x, 0.3)) + kr.sum(kr.huber(F @ x, par(nonneg=True) + 0.1))),
    # Functions of parameters
    "functions": vector(
        lambda x: kr.exp(par()) * kr.norm1(x) + kr.sum(kr.multiply(kr.softplus(par(4, name="b")), kr.square(x))),
        lambda x: kr.multiply(kr.tanh(par(4, name="d")), x) <= kr.sqrt(kr.exp(par(4, name="f"))),
        lambda x: kr.sigmoid(par(name="g")) + kr.sin(par(name="s")) * x[0] + kr.cos(par(name="t")) >= -2,
    ),
    "division and power": vector(lambda x: kr.sum(x / (1 + par(4) ** 2)) + kr.sum_squares(x) / (2 + par(name="p") ** 4)),
    "products of parameters": vector(lambda x: (par() * par(4, name="b")) @ x, lambda x: kr.abs(par(4, name="d")) @ x <= 1),
    "norms of data": vector(lambda x: (1 + kr.norm(par(4))) * kr.norm1(x) + kr.norm2(par(2, 3, name="b"), 1) @ x[:2]),
    "factors": vector(
        lambda x: (
            kr.sum_squares(kr.cholesky(par(4, 4, PSD=True) + np.eye(4)) @ x)
            + kr.solve(par(4, 4, name="A", PSD=True) + np.eye(4), par(4, name="b")) @ x
        )
    ),
    "inverse": vector(
        lambda x: kr.sum(kr.inv(par(4, 4, PSD=True) + np.eye(4)) @ x), lambda x: x >= kr.log(kr.exp(par(4, name="b")))
    ),
    "assume": vector(lambda x: kr.assume(par() ** 3 + 30, nonneg=True) * kr.norm1(x)),
    "function": vector(_function),
    # Whole models
    "maximize": _maximize,
    "two variables": _two_variables,
    "portfolio": _portfolio,
    "learned equality": _learned,
    "equality only": _equality_only,
    "unconstrained": _unconstrained,
    "linear program": _linear_program,
    "declared signs": _declared_signs,
    "no parameters": _no_parameters,
    "constant objective": lambda: (lambda x: kr.Problem(kr.Minimize(3.0), [x == par(2)]))(kr.Variable(2, name="x")),
}


def values(problem: kr.Problem, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One item of every parameter."""
    return {name: _draw(parameter, rng) for name, parameter in problem.parameters.items()}


def batch(problem: kr.Problem, size: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """A batch of every parameter, float64."""
    rng = np.random.default_rng(seed)
    items = [values(problem, rng) for _ in range(size)]
    return {name: torch.tensor(np.stack([item[name] for item in items])) for name in problem.parameters}


def _draw(parameter: kr.Parameter, rng: np.random.Generator) -> np.ndarray:
    raw = np.asarray(rng.standard_normal(parameter.shape))
    if parameter.attributes.PSD:
        return raw @ raw.T / 4
    if parameter.attributes.nonneg:
        return np.abs(raw) + 0.1
    return raw
