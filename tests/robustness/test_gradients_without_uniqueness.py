"""Where x is not unique, the gradient is the one of least norm: finite, linear in what arrives, bounded by 1 / curvature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import karush as kr
from engine.problems import Array, Problem, built
from robustness.conftest import Backend
from robustness.derivatives import Blocks, Mask, error, flags_of, ours
from robustness.judges import Worst, archive, as_rows, status_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode says this

Data = Callable[[str], Path]
NONUNIQUE = kr.GradientFlag.nonunique
DEPENDENT, FLAT = 1e-9, 1e-11  # as the documents have it: singular values of unit rows, curvatures over the size of Q


def face(problem: Problem, active: Mask) -> tuple[Array, Array, Array]:
    """Directions V within the active rows that have a curvature, the curvatures, and all directions within those rows."""
    rows = as_rows(problem)
    C = np.vstack([rows.A, rows.G[active]])
    length = np.linalg.norm(C, axis=1)
    C = C[length > 0] / length[length > 0, None]
    _, S, Vt = np.linalg.svd(C, full_matrices=True)
    null = Vt[(DEPENDENT * S.max(initial=0) < S).sum() :].T
    curvature, V = np.linalg.eigh(null.T @ problem.Q @ null)
    kept = curvature > FLAT * np.abs(problem.Q).sum(1).max()
    return null @ V[:, kept], curvature[kept], null


def active_rows(problem: Problem, solution: kr.QPSolution) -> Mask:
    """Rows of ``as_rows`` that the solution holds."""
    parts = [solution.active.rows.numpy()]
    for bound, mask in ((problem.lb, solution.active.lb), (problem.ub, solution.active.ub)):
        if bound is not None:
            parts.append(mask.numpy()[np.isfinite(bound)])
    return np.concatenate(parts)


def finite(found: Blocks) -> bool:
    return all(np.isfinite(block).all() for block in found.values())


def singular(seed: int) -> Problem:
    """Q of rank 3 in 6 variables of very different units, with two active rows and an equality: flat directions are left."""
    base = built(seed, 6, 5, 1, active=1)
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(3, 6)) * 10 ** rng.uniform(-2, 2, 6)
    Q = F.T @ F
    return Problem(Q, -(Q @ base.x + base.G.T @ base.z + base.A.T @ base.y), base.G, base.h, base.A, base.b)


def test_singular_hessians(backend: Backend) -> None:
    """dx/dp = -V diag(1/curvature) V', whether what arrives sees the flat directions or not: they are not part of the answer.

    Refinement alone ends at another solution if it does not see them: it was 300 times as long.
    """
    worst = Worst(f"singular Hessians, {backend}")
    for seed in range(30):
        problem, rng = singular(seed), np.random.default_rng(seed)
        solution, _ = ours(problem, np.ones(6), backend)
        assert status_of(solution) is kr.Status.SOLVED, seed
        assert flags_of(problem, solution) & NONUNIQUE, seed
        V, curvature, null = face(problem, active_rows(problem, solution))
        blind = problem.Q @ rng.normal(size=6)  # orthogonal to every flat direction, as far as rows go
        for kind, w in (("any", rng.normal(size=6)), ("blind", blind), ("held", null @ null.T @ blind)):
            found = ours(problem, w, backend)[1]
            assert finite(found)
            worst.see(kind, error(found["p"], -V @ ((V.T @ w) / curvature)), seed)
            assert np.linalg.norm(found["p"]) <= (1 + 1e-6) * np.linalg.norm(w) / curvature.min()
    worst.within(any=1e-6, blind=1e-6, held=1e-6)


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4])
def test_one_direction_of_curvature(ratio: float, backend: Backend) -> None:
    """Q = uu', u = (1, ratio): dx/dp = -uu'/|u|^4. Across u, rounding over 1e-9 of regularisation leaves 1e-7."""
    u = np.array([1.0, ratio])
    problem = Problem(np.outer(u, u), -u, np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), np.zeros(0))
    for w in (u, np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([ratio, -1.0])):
        found = ours(problem, w, backend)[1]
        np.testing.assert_allclose(found["p"], -u * (u @ w) / (u @ u) ** 2, rtol=0, atol=1e-6 * np.linalg.norm(w) / (u @ u))


def test_edges_of_linear_programs(backend: Backend) -> None:
    """The cost is orthogonal to an edge. x lies on it somewhere, and does not answer to p; to h it answers by the rows alone."""
    worst = Worst(f"edges, {backend}")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        base = built(seed, 5, 9, 1, rank=0, active=3)  # 4 rows hold a line
        solution, found = ours(base, (w := rng.normal(size=5)), backend)
        assert status_of(solution) is kr.Status.SOLVED, seed
        assert flags_of(base, solution) & NONUNIQUE, seed
        assert finite(found)
        active = active_rows(base, solution)
        C = np.vstack([base.A, base.G[active]])
        pinv = np.linalg.pinv(C, rcond=DEPENDENT)
        worst.see("p", np.abs(found["p"]).max(), seed)
        worst.see("b, h", error(np.r_[found["b"], found["h"][active]], pinv.T @ w), seed)
        worst.see("inactive", np.abs(found["h"][~active]).max(), seed)
    kinds = {"p": 1e-8, "b, h": 1e-8, "inactive": 0.0}
    worst.within(**kinds)


def check_archive(data: Data, backend: Backend, smallest: int, largest: int, worst: Worst) -> int:
    """Problems labelled nonunique; with three directions w each."""
    seen = 0
    for item in archive(data("maros"), "small", "medium"):
        if item.labels["primal_solution"] != "nonunique" or not smallest < item.n <= largest:
            continue
        seen += 1
        problem, rng = item.problem, np.random.default_rng(0)
        solution, _ = ours(problem, np.ones(item.n), backend)
        assert bool(solution.ok), item.name
        flag = flags_of(problem, solution)
        assert flag & (NONUNIQUE | kr.GradientFlag.weakly_active), (item.name, flag)
        _, curvature, null = face(problem, active_rows(problem, solution))
        for w in (np.ones(item.n), rng.normal(size=item.n), problem.Q @ rng.normal(size=item.n)):
            found = ours(problem, w, backend)[1]
            assert finite(found), item.name
            bound = np.linalg.norm(null.T @ w) / curvature.min() if len(curvature) else 0.0
            excess = float(np.linalg.norm(found["p"]) - bound)
            worst.see("over the bound", excess / float(bound or np.linalg.norm(w)), item.name)
    return seen


def test_archive(data: Data, backend: Backend) -> None:
    worst = Worst(f"nonunique archive, {backend}")
    assert check_archive(data, backend, 0, 100, worst) == 1
    kinds = {"over the bound": 1e-6}
    worst.within(**kinds)


@pytest.mark.stress
def test_large_archive(data: Data, backend: Backend) -> None:
    """Eleven problems of 140 to 760 variables; the compiled engine takes the smallest."""
    worst = Worst(f"large nonunique archive, {backend}")
    assert check_archive(data, backend, 100, 160 if backend == "cpu" else 1000, worst) == (1 if backend == "cpu" else 11)
    kinds = {"over the bound": 1e-6}
    worst.within(**kinds)


def test_every_way_to_differentiate_agrees(backend: Backend) -> None:
    """Rows of the Jacobian by reverse mode, its columns by forward mode: one linear map, though each row may take another path."""
    worst = Worst(f"forward and reverse, {backend}")
    for seed in range(5):
        problem = singular(seed)
        blocks, _ = problem.arguments()

        def x(p: torch.Tensor, blocks: list[torch.Tensor] = blocks) -> torch.Tensor:
            return kr.solve_qp(blocks[0], p, *blocks[2:], backend=backend).x

        reverse, forward = (np.asarray(way(x)(blocks[1])) for way in (torch.func.jacrev, torch.func.jacfwd))
        rows = np.stack([ours(problem, w, backend)[1]["p"] for w in np.eye(6)])
        worst.see("forward", error(forward, rows), seed)
        worst.see("reverse", error(reverse, rows), seed)
    worst.within(forward=1e-6, reverse=1e-6)
