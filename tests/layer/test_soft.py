"""Soft constraints: a price in place of a wall, with slack and multiplier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

import karush as kr
from agreement import agrees_with_cvxpy, batch_equals_singles, drawn, gradients_are_right
from karush.canon.canonicalize import canonicalize

W = np.array([[1.0, 2, 0, -1], [0, 1, 3, 1]])


def model(relation: Callable[[kr.Expression], kr.Constraint], weight: object, penalty: str, active: object = None) -> kr.Problem:
    """min |x - c|² with  W x  related to d, softly, and one hard row beside it."""
    x, c = kr.Variable(4, name="x"), kr.Parameter(4, name="c")
    hard = relation(kr.matmul(W, x))
    soft = kr.soft(hard if active is None else hard.where(active), weight, penalty=penalty)  # type: ignore[arg-type]  # both
    return kr.Problem(kr.Minimize(kr.sum_squares(x - c)), {"soft": soft, "hard": kr.sum(x) == 1})


def d() -> kr.Parameter:
    return kr.Parameter(2, name="d")


def weight() -> kr.Parameter:
    return kr.Parameter(2, name="w", nonneg=True)


def on() -> kr.Parameter:
    return kr.Parameter(2, name="on", boolean=True)


CASES: dict[str, Callable[[], kr.Problem]] = {
    "at most, l1": lambda: model(lambda r: r <= d(), 0.7, "l1"),
    "at least, l1": lambda: model(lambda r: r >= d(), weight(), "l1"),
    "equal, l1": lambda: model(lambda r: r == d(), [0.3, 2.0], "l1"),
    "equal, l1, learned": lambda: model(lambda r: r == d(), weight(), "l1"),
    "at most, l2": lambda: model(lambda r: r <= d(), weight(), "l2"),
    "at least, l2": lambda: model(lambda r: r >= d(), 3.0, "l2"),
    "equal, l2": lambda: model(lambda r: r == d(), kr.exp(kr.Parameter(2, name="log_w")), "l2"),
    "convex": lambda: model(lambda r: kr.norm1(r) <= kr.sum(d()), kr.Parameter(name="w", nonneg=True), "l2"),
    "switched, l1": lambda: model(lambda r: r <= d(), weight(), "l1", on()),
    "switched, l2": lambda: model(lambda r: r >= d(), weight(), "l2", on()),
    "switched, equal, l1": lambda: model(lambda r: r == d(), weight(), "l1", on()),
    "switched, equal, l2": lambda: model(lambda r: r == d(), weight(), "l2", on()),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_slack_variables_in_cvxpy(name: str) -> None:
    problem = CASES[name]()
    duals = ("hard",) if name.startswith("switched, equal") else ("soft", "hard")  # there cvxpy's row 0 == s has any multiplier
    agrees_with_cvxpy(problem, drawn(problem, size=6), duals)


@pytest.mark.parametrize("name", CASES)
def test_a_batch_equals_a_loop_of_singles(name: str) -> None:
    problem = CASES[name]()
    batch_equals_singles(problem, drawn(problem, size=4, seed=1))


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_solution_slack_and_price_agree_with_differences(name: str) -> None:
    problem = CASES[name]()
    soft = problem.constraints["soft"]
    assert isinstance(soft, kr.Soft)
    gradients_are_right(problem, drawn(problem, size=3, seed=2), ("on",), soft.slack, soft.price)


@pytest.mark.parametrize("name", CASES)
def test_slack_multiplier_and_objective_are_what_the_definition_says(name: str) -> None:
    """Stationarity: the multiplier is the derivative of the price; the objective is the user's cost plus the price."""
    problem = CASES[name]()
    batch = drawn(problem, size=20, seed=3)
    solution = kr.compile(problem)(**batch)
    soft = problem.constraints["soft"]
    assert isinstance(soft, kr.Soft)
    residual, slack, y = solution[soft.residual], solution[soft.slack], solution.dual("soft")
    w = solution[soft.gated].expand_as(y)
    on = batch["on"] if "on" in batch else torch.ones_like(y)
    wanted = residual if soft.op == "==" else residual.clamp(min=0)
    torch.testing.assert_close(slack, on * wanted)
    if soft.penalty == "l2":
        torch.testing.assert_close(y, 2 * w * slack, atol=1e-7, rtol=1e-7)
    else:
        assert bool((y.abs() <= w + 1e-7).all())
        torch.testing.assert_close(y[slack > 1e-6], w[slack > 1e-6], atol=1e-7, rtol=1e-7)
        torch.testing.assert_close(y[slack < -1e-6], -w[slack < -1e-6], atol=1e-7, rtol=1e-7)
    cost = solution[problem.objective.expression]
    torch.testing.assert_close(solution.objective, cost + solution[soft.price], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("at most, l1", (6, 2, 1)), ("equal, l1", (6, 2, 1)), ("at least, l2", (6, 2, 1)), ("equal, l2", (4, 0, 1))],
)
def test_the_canonical_size_is_minimal(name: str, sizes: tuple[int, int, int]) -> None:
    qp = canonicalize(CASES[name]()).qp
    assert (qp.n, qp.m, qp.k) == sizes
    assert (qp.lb is not None) == ("l1" in name)  # s >= 0, native


