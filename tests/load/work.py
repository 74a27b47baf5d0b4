"""A piece of work with everything in it, and the hash of its results: what processes and threads compare.

Run as a program it prints the hash.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

import karush as kr
from engine.problems import random_batch

F = torch.float64


@cache
def layer() -> kr.Layer:
    """One layer for all threads: a Gram product, derived parameters, a weight, all kinds of constraints."""
    x = kr.Variable(5, name="x")
    L, mu, cap = kr.Parameter((5, 3), name="L"), kr.Parameter(5, name="mu"), kr.Parameter(name="cap")
    price = kr.Parameter(nonneg=True, name="price")
    cost = kr.sum_squares(L.T @ x) + kr.sum_squares(kr.multiply(kr.exp(mu), x)) - mu @ x + price * kr.norm1(x)
    rows = {"cap": kr.norm_inf(x) <= kr.exp(cap), "plane": kr.sum(x) == cap, "low": x >= -2}
    return kr.compile(kr.Problem(kr.Minimize(cost), rows), weights={price: 0.1}, on_failure="return")


def inputs(B: int, seed: int) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    return {
        "L": torch.randn(B, 5, 3, dtype=F, generator=drawn),
        "mu": torch.randn(B, 5, dtype=F, generator=drawn),
        "cap": torch.randn(B, dtype=F, generator=drawn) / 2,
    }


def called(B: int, seed: int) -> list[Tensor]:
    """All results of a call of the layer, gradients included. What happens to the weight is nobody else's business."""
    leaves = {name: value.requires_grad_() for name, value in inputs(B, seed).items()}
    s = layer()(leaves)
    wanted = [*leaves.values(), *layer().parameters()]
    gradients = torch.autograd.grad(s["x"].sin().sum() + s.objective.sum() + s.dual("cap").sum(), wanted)
    return [s["x"], s.objective, s.dual("plane"), s.status, s.iterations, s.residuals.scaled, *gradients]


def solved(backend: Literal["cpu", "torch"]) -> list[Tensor]:
    """Matrices: healthy items, an infeasible one, one that is not convex, and NaN."""
    leaves = random_batch(12, 6, 9, 2, seed=1)
    leaves[2][3, 1], leaves[3][3, :2] = -leaves[2][3, 0], -1
    leaves[0][5] -= 10 * torch.eye(6, dtype=F)
    leaves[1][7, 0] = torch.nan
    for leaf in leaves:
        leaf.requires_grad_()
    s = kr.solve_qp(*leaves, on_failure="return", backend=backend)
    return [s.x, s.y, s.z, s.s, s.status, s.iterations, s.ray.z, *torch.autograd.grad(s.x.sin().sum() + s.z.sum(), leaves)]


def digest(parts: Iterable[Tensor] | None = None) -> str:
    """sha256 of the bytes of all results."""
    state = hashlib.sha256()
    for part in [*called(9, 0), *called(1, 1), *solved("cpu"), *solved("torch")] if parts is None else parts:
        state.update(part.detach().contiguous().numpy().tobytes())
    return state.hexdigest()


def _x(n: int = 2) -> kr.Variable:
    return kr.Variable(n, name="x")


EYE = torch.eye(2, dtype=F)
ONE = torch.ones(2, dtype=F)


def _solve(**changes: Any) -> Any:
    return kr.solve_qp(**{"Q": EYE, "p": ONE} | changes)


# Twenty kinds of error: of models, of inputs, of options, of solves.
ERRORS: dict[str, Callable[[], Any]] = {
    "product of variables": lambda: kr.Problem(kr.Minimize(_x() @ kr.Variable(2, name="w"))),
    "concave objective": lambda: kr.Problem(kr.Minimize(-kr.sum_squares(_x()))),
    "quadratic constraint": lambda: kr.Problem(kr.Minimize(kr.sum(_x())), [kr.sum_squares(_x()) <= 1]),
    "shapes": lambda: _x(2) + _x(3),
    "name": lambda: kr.Variable(2, name="__class__"),
    "one name twice": lambda: kr.Problem(kr.Minimize(kr.sum(_x()) + kr.sum(_x()))),
    "unknown input": lambda: layer()(**inputs(2, 0), nu=1.0),
    "missing input": lambda: layer()(L=inputs(2, 0)["L"]),
    "shape of an input": lambda: layer()(**inputs(2, 0) | {"mu": torch.ones(2, 4, dtype=F)}),
    "product of batches": lambda: layer()(**inputs(2, 0) | {"mu": torch.ones(3, 1, 5, dtype=F)}),
    "complex input": lambda: layer()(**inputs(2, 0) | {"mu": torch.ones(2, 5, dtype=torch.complex64)}),
    "text as an input": lambda: layer()(**inputs(2, 0) | {"cap": "1.0"}),
    "unknown option": lambda: layer().solve(inputs(2, 0), tolerance=1.0),
    "value of an option": lambda: layer().solve(inputs(2, 0), eps=-1.0),
    "integers": lambda: _solve(Q=torch.eye(2, dtype=torch.int64)),
    "half a constraint": lambda: _solve(G=EYE),
    "not finite": lambda: _solve(p=torch.tensor([torch.nan, 0.0], dtype=F)),
    "infeasible": lambda: _solve(lb=1.0, ub=0.0),
    "unbounded": lambda: _solve(Q=torch.zeros(2, 2, dtype=F)),
    "not convex": lambda: _solve(Q=-EYE),
    "out of iterations": lambda: layer().solve(inputs(8, 3), max_iter=1, on_failure="raise"),
    "output of another model": lambda: layer()(inputs(2, 0))[_x()],
    "warm start of another problem": lambda: _solve(warm_start=kr.solve_qp(torch.eye(3, dtype=F), torch.ones(3, dtype=F))),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(digest())
