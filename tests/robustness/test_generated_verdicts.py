"""Generated problems whose verdict is known and confirmed by HiGHS: no false verdict, and hardly any missed."""

from __future__ import annotations

import numpy as np
import pytest

import karush as kr
from engine.problems import Problem
from robustness.conftest import Backend, Solver
from robustness.judges import FIGURES, residual, status_of
from robustness.verdicts import FAMILIES, INFEASIBLE, SOLVABLE, UNBOUNDED, adjudged

VERDICT = {INFEASIBLE: kr.Status.PRIMAL_INFEASIBLE, UNBOUNDED: kr.Status.DUAL_INFEASIBLE, SOLVABLE: kr.Status.SOLVED}
DECIDED = set(VERDICT.values())


def confirmed(problem: Problem, truth: str) -> bool:
    """HiGHS agrees; a set without interior may look empty to its tolerances, so it is asked again with that much room."""
    if adjudged(problem) == truth:
        return True
    room = 1e-6 * (np.abs(problem.h) + np.linalg.norm(problem.G, axis=1))
    wider = Problem(problem.Q, problem.p, problem.G, problem.h + room, problem.A, problem.b, problem.lb, problem.ub)
    return truth == SOLVABLE and adjudged(wider) == truth


def check_family(family: str, seeds: range, solve: Solver, backend: Backend) -> None:
    draw, truth = FAMILIES[family]
    false: list[tuple[int, str]] = []
    missed: list[tuple[int, str]] = []
    for seed in seeds:
        problem = draw(seed)
        assert confirmed(problem, truth), f"the oracles disagree on {family} {seed}"
        solution = solve(problem)
        status = status_of(solution)
        if status is kr.Status.SOLVED and truth == SOLVABLE and residual(problem, solution) > 1e-8:
            false.append((seed, "solved with a large residual"))
        if status is not VERDICT[truth]:
            (false if status in DECIDED else missed).append((seed, status.name))
    FIGURES.append(f"{family}, {backend}: {len(seeds)} drawn, false {false}, missed {missed}")
    assert not false, (family, false)
    assert len(missed) <= 0.01 * len(seeds), (family, missed)


@pytest.mark.parametrize("family", FAMILIES)
def test_verdicts(family: str, solve: Solver, backend: Backend) -> None:
    check_family(family, range(25), solve, backend)


@pytest.mark.stress
@pytest.mark.parametrize("family", FAMILIES)
def test_many_verdicts(family: str, solve: Solver, backend: Backend) -> None:
    check_family(family, range(1000, 1334), solve, backend)
