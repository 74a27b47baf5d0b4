"""How large the canonical problem is: never larger than cvxpy's own of the same model, bounds counted as rows on both sides."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import karush as kr
from catalogue import CASES, values
from karush.canon.canonicalize import canonicalize
from karush.canon.param_qp import ParamQP

w = kr.Variable(5, name="w")
c = kr.Parameter(5, name="c")
F = np.random.default_rng(0).standard_normal((7, 5))


def compiled(cost: Any, *rows: kr.Constraint) -> ParamQP:
    return canonicalize(kr.Problem(kr.Minimize(cost), list(rows))).qp


def size(qp: ParamQP) -> int:
    bounds = sum(int(np.isfinite(side.constant.toarray()).sum()) for side in (qp.lb, qp.ub) if side is not None)
    return qp.n + qp.m + qp.k + bounds


@pytest.mark.filterwarnings("ignore:The problem includes expressions")  # on which of its ways cvxpy takes
@pytest.mark.parametrize("name", [name for name in CASES if name != "function"])  # which cvxpy has not
def test_never_larger_than_cvxpy(name: str) -> None:
    pytest.importorskip("cvxpy")
    problem = CASES[name]()
    data, _, _ = problem.to_cvxpy(values(problem, np.random.default_rng(0))).problem.get_problem_data("CLARABEL")
    bounds = sum(int(np.isfinite(side).sum()) for side in map(data.get, ("lower_bounds", "upper_bounds")) if side is not None)
    assert size(canonicalize(problem).qp) <= sum(data["A"].shape) + bounds


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (lambda f: kr.sum(f(w)) + kr.max(f(w)), lambda f: (lambda both: kr.sum(both) + kr.max(both))(f(w))),
        (lambda f: kr.sum(f(2 * w - c)) + kr.max(f(2 * w - c)), lambda f: (lambda g: kr.sum(g) + kr.max(g))(f(2 * w - c))),
        (lambda f: kr.sum(f(F @ w)) + kr.max(f(F @ w)), lambda f: (lambda both: kr.sum(both) + kr.max(both))(f(F @ w))),
    ],
)
def test_formulas_that_are_written_twice_are_expanded_once(
    once: Callable[[Any], kr.Expression], twice: Callable[[Any], kr.Expression]
) -> None:
    assert compiled(once(kr.abs)) == compiled(twice(kr.abs))


def test_what_differs_is_not_shared() -> None:
    other, first = kr.Variable(5, name="other"), compiled(kr.norm1(w - 1) + kr.norm_inf(w - 1)).n
    for cost in (
        kr.norm1(w - 1) + kr.norm_inf(w - 2),
        kr.norm1(w - 1) + kr.norm_inf(w[::-1] - 1),
        kr.norm1(w - c) + kr.norm_inf(w - kr.Parameter(5, name="d")),
        kr.norm1(w - 1) + kr.norm_inf(1 - w),
    ):
        assert compiled(cost).n == first + 5
    assert compiled(kr.norm1(w) + kr.norm_inf(other)).n == first + 10


def test_shared_formulas_keep_the_answer_and_the_multipliers() -> None:
    t = kr.Variable(5, name="t", nonneg=True)
    cost = kr.sum_squares(w - c)
    shared = kr.Problem(kr.Minimize(cost + kr.norm1(w)), {"leverage": kr.norm1(w) <= 1.5, "position": kr.abs(w) <= 0.5})
    apart = kr.Problem(
        kr.Minimize(cost + kr.sum(t)), {"leverage": kr.sum(t) <= 1.5, "position": t <= 0.5, "up": w <= t, "down": w >= -t}
    )
    given = torch.tensor([3.0, -2, 1.2, 0.9, 0.1], dtype=torch.float64)
    ours, expected = shared.solve(c=given), apart.solve(c=given)
    torch.testing.assert_close(ours["w"], expected["w"])
    for name in ("leverage", "position"):
        torch.testing.assert_close(ours.dual(name), expected.dual(name), atol=1e-7, rtol=1e-6)


def test_large_sparse_models_are_never_written_out() -> None:
    n = 5000
    A = sparse.random_array((n, n), density=10 / n, rng=np.random.default_rng(0), format="csr")
    x, center, h = kr.Variable(n, name="x"), kr.Parameter(n, name="center"), kr.Parameter(n, name="h")
    tracemalloc.start()
    try:
        rows = [A @ x <= h, kr.diff(x) <= 0.5, x[1:] - x[:-1] >= -0.5, x @ A >= -1, x >= -1, x <= 1]
        layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - center)), rows))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "n=5000, m=19998, k=0" in repr(layer)
    assert peak < 8 * n * n / 4
