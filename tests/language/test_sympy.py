"""To sympy and back: sympy itself says whether a solution is optimal, and what an expression is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cvxpy
import numpy as np
import pytest
import sympy
import torch

import catalogue
import karush as kr
from karush.dsl.expression import apply
from karush.dsl.sympy_export import SympyModel
from karush.dsl.walk import postorder

sp: Any = sympy  # it carries no types
cp: Any = cvxpy  # nor do its atoms
KINKS = (sp.Abs, sp.Max, sp.Min, sp.Piecewise, sp.sign, sp.Heaviside)


def uses(problem: kr.Problem, *atoms: str) -> bool:
    return any(node.atom is not None and node.atom.name in atoms for node in postorder(problem.expressions))


# Functions of torch and the suprema of support functions are names there, and no more.
KNOWN = {name: build for name, build in catalogue.CASES.items() if not uses(build(), "function", "suppfunc")}
# Sums of largest entries are written as minima there, whose convexity is not seen on the way back, and indicators hold infinity.
BACK = {name: build for name, build in KNOWN.items() if not uses(build(), "sum_largest", "dotsort", "indicator")}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Where a problem has no parameters, its solution has torch's default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def item(problem: kr.Problem, seed: int = 3) -> dict[str, Any]:
    values = catalogue.values(problem, np.random.default_rng(seed))
    facts = {name: parameter.attributes for name, parameter in problem.parameters.items()}
    return {name: (value + value.T) / 2 if facts[name].square else value for name, value in values.items()}


def solved(problem: kr.Problem, values: Mapping[str, Any]) -> kr.Solution:
    return problem.solve({name: torch.tensor(value) for name, value in values.items()})


def flat(entries: Any) -> list[Any]:
    """The entries of a symbol, matrix or array in C order."""
    if isinstance(entries, sp.NDimArray):
        return list(sp.flatten(entries.tolist()))
    return list(entries) if getattr(entries, "is_Matrix", False) else [entries]


def numbers(pairs: list[tuple[Any, Any]]) -> dict[Any, float]:
    """Values of symbols, from leaves in sympy and their arrays."""
    found: dict[Any, float] = {}
    for entries, value in pairs:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        found |= {cell: float(v) for cell, v in zip(flat(entries), array.reshape(-1), strict=True) if cell.is_Symbol}
    return found


def worth(expressions: list[Any], at: Mapping[Any, float]) -> np.ndarray:
    symbols = list(at)
    return np.array(sp.lambdify([symbols], list(expressions), "numpy")([at[symbol] for symbol in symbols]), dtype=float)


def point(problem: kr.Problem, model: SympyModel, seed: int = 3) -> dict[Any, float]:
    """Solution, multipliers and parameters as sympy's symbols have them."""
    values = item(problem, seed)
    solution = solved(problem, values)
    pairs = [(model.parameters[name], values[name]) for name in model.parameters]
    pairs += [(model.variables[name], solution[name]) for name in model.variables]
    pairs += [(model.duals[name], solution.dual(name)) for name in model.duals]
    at = numbers(pairs)
    # Multipliers of declared signs and bounds are what is left of the gradient.
    for rows in (found for name, found in model.rows.items() if name in model.domain):
        at |= dict.fromkeys(rows.multipliers, 0.0)
    for name, leaf in model.variables.items():
        slopes = worth(flat(model.kkt.stationarity[name]), at)
        for label, sign in ((f"{name} lower", 1.0), (f"{name} upper", -1.0)):
            if label in model.rows:
                at |= dict(zip(model.rows[label].multipliers, np.maximum(sign * slopes, 0.0).tolist(), strict=True))
        assert len(flat(leaf)) == len(slopes)
    return at


@pytest.mark.parametrize("name", KNOWN)
def test_sympy_finds_the_same_objective_and_a_feasible_point(name: str) -> None:
    problem = KNOWN[name]()
    model = problem.to_sympy()
    at = point(problem, model) if not model.lagrangian.has(*KINKS) else None
    values = item(problem)
    solution = solved(problem, values)
    at = at or numbers(
        [(model.parameters[n], values[n]) for n in model.parameters]
        + [(model.variables[n], solution[n]) for n in model.variables]
        + [(model.duals[n], solution.dual(n)) for n in model.duals]
    )
    (value,) = worth([model.objective], at)
    assert abs(value - float(solution.objective)) <= 1e-8 * (1 + abs(value))
    for rows in model.rows.values():
        residuals = worth(list(rows.residuals), at)
        assert (np.abs(residuals) if rows.equality else residuals).max(initial=0.0) <= 1e-7


SMOOTH = [name for name, build in KNOWN.items() if not build().to_sympy().lagrangian.has(*KINKS)]


def test_most_models_are_smooth() -> None:
    assert len(SMOOTH) >= 20


@pytest.mark.parametrize("name", SMOOTH)
def test_the_conditions_of_optimality_hold_at_the_solution(name: str) -> None:
    problem = KNOWN[name]()
    model = problem.to_sympy()
    at = point(problem, model)
    for slopes in model.kkt.stationarity.values():
        assert np.abs(worth(flat(slopes), at)).max(initial=0.0) <= 1e-7
    assert np.abs(worth(list(model.kkt.complementarity), at)).max(initial=0.0) <= 1e-7
    assert all(worth([relation.lhs], at)[0] >= -1e-9 for relation in model.kkt.dual)


