"""Text as the user would write it: readable, bounded in length, without recursion."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

import catalogue
import karush as kr
from karush.canon.canonicalize import canonicalize
from karush.dsl.printing import LONGEST, text
from language import models

x, y, z = (kr.Variable(4, name=name) for name in "xyz")
X = kr.Variable((3, 4), name="X")
a, B, s = kr.Parameter(4, name="a"), kr.Parameter((4, 4), name="B"), kr.Parameter(name="s", nonneg=True)

# What is printed is what was written, without the package's name.
SPOKEN: list[tuple[str, kr.Expression]] = [
    ("x - y", x - y),
    ("x - (y - z)", x - (y - z)),
    ("x - 2 * y", x - 2 * y),
    ("-2 * x - 3 * y", -2 * x - 3 * y),
    ("-(x + y)", -(x + y)),
    ("a * x * 2", a * x * 2),
    ("a * (x + y)", a * (x + y)),
    ("B @ (x + y) - a", B @ (x + y) - a),
    ("x / (1 + s)", x / (1 + s)),
    ("1 / (1 + s) * x", 1 / (1 + s) * x),
    ("(x - 1)**2", (x - 1) ** 2),
    ("norm1(x - a) + norm_inf(x)", kr.norm1(x - a) + kr.norm_inf(x)),
    ("sum_squares(B @ x - a)", kr.sum_squares(B @ x - a)),
    ("min(x) - max(y)", kr.min(x) - kr.max(y)),
    ("minimum(x, a, 1) + maximum(x, y)", kr.minimum(x, a, 1) + kr.maximum(x, y)),
    ("pos(x) + neg(y - 0.2)", kr.pos(x) + kr.neg(y - 0.2)),
    ("mean(X) + mean(X, axis=0) @ a", kr.mean(X) + kr.mean(X, axis=0) @ a),
    ("trace(X[:, :3])", kr.trace(X[:, :3])),
    ("diff(x) + x[1:]", kr.diff(x) + x[1:]),
    ("stack([x, y]) @ a", kr.stack([x, y]) @ a),
    ("concatenate([x, y[1:3]])", kr.concatenate([x, y[1:3]])),
    ("X.T[1] + X[:, 0]", X.T[1] + X[:, 0]),
    ("X.reshape(2, 6)", X.reshape(2, 6)),
    ("X.flatten()[3:6]", X.flatten()[3:6]),
    ("X[[0, 2], [1, 3]]", X[[0, 2], [1, 3]]),
    ("diag(x, 1) + diag(y, -1)", kr.diag(x, 1) + kr.diag(y, -1)),
    ("cumsum(X) + cumsum(X, axis=1)", kr.cumsum(X) + kr.cumsum(X, axis=1)),
    ("exp(s) * a @ x", kr.exp(s) * a @ x),
    ("quad_form(x, B @ B.T)", kr.quad_form(x, B @ B.T)),
    ("x @ ones(4) + eye(4) @ y", x @ np.ones(4) + np.eye(4) @ y),
    ("sum(x) + abs(x[0])", kr.sum(x) + kr.abs(x[0])),
    ("a**3 * x", a**3 * x),
]


@pytest.mark.parametrize(("spoken", "expression"), SPOKEN, ids=[case[0] for case in SPOKEN])
def test_it_prints_what_was_written(spoken: str, expression: kr.Expression) -> None:
    assert text(expression) == spoken


@pytest.mark.parametrize("build", models.SHOWN, ids=lambda build: build.__name__)
def test_whole_models_are_golden(build: Callable[[], kr.Problem], request: pytest.FixtureRequest) -> None:
    """``--update-golden`` writes what karush says now; look at it."""
    file, said = models.FOLDER / f"{build.__name__}.txt", f"{build()!r}\n"
    if request.config.getoption("--update-golden"):
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


def test_spreading_is_silent_only_where_it_says_itself() -> None:
    assert text(X + a) == "X + a"
    spread = kr.broadcast_to(a, (3, 4))
    assert text(X * 0 + kr.sum(spread)) == "X * 0 + sum(broadcast_to(a))"


def test_texts_are_bounded_and_depth_is_free() -> None:
    long: kr.Expression = x
    for i in range(5000):
        long = long + i * x
    deep: kr.Expression = x
    for _ in range(5000):
        deep = kr.abs(deep) + x
    shared: kr.Expression = x
    for _ in range(500):
        shared = kr.maximum(shared, shared + 1)
    assert sys.getrecursionlimit() <= 5000
    for expression in (long, deep, shared):
        assert len(text(expression)) <= 2 * LONGEST
        assert "..." in text(expression)
        assert len(repr(expression <= 1)) <= 3 * LONGEST
    problem = kr.Problem(kr.Minimize(kr.sum_squares(long)), [x >= i for i in range(500)])
    assert len(repr(problem).splitlines()) < 100
    assert "440 more constraints" in repr(problem)


def test_compiled_things_say_what_they_are() -> None:
    problem = models.portfolio()
    layer = kr.compile(problem, weights={"gamma": 1.0})
    assert repr(layer).startswith("Layer(inputs=[L(20, 5), mu(20,)], weights=[gamma]")
    qp = canonicalize(problem).qp
    assert repr(qp) == "ParamQP(n=40, m=40, k=1; gamma(), L(20, 5), mu(20,) -> x(20,))"
    large = kr.Problem(kr.Minimize(kr.sum_squares(np.random.default_rng(0).standard_normal((300, 200)) @ kr.Variable(200))))
    assert len(repr(canonicalize(large).qp)) < 200
    solution = problem.solve(gamma=1.0, L=torch.randn(3, 20, 5), mu=torch.randn(20))
    assert repr(solution).startswith("Solution(batch (3,): 3 SOLVED; x (3, 20)")


def test_every_model_of_the_catalogue_prints_without_internals() -> None:
    for name, build in catalogue.CASES.items():
        printed = repr(build())
        assert "broadcast_to" not in printed, name
        assert "object at" not in printed, name
        assert "reciprocal" not in printed, name
