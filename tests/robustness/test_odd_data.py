"""Infinite sides mixed per item, odd Hessians, and every shape that broadcasting allows: the reduced problem, or a typed error."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import Problem, built, clarabel_solution, random_batch, worst_residual
from robustness.conftest import Backend, Solver
from robustness.judges import Worst, residual, status_of

F = torch.float64
NAMES = ("Q", "p", "G", "h", "A", "b")


def test_infinite_sides_mixed_per_item_are_the_reduced_problems(backend: Backend) -> None:
    """Rows and bounds are absent here and there, in each item others; Clarabel solves each without them."""
    B, n, m, k = 12, 5, 6, 1
    worst = Worst(f"infinite sides, {backend}")
    blocks = dict(zip(NAMES, random_batch(B, n, m, k, seed=11), strict=True))
    rng = np.random.default_rng(0)
    inside = torch.tensor(np.stack([built(11000 + i, n, m, k).x for i in range(B)]))
    lb, ub = inside - torch.tensor(rng.uniform(0.01, 1, (B, n))), inside + torch.tensor(rng.uniform(0.01, 1, (B, n)))
    blocks["p"] = blocks["p"].roll(1, 0)
    for side, value in ((blocks["h"], torch.inf), (lb, -torch.inf), (ub, torch.inf)):
        side[torch.tensor(rng.uniform(size=tuple(side.shape)) < 0.4)] = value
    blocks["h"][3], lb[4], ub[4] = torch.inf, -torch.inf, torch.inf  # none at all
    leaves = {name: value.clone().requires_grad_() for name, value in (blocks | {"lb": lb, "ub": ub}).items()}
    solution = kr.solve_qp(**leaves, backend=backend)  # type: ignore[arg-type]  # tensors by name
    gradients = dict(
        zip(leaves, torch.autograd.grad(solution.x.sin().sum() + solution.z.sum(), list(leaves.values())), strict=True)
    )
    for i in range(B):
        keep = torch.isfinite(blocks["h"][i])
        held = {name: blocks[name][i] for name in ("Q", "p", "A", "b")} | {"G": blocks["G"][i][keep], "h": blocks["h"][i][keep]}
        problem = Problem(**{name: value.numpy() for name, value in held.items()}, lb=lb[i].numpy(), ub=ub[i].numpy())
        x, _, z = clarabel_solution(problem)
        worst.see("x", float(np.abs(solution.x[i].detach().numpy() - x).max()), i)
        worst.see("z", float(np.abs(solution.z[i][keep].detach().numpy() - z).max(initial=0)), i)
        assert not solution.z[i][~keep].any()
        assert not solution.z_lb[i][~torch.isfinite(lb[i])].any()
        assert not gradients["G"][i][~keep].any()
        assert not gradients["h"][i][~keep].any()
        # Bounds that no item has are left out, rows too: the same problem by another door has the same gradient.
        own = {name: value.clone().requires_grad_() for name, value in (held | {"lb": lb[i], "ub": ub[i]}).items()}
        alone = kr.solve_qp(**own, backend=backend)  # type: ignore[arg-type]  # tensors by name
        reduced = dict(zip(own, torch.autograd.grad(alone.x.sin().sum() + alone.z.sum(), list(own.values())), strict=True))
        for name in ("Q", "p", "A", "b", "lb", "ub"):
            worst.see("gradient", float((gradients[name][i] - reduced[name]).abs().max()) / 10, (i, name))
    worst.within(x=1e-7, z=1e-6, gradient=1e-9)


@pytest.mark.parametrize("name", ["h", "lb", "ub", "b"])
def test_sides_of_the_wrong_sign_are_rejected_item_by_item(name: str, backend: Backend) -> None:
    blocks: dict[str, Any] = dict(zip(NAMES, random_batch(4, 3, 4, 1), strict=True))
    blocks |= {"lb": torch.full((4, 3), -9.0, dtype=F), "ub": torch.full((4, 3), 9.0, dtype=F)}
    blocks[name][2, 0] = torch.inf if name in ("lb", "b") else -torch.inf
    status = kr.solve_qp(**blocks, on_failure="return", backend=backend).status.tolist()
    assert status == [0, 0, kr.Status.INVALID_INPUT, 0]


def test_multipliers_of_bounds_have_gradients(backend: Backend) -> None:
    """min x²/2 + px at lb has z_lb = lb + p, at ub z_ub = -(ub + p), in between neither moves."""
    p = torch.tensor([[5.0], [-5.0], [0.1]], dtype=F, requires_grad=True)
    lb, ub = (torch.full((3, 1), side, dtype=F, requires_grad=True) for side in (-1.0, 1.0))
    solution = kr.solve_qp(torch.ones(1, 1, dtype=F), p, lb=lb, ub=ub, backend=backend)
    torch.testing.assert_close(solution.z_lb.detach(), torch.tensor([[4.0], [0.0], [0.0]], dtype=F))
    torch.testing.assert_close(solution.z_ub.detach(), torch.tensor([[0.0], [4.0], [0.0]], dtype=F))
    loss = (2 * solution.z_lb + 3 * solution.z_ub).sum()
    dp, dlb, dub = torch.autograd.grad(loss, (p, lb, ub))
    torch.testing.assert_close(dp, torch.tensor([[2.0], [-3.0], [0.0]], dtype=F))
    torch.testing.assert_close(dlb, torch.tensor([[2.0], [0.0], [0.0]], dtype=F))
    torch.testing.assert_close(dub, torch.tensor([[0.0], [-3.0], [0.0]], dtype=F))


# Hessians: what is documented, or a status


def rotated(eigenvalues: list[float], seed: int = 0) -> np.ndarray:
    U = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    rotated: np.ndarray = U @ np.diag(eigenvalues) @ U.T
    return rotated


BOXED = kr.Status.SOLVED
HESSIANS: dict[str, tuple[np.ndarray, kr.Status | None]] = {
    "zero": (np.zeros((4, 4)), BOXED),
    "rank one": (np.outer([1.0, 2, 3, 4], [1.0, 2, 3, 4]), BOXED),
    "rank one, rotated": (rotated([0, 0, 0, 1]), BOXED),
    "negative by rounding": (rotated([-1e-16, 0, 1, 2]), BOXED),
    "negative by rounding, huge": (1e12 * rotated([-1e-16, 0, 1, 2]), BOXED),
    "-1e-4 beside 3e11": (rotated([-1e-4, 1, 1e6, 3e11]), None),  # below the rounding of its own entries: no false success
    "-1e-6": (rotated([-1e-6, 1, 1, 1]), kr.Status.NONCONVEX),
    "-1e-6, tiny": (1e-9 * rotated([-1e-6, 1, 1, 1]), kr.Status.NONCONVEX),
    "indefinite": (rotated([-1, 1, 1, 1]), kr.Status.NONCONVEX),
    "negative definite": (-np.eye(4), kr.Status.NONCONVEX),
    "hollow": (np.ones((4, 4)) - np.eye(4), kr.Status.NONCONVEX),
}


@pytest.mark.parametrize("kind", HESSIANS)
def test_odd_hessians(kind: str, solve: Solver) -> None:
    """In a box, so that every convex one has a solution; residuals by NumPy, of the matrix that was given."""
    Q, expected = HESSIANS[kind]
    size = max(1.0, np.abs(Q).max()) if "huge" in kind else 1.0
    p = size * np.array([1.0, -2, 0.5, 0.1])
    problem = Problem(Q, p, np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)), np.zeros(0), -np.ones(4), np.ones(4))
    solution = solve(problem)
    if expected is not None:
        assert status_of(solution) is expected
    if status_of(solution) is kr.Status.SOLVED:
        assert residual(problem, solution) <= 1e-8
    if kind == "zero":
        np.testing.assert_allclose(solution.x.numpy(), -np.sign(p), atol=1e-8)


@pytest.mark.parametrize("turn", [0.0, 0.5, -3.0])
def test_a_hessian_that_is_not_symmetric_is_its_symmetric_part(turn: float, backend: Backend) -> None:
    problem = built(3, 5, 6, 1)
    skew = np.random.default_rng(1).normal(size=(5, 5))
    Q = torch.tensor(problem.Q + turn * (skew - skew.T), requires_grad=True)
    arguments, _ = problem.arguments()
    solution = kr.solve_qp(Q, *arguments[1:], backend=backend)
    np.testing.assert_allclose(solution.x.detach().numpy(), problem.x, atol=1e-8)
    (gradient,) = torch.autograd.grad(solution.x.sin().sum(), Q)
    torch.testing.assert_close(gradient, gradient.mT, rtol=1e-14, atol=1e-14)
    assert gradient.any()


def test_an_item_given_up_on_a_thin_set_is_not_called_infeasible(solve: Solver) -> None:
    """One iteration is too few, and then certificates are looked for: z = (1, 1) cancels the rows of a'x = 1 and proves nothing."""
    given_up = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(3, 6))
        inside = rng.normal(size=6)
        others, room = rng.normal(size=(20, 6)), rng.uniform(0, 1, 20)
        G = np.vstack([rows, -rows, others])
        h = np.concatenate([rows @ inside, -rows @ inside, others @ inside + room])
        problem = Problem(np.eye(6), 10 * rng.normal(size=6), G, h, np.zeros((0, 6)), np.zeros(0))
        status = status_of(solve(problem, max_iter=1, eps=1e-12))
        assert status not in (kr.Status.PRIMAL_INFEASIBLE, kr.Status.DUAL_INFEASIBLE)
        given_up += status in (kr.Status.MAX_ITERATIONS, kr.Status.NUMERICAL_ERROR)
    assert given_up  # else no certificate was looked for


