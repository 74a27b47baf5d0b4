"""Every atom, constraint type and whole model against cvxpy with Clarabel: solutions, duals, objectives, gradients, batches."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
import torch

import catalogue
import karush as kr
from karush.dsl.cvxpy_export import CvxpyModel

# cvxpy tells which of its canonicalizers it uses for N-dimensional expressions; the answer is the same.
pytestmark = pytest.mark.filterwarnings("ignore:The problem includes expressions that don't support CPP backend")

BATCH = 3
# Multipliers are not unique where several rows say the same thing at the solution: x >= 0 beside the rows of |x|, ties of a max.
UNIQUE_DUALS = sorted(set(catalogue.CASES) - {"portfolio", "max", "cummax"})


def oracle(problem: kr.Problem, item: dict[str, np.ndarray]) -> CvxpyModel:
    model = problem.to_cvxpy(item)
    model.problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert model.problem.status == cp.OPTIMAL
    return model


def items(batch: dict[str, torch.Tensor], size: int) -> list[dict[str, np.ndarray]]:
    return [{name: tensor[i].numpy() for name, tensor in batch.items()} for i in range(size)]


@pytest.mark.parametrize("name", [name for name in catalogue.CASES if name != "function"])
def test_solutions_objectives_and_duals(name: str) -> None:
    problem = catalogue.CASES[name]()
    batch = catalogue.batch(problem, BATCH)
    solution = kr.compile(problem)(**batch)
    assert bool(solution.ok.all())
    for i, item in enumerate(items(batch, BATCH if batch else 1)):
        model = oracle(problem, item)
        at = i if batch else ...
        for variable in problem.variables:
            np.testing.assert_allclose(solution[variable][at].numpy(), model.variables[variable].value, atol=2e-6, rtol=1e-6)
        value = float(solution.objective[at])
        assert abs(value - model.problem.value) <= 1e-7 * max(1, abs(model.problem.value))
        if name in UNIQUE_DUALS:
            for label, constraint in model.constraints.items():
                ours = solution.dual(label)[at].numpy()
                np.testing.assert_allclose(ours, constraint.dual_value, atol=1e-5, rtol=1e-5, err_msg=label)


@pytest.mark.parametrize("name", sorted(catalogue.CASES))
def test_a_batch_equals_a_loop_of_singles(name: str) -> None:
    problem = catalogue.CASES[name]()
    batch = catalogue.batch(problem, BATCH)
    layer = kr.compile(problem)
    together = layer(**batch)
    for i in range(BATCH if batch else 0):
        alone = layer(**{key: tensor[i] for key, tensor in batch.items()})
        for variable in problem.variables:
            torch.testing.assert_close(alone[variable], together[variable][i], rtol=1e-10, atol=1e-10)
        assert int(alone.status) == int(together.status[i])


DIFFERENTIABLE = sorted(set(catalogue.CASES) - {"no parameters"})


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_pass_gradcheck(name: str) -> None:
    """Central differences of the layer itself, whose values were compared with the oracle above."""
    problem = catalogue.CASES[name]()
    batch = catalogue.batch(problem, 2, seed=1)
    layer = kr.compile(problem)
    inputs = {key: tensor.requires_grad_() for key, tensor in batch.items()}
    generator = torch.Generator().manual_seed(0)
    weights = {v: torch.rand(leaf.shape, generator=generator, dtype=torch.float64) for v, leaf in problem.variables.items()}

    def loss(*values: torch.Tensor) -> torch.Tensor:
        solution = layer(**{key: _symmetric(problem, key, value) for key, value in zip(inputs, values, strict=True)})
        total: torch.Tensor = 0.1 * solution.objective.sum()
        for v, weight in weights.items():
            total = total + (weight * solution[v]).sum()
        return total

    # Fast mode compares along random directions: two solves an input instead of two an entry.
    assert torch.autograd.gradcheck(loss, tuple(inputs.values()), eps=1e-6, atol=2e-5, rtol=1e-4, fast_mode=True)


def _symmetric(problem: kr.Problem, name: str, value: torch.Tensor) -> torch.Tensor:
    """Differences of single entries would leave the declared set of symmetric matrices."""
    return (value + value.mT) / 2 if problem.parameters[name].attributes.PSD else value


@pytest.mark.parametrize("name", ["portfolio", "quad_form everywhere", "maximum", "huber", "learned equality", "matrix product"])
def test_gradients_agree_with_differences_of_the_oracle(name: str) -> None:
    problem = catalogue.CASES[name]()
    item = catalogue.values(problem, np.random.default_rng(4))
    inputs = {key: torch.tensor(value, requires_grad=True) for key, value in item.items()}
    solution = kr.compile(problem)(**inputs)
    variable = next(iter(problem.variables))
    weight = np.random.default_rng(0).standard_normal(problem.variables[variable].shape)
    (solution[variable] * torch.tensor(weight)).sum().backward()
    rng, step = np.random.default_rng(7), 1e-4
    direction = {key: rng.standard_normal(value.shape) for key, value in item.items()}
    for key in direction:
        if problem.parameters[key].attributes.PSD:
            direction[key] = direction[key] + direction[key].T
    moved = [
        (weight * oracle(problem, {k: v + sign * step * direction[k] for k, v in item.items()}).variables[variable].value).sum()
        for sign in (1, -1)
    ]
    ours = 0.0
    for key, tensor in inputs.items():
        if tensor.grad is not None:
            ours += float((tensor.grad * torch.tensor(direction[key])).sum())
    difference = (moved[0] - moved[1]) / (2 * step)
    assert abs(ours - difference) <= 1e-4 * max(1, abs(difference))  # Clarabel's 1e-9 over a step of 1e-4, and curvature


def test_a_user_function_agrees_with_the_same_formula_in_the_language() -> None:
    problem = catalogue.CASES["function"]()
    batch = catalogue.batch(problem, BATCH)
    x, a, c = kr.Variable(4, name="x"), kr.Parameter(4, name="a"), kr.Parameter(4, name="c")
    plain = kr.Problem(kr.Minimize(kr.sum_squares(x - c) + kr.sum(kr.multiply(kr.exp(a), kr.square(x)))))
    torch.testing.assert_close(kr.compile(problem)(**batch)["x"], kr.compile(plain)(**batch)["x"], rtol=1e-12, atol=1e-12)


def test_the_oracle_states_what_cvxpy_stumbles_over() -> None:
    """A scalar without a limit on one side, and running sums inside of a quadratic form."""
    x, y = kr.Variable(3, name="x"), kr.Variable(name="y", bounds=[0.5, np.inf])
    z = kr.Variable((2, 2), name="z", bounds=[-np.inf, np.array([[1.0, np.inf], [np.inf, 1.0]])])
    sums = kr.quad_form(kr.cumsum(x) - 1, np.eye(3)) + kr.quad_form(kr.cumsum(z, 1).flatten() - 2, np.eye(4))
    problem = kr.Problem(kr.Minimize(sums + kr.square(y)), [kr.sum(x) + y <= 1])
    model = problem.to_cvxpy({})
    model.problem.solve(solver=cp.CLARABEL)
    solution = problem.solve(eps=1e-9)
    assert abs(float(solution.objective) - model.problem.value) <= 1e-5
    for name, variable in model.variables.items():
        np.testing.assert_allclose(solution[name].numpy(), variable.value, atol=1e-4)
