"""How large the canonical problem is: variables + rows, beside cvxpy's own canonicalization of the same problem.

Bounds count as rows on both sides. Of the forms that cvxpy makes for Clarabel and for OSQP the smaller one is taken.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

import karush as kr
from benchmarks.models import MODELS
from karush.canon.canonicalize import canonicalize

RNG = np.random.default_rng(0)
F, y = kr.Constant(RNG.standard_normal((30, 10))), RNG.standard_normal(30)
RETURNS = 0.02 * RNG.standard_normal((50, 8))


def regression(loss: Callable[[kr.Expression], kr.Expression]) -> Callable[[], kr.Problem]:
    """A loss of residuals."""
    return lambda: kr.Problem(kr.Minimize(loss(F @ kr.Variable(10, name="x") - y)))


def simplex(cost: Callable[[kr.Variable], kr.Expression]) -> Callable[[], kr.Problem]:
    """A cost of weights that are nonnegative and add up to one."""

    def build() -> kr.Problem:
        w = kr.Variable(8, name="w", nonneg=True)
        return kr.Problem(kr.Minimize(cost(w)), [kr.sum(w) == 1])

    return build


def denoised(cost: Callable[[kr.Variable], kr.Expression], *shape: int) -> Callable[[], kr.Problem]:
    """Near to data, with a cost of roughness."""

    def build() -> kr.Problem:
        x = kr.Variable(shape, name="x")
        return kr.Problem(kr.Minimize(kr.sum_squares(x - kr.Parameter(shape, name="c")) + cost(x)))

    return build


def transaction_costs() -> kr.Problem:
    """Buying and selling, both at a price."""
    w, buy, sell = kr.Variable(8, name="w"), kr.Variable(8, name="buy", nonneg=True), kr.Variable(8, name="sell", nonneg=True)
    held, mu = kr.Parameter(8, name="held"), kr.Parameter(8, name="mu")
    cost = kr.sum_squares(RETURNS @ w) - mu @ w
    rows = [w == held + buy - sell, kr.sum(w) + 0.01 * kr.sum(buy + sell) == 1, w >= 0, w <= 0.3]
    return kr.Problem(kr.Minimize(cost), rows)


def example(name: str) -> kr.Problem:
    """The problem that an example compiles."""
    with mock.patch.object(kr, "compile", side_effect=kr.compile) as compiled:
        MODELS[name].build()
    problem: kr.Problem = compiled.call_args.args[0]
    return problem


OTHERS: dict[str, Callable[[], kr.Problem]] = {
    "norm1": regression(kr.norm1),
    "norm_inf": regression(kr.norm_inf),
    "huber": regression(lambda r: kr.sum(kr.huber(r, 1.0))),
    "scalene": regression(lambda r: kr.sum(kr.scalene(r, 0.3, 0.7))),
    "max of affine": regression(kr.max),
    "sum_largest": simplex(lambda w: kr.sum_largest(RETURNS @ w, 5)),
    "cvar": simplex(lambda w: kr.cvar(-RETURNS @ w, 0.9)),
    "dotsort": simplex(lambda w: kr.dotsort(RETURNS @ w, np.linspace(0, 1, 10))),
    "tv": denoised(lambda x: 0.1 * kr.tv(x, isotropic=False), 6, 5),
    "ptp": denoised(lambda x: kr.ptp(x), 10),
    "cummax": denoised(lambda x: kr.sum(kr.cummax(x)), 10),
    "quad_over_lin": denoised(lambda x: kr.quad_over_lin(kr.diff(x), 2.0), 10),
    "transaction costs": transaction_costs,
}


def own_size(problem: kr.Problem) -> tuple[int, int]:
    """Variables, and rows with bounds."""
    qp = canonicalize(problem).qp
    bounds = sum(int(np.isfinite(side.constant.toarray()).sum()) for side in (qp.lb, qp.ub) if side is not None)
    return qp.n, qp.m + qp.k + bounds


def cvxpy_size(problem: kr.Problem, values: Mapping[str, Any], solver: str) -> tuple[int, int]:
    """The same of what cvxpy hands to a solver: its rows are A and F."""
    data, _, _ = problem.to_cvxpy(values).problem.get_problem_data(solver)
    rows = sum(data[name].shape[0] for name in ("A", "F") if data.get(name) is not None)
    bounds = sum(int(np.isfinite(data[name]).sum()) for name in ("lower_bounds", "upper_bounds") if data.get(name) is not None)
    return data["A"].shape[1], rows + bounds


def main() -> None:
    warnings.filterwarnings("ignore", "The problem includes expressions")  # on which of its ways cvxpy takes
    oracle = importlib.util.find_spec("cvxpy") is not None
    if not oracle:
        print("cvxpy is not installed, and left out")
    print("\ncanonical size: variables + rows, bounds among them")
    print(f"{'':<18}{'karush':>16}{'cvxpy':>16}")
    builders: dict[str, Callable[[], kr.Problem]] = {name: partial(example, name) for name in MODELS}
    for name, build in {**builders, **OTHERS}.items():
        problem = build()
        n, rows = own_size(problem)
        line = f"{name:<18}{f'{n} + {rows} = {n + rows}':>16}"
        if oracle:
            values = {leaf: RNG.random(parameter.shape) for leaf, parameter in problem.parameters.items()}
            found = {solver: cvxpy_size(problem, values, solver) for solver in ("CLARABEL", "OSQP")}
            solver = min(found, key=lambda solver: sum(found[solver]))
            columns, height = found[solver]
            line += f"{f'{columns} + {height} = {columns + height}':>16}  {solver}"
        print(line)


if __name__ == "__main__":
    main()
