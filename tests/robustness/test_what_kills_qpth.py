"""What turns qpth's answers into numbers that look like answers: a hundred problems of each kind, x and every gradient to 1e-8."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import karush as kr
from engine.problems import Array, Problem, built
from robustness.conftest import Backend
from robustness.derivatives import Vertex, error, exact, ours
from robustness.judges import Worst, status_of

SEEDS, N, M, K = 100, 5, 6, 1
NAMES = "QpGhAb"
LIMITS = dict.fromkeys(("x", *NAMES), 1e-8)


def regular(seed: int) -> tuple[Problem, Vertex, Array]:
    """A problem, the vertex it was built from, and a vector of weights."""
    problem = built(seed, N, M, K, active=2)
    at = Vertex(problem, problem.x, problem.y, problem.z, problem.z > 0)
    return problem, at, np.random.default_rng(seed).normal(size=N)


def test_one_row_without_coefficients(backend: Backend) -> None:
    """0'x <= 1: qpth is wrong in 83 of 100, by up to 0.98, and says nothing."""
    worst = Worst(f"zero row, {backend}")
    for seed in range(SEEDS):
        base, at, w = regular(seed)
        problem = Problem(base.Q, base.p, np.vstack([base.G, np.zeros(N)]), np.r_[base.h, 1.0], base.A, base.b)
        solution, found = ours(problem, w, backend)
        assert status_of(solution) is kr.Status.SOLVED
        true = exact(base, at, w)
        true["G"], true["h"] = np.vstack([true["G"], np.zeros(N)]), np.r_[true["h"], 0]
        worst.see("x", error(solution.x.detach().numpy(), at.x), seed)
        for name in NAMES:
            worst.see(name, error(found[name], true[name]), seed)
    worst.within(**LIMITS)


@pytest.mark.parametrize("scale", [1e4, 1e8])
def test_large_objectives(backend: Backend, scale: float) -> None:
    """The objective in other units. dx/dQ and dx/dp are in their inverse; x, and what it makes of h and b, stay."""
    worst = Worst(f"objective times {scale:.0e}, {backend}")
    for seed in range(SEEDS):
        base, at, w = regular(seed)
        problem = Problem(scale * base.Q, scale * base.p, base.G, base.h, base.A, base.b)
        solution, found = ours(problem, w, backend)
        assert status_of(solution) is kr.Status.SOLVED
        true = exact(base, at, w)
        worst.see("x", error(solution.x.detach().numpy(), at.x), seed)
        for name in NAMES:
            worst.see(name, error(found[name] * (scale if name in "Qp" else 1), true[name]), seed)
    worst.within(**LIMITS)


def test_one_infeasible_mate(backend: Backend) -> None:
    """A batch of eight, the mate in turn at every place: qpth moves the healthy ones in 94 of 100 batches."""
    worst = Worst(f"infeasible mate, {backend}")
    for seed in range(SEEDS):
        items = [regular(10 * seed + i) for i in range(8)]
        ill = seed % 8
        stacked = {name: np.stack([getattr(problem, name) for problem, *_ in items]) for name in NAMES}
        stacked["G"][ill, 1], stacked["h"][ill, :2] = -stacked["G"][ill, 0], -1.0
        leaves = [torch.tensor(stacked[name], requires_grad=True) for name in NAMES]
        solution = kr.solve_qp(*leaves, on_failure="return", backend=backend)
        assert solution.status.tolist() == [kr.Status.PRIMAL_INFEASIBLE if i == ill else kr.Status.SOLVED for i in range(8)]
        (torch.tensor(np.stack([w for *_, w in items])) * solution.x).sum().backward()
        for i, (problem, at, w) in enumerate(items):
            if i != ill:
                true = exact(problem, at, w)
                worst.see("x", error(solution.x[i].detach().numpy(), at.x), (seed, i))
                for name, leaf in zip(NAMES, leaves, strict=True):
                    assert leaf.grad is not None
                    worst.see(name, error(leaf.grad[i].numpy(), true[name]), (seed, i))
    worst.within(**LIMITS)


def with_side(problem: Problem, h: Array) -> Vertex:
    """The problem with its rows turned such that ``h`` is their right-hand side, and x and z are optimal as before."""
    x, z = problem.x, problem.z
    slack = problem.h - problem.G @ x
    G = problem.G + np.outer(h - slack - problem.G @ x, x) / (x @ x)
    p = -(problem.Q @ x + G.T @ z + problem.A.T @ problem.y)
    return Vertex(Problem(problem.Q, p, G, h, problem.A, problem.b), x, problem.y, z, z > 0)


def test_a_shared_right_hand_side(backend: Backend) -> None:
    """One h for eight problems: its gradient is the sum. qpth returns the mean, an eighth of it."""
    worst = Worst(f"shared h, {backend}")
    for seed in range(SEEDS):
        h = np.random.default_rng(seed).uniform(0.5, 2, M)
        items = [regular(10 * seed + i) for i in range(8)]
        vertices = [with_side(problem, h) for problem, *_ in items]
        blocks = {name: h if name == "h" else np.stack([getattr(at.rows, name) for at in vertices]) for name in NAMES}
        leaves = [torch.tensor(blocks[name], requires_grad=True) for name in NAMES]
        solution = kr.solve_qp(*leaves, on_failure="return", backend=backend)
        assert solution.ok.all()
        (torch.tensor(np.stack([w for *_, w in items])) * solution.x).sum().backward()
        true = [exact(at.rows, at, w) for at, (*_, w) in zip(vertices, items, strict=True)]
        worst.see("x", error(solution.x.detach().numpy(), np.stack([at.x for at in vertices])), seed)
        for name, leaf in zip(NAMES, leaves, strict=True):
            expected = np.stack([part[name] for part in true])
            assert leaf.grad is not None
            worst.see(name, error(leaf.grad.numpy(), expected.sum(0) if name == "h" else expected), seed)
    worst.within(**LIMITS)
