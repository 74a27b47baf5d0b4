"""Single precision: within 1e-3 of the exact gradient of the data as they were rounded, or flagged; and never another dtype."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import karush as kr
from engine.problems import Problem, built
from karush.backends.flags import conditioning
from karush.backends.solve import solve as solve_data
from robustness.conftest import Backend
from robustness.derivatives import error, exact, flags_of, ours, vertex
from robustness.judges import Worst

NAMES = "QpGhAb"


def rounded(seed: int) -> Problem:
    """Data that float32 holds exactly."""
    base = built(seed, 6, 8, 2, active=2)
    Q, p, G, h, A, b = (getattr(base, name).astype(np.float32).astype(np.float64) for name in NAMES)
    return Problem(Q, p, G, h, A, b, x=base.x, z=base.z)


def test_dtype_follows_the_input_and_the_gradient_is_exact_to_it(backend: Backend) -> None:
    """On a CPU everything between is float64: what is left is the rounding of results."""
    worst = Worst(f"float32 in and out, {backend}")
    for seed in range(20):
        problem = rounded(seed)
        w = np.random.default_rng(seed).normal(size=6).astype(np.float32).astype(np.float64)
        solution, found = ours(problem, w, backend, dtype=torch.float32)
        assert solution.x.dtype == solution.z.dtype == torch.float32
        true = exact(problem, vertex(problem, problem.x, problem.z), w)
        for name in NAMES:
            worst.see(name, error(found[name], true[name]), seed)
    worst.within(**dict.fromkeys(NAMES, 1e-6))


@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_has_the_dtype_of_its_argument(name: str, backend: Backend) -> None:
    """One argument in float64 among float32 ones: x is promoted, each gradient is not."""
    problem = rounded(0)
    blocks = [torch.tensor(getattr(problem, other), dtype=torch.float64 if other == name else torch.float32) for other in NAMES]
    leaves = [block.requires_grad_() for block in blocks]
    x = kr.solve_qp(*leaves, backend=backend).x
    assert x.dtype == torch.float64
    gradients = torch.autograd.grad(x.sum(), leaves)
    assert [gradient.dtype for gradient in gradients] == [leaf.dtype for leaf in leaves]


def test_solving_in_float32() -> None:
    """The torch engine where a device has nothing else: 1e-3, or not solved, or flagged."""
    worst, regular = Worst("float32 throughout"), 0
    for seed in range(60):
        problem = rounded(seed)
        w = np.random.default_rng(seed).normal(size=6)
        leaves = [torch.tensor(getattr(problem, name), dtype=torch.float32).unsqueeze(0).requires_grad_() for name in NAMES]
        data = kr.QPData(*leaves)
        solution = solve_data(data, kr.Options(on_failure="return"))
        (torch.tensor(w, dtype=torch.float32) * solution.x).sum().backward()
        flags = int(conditioning(kr.QPData(*(leaf.detach() for leaf in leaves)), solution).flags)
        if int(solution.status[0]) != kr.Status.SOLVED or flags:
            continue
        regular += 1
        true = exact(problem, vertex(problem, problem.x, problem.z), w)
        for name, leaf in zip(NAMES, leaves, strict=True):
            assert leaf.grad is not None
            worst.see(name, error(leaf.grad[0].double().numpy(), true[name]), seed)
    assert regular >= 50
    worst.within(**dict.fromkeys(NAMES, 1e-3))


def test_float32_data_in_float64_are_flagged_as_float64_would_be(backend: Backend) -> None:
    """Rounding to float32 splits two rows that were the same: close to a loss of rank, and said so."""
    problem = rounded(3)
    third = (problem.G[0] / 3).astype(np.float32).astype(np.float64)
    G, h = np.vstack([problem.G, third]), np.r_[problem.h, problem.h[0] / 3]
    wider = Problem(problem.Q, problem.p, G, h, problem.A, problem.b)
    solution, found = ours(wider, np.ones(6), backend)
    assert bool(solution.ok)
    assert flags_of(wider, solution) & (kr.GradientFlag.ill_conditioned | kr.GradientFlag.licq | kr.GradientFlag.weakly_active)
    assert all(np.isfinite(block).all() for block in found.values())
    assert np.abs(solution.x.detach().numpy() - problem.x).max() < 1e-4
