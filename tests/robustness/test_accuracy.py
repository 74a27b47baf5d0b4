"""Real problems with published optima, and problems built from their solutions: solved means correct."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import karush as kr
from engine.problems import Problem, built
from karush.backends.solve import solve as solve_data
from robustness.conftest import Backend, Solver
from robustness.judges import Archived, Worst, archive, as_rows, objective, residual, status_of

Data = Callable[[str], Path]
LARGEST = 160  # variables that the compiled engine takes


def test_archive_of_small_problems(data: Data, solve: Solver, backend: Backend) -> None:
    """The 16 problems of Maros and Meszaros with at most 100 variables, with bounds as bounds and as rows.

    The compiled engine takes those with at most 20 here: compiling another size costs seconds.
    """
    worst, seen = Worst(f"small archive, {backend}"), 0
    largest, expected = (20, 11) if backend == "cpu" else (100, 16)
    for item in archive(data("maros"), "small"):
        if item.n > largest:
            continue
        seen += 1
        for form, problem in (("bounds", item.problem), ("rows", as_rows(item.problem))):
            solution = solve(problem)
            label = f"{item.name} with {form}"
            assert status_of(solution) is kr.Status.SOLVED, label
            worst.see("objective", item.error(solution.x.numpy()), label)
            worst.see("residual", residual(problem, solution), label)
    assert seen == expected
    worst.within(objective=1e-6, residual=1e-8)


def archived_runs(folder: Path, backend: Backend) -> list[Archived]:
    items = list(archive(folder, "small", "medium"))
    assert len(items) == 36
    return [item for item in items if backend == "torch" or item.n <= LARGEST]


@pytest.mark.stress
@pytest.mark.parametrize(("eps", "objective_error", "unsolved"), [(1e-6, 1e-5, 0), (1e-8, 1e-6, 2)])
def test_whole_archive(data: Data, solve: Solver, backend: Backend, eps: float, objective_error: float, unsolved: int) -> None:
    """All 36: none may be called solved and be wrong, and at most ``unsolved`` may be given up."""
    worst, given_up = Worst(f"archive at {eps:.0e}, {backend}"), []
    for item in archived_runs(data("maros"), backend):
        solution = solve(item.problem, eps=eps)
        if status_of(solution) is not kr.Status.SOLVED:
            given_up.append((item.name, status_of(solution).name))
            continue
        worst.see("objective", item.error(solution.x.numpy()), item.name)
        worst.see("residual", residual(item.problem, solution), item.name)
    assert len(given_up) <= unsolved, given_up
    worst.within(objective=objective_error, residual=eps)


@pytest.mark.stress
@pytest.mark.parametrize("eps", [1e-3, 1e-6, 1e-9])
def test_absolute_tolerances_are_kept(data: Data, solve: Solver, backend: Backend, eps: float) -> None:
    """The metrics of the published benchmarks: primal and dual residual and gap, absolute. Whoever is called solved meets them."""
    worst = Worst(f"absolute {eps:.0e}, {backend}")
    solved = 0
    for item in archived_runs(data("maros"), backend):
        problem = as_rows(item.problem)
        solution = solve(problem, eps_abs=eps)
        if status_of(solution) is not kr.Status.SOLVED:
            continue
        solved += 1
        x, y, z = (part.numpy() for part in (solution.x, solution.y, solution.z))
        Q, p, G, h, A, b = (problem.Q, problem.p, problem.G, problem.h, problem.A, problem.b)
        worst.see("primal", max((G @ x - h).max(initial=0), np.abs(A @ x - b).max(initial=0)), item.name)
        worst.see("dual", np.abs(Q @ x + p + G.T @ z + A.T @ y).max(), item.name)
        worst.see("gap", abs(x @ Q @ x + p @ x + h @ z + b @ y), item.name)
    slack = 1e-12  # the last bits of sums in another order
    worst.within(primal=eps + slack, dual=eps * (1 + 1e-6) + slack, gap=eps * (1 + 1e-3) + slack)
    assert solved >= (10 if backend == "cpu" else 20)


@pytest.mark.stress
def test_archive_in_float32(data: Data) -> None:
    """float32 throughout: within 1e-4 by the scaled residuals of the data as they were rounded, or not called solved."""
    worst, solved = Worst("archive in float32"), 0
    for item in archive(data("maros"), "small"):
        if item.n > 100:
            continue
        blocks, bounds = item.problem.arguments()
        single = [tensor.float().unsqueeze(0) for tensor in (*blocks, bounds["lb"], bounds["ub"])]
        solution = solve_data(kr.QPData(*single), kr.Options(on_failure="return"))
        assert solution.x.dtype == torch.float32
        if int(solution.status[0]) != kr.Status.SOLVED:
            continue
        solved += 1
        rounded = Problem(*(tensor.squeeze(0).double().numpy() for tensor in single))
        worst.see("residual", residual(rounded, solution), item.name)
    assert solved >= 8
    worst.within(residual=1.1e-4)  # measured in float64, claimed in float32


def test_walking_robot_as_one_batch(data: Data, backend: Backend) -> None:
    """LIPMWALK: 30 problems that share Q and G. One call, as many single calls, and Clarabel's solutions."""
    held = np.load(data("mpc") / "LIPMWALK.npz", allow_pickle=False)
    Q, p, G, h = (torch.tensor(held[name]) for name in ("P", "q", "G", "h"))
    together = kr.solve_qp(Q, p, G, h, eps_abs=1e-9, on_failure="return", backend=backend)
    assert together.status.tolist() == [kr.Status.SOLVED] * 30
    worst = Worst(f"LIPMWALK, {backend}")
    for i in range(30):
        alone = kr.solve_qp(Q, p[i], G, h[i], eps_abs=1e-9, backend=backend)
        problem = Problem(held["P"], held["q"][i], held["G"], held["h"][i], np.zeros((0, 16)), np.zeros(0))
        x, z = together.x[i].numpy(), together.z[i].numpy()
        worst.see("from Clarabel", np.abs(x - held["x_ref"][i]).max(), i)
        worst.see("from single", float((together.x[i] - alone.x).abs().max()), i)
        worst.see("violation", (problem.G @ x - problem.h).max(), i)
        worst.see("stationarity", np.abs(problem.Q @ x + problem.p + problem.G.T @ z).max(), i)
    limits = {"from Clarabel": 1e-6, "from single": 1e-12, "violation": 1e-9, "stationarity": 1e-9}
    worst.within(**limits)