# Shapes: n = 1, m = 0, k = 0, B = 0 and 1, every way to broadcast


@pytest.mark.parametrize(("n", "m", "k"), [(1, 0, 0), (1, 1, 0), (1, 0, 1), (2, 0, 0), (2, 3, 0), (2, 0, 1), (3, 4, 1)])
@pytest.mark.parametrize("B", [0, 1, 3])
def test_small_and_empty(n: int, m: int, k: int, B: int, backend: Backend) -> None:
    problem = built(5, n, m, k)
    arguments, _ = problem.arguments()
    leaves = [t.expand(B, *t.shape).clone().requires_grad_() for t in arguments]
    solution = kr.solve_qp(*leaves, backend=backend)
    assert solution.x.shape == (B, n)
    assert solution.status.shape == (B,)
    for gradient, leaf in zip(torch.autograd.grad(solution.x.sum(), leaves), leaves, strict=True):
        assert gradient.shape == leaf.shape
        assert gradient.isfinite().all()
    for i in range(B):
        parts = (solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub)
        assert worst_residual(problem, *(part[i].detach().numpy() for part in parts)) <= 1e-8
        np.testing.assert_allclose(solution.x[i].detach().numpy(), problem.x, atol=1e-8)
    if B == 0:  # the fixture wants proof that the engine was asked
        kr.solve_qp(*arguments, backend=backend)


