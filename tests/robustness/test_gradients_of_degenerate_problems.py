"""Duplicate, dependent, absent, vanishing rows; vertices, edges, flat optima; odd units: the promised gradient, and exact flags."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

import karush as kr
from engine.problems import Array, Problem, built
from robustness.conftest import Backend
from robustness.derivatives import Vertex, error, exact, flags_of, ours
from robustness.judges import Worst, status_of

FLAG, S = kr.GradientFlag, kr.Status
REGULAR = FLAG(0)
EYE, INF, NAN = np.eye(2), np.inf, np.nan
SECOND = np.diag([0.0, -1.0])  # dx/dp where the first variable is held
ALONG = np.array([[-0.5, 0.5], [0.5, -0.5]])  # dx/dp on the line x1 + x2 = const


@dataclass
class Case:
    """A problem in the plane, the Jacobians dx/dp that are allowed, its flags and its status."""

    J: list[Array]
    flags: kr.GradientFlag
    Q: Array = field(default_factory=lambda: EYE)
    p: tuple[float, float] = (-1.0, 0.0)
    G: list[list[float]] = field(default_factory=list)
    h: list[float] = field(default_factory=list)
    A: list[list[float]] = field(default_factory=list)
    b: list[float] = field(default_factory=list)
    status: kr.Status = S.SOLVED

    @property
    def problem(self) -> Problem:
        rows = [np.array(M, dtype=float).reshape(-1, 2) for M in (self.G, self.A)]
        return Problem(self.Q, np.array(self.p), rows[0], np.array(self.h), rows[1], np.array(self.b))


ROW, BOX = [1.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]
ZERO, FLAT = np.zeros((2, 2)), np.diag([1.0, 0.0])
CASES = {
    "regular": Case([SECOND], REGULAR, G=[ROW], h=[0.5]),
    "weakly active": Case([-EYE, SECOND], FLAG.weakly_active, G=[ROW], h=[1.0]),
    "inactive by 1e-6": Case([-EYE], FLAG.weakly_active, G=[ROW], h=[1 + 1e-6]),
    "multiplier 1e-6": Case([SECOND], FLAG.weakly_active, G=[ROW], h=[1 - 1e-6]),
    "duplicate row": Case([SECOND], FLAG.licq, G=[ROW, ROW], h=[0.5, 0.5]),
    "a row and a million times it": Case([ALONG], FLAG.licq, G=[[1.0, 1.0], [1e6, 1e6]], h=[0.0, 0.0]),
    "duplicate equality": Case([ALONG], FLAG.licq, A=[[1.0, 1.0], [1.0, 1.0]], b=[0.2, 0.2]),
    "zero equality": Case([ALONG], FLAG.licq, A=[[1.0, 1.0], [0.0, 0.0]], b=[0.2, 0.0]),
    "zero inequality with room": Case([SECOND], REGULAR, G=[ROW, [0.0, 0.0]], h=[0.5, 1.0]),
    "zero inequality without": Case([SECOND], FLAG.licq, G=[ROW, [0.0, 0.0]], h=[0.5, 0.0]),
    "equality as two inequalities": Case([ALONG], FLAG.licq, G=[[1.0, 1.0], [-1.0, -1.0]], h=[0.1, -0.1]),
    "three rows at a vertex": Case([ZERO], FLAG.licq, p=(-2.0, -2.0), G=[*BOX[:2], [1.0, 1.0]], h=[0.5, 0.5, 1.0]),
    "vertex of an LP": Case([ZERO], REGULAR, Q=ZERO, p=(-1.0, -2.0), G=BOX[:2], h=[1.0, 1.0]),
    "degenerate vertex of an LP": Case([ZERO], FLAG.licq, Q=ZERO, p=(-1.0, -1.0), G=[*BOX[:2], [1.0, 1.0]], h=[1.0, 1.0, 2.0]),
    "edge of an LP": Case([ZERO], FLAG.nonunique, Q=ZERO, p=(-1.0, -1.0), G=[[1.0, 1.0], *BOX[2:]], h=[1.0, 0.0, 0.0]),
    "flat optimum": Case([-FLAT], FLAG.nonunique, Q=FLAT),
    "flat optimum in a box": Case([-FLAT], FLAG.nonunique, Q=FLAT, G=BOX, h=[2.0, 3.0, 2.0, 1.0]),
    "flat optimum, turned": Case([-np.full((2, 2), 0.25)], FLAG.nonunique, Q=np.ones((2, 2)), p=(-1.0, -1.0)),
    "infeasible": Case([ZERO], FLAG.masked, G=[ROW, [-1.0, 0.0]], h=[0.0, -1.0], status=S.PRIMAL_INFEASIBLE),
    "unbounded": Case([ZERO], FLAG.masked, Q=ZERO, status=S.DUAL_INFEASIBLE),
    "absent row": Case([-EYE], REGULAR, G=[ROW, [0.0, 1.0]], h=[INF, 1.0]),
    "NaN": Case([ZERO], FLAG.masked, p=(NAN, 0.0), status=S.INVALID_INPUT),
    "objective times 1e8": Case([1e-8 * SECOND], REGULAR, Q=1e8 * EYE, p=(-1e8, 0.0), G=[ROW], h=[0.5]),
    "objective times 1e-8": Case([1e8 * SECOND], REGULAR, Q=1e-8 * EYE, p=(-1e-8, 0.0), G=[ROW], h=[0.5]),
    "curvatures 1e-6 and 1e6": Case([-np.diag([1e6, 1e-6])], FLAG.ill_conditioned, Q=np.diag([1e-6, 1e6]), p=(-5e-7, -5e5)),
    "the same on a line": Case([1e-6 * 2 * ALONG], REGULAR, Q=np.diag([1e-6, 1e6]), p=(-5e-7, -5e5), A=[[1.0, 1.0]], b=[1.0]),
}  # fmt: skip


def jacobian(problem: Problem, backend: Backend) -> tuple[kr.QPSolution, Array]:
    """dx/dp, a row for each entry of x."""
    found = [ours(problem, w, backend) for w in np.eye(len(problem.p))]
    return found[0][0], np.stack([blocks["p"] for _, blocks in found])


@pytest.mark.parametrize("name", CASES)
def test_the_promised_gradient_and_exact_flags(name: str, backend: Backend) -> None:
    case = CASES[name]
    solution, J = jacobian(case.problem, backend)
    assert status_of(solution) is case.status
    assert flags_of(case.problem, solution) == case.flags
    assert any(error(J, allowed) <= 1e-8 for allowed in case.J), J
    if case.status is not S.SOLVED:
        assert all(not block.any() for block in ours(case.problem, np.array([NAN, 1.0]), backend)[1].values())


def degenerate(seed: int) -> tuple[Problem, Problem, Vertex]:
    """A regular problem; the same with copies of an active row and an equality, and rows 0'x = 0, 0'x <= 1; and the vertex."""
    rng = np.random.default_rng(seed)
    base = built(seed, 6, 5, 2, active=2)
    r, q = 10 ** rng.uniform(-3, 3), -(10 ** rng.uniform(-2, 2))
    nothing = np.zeros((1, 6))
    G, h = np.vstack([base.G, base.G[0], r * base.G[0], nothing]), np.r_[base.h, base.h[0], r * base.h[0], 1.0]
    A, b = np.vstack([base.A, q * base.A[1], nothing]), np.r_[base.b, q * base.b[1], 0.0]
    return base, Problem(base.Q, base.p, G, h, A, b), Vertex(base, base.x, base.y, base.z, base.z > 0)


def test_degenerate_rows_change_nothing_but_the_flag(backend: Backend) -> None:
    """dx/dp is symmetric, negative, bounded and within the active rows; A dx = db - dA x; copies of a row share one gradient."""
    worst = Worst(f"degenerate rows, {backend}")
    for seed in range(20):
        base, problem, at = degenerate(seed)
        rng = np.random.default_rng(seed)
        solution, J = jacobian(problem, backend)
        assert status_of(solution) is S.SOLVED
        assert flags_of(problem, solution) == FLAG.licq, seed
        worst.see("symmetry", np.abs(J - J.T).max(), seed)
        worst.see("sign", np.linalg.eigvalsh((J + J.T) / 2).max(), seed)
        assert np.linalg.norm(J, 2) <= (1 + 1e-8) / np.linalg.eigvalsh(base.Q).min()
        worst.see("active rows", np.abs(np.vstack([base.A, base.G[:2]]) @ J).max(), seed)

        w = rng.normal(size=6)
        found, true = ours(problem, w, backend)[1], exact(base, at, w)
        r, q = problem.h[6] / problem.h[0], problem.b[2] / problem.b[1]
        whole = found["h"][:5] + np.r_[found["h"][5] + r * found["h"][6], np.zeros(4)]
        worst.see("shared by copies", error(whole, true["h"]), seed)
        worst.see("shared by copies", error(found["b"][:2] + np.r_[0, q * found["b"][2]], true["b"]), seed)
        worst.see("no row", max(abs(found["h"][7]), np.abs(found["Q"] - true["Q"]).max()), seed)

        change, turn = rng.normal(size=6), rng.normal(size=(6, 6))
        rows = [ours(problem, w, backend)[1] for w in np.eye(6)]
        dx = np.array([block["b"] @ (problem.A @ change) - (block["A"] * (problem.A @ turn)).sum() for block in rows])
        worst.see("A dx", np.abs(base.A @ (dx - change - turn @ at.x)).max() / np.abs(dx).max(), seed)
    kinds = ("symmetry", "sign", "active rows", "shared by copies", "no row", "A dx")
    worst.within(**dict.fromkeys(kinds, 1e-8))


NEAR = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12]
NOT_REGULAR = FLAG.ill_conditioned | FLAG.licq | FLAG.masked


@pytest.mark.parametrize("e", NEAR)
def test_equalities_that_become_parallel(e: float, backend: Backend) -> None:
    """A = [[1, 0], [1, e]]: x = A^-1 b and dx/db = A^-1, row by row, down to 1e-6; from 1e-4 on the flag says what is lost."""
    A = np.array([[1.0, 0.0], [1.0, e]])
    inverse = np.array([[1.0, 0.0], [-1 / e, 1 / e]])
    for b in ([0.5, 0.5], [1.0, 1.0 + e], [0.3, 0.7]):
        problem = Problem(EYE, np.full(2, 0.1), np.zeros((0, 2)), np.zeros(0), A, np.array(b))
        flag = REGULAR
        for i, w in enumerate(EYE):
            solution, found = ours(problem, w, backend)
            flag = flags_of(problem, solution)
            if e >= 1e-6:
                assert status_of(solution) is S.SOLVED
                assert error(solution.x.detach().numpy(), inverse @ b) <= 1e-9
                assert error(found["b"], inverse[i]) <= 1e-6, (b, i)
        assert bool(flag & NOT_REGULAR) == (e <= 1e-4), flag


@pytest.mark.parametrize("kind", ["equalities", "inequalities"])
def test_active_rows_that_become_parallel(kind: str, backend: Backend) -> None:
    """All are solved, and what is not flagged is right: a residual of 1e-10 proves nothing there, and once was taken for proof.

    Equalities at an angle of 1e-3 beside inequalities were given up; what is flagged loses 1e-10 over the angle, twice.
    """
    worst, regular = Worst(f"nearly parallel {kind}, {backend}"), 0
    for e in (1e-1, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5):
        for seed in range(8):
            base = built(seed, 6, 8, 2 if kind == "equalities" else 0, active=2)
            rows = base.A if kind == "equalities" else base.G
            rows[1] = rows[0] + e * rows[1]
            base.p = -(base.Q @ base.x + base.G.T @ base.z + base.A.T @ base.y)
            base.b, base.h = base.A @ base.x, base.G @ base.x + (base.z == 0)
            w = np.random.default_rng(seed).normal(size=6)
            solution, found = ours(base, w, backend)
            assert status_of(solution) is S.SOLVED, (e, seed)
            flag = flags_of(base, solution)
            assert bool(flag & NOT_REGULAR) or e > 1e-4, (e, seed)
            regular += not flag
            true = exact(base, Vertex(base, base.x, base.y, base.z, base.z > 0), w)
            for name in true:
                worst.see("flagged" if flag else "regular", error(found[name], true[name]), (e, seed, name))
    assert regular >= 30
    worst.within(regular=1e-6, flagged=1e-5)