def single_control_problem(path: Path) -> tuple[Problem, np.ndarray]:
    held = np.load(path, allow_pickle=False)
    n = len(held["q"])
    A, b = (held["A"], held["b"]) if "A" in held else (np.zeros((0, n)), np.zeros(0))
    return Problem(held["P"], held["q"], held["G"], held["h"], A, b, held.get("lb"), held.get("ub")), held["x_ref"]


def test_documentation_example(data: Data, solve: Solver) -> None:
    problem, x = single_control_problem(data("mpc") / "DOCSLS.npz")
    solution = solve(problem, eps_abs=1e-9)
    assert status_of(solution) is kr.Status.SOLVED
    np.testing.assert_allclose(solution.x.numpy(), x, rtol=0, atol=1e-8)
    assert residual(problem, solution) <= 1e-9


def test_quadruped_robot(data: Data) -> None:
    """QUADCMPC3 has 384 variables and a Hessian of rank 160: too large for lanes, so it is the torch engine's."""
    problem, x_ref = single_control_problem(data("mpc") / "QUADCMPC3.npz")
    blocks, bounds = problem.arguments()
    solution = kr.solve_qp(*blocks, lb=bounds.get("lb"), ub=bounds.get("ub"), eps_abs=1e-9, on_failure="return")
    assert status_of(solution) is kr.Status.SOLVED
    x, y, z = (part.numpy() for part in (solution.x, solution.y, solution.z))
    reduced = problem.Q @ x + problem.p + problem.G.T @ z + problem.A.T @ y - solution.z_lb.numpy() + solution.z_ub.numpy()
    worst = Worst("QUADCMPC3")
    worst.see("rows", max((problem.G @ x - problem.h).max(), np.abs(problem.A @ x - problem.b).max()), "all")
    worst.see("dual", np.abs(reduced).max(), "all")
    worst.see("objective", abs(objective(problem, x) - objective(problem, x_ref)), "against Clarabel")
    worst.within(rows=1e-9, dual=1e-9, objective=1e-6)


def drawn(seed: int) -> tuple[Problem, int]:
    """A problem built from its solution: any rank of Q, any number of active rows; and that number."""
    rng = np.random.default_rng(10_000 + seed)
    n = int(rng.choice([2, 3, 5, 8, 13, 20]))
    k, m, rank = int(rng.integers(0, n // 2 + 1)), int(rng.integers(0, 61)), int(rng.integers(0, n + 1))
    active = int(rng.integers(0, min(m, n - k) + 1))
    return built(seed, n, m, k, rank=rank, active=active), active


@pytest.mark.parametrize("seeds", [pytest.param(60, id="60"), pytest.param(500, id="500", marks=pytest.mark.stress)])
def test_problems_built_from_their_solutions(solve: Solver, backend: Backend, seeds: int) -> None:
    worst, unique = Worst(f"{seeds} built problems, {backend}"), 0
    for seed in range(seeds):
        problem, active = drawn(seed)
        solution = solve(problem)
        assert status_of(solution) is kr.Status.SOLVED, seed
        x, y, z = (part.numpy() for part in (solution.x, solution.y, solution.z))
        f, f_true = objective(problem, x), objective(problem, problem.x)
        worst.see("objective", abs(f - f_true) / max(1, abs(f_true)), seed)
        worst.see("residual", residual(problem, solution), seed)
        C = np.vstack([problem.A, problem.G[:active]])
        _, S, Vt = np.linalg.svd(C)
        null = Vt[len(C) :].T
        curvature = np.linalg.eigvalsh(null.T @ problem.Q @ null).min(initial=1)
        if curvature <= 1e-3 * max(1, np.abs(problem.Q).max()):
            continue  # x is not unique, or hardly
        unique += 1
        worst.see("x", np.abs(x - problem.x).max() / max(1, np.abs(problem.x).max()), seed)
        if S.min(initial=1) > 1e-2:
            worst.see("multipliers", max(np.abs(z - problem.z).max(initial=0), np.abs(y - problem.y).max(initial=0)), seed)
    assert unique > seeds / 2
    worst.within(objective=1e-9, residual=1e-8, x=1e-7, multipliers=1e-5)
