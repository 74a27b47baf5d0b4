"""The Maros-Meszaros archive beside single-problem solvers: who solves what, and whose "solved" is wrong.

Every solver is asked for the same accuracy by its own settings, relative and absolute, gap included. Its answer counts as *wrong*
if it says solved and the objective is further from the published optimum than the limit, or a constraint is violated by more than
the tolerance times ten, in the units of its row. qpth says nothing about success: whatever is finite counts as said to be solved.

`PYTHONPATH=tests python -m benchmarks.archive`: problems and judges are those of the tests.
"""

from __future__ import annotations

import importlib.util
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import clarabel
import numpy as np
import scipy.sparse as sp
import torch
from tqdm import tqdm

import karush as kr
from engine.problems import Array, Problem
from robustness.judges import Archived, archive, as_rows

CASES = ((1e-6, 1e-5), (1e-8, 1e-6))  # asked of solvers, and how far an objective may be from the published one
PATIENCE_S = 30.0

Claim = Array | None  # x, or None where the solver says that it failed


def karush(problem: Problem, eps: float) -> Claim:
    blocks, bounds = problem.arguments()
    solution = kr.solve_qp(*blocks, lb=bounds.get("lb"), ub=bounds.get("ub"), eps=eps, on_failure="return")
    return solution.x.numpy() if int(solution.status) == kr.Status.SOLVED else None


def karush_language(problem: Problem, eps: float) -> Claim:
    """The same problem as a model: bounds are bounds, the rest constant matrices."""
    x = kr.Variable(len(problem.p), name="x", bounds=[problem.lb, problem.ub])
    rows = [problem.G @ x <= problem.h] if len(problem.h) else []
    rows += [problem.A @ x == problem.b] if len(problem.b) else []
    cost = 0.5 * kr.quad_form(x, kr.psd_wrap(problem.Q)) + problem.p @ x
    layer = kr.compile(kr.Problem(kr.Minimize(cost), rows), eps=eps, on_failure="return")
    solution = layer.solve({})
    return solution[x].double().numpy() if int(solution.status) == kr.Status.SOLVED else None


def clarabel_solver(problem: Problem, eps: float) -> Claim:
    rows = as_rows(problem)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = eps
    kinds = ((clarabel.ZeroConeT, len(rows.b)), (clarabel.NonnegativeConeT, len(rows.h)))
    cones = [cone(size) for cone, size in kinds if size]
    C, c = sp.csc_matrix(np.vstack([rows.A, rows.G])), np.concatenate([rows.b, rows.h])
    found = clarabel.DefaultSolver(sp.csc_matrix(np.triu(rows.Q)), rows.p, C, c, cones, settings).solve()
    return np.array(found.x) if str(found.status) == "Solved" else None


def piqp(problem: Problem, eps: float) -> Claim:
    import piqp as library

    solver = library.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = eps
    solver.settings.check_duality_gap = True
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = eps
    P, A, G = (sp.csc_matrix(matrix) for matrix in (problem.Q, problem.A, problem.G))
    lower = np.full(len(problem.h), -np.inf)
    solver.setup(P, problem.p, A, problem.b, G, lower, problem.h, problem.lb, problem.ub)
    status = solver.solve()
    return np.array(solver.result.x) if status == library.PIQP_SOLVED else None


def proxqp(problem: Problem, eps: float) -> Claim:
    from proxsuite import proxqp as library

    rows = as_rows(problem)
    solver = library.sparse.QP(len(rows.p), len(rows.b), len(rows.h))
    solver.settings.eps_abs = solver.settings.eps_rel = eps
    solver.settings.check_duality_gap = True
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = eps
    H, A, C = (sp.csc_matrix(matrix) for matrix in (rows.Q, rows.A, rows.G))
    solver.init(H, rows.p, A, rows.b, C, np.full(len(rows.h), -np.inf), rows.h)
    solver.solve()
    return np.array(solver.results.x) if solver.results.info.status == library.QPSolverOutput.PROXQP_SOLVED else None


