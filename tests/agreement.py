"""What must hold of any model: cvxpy and Clarabel agree, a batch is a loop of singles, gradients are those of differences."""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import numpy as np
import torch

import karush as kr
from karush.dsl.cvxpy_export import CvxpyModel

Batch = dict[str, torch.Tensor]


def oracle(problem: kr.Problem, item: dict[str, np.ndarray]) -> CvxpyModel:
    model = problem.to_cvxpy(item)
    model.problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert model.problem.status == cp.OPTIMAL, model.problem.status
    return model


def dense(variable: cp.Variable) -> np.ndarray:
    """The value of a variable, some of which cvxpy keeps as sparse matrices."""
    value: Any = variable.value_sparse if variable.attributes["sparsity"] else variable.value
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)


def agrees_with_cvxpy(problem: kr.Problem, batch: Batch, duals: tuple[str, ...] = ()) -> None:
    """Variables, objective and the multipliers of these constraints, item by item; bounds hold exactly."""
    solution = kr.compile(problem)(**batch)
    assert bool(solution.ok.all())
    size = len(next(iter(batch.values())))
    for i in range(size):
        item = {name: value[i].numpy() for name, value in batch.items()}
        model = oracle(problem, item)
        for name in problem.variables:
            theirs = dense(model.variables[name])
            np.testing.assert_allclose(solution[name][i].numpy(), theirs, atol=2e-6, rtol=1e-6, err_msg=name)
        assert abs(float(solution.objective[i]) - model.problem.value) <= 1e-7 * max(1, abs(model.problem.value))
        for name in duals:
            ours, theirs = solution.dual(name)[i].numpy(), model.constraints[name].dual_value
            np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5, err_msg=name)


def batch_equals_singles(problem: kr.Problem, batch: Batch) -> None:
    layer = kr.compile(problem)
    together = layer(**batch)
    for i in range(len(next(iter(batch.values())))):
        alone = layer(**{name: value[i] for name, value in batch.items()})
        for name in problem.variables:
            torch.testing.assert_close(alone[name], together[name][i], rtol=1e-10, atol=1e-10)
        for name in problem.constraints:
            torch.testing.assert_close(alone.dual(name), together.dual(name)[i], rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(alone.objective, together.objective[i], rtol=1e-10, atol=1e-10)


def gradients_are_right(problem: kr.Problem, batch: Batch, fixed: tuple[str, ...] = (), *more: kr.Expression) -> None:
    """Central differences of solution, objective and ``more`` expressions, in every input but those that are ``fixed``."""
    layer = kr.compile(problem)
    moving = {name: value.clone().requires_grad_() for name, value in batch.items() if name not in fixed}
    rest = {name: value for name, value in batch.items() if name in fixed}
    generator = torch.Generator().manual_seed(0)
    outputs = [*problem.variables.values(), *more]
    weights = [torch.rand(output.shape, generator=generator, dtype=torch.float64) for output in outputs]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        solution = layer({**rest, **dict(zip(moving, values, strict=True))})
        total: torch.Tensor = 0.1 * solution.objective.sum()
        for output, weight in zip(outputs, weights, strict=True):
            total = total + (weight * solution[output]).sum()
        return total

    assert torch.autograd.gradcheck(loss, tuple(moving.values()), eps=1e-6, atol=2e-5, rtol=1e-4)


def drawn(problem: kr.Problem, size: int = 3, seed: int = 0) -> Batch:
    """A batch of every parameter, with the declared attributes."""
    rng = np.random.default_rng(seed)
    return {name: torch.tensor(np.stack([_draw(p, rng) for _ in range(size)])) for name, p in problem.parameters.items()}


def _draw(parameter: kr.Parameter, rng: np.random.Generator) -> np.ndarray:
    raw, facts = np.asarray(rng.standard_normal(parameter.shape)), parameter.attributes
    if facts.boolean:
        return (raw > -0.3).astype(float)
    if facts.PSD or facts.NSD:
        return raw @ raw.T / 4 if facts.PSD else -raw @ raw.T / 4
    if facts.diag or facts.sparsity is not None:
        kept = np.eye(len(raw)) if facts.sparsity is None else facts.sparsity.array
        return (np.abs(raw) if parameter.sign.nonneg else raw) * kept
    if facts.symmetric:
        return (raw + raw.T) / 2
    low, high = parameter.get_bounds()
    if np.isfinite(low).all() and np.isfinite(high).all():
        return low + (high - low) * rng.random(parameter.shape)
    sign = parameter.sign
    return np.abs(raw) + 0.1 if sign.nonneg else -np.abs(raw) - 0.1 if sign.nonpos else raw