def back(model: SympyModel) -> Any:
    return kr.from_sympy(
        model.objective,
        {**model.constraints, **model.domain},
        variables=model.variables,
        parameters=model.parameters,
        minimize=model.sense == "minimize",
        assume=model.facts,
    )


@pytest.mark.parametrize("name", BACK)
def test_there_and_back(name: str) -> None:
    """A column of sympy comes back as a vector; nothing else changes."""
    problem = KNOWN[name]()
    values = item(problem)
    again = back(problem.to_sympy()).problem
    moved = {n: value.reshape(again.parameters[n].shape) for n, value in values.items() if n in again.parameters}
    one, two = solved(problem, values), solved(again, moved)
    assert abs(float(one.objective) - float(two.objective)) <= 1e-7 * (1 + abs(float(one.objective)))
    for n in problem.variables:
        assert (one[n].reshape(-1) - two[n].reshape(-1)).abs().max() <= 1e-6


def test_multipliers_come_back_row_by_row() -> None:
    problem = catalogue.CASES["portfolio"]()
    model = problem.to_sympy()
    one, two = (solved(p, item(problem)) for p in (problem, back(model).problem))
    rows = torch.stack([two.dual(f"long only[{i}]") for i in range(6)])
    assert (rows - one.dual("long only")).abs().max() <= 1e-7
    assert (two.dual("budget[0]") - one.dual("budget")).abs() <= 1e-7


def test_symmetric_soft_conditional_and_bounded_models() -> None:
    x, S = kr.Variable(3, name="x", bounds=[-1.0, 0.4]), kr.Variable((2, 2), name="S", symmetric=True)
    c, on = kr.Parameter(3, name="c"), kr.Parameter(3, name="on", boolean=True)
    soft = kr.soft(kr.sum(x) <= -5, 0.3, "l2")
    cost = kr.sum_squares(x - c) + kr.sum_squares(S - np.array([[1.0, 2.0], [4.0, 3.0]]))
    problem = kr.Problem(kr.Minimize(cost), {"floor": (x >= 0.1).where(on), "soft": soft, "trace": kr.trace(S) == 1})
    model = problem.to_sympy()
    assert model.variables["S"][0, 1] == model.variables["S"][1, 0]
    values = {"c": np.array([1.0, -2.0, 0.2]), "on": np.array([1.0, 0.0, 0.0])}
    one, two = solved(problem, values), solved(back(model).problem, values)
    assert (one[S] - two["S"]).abs().max() <= 1e-6
    assert (one[x] - two["x"]).abs().max() <= 1e-6
    assert abs(float(one.objective) - float(two.objective)) <= 1e-7


DATA: dict[str, Callable[[Any, Any], kr.Expression]] = {
    "cummax": lambda x, w: apply("cummax", x, axis=1),
    "ptp": lambda x, w: apply("ptp", x, axis=(0,), keepdims=False),
    "sum_largest": lambda x, w: apply("sum_largest", x, 2.5, axis=(1,), keepdims=True),
    "sum_largest of all": lambda x, w: apply("sum_largest", x, 20.0, axis=None, keepdims=False),
    "dotsort": lambda x, w: apply("dotsort", x[0], w),
    "dotsort of numbers": lambda x, w: apply("dotsort", x[:2].flatten(), [3.0, -1.0, 2.0, 0.5]),
    "norm2": lambda x, w: apply("norm2", x, axis=(0,), keepdims=False),
    "cholesky": lambda x, w: kr.sum(apply("cholesky", x @ x.T + np.eye(3)) @ x),
    "solve": lambda x, w: apply("solve", x @ x.T + np.eye(3), x),
    "inverse": lambda x, w: kr.inv(x.T @ x + np.eye(4)),
    "huber": lambda x, w: kr.huber(x, 0.5),
    "power": lambda x, w: (x**2) ** 1.5 + w[0] ** 3,
}


@pytest.mark.parametrize("name", DATA)
def test_atoms_are_worth_the_same_in_sympy(name: str) -> None:
    """Functions of data, entry by entry, against their value in NumPy, which is what constants fold to."""
    x, w, z = kr.Parameter((3, 4), name="x"), kr.Parameter(3, name="w"), kr.Variable(name="z")
    made = DATA[name](x, w).reshape(-1)
    model = kr.Problem(kr.Minimize(kr.square(z)), [made[i] * z <= i for i in range(made.size)]).to_sympy()
    rng = np.random.default_rng(4)
    values = {"x": rng.standard_normal((3, 4)), "w": rng.standard_normal(3)}
    folded = DATA[name](kr.Constant(values["x"]), kr.Constant(values["w"]))
    assert isinstance(folded, kr.Constant)
    at = numbers([(entries, values[leaf]) for leaf, entries in model.parameters.items()])
    slopes = [sp.diff(rows.residuals[0], model.variables["z"]) for rows in model.rows.values()]
    np.testing.assert_allclose(worth(slopes, at), folded.value.reshape(-1), rtol=1e-9, atol=1e-12)
