"""Models whose matrices are mostly zeros, in the language, with values for their parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse

import karush as kr

Values = dict[str, torch.Tensor]
Model = tuple[kr.Problem, Values]


def factor_portfolio(n: int, factors: int, seed: int = 0) -> Model:
    """Weights on a simplex; exposures are new variables, so that the risk is diagonal."""
    rng = np.random.default_rng(seed)
    x, y = kr.Variable(n, name="x"), kr.Variable(factors, name="y")
    mu, risk = kr.Parameter(n, name="mu"), kr.Parameter(n, nonneg=True, name="risk")
    F = sparse.random(factors, n, density=min(1.0, 10 / factors), random_state=rng, data_rvs=rng.standard_normal)
    cost = kr.sum(kr.multiply(risk, kr.square(x))) + kr.sum_squares(y) - mu @ x
    problem = kr.Problem(
        kr.Minimize(cost), {"exposures": sparse.csr_array(F) @ x == y, "budget": kr.sum(x) == 1, "long only": x >= 0}
    )
    return problem, {"mu": torch.tensor(rng.standard_normal(n)), "risk": torch.tensor(0.1 + rng.random(n))}


def denoising(n: int, seed: int = 0) -> Model:
    """Total variation: piecewise constant signals."""
    rng = np.random.default_rng(seed)
    x, signal, weight = kr.Variable(n, name="x"), kr.Parameter(n, name="signal"), kr.Parameter(nonneg=True, name="weight")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - signal) + weight * kr.norm1(x[1:] - x[:-1])), {"low": x >= -1})
    values = np.repeat(rng.standard_normal(-(-n // 25)), 25)[:n] + 0.2 * rng.standard_normal(n)
    return problem, {"signal": torch.tensor(values), "weight": torch.tensor(0.7, dtype=torch.float64)}


def control(steps: int, states: int, seed: int = 0) -> Model:
    """A linear system steered to rest; its matrix is a parameter, which enters every step."""
    rng = np.random.default_rng(seed)
    X, U = kr.Variable((steps + 1, states), name="X"), kr.Variable((steps, 2), name="U")
    F, start = kr.Parameter((states, states), name="F"), kr.Parameter(states, name="start")
    B = rng.standard_normal((2, states))
    rows = {"start": X[0] == start, "dynamics": X[1:] == X[:-1] @ F + U @ B, "force": kr.abs(U) <= 0.4}
    M = 0.9 * np.eye(states) + 0.1 * rng.standard_normal((states, states))
    M *= 0.98 / max(0.98, np.abs(np.linalg.eigvals(M)).max())  # else the force is too weak, and nothing feasible
    values = {"F": torch.tensor(M), "start": torch.tensor(3 * rng.standard_normal(states))}
    return kr.Problem(kr.Minimize(kr.sum_squares(X) + 0.1 * kr.sum_squares(U)), rows), values


def scattered(n: int, seed: int = 0) -> Model:
    """Random rows of about three entries, a random sparse Q, bounds: nothing to exploit, and a factor that fills in."""
    rng = np.random.default_rng(seed)

    def rows(count: int) -> sparse.csr_array:
        made = sparse.random(count, n, density=2 / n, random_state=rng, data_rvs=rng.standard_normal)
        return sparse.csr_array(made + sparse.eye_array(count, n, k=int(rng.integers(n - count))))

    x, p, h = kr.Variable(n, name="x"), kr.Parameter(n, name="p"), kr.Parameter(n // 3, name="h")
    R, G, A, inside = rows(n // 3), rows(n // 3), rows(n // 6), rng.standard_normal(n)
    problem = kr.Problem(
        kr.Minimize(0.5 * kr.sum_squares(R @ x) + 0.05 * kr.sum_squares(x) + p @ x),
        {"rows": G @ x <= h, "equal": A @ x == A @ inside, "low": x >= -5, "high": x <= 5},
    )
    values = {"p": torch.tensor(rng.standard_normal(n)), "h": torch.tensor(G @ inside + rng.random(n // 3))}
    return problem, values


def batch(values: Values, B: int, seed: int = 0) -> Values:
    """Values that differ by a tenth, from item to item."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value * (1 + 0.1 * torch.rand(B, *value.shape, generator=generator, dtype=value.dtype))
        for name, value in values.items()
    }


MODELS: dict[str, Callable[[], Model]] = {
    "factor portfolio": lambda: factor_portfolio(250, 12),
    "denoising": lambda: denoising(150),
    "control": lambda: control(25, 6),
    "scattered": lambda: scattered(120),
}
