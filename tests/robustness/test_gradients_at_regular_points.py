"""Where every constraint is decided and x unique, the gradient is the derivative: to nine digits, in every block."""

from __future__ import annotations

import itertools
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import Array, Problem, built, random_batch
from robustness.conftest import Backend
from robustness.derivatives import NAMES, Vertex, error, exact, ours, solved
from robustness.judges import Worst, as_rows

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode says this


def drawn(seed: int) -> tuple[Problem, Vertex]:
    """A problem with rows, equalities and bounds, some of each active, and the vertex it was built from."""
    rng = np.random.default_rng(seed)
    n = 7
    base = built(seed, n, 9, 1, active=2)
    lb, ub, z_lb, z_ub = base.x - 1, base.x + 1, np.zeros(n), np.zeros(n)
    lb[0], z_lb[0] = base.x[0], rng.uniform(0.5, 2)
    ub[1], z_ub[1] = base.x[1], rng.uniform(0.5, 2)
    lb[2], ub[3] = -np.inf, np.inf
    problem = Problem(base.Q, base.p + z_lb - z_ub, base.G, base.h, base.A, base.b, lb, ub)
    z = np.concatenate([base.z, z_lb[np.isfinite(lb)], z_ub[np.isfinite(ub)]])
    return problem, Vertex(as_rows(problem), base.x, base.y, z, z > 0)


def test_adjoint_identity_against_an_independent_solve(backend: Backend) -> None:
    """<gradient, change> = <w, dx> with dx of one dense KKT solve in forward direction, and the gradient of another backwards."""
    worst = Worst(f"adjoint identity, {backend}")
    for seed in range(20):
        problem, at = drawn(seed)
        rng = np.random.default_rng(1000 + seed)
        w = rng.normal(size=len(at.x))
        solution, found = ours(problem, w, backend)
        assert bool(solution.ok)
        true = exact(problem, at, w)
        for name in NAMES:
            worst.see("gradient", error(found[name], true[name]), (seed, name))
        change = {name: rng.normal(size=found[name].shape) for name in NAMES}
        change["Q"] = change["Q"] + change["Q"].T
        finite = {name: np.isfinite(getattr(problem, name)) for name in ("lb", "ub")}
        dG = np.vstack([change["G"], np.zeros((len(at.z) - len(problem.h), len(at.x)))])
        dh = np.concatenate([change["h"], -change["lb"][finite["lb"]], change["ub"][finite["ub"]]])
        r_x = -(change["Q"] @ at.x + change["p"] + dG.T @ at.z + change["A"].T @ at.y)
        dx = solved(at.K, np.concatenate([r_x, change["b"] - change["A"] @ at.x, (dh - dG @ at.x)[at.active]]))[: len(at.x)]
        terms = sum(np.linalg.norm(found[name]) * np.linalg.norm(change[name]) for name in NAMES)
        worst.see("identity", abs(sum((found[name] * change[name]).sum() for name in NAMES) - w @ dx) / terms, seed)
    worst.within(gradient=1e-9, identity=1e-9)


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [t.clone().requires_grad_() for t in tensors]


def test_every_subset_of_inputs_that_may_need_a_gradient(backend: Backend) -> None:
    """All 63: who asks for less gets the same, bit for bit."""
    batch = random_batch(2, 3, 4, 1)
    full = leaves(batch)
    kr.solve_qp(*full, backend=backend).x.sum().backward()
    for needed in itertools.product((False, True), repeat=6):
        if not any(needed):
            continue
        some = [t.clone().requires_grad_(need) for t, need in zip(batch, needed, strict=True)]
        kr.solve_qp(*some, backend=backend).x.sum().backward()
        for tensor, whole, need in zip(some, full, needed, strict=True):
            assert (tensor.grad is not None) == need
            assert tensor.grad is None or (whole.grad is not None and torch.equal(tensor.grad, whole.grad))


