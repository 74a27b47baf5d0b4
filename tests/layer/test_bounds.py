"""What is declared of variables: signs, bounds and structure, down to the canonical columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch

import karush as kr
from agreement import agrees_with_cvxpy, batch_equals_singles, drawn, gradients_are_right
from karush.canon.canonicalize import canonicalize

# cvxpy reads values of its own sparse variables in a way that it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:Reading from a sparse CVXPY expression")

MASK = np.array([[True, False, True, False], [False, True, False, False], [True, True, False, True]])


def nearest(x: kr.Expression, target: str = "c", **attributes: bool) -> kr.Expression:
    return kr.sum_squares(x - kr.Parameter(x.shape, name=target, **attributes))


def signs() -> kr.Problem:
    x, y = kr.Variable(3, name="x", pos=True), kr.Variable(3, name="y", neg=True)
    return kr.Problem(kr.Minimize(nearest(x, "c") + nearest(y, "d")), {"sum": kr.sum(x + y) <= 0.2})


def numbers() -> kr.Problem:
    x = kr.Variable((2, 3), name="x", bounds=[-0.5, np.array([0.1, np.inf, 0.3])])
    return kr.Problem(kr.Minimize(nearest(x)), {"sum": kr.sum(x, axis=1) == 0.4})


def parameters() -> kr.Problem:
    low, high = kr.Parameter(4, name="low", nonpos=True), kr.Parameter(4, name="high", nonneg=True)
    x = kr.Variable(4, name="x", bounds=[low, high])
    return kr.Problem(kr.Minimize(nearest(x) + kr.norm1(x)), {"sum": kr.sum(x) <= 0.3})


def expressions() -> kr.Problem:
    p = kr.Parameter(name="p", pos=True)
    x, y = kr.Variable(3, name="x", bounds=[-p, p]), kr.Variable(3, name="y", nonneg=True, bounds=[p - 1, kr.exp(p)])
    return kr.Problem(kr.Maximize(p * kr.sum(y) - nearest(x) - nearest(y, "d")), {"both": x + y <= 1.5})


def rows_beside_bounds() -> kr.Problem:
    p, q = kr.Parameter(3, name="p", nonneg=True), kr.Parameter(3, name="q", nonneg=True)
    x = kr.Variable(3, name="x", bounds=[-0.2, p])
    return kr.Problem(kr.Minimize(nearest(x)), {"stricter": x >= 0, "weaker": x >= -1, "other": 2 * x <= q, "twice": x <= p + 0.1})


def symmetric() -> kr.Problem:
    X = kr.Variable((3, 3), name="X", symmetric=True)
    return kr.Problem(
        kr.Minimize(nearest(X) + kr.sum(X @ kr.Parameter(3, name="v"))), {"rows": kr.sum(X, axis=0) == 1, "low": X[0] >= 0}
    )


def symmetric_bounded() -> kr.Problem:
    U = kr.Parameter((3, 3), name="U", nonneg=True)
    X = kr.Variable((3, 3), name="X", symmetric=True, bounds=[-0.5, U])
    return kr.Problem(kr.Minimize(nearest(X)), {"trace": kr.trace(X) <= 1})


def diagonal() -> kr.Problem:
    D = kr.Variable((3, 3), name="D", diag=True, nonneg=True)
    A = kr.Parameter((2, 3), name="A")
    return kr.Problem(kr.Minimize(nearest(D) + kr.sum_squares(A @ D)), {"trace": kr.trace(D) == 1})


def sparse() -> kr.Problem:
    X = kr.Variable((3, 4), name="X", sparsity=np.nonzero(MASK), bounds=[-1, kr.Parameter(name="u", nonneg=True)])
    return kr.Problem(kr.Minimize(nearest(X) + 0.1 * kr.sum(kr.abs(X))), {"rows": kr.sum(X, axis=1) <= 0.5})


BUILDERS = (signs, numbers, parameters, expressions, rows_beside_bounds, symmetric, symmetric_bounded, diagonal, sparse)
CASES: dict[str, Callable[[], kr.Problem]] = {build.__name__: build for build in BUILDERS}
DUALS = {"rows_beside_bounds": ("other",), "symmetric": ("rows",)}  # unique ones only


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_oracle(name: str) -> None:
    problem = CASES[name]()
    agrees_with_cvxpy(problem, drawn(problem), DUALS.get(name, tuple(problem.constraints)))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_equals_a_loop_of_singles(name: str) -> None:
    problem = CASES[name]()
    batch_equals_singles(problem, drawn(problem, seed=1))


@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_with_differences(name: str) -> None:
    problem = CASES[name]()
    gradients_are_right(problem, drawn(problem, size=2, seed=2))


@pytest.mark.parametrize("name", CASES)
def test_bounds_hold_exactly(name: str) -> None:
    problem = CASES[name]()
    batch = drawn(problem, size=50, seed=3)
    solution = kr.compile(problem)(**batch)
    for variable in problem.variables.values():
        x = solution[variable]
        for side, sign in ((variable.lower, 1.0), (variable.upper, -1.0)):
            if side is not None:
                named = {name: value for name, value in batch.items() if name in _names(side)}
                limit = kr.evaluate(side, named) if named else torch.tensor(kr.Constant(0).value + _constant(side))
                assert bool((sign * (x - limit) >= 0).all()), variable
        facts = variable.attributes
        if facts.symmetric:
            assert torch.equal(x, x.mT)
        if facts.diag or facts.sparsity is not None:
            pattern = np.eye(x.shape[-1], dtype=bool) if facts.sparsity is None else facts.sparsity.array
            assert bool((x[..., ~torch.tensor(pattern)] == 0).all())


@pytest.mark.parametrize("engine", ["cpu", "torch"])
def test_bounds_that_cross_by_rounding_are_met(engine: Literal["cpu", "torch"]) -> None:
    x, p = kr.Variable(2, name="x"), kr.Parameter(2, name="p")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), [3 * x >= 3 * p, 0.1 * x <= 0.1 * p]), backend=engine)
    values = torch.rand(200, 2, dtype=torch.float64) - 0.5
    torch.testing.assert_close(layer(values)[x], values, rtol=1e-15, atol=0)
    apart = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), [x >= p, x <= p - 1e-6]), backend=engine, on_failure="return")
    assert (apart(values).status == kr.Status.PRIMAL_INFEASIBLE).all()


def _names(side: kr.Expression) -> set[str]:
    x = kr.Variable(side.shape, name="free")
    return set(kr.Problem(kr.Minimize(0.0), [x == side]).parameters)


def _constant(side: kr.Expression) -> np.ndarray:
    assert isinstance(side, kr.Constant)
    return side.value


SIZES = {  # n, m, k, and that both bounds are native
    "signs": (6, 1, 0),
    "numbers": (6, 0, 2),
    "parameters": (8, 9, 0),  # |x| brings four variables and eight rows
    "expressions": (6, 3, 0),
    "rows_beside_bounds": (3, 9, 0),  # only "stricter" takes a side
    "symmetric": (6, 0, 3),  # the first row of X >= 0 is three bounds
    "symmetric_bounded": (6, 1, 0),
    "diagonal": (3, 0, 1),
    "sparse": (18, 21, 0),  # six of X, twelve of |X|; of its rows those that read 0 <= t are bounds, once
}


@pytest.mark.parametrize("name", CASES)
def test_bounds_add_no_rows_and_structure_saves_columns(name: str) -> None:
    qp = canonicalize(CASES[name]()).qp
    assert (qp.n, qp.m, qp.k) == SIZES[name]


def test_parametric_rows_of_one_variable_add_no_rows() -> None:
    x, p = kr.Variable(3, name="x"), kr.Parameter(3, name="p")
    problem = kr.Problem(kr.Minimize(nearest(x)), {"low": x >= kr.square(p), "high": x <= 6 + kr.square(p)})
    qp = canonicalize(problem).qp
    assert (qp.n, qp.m, qp.k) == (3, 0, 0)
    agrees_with_cvxpy(problem, drawn(problem), ("low", "high"))


def test_crossed_bounds_of_an_item_are_its_own_fate() -> None:
    low, high = kr.Parameter(2, name="low"), kr.Parameter(2, name="high")
    x = kr.Variable(2, name="x", bounds=[low, high])
    layer = kr.compile(kr.Problem(kr.Minimize(nearest(x))), on_failure="return")
    lows = torch.tensor([[0.0, 0.0], [0.0, 2.0], [-1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    solution = layer(low=lows, high=torch.ones(2, dtype=torch.float64), c=-torch.ones(2, dtype=torch.float64))
    assert solution.status.tolist() == [kr.Status.SOLVED, kr.Status.PRIMAL_INFEASIBLE, kr.Status.SOLVED]
    solution["x"].sum().backward()
    assert lows.grad is not None
    assert lows.grad[1].tolist() == [0, 0]
    assert lows.grad[0].tolist() == [1, 1]
    with pytest.raises(kr.SolveError, match="bounds of x"):
        layer.solve({"low": lows[1], "high": torch.ones(2), "c": torch.zeros(2)}, on_failure="raise")


def test_infinite_entries_of_a_bound_are_absent() -> None:
    high = kr.Parameter(2, name="high")
    x = kr.Variable(2, name="x", bounds=[None, high])
    layer = kr.compile(kr.Problem(kr.Minimize(nearest(x))), outputs=x)
    bound = torch.tensor([torch.inf, 0.5], dtype=torch.float64, requires_grad=True)
    x_hat = layer(high=bound, c=torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(x_hat.detach(), torch.tensor([1.0, 0.5], dtype=torch.float64))
    x_hat.sum().backward()
    assert bound.grad is not None
    assert bound.grad.tolist() == [0, 1]


def test_expressions_of_a_solution_see_the_whole_matrix() -> None:
    X = kr.Variable((3, 3), name="X", symmetric=True)
    problem = kr.Problem(kr.Minimize(nearest(X)))
    c = torch.randn(2, 3, 3, dtype=torch.float64)
    solution = kr.compile(problem)(c)
    torch.testing.assert_close(solution[X], (c + c.mT) / 2)
    torch.testing.assert_close(solution[kr.sum(X, axis=0)], ((c + c.mT) / 2).sum(1))
    torch.testing.assert_close(solution["X"], solution[X])
