"""Generated problems that are infeasible, unbounded or solvable by construction: what each solver says of them.

Those of ``tests/robustness/verdicts.py``, 334 of each family, whose truth HiGHS confirms in the tests. Solvers are asked for 1e-8,
and otherwise left as they are. *right* is a true verdict; of a problem without points and with a direction of descent as well,
where both certificates exist, either counts. *false* is another definite one, or a "solved" whose constraints are violated by more
than 1e-6; *open* is everything else: a limit reached, nearly solved, an error. qpth has no status, and no row.

`PYTHONPATH=tests python -m benchmarks.verdicts`
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import clarabel
import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog
from tqdm import tqdm

import karush as kr
from benchmarks.archive import violation
from engine.problems import Array, Problem
from robustness.judges import as_rows
from robustness.verdicts import FAMILIES, INFEASIBLE, SOLVABLE, UNBOUNDED, rows_of

SEEDS = range(5000, 5334)
EPS, BROKEN = 1e-8, 1e-6
OPEN = "open"
PATIENCE_S = 1.0  # of OSQP, for one problem


class Said(NamedTuple):
    """A verdict, and the point of one that is called solved."""

    verdict: str
    x: Array | None = None


def karush(problem: Problem) -> Said:
    blocks, bounds = problem.arguments()
    found = kr.solve_qp(*blocks, lb=bounds.get("lb"), ub=bounds.get("ub"), eps=EPS, on_failure="return")
    names = {
        kr.Status.SOLVED: SOLVABLE, kr.Status.PRIMAL_INFEASIBLE: INFEASIBLE, kr.Status.DUAL_INFEASIBLE: UNBOUNDED,
    }  # fmt: skip
    return Said(names.get(kr.Status(int(found.status)), OPEN), found.x.numpy())


def clarabel_solver(problem: Problem) -> Said:
    rows = as_rows(problem)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = EPS
    kinds = ((clarabel.ZeroConeT, len(rows.b)), (clarabel.NonnegativeConeT, len(rows.h)))
    C, c = sp.csc_matrix(np.vstack([rows.A, rows.G])), np.concatenate([rows.b, rows.h])
    cones = [cone(size) for cone, size in kinds if size]
    found = clarabel.DefaultSolver(sp.csc_matrix(np.triu(rows.Q)), rows.p, C, c, cones, settings).solve()
    names = {"Solved": SOLVABLE, "PrimalInfeasible": INFEASIBLE, "DualInfeasible": UNBOUNDED}
    return Said(names.get(str(found.status), OPEN), np.array(found.x))


def piqp(problem: Problem) -> Said:
    import piqp as library

    solver = library.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = EPS
    solver.setup(
        problem.Q, problem.p, problem.A, problem.b, problem.G, np.full(len(problem.h), -np.inf), problem.h, problem.lb, problem.ub
    )  # fmt: skip
    status = solver.solve()
    names = {
        library.PIQP_SOLVED: SOLVABLE, library.PIQP_PRIMAL_INFEASIBLE: INFEASIBLE, library.PIQP_DUAL_INFEASIBLE: UNBOUNDED,
    }  # fmt: skip
    return Said(names.get(status, OPEN), np.array(solver.result.x))


def proxqp(problem: Problem) -> Said:
    from proxsuite import proxqp as library

    rows = as_rows(problem)
    solver = library.dense.QP(len(rows.p), len(rows.b), len(rows.h))
    solver.settings.eps_abs = solver.settings.eps_rel = EPS
    solver.init(rows.Q, rows.p, rows.A, rows.b, rows.G, np.full(len(rows.h), -np.inf), rows.h)
    solver.solve()
    codes = library.QPSolverOutput
    names = {
        codes.PROXQP_SOLVED: SOLVABLE, codes.PROXQP_PRIMAL_INFEASIBLE: INFEASIBLE, codes.PROXQP_DUAL_INFEASIBLE: UNBOUNDED,
    }  # fmt: skip
    return Said(names.get(solver.results.info.status, OPEN), np.array(solver.results.x))


def osqp(problem: Problem) -> Said:
    import osqp as library

    rows = as_rows(problem)
    solver = library.OSQP()
    low = np.concatenate([rows.b, np.full(len(rows.h), -np.inf)])
    C, high = sp.csc_matrix(np.vstack([rows.A, rows.G])), np.concatenate([rows.b, rows.h])
    options: dict[str, Any] = {"eps_abs": EPS, "eps_rel": EPS, "max_iter": 100_000, "time_limit": PATIENCE_S, "verbose": False}
    solver.setup(sp.csc_matrix(np.triu(rows.Q)), rows.p, C, low, high, **options)
    found = solver.solve()
    names = {"solved": SOLVABLE, "primal infeasible": INFEASIBLE, "dual infeasible": UNBOUNDED}
    return Said(names.get(found.info.status, OPEN), found.x)


SOLVERS: dict[str, tuple[str, Callable[[Problem], Said]]] = {
    "karush": ("karush", karush),
    "Clarabel": ("clarabel", clarabel_solver),
    "PIQP": ("piqp", piqp),
    "ProxQP": ("proxsuite", proxqp),
    "OSQP": ("osqp", osqp),
}


def descends(problem: Problem) -> bool:
    """Whether the objective falls along a direction that no constraint ends: by HiGHS, as the tests judge it."""
    G, h = rows_of(problem)
    g, a = (np.linalg.norm(M, axis=1, keepdims=True) for M in (G, problem.A))
    flat = np.vstack([problem.Q / (np.abs(problem.Q).max() or 1.0), problem.A / np.where(a > 0, a, 1)])
    cost = problem.p / (np.abs(problem.p).max() or 1.0)
    found = linprog(cost, G / np.where(g > 0, g, 1), np.zeros(len(h)), flat, np.zeros(len(flat)), bounds=(-1, 1), method="highs")
    return bool(found.status == 0 and found.fun < -1e-6)


def judged(problem: Problem, truth: str, solve: Callable[[Problem], Said]) -> str:
    """right, false, or open."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = solve(problem)
    except (RuntimeError, ValueError, AssertionError):
        return OPEN
    if said.verdict == OPEN:
        return OPEN
    if said.verdict == UNBOUNDED and truth == INFEASIBLE:
        return "right" if descends(problem) else "false"
    if said.verdict != truth:
        return "false"
    if truth == SOLVABLE and (said.x is None or violation(problem, said.x) > BROKEN):
        return "false"
    return "right"


def main() -> None:
    several = {name: (truth, [draw(seed) for seed in SEEDS]) for name, (draw, truth) in FAMILIES.items()}
    number = sum(len(problems) for _, problems in several.values())
    print(f"\n{number} problems with a known verdict, asked for {EPS:.0e}: right/false/open")
    print(f"{'':<10}{''.join(f'{name:>24}' for name in several)}{'false in all':>14}{'open in all':>13}{'seconds':>9}")
    for name, (package, solve) in SOLVERS.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name:<10}not installed")
            continue
        line, total = f"{name:<10}", Counter[str]()
        start = time.perf_counter()
        for family, (truth, problems) in several.items():
            found = Counter(
                judged(problem, truth, solve) for problem in tqdm(problems, desc=f"{name}, {family}", leave=False, disable=None)
            )
            total += found
            line += f"{found['right']}/{found['false']}/{found[OPEN]}".rjust(24)
        print(f"{line}{total['false']:>14}{total[OPEN]:>13}{time.perf_counter() - start:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