def test_every_subset_of_shared_blocks(backend: Backend) -> None:
    """64 ways to share, with the loop of expanded singles as the answer and the sum of its gradients."""
    B, n, m, k = 3, 3, 4, 1
    worst = Worst(f"broadcasts, {backend}")
    full = random_batch(B, n, m, k, seed=13)
    full[3] = full[3] + 3  # feasible whichever block is shared
    full[5] = full[5] * 0.1
    for shared in itertools.product([False, True], repeat=6):
        blocks = [t[0] if one else t for t, one in zip(full, shared, strict=True)]
        leaves = [t.clone().requires_grad_() for t in blocks]
        whole = kr.solve_qp(*leaves, backend=backend)
        assert whole.x.shape == ((n,) if all(shared) else (B, n))
        own: list[Tensor] = [t.clone().requires_grad_() for t in blocks]
        rows = [kr.solve_qp(*(t if one else t[i] for t, one in zip(own, shared, strict=True)), backend=backend).x for i in range(B)]
        loop = rows[0] if all(shared) else torch.stack(rows)
        worst.see("x", float((whole.x - loop).detach().abs().max()), shared)
        gradients = (torch.autograd.grad(x.sin().sum(), source) for x, source in ((whole.x, leaves), (loop, own)))
        for name, one, other in zip(NAMES, *gradients, strict=True):
            worst.see("gradient", float((one - other).abs().max() / (1 + other.abs().max())), (name, shared))
    worst.within(x=1e-11, gradient=1e-11)


WRONG = {"Q": (3, 2), "p": (4,), "G": (4, 2), "h": (5,), "A": (1, 4), "b": (2,), "lb": (2,), "ub": (4,)}


@pytest.mark.parametrize("name", WRONG)
def test_errors_name_the_argument_and_both_shapes(name: str) -> None:
    blocks: dict[str, Any] = dict(zip(NAMES, (t[0] for t in random_batch(1, 3, 4, 1)), strict=True))
    blocks |= {"lb": torch.full((3,), -9.0, dtype=F), "ub": torch.full((3,), 9.0, dtype=F)}
    right = tuple(blocks[name].shape)
    for made in (torch.ones(WRONG[name], dtype=F), torch.ones(7, *WRONG[name], dtype=F)):
        with pytest.raises(kr.InputError) as caught:
            kr.solve_qp(**blocks | {name: made})
        told = str(caught.value)
        assert str(tuple(made.shape)) in told
        assert name in told.splitlines()[0]
        assert name in ("Q", "G", "A") or str(right) in told  # these state the sizes themselves
        assert "expected shape batch + (" in told
    with pytest.raises(kr.InputError, match=f"argument {name}"):
        kr.solve_qp(**blocks | {name: torch.ones(right, dtype=torch.int64)})
    with pytest.raises(kr.InputError, match=f"{name} on meta"):
        kr.solve_qp(**blocks | {name: torch.ones(right, dtype=F, device="meta")})
    if name in ("Q", "G", "A"):  # matrices may be sparse; tests/sparse has their answers
        return
    with pytest.raises(kr.InputError, match=rf"argument {name}[^\n]*(dense|shape)"):
        kr.solve_qp(**blocks | {name: torch.ones(right, dtype=F).to_sparse()})
