"""A warm start saves iterations and changes no answer, wherever it comes from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import random_batch

F = torch.float64
EPS = 1e-8


def moved(problem: list[Tensor], by: float) -> list[Tensor]:
    """Problems with p and h a little elsewhere, still feasible."""
    Q, p, G, h, A, b = problem
    return [Q, p + by * torch.randn_like(p), G, h + by * torch.rand_like(h), A, b]


@pytest.mark.parametrize("by", [0.0, 1e-6, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("size", [(6, 9, 0), (6, 9, 2), (5, 0, 2), (4, 0, 0)])
def test_the_answer_is_that_of_a_cold_start(by: float, size: tuple[int, int, int]) -> None:
    problem = random_batch(20, *size)
    previous = kr.solve_qp(*problem)
    now = moved(problem, by)
    cold, warm = kr.solve_qp(*now), kr.solve_qp(*now, warm_start=previous)
    assert torch.equal(cold.status, warm.status)
    for name in ("x", "y", "z", "s"):
        torch.testing.assert_close(getattr(warm, name), getattr(cold, name), rtol=0, atol=10 * EPS, msg=name)


def test_little_moves_take_few_iterations() -> None:
    problem = random_batch(50, 8, 12, 2)
    previous = kr.solve_qp(*problem)
    for by, most in ((0.0, 2.5), (1e-3, 2.5), (1e-2, 3.0)):
        now = moved(problem, by)
        cold, warm = kr.solve_qp(*now).iterations.double().mean(), kr.solve_qp(*now, warm_start=previous).iterations.double().mean()
        assert warm < most < cold


def test_gradients_do_not_know_how_the_solve_began() -> None:
    problem = random_batch(10, 6, 9, 2)
    previous = kr.solve_qp(*problem)
    now = [t.requires_grad_() for t in moved(problem, 1e-2)]
    cold = torch.autograd.grad(kr.solve_qp(*now).x.sin().sum(), now)
    warm = torch.autograd.grad(kr.solve_qp(*now, warm_start=previous).x.sin().sum(), now)
    for one, other in zip(warm, cold, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


def test_a_bad_start_costs_iterations_only() -> None:
    problem = random_batch(12, 6, 9, 2)
    cold = kr.solve_qp(*problem)
    start = cold.warm_start
    for factor in (torch.nan, torch.inf, 1e12, -1e6):
        bad = type(start)(*(factor * part for part in (start.x, start.y, start.z, start.z_lb, start.z_ub)))
        warm = kr.solve_qp(*problem, warm_start=bad)
        torch.testing.assert_close(warm.x, cold.x, rtol=0, atol=10 * EPS)
        assert torch.equal(warm.status, cold.status)


def test_infeasible_items_keep_their_verdict() -> None:
    problem = random_batch(6, 4, 6, 0)
    previous = kr.solve_qp(*problem)
    problem[2][2] = torch.cat([problem[2][2][:3], -problem[2][2][:3]])
    problem[3][2] = -1.0
    cold = kr.solve_qp(*problem, on_failure="return")
    warm = kr.solve_qp(*problem, on_failure="return", warm_start=previous)
    assert cold.status[2] == kr.Status.PRIMAL_INFEASIBLE
    assert torch.equal(warm.status, cold.status)


def test_one_previous_solution_serves_all_and_items_may_be_chosen() -> None:
    problem = random_batch(9, 5, 7, 1)
    whole = kr.solve_qp(*problem)
    order = torch.tensor([4, 0, 8])
    some = kr.solve_qp(*(t[order] for t in problem), warm_start=whole.warm_start[order])
    torch.testing.assert_close(some.x, whole.x[order], rtol=0, atol=10 * EPS)
    same = [t[:1].expand(4, *t.shape[1:]) for t in problem]
    again = kr.solve_qp(*same, warm_start=kr.solve_qp(*(t[0] for t in problem)))
    assert (again.iterations <= 2).all()


def test_what_is_no_start_is_refused() -> None:
    problem = random_batch(3, 4, 5, 1)
    other = kr.solve_qp(*random_batch(3, 4, 6, 1))
    with pytest.raises(kr.InputError, match=r"\(n, m, k\) = \(4, 5, 1\), got \(4, 6, 1\)"):
        kr.solve_qp(*problem, warm_start=other)
    with pytest.raises(kr.InputError, match="for each of 2 problems, got 3"):
        kr.solve_qp(*(t[:2] for t in problem), warm_start=kr.solve_qp(*problem))
    with pytest.raises(kr.InputError, match="expected a Solution, got int"):
        kr.solve_qp(*problem, warm_start=3)  # type: ignore[arg-type]  # that is the test