@pytest.mark.parametrize("shared", ["", "QGA", "phb"])
def test_gradcheck_of_shared_and_batched_blocks(backend: Backend, shared: str) -> None:
    """Two problems with blocks of their own, or one block for both."""
    one, several = random_batch(1, 3, 3, 1, seed=6), random_batch(2, 3, 3, 1, seed=7)
    tensors = leaves([a[0] if name in shared else b for name, a, b in zip("QpGhAb", one, several, strict=True)])
    if shared:
        tensors[3] = (tensors[3].detach().abs() + 9).requires_grad_()  # room for any point of Ax = b

    def x(*given: Tensor) -> Tensor:
        return kr.solve_qp(*given, backend=backend).x

    assert torch.autograd.gradcheck(x, tensors, check_forward_ad=True)


def test_the_gradient_of_a_shared_block_is_the_sum(backend: Backend) -> None:
    """Against exact gradients of the items, added up: qpth takes their mean."""
    worst = Worst(f"shared blocks, {backend}")
    for seed in range(10):
        base = built(seed, 5, 6, 1, active=2)
        rng = np.random.default_rng(seed)
        w = rng.normal(size=(8, 5))
        items = []
        for _ in range(8):  # the same Q, G, h, A, b; another point of the same face, so another p
            x = base.x + moved_along(base, rng)
            p = -(base.Q @ x + base.G.T @ base.z + base.A.T @ base.y)
            items.append((Problem(base.Q, p, base.G, base.h, base.A, base.b), Vertex(base, x, base.y, base.z, base.z > 0)))
        p = np.stack([problem.p for problem, _ in items])
        tensors = leaves([torch.tensor(part) for part in (base.Q, p, base.G, base.h, base.A, base.b)])
        (torch.tensor(w) * kr.solve_qp(*tensors, backend=backend).x).sum().backward()
        parts = [exact(problem, at, w[i]) for i, (problem, at) in enumerate(items)]
        for name, leaf in zip("QpGhAb", tensors, strict=True):
            total = np.stack([part[name] for part in parts])
            assert leaf.grad is not None
            worst.see(name, error(leaf.grad.numpy(), total if name == "p" else total.sum(0)), seed)
    worst.within(**dict.fromkeys("QpGhAb", 1e-12))


def moved_along(problem: Problem, rng: np.random.Generator) -> Array:
    """A small step within the face of the active rows."""
    C = np.vstack([problem.A, problem.G[problem.z > 0]])
    null = np.linalg.svd(C)[2][len(C) :]
    step: Array = null.T @ rng.normal(size=len(null))
    room = problem.h - problem.G @ problem.x
    fastest = (problem.G @ step / np.where(problem.z > 0, np.inf, room)).max()
    step *= 0.5 / max(fastest, 1.0)
    return step


def test_multipliers_price_the_right_hand_sides(backend: Backend, directional: ModuleType) -> None:
    """d(objective)/dh = -z and d(objective)/db = -y, by differences of Clarabel's optimal values."""
    worst, t = Worst(f"prices, {backend}"), 1e-4  # the value is a quadratic of h here: its central difference is exact
    for seed in range(10):
        problem = built(seed, 5, 7, 2, active=2)
        solution, _ = ours(problem, np.ones(5), backend)

        def value(h: Array, b: Array, problem: Problem = problem) -> float:
            status, x, *_ = directional.solve(problem.Q, problem.p, problem.G, h, problem.A, b)
            assert status == "Solved"
            return float(x @ problem.Q @ x / 2 + problem.p @ x)

        for name, multiplier in (("h", solution.z.tolist()), ("b", solution.y.tolist())):
            for i in range(len(multiplier)):
                step = t * (np.arange(len(multiplier)) == i)
                sides = [
                    (problem.h + sign * step, problem.b) if name == "h" else (problem.h, problem.b + sign * step)
                    for sign in (1, -1)
                ]
                slope = (value(*sides[0]) - value(*sides[1])) / (2 * t)
                worst.see(name, abs(slope + multiplier[i]), (seed, i))
    worst.within(h=1e-6, b=1e-6)
