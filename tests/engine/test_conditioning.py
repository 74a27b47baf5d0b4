"""The reciprocal condition number and the margin, against NumPy on matrices built by hand; flags of compiled problems."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import karush as kr
from engine.problems import random_batch

F = torch.float64


def condition(Q: np.ndarray, rows: np.ndarray, free: np.ndarray) -> float:
    """1 / cond of [[Q_FF, C_F'], [C_F, 0]] with unit rows and Q over its largest entry."""
    Q, C = Q[np.ix_(free, free)], rows[:, free]
    Q, C = Q / np.abs(Q).max(), C / np.linalg.norm(C, axis=1, keepdims=True)
    K = np.block([[Q, C.T], [C, np.zeros((len(C), len(C)))]])
    return float(1 / np.linalg.cond(K))


def test_rcond_is_that_of_the_optimality_system() -> None:
    B, n, m, k = 20, 8, 12, 2
    Q, p, G, h, A, b = random_batch(B, n, m, k)
    lb = torch.full((n,), -0.3, dtype=F)
    solution = kr.solve_qp(Q, p, G, h, A, b, lb=lb, on_failure="return")
    found = kr.conditioning(solution, Q, p, G, h, A, b, lb=lb)
    seen = set()
    for i in range(B):
        if not solution.ok[i]:
            assert found.rcond[i].isnan()
            continue
        x = solution.x[i].numpy()
        active = (solution.z[i] > 1e-7).numpy()
        rows = np.concatenate([A.expand(B, k, n)[i].numpy(), G.expand(B, m, n)[i].numpy()[active]])
        expected = condition(Q.expand(B, n, n)[i].numpy(), rows, x > -0.3 + 1e-9)
        seen.add((int(active.sum()), int((x > -0.3 + 1e-9).sum())))
        assert float(found.rcond[i]) == pytest.approx(expected, rel=1e-6)
    assert len(seen) > 3  # items differ in what is active


@pytest.mark.parametrize("e", [1e-2, 1e-4, 1e-6])
def test_rcond_follows_rows_that_become_parallel(e: float) -> None:
    A = torch.tensor([[1.0, 0.0], [1.0, e]], dtype=F)
    problem = (torch.eye(2, dtype=F), torch.zeros(2, dtype=F), None, None, A, torch.ones(2, dtype=F))
    found = kr.conditioning(kr.solve_qp(*problem), *problem)
    assert float(found.rcond) == pytest.approx(condition(np.eye(2), A.numpy(), np.array([True, True])), rel=1e-4)


def test_singular_systems_have_rcond_zero_and_units_do_not_matter() -> None:
    eye, p = torch.eye(2, dtype=F), torch.tensor([-1.0, -2.0], dtype=F)
    twice = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=F), torch.tensor([0.5, 0.5], dtype=F)
    assert kr.conditioning(kr.solve_qp(eye, p, *twice), eye, p, *twice).rcond < 1e-15
    flat = torch.diag(torch.tensor([1.0, 0.0], dtype=F))
    solved = kr.solve_qp(flat, torch.zeros(2, dtype=F))
    assert kr.conditioning(solved, flat, torch.zeros(2, dtype=F)).rcond < 1e-15
    for scale, row in ((1e-9, 1e3), (1.0, 1e6), (1e9, 1e-6)):
        arguments = (scale * eye, scale * p, row * twice[0][:1], row * twice[1][:1])
        found = kr.conditioning(kr.solve_qp(*arguments), *arguments)
        assert float(found.rcond) == pytest.approx(condition(np.eye(2), np.array([[1.0, 0.0]]), np.array([True, True])), rel=1e-9)
        assert float(found.margin) == pytest.approx(0.5 / (2 + 2), rel=1e-6)  # z = 1/2 against max|Qx| + max|p|, x = (1/2, 2)


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5, 1e-9])
def test_the_margin_is_the_distance_to_the_kink(distance: float) -> None:
    """min (x - u)²/2 with x <= 1 at u = 1 + d (z = d) and at u = 1 - d (s = d)."""
    Q = torch.ones(1, 1, dtype=F)
    for u in (1 + distance, 1 - distance):
        arguments = (Q, torch.tensor([-u], dtype=F), Q, torch.ones(1, dtype=F))
        found = kr.conditioning(kr.solve_qp(*arguments), *arguments)
        assert distance / 4 < float(found.margin) < distance
        assert bool(found.flags & kr.GradientFlag.weakly_active) == (float(found.margin) <= 1e-4)


def test_shapes_dtypes_and_wrong_partners() -> None:
    Q, p = torch.eye(2), torch.zeros(2, 3, 2)
    solution = kr.solve_qp(Q, p, lb=0.0)
    found = kr.conditioning(solution, Q, p, lb=0.0)
    assert found.flags.shape == found.rcond.shape == found.margin.shape == (2, 3)
    assert (found.margin < 1e-15).all()
    assert torch.equal(found.flags & 1, torch.ones(2, 3, dtype=torch.int64))
    with pytest.raises(kr.InputError, match="other problems"):
        kr.conditioning(solution, Q, p[0], lb=0.0)


def test_what_costs_nothing_is_no_defect_of_x() -> None:
    """t >= |x - c| with room below the limit: t is free, x unique."""
    x, u = kr.Variable(3, name="x"), kr.Parameter(3, name="u")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - u)), {"near": kr.norm1(x - 0.5) <= 50}))
    found = layer(u=torch.tensor([1.0, -1.0, 2.0], dtype=F)).conditioning
    assert not int(found.flags) & kr.GradientFlag.nonunique
    assert found.rcond > 1e-3
    c = kr.Parameter(3, name="c")
    edge = kr.compile(kr.Problem(kr.Minimize(c @ x), {"near": kr.norm1(x) <= 1}))
    assert int(edge(c=torch.tensor([1.0, 1.0, 0.0], dtype=F)).gradient_flags) & kr.GradientFlag.nonunique


def test_a_term_that_the_user_added_counts() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    problem = kr.Problem(kr.Minimize(c @ x), [kr.sum(x) == 1, x >= 0])
    ones = torch.ones(2, dtype=F)
    assert int(kr.compile(problem)(ones).gradient_flags) & kr.GradientFlag.nonunique
    added = kr.compile(problem, regularize=1e-2)(ones).conditioning
    assert int(added.flags) == 0
    assert added.rcond > 0.1