def osqp(problem: Problem, eps: float) -> Claim:
    import osqp as library

    rows = as_rows(problem)
    solver = library.OSQP()
    C = sp.csc_matrix(np.vstack([rows.A, rows.G]))
    low = np.concatenate([rows.b, np.full(len(rows.h), -np.inf)])
    options: dict[str, Any] = {"eps_abs": eps, "eps_rel": eps, "max_iter": 200_000, "time_limit": PATIENCE_S, "verbose": False}
    solver.setup(sp.csc_matrix(np.triu(rows.Q)), rows.p, C, low, np.concatenate([rows.b, rows.h]), **options)
    found = solver.solve()
    return np.array(found.x) if found.info.status == "solved" else None


def qpth(problem: Problem, eps: float) -> Claim:
    from qpth.qp import QPFunction

    rows = as_rows(problem)
    tensors = [torch.tensor(part)[None] for part in (rows.Q, rows.p, rows.G, rows.h, rows.A, rows.b)]
    if not len(rows.b):
        tensors[4:] = [torch.empty(0, dtype=torch.float64)] * 2
    x: Array = QPFunction(verbose=-1, eps=eps, maxIter=50, check_Q_spd=False)(*tensors)[0].numpy()
    return x if np.isfinite(x).all() else None


SOLVERS: dict[str, tuple[str, Callable[[Problem, float], Claim]]] = {
    "karush": ("karush", karush),
    "karush, as a model": ("karush", karush_language),
    "Clarabel": ("clarabel", clarabel_solver),
    "PIQP": ("piqp", piqp),
    "ProxQP": ("proxsuite", proxqp),
    "OSQP": ("osqp", osqp),
    "qpth": ("qpth", qpth),
}


class Tally(NamedTuple):
    """Problems said to be solved, those of them that are wrong, and the worst objective among those that are right."""

    solved: int
    wrong: list[str]
    worst: float
    seconds: float


def violation(problem: Problem, x: Array) -> float:
    """The largest violation of a row, over the size of its terms."""
    rows, worst = as_rows(problem), 0.0
    for M, right, sign in ((rows.G, rows.h, 0.0), (rows.A, rows.b, 1.0)):
        if len(right):
            excess = M @ x - right
            excess = np.abs(excess) if sign else np.maximum(excess, 0)
            terms = np.minimum(1, np.abs(M).max(1)) + np.abs(right) + np.abs(M) @ np.abs(x)
            worst = max(worst, float((excess / np.where(terms > 0, terms, 1)).max()))
    return worst


def tally(solve: Callable[[Problem, float], Claim], items: list[Archived], eps: float, limit: float, title: str) -> Tally:
    solved, wrong, worst, seconds = 0, [], 0.0, 0.0
    for item in tqdm(items, desc=title, leave=False, disable=None):
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                x = solve(item.problem, eps)
        except (RuntimeError, ValueError, AssertionError):  # that is how qpth and ProxQP say that they cannot
            x = None
        seconds += time.perf_counter() - start
        if x is None:
            continue
        solved += 1
        error = item.error(x)
        if error <= limit and violation(item.problem, x) <= 10 * eps:
            worst = max(worst, error)
        else:
            wrong.append(item.name)
    return Tally(solved, wrong, worst, seconds)


def main() -> None:
    folder = Path(os.environ.get("KARUSH_DATA", "../shared/data")) / "maros"
    if not folder.is_dir():
        print(f"no archive at {folder}: KARUSH_DATA names the folder of the data")
        return
    items = list(archive(folder, "small", "medium"))
    print(f"{len(items)} problems of the archive of Maros and Meszaros; karush has compiled its code beforehand")
    for item in items:
        karush(item.problem, 1e-6)
    for eps, limit in CASES:
        title = f"eps {eps:.0e}, objective within {limit:.0e}"
        print(f"\n{title:<40}{'solved':>8}{'right':>8}{'wrong':>8}{'worst right':>13}{'seconds':>9}")
        for name, (package, solve) in SOLVERS.items():
            if importlib.util.find_spec(package) is None:
                print(f"{name:<40}not installed")
                continue
            found = tally(solve, items, eps, limit, name)
            right = found.solved - len(found.wrong)
            print(
                f"{name:<40}{found.solved:>8}{right:>8}{len(found.wrong):>8}{found.worst:>13.0e}{found.seconds:>9.2f}  "
                f"{' '.join(found.wrong[:6])}{' ...' if len(found.wrong) > 6 else ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