def test_a_large_l1_weight_leaves_a_feasible_constraint_as_it_is() -> None:
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    hard = kr.sum(x) <= 1
    soft = kr.soft(hard, 100.0)
    batch = torch.randn(10, 3, dtype=torch.float64)
    cost = kr.Minimize(kr.sum_squares(x - c))
    exact, priced = kr.compile(kr.Problem(cost, [hard]))(batch), kr.compile(kr.Problem(cost, [soft]))(batch)
    torch.testing.assert_close(priced[x], exact[x], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(priced.dual(soft), exact.dual(hard), atol=1e-6, rtol=1e-6)


def test_maximize_takes_the_price_away() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    problem = kr.Problem(kr.Maximize(c @ x - kr.sum_squares(x)), [kr.soft(x <= 0.1, 2.0, penalty="l2")])
    agrees_with_cvxpy(problem, drawn(problem), ("constraint0",))


def test_infeasible_hard_constraints_have_a_soft_compromise() -> None:
    x = kr.Variable(name="x")
    low, high = kr.soft(x >= 2, 1.0, "l2"), kr.soft(x <= 0, 3.0, "l2")
    solution = kr.Problem(kr.Minimize(0.0), [low, high]).solve()
    torch.testing.assert_close(solution[x].double(), torch.tensor(0.5, dtype=torch.float64))  # (2 - x)² + 3 x²
    torch.testing.assert_close(solution[low.slack].double(), torch.tensor(1.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda x, p: kr.soft(x, 1.0), "N17", "no constraint"),
        (lambda x, p: kr.soft(x <= 1, p), "D11", "nonneg=True"),
        (lambda x, p: kr.soft(x <= 1, -1.0), "D11", "reward"),
        (lambda x, p: kr.soft(x <= 1, x), "D12", "variables"),
        (lambda x, p: kr.soft(x <= 1, np.ones((5, 3))), "N17", r"\(5, 3\)"),
        (lambda x, p: kr.soft(x <= 1, 1.0, cast(Any, "l3")), "N17", "l1"),
        (lambda x, p: kr.soft(kr.soft(x <= 1, 1.0), 1.0), "N17", "already"),
        (lambda x, p: kr.soft(p <= 1, 1.0), "N17", "without variables"),
        (lambda x, p: kr.Problem(kr.Minimize(kr.sum(x)), [kr.soft(kr.sum_squares(x) <= 1, 1.0)]), "D10", "quadratic"),
    ],
)
def test_what_cannot_be_softened_is_refused(make: Callable[[kr.Variable, kr.Parameter], object], code: str, words: str) -> None:
    with pytest.raises(kr.ModelError, match=words) as caught:
        make(kr.Variable(3, name="x"), kr.Parameter(3, name="p"))
    assert caught.value.diagnostics[0].code == code
