"""``smoothing=mu``: the point of the central path, against closed forms, its own conditions and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

import karush as kr
from engine.problems import random_batch

F = torch.float64


@pytest.mark.parametrize("mu", [10.0, 1e-2, 1e-6])
def test_conditions_of_the_central_path(mu: float) -> None:
    Q, p, G, h, A, b = random_batch(12, 6, 9, 2)
    solution = kr.solve_qp(Q, p, G, h, A, b, smoothing=mu)
    x, y, z, s = (part.unsqueeze(2) for part in (solution.x, solution.y, solution.z, solution.s))
    scale = 1 + max(float(t.abs().max()) for t in (x, y, z))
    assert (Q @ x + p.unsqueeze(2) + A.mT @ y + G.mT @ z).abs().max() <= 1e-7 * scale
    assert (A @ x - b.unsqueeze(2)).abs().max() <= 1e-7 * scale
    assert (G @ x + s - h.unsqueeze(2)).abs().max() <= 1e-7 * scale
    assert (s * z / mu - 1).abs().max() <= 1e-7


def test_one_variable_in_closed_form() -> None:
    # min x²/2 - c x - mu log(x):  x² - c x - mu = 0
    c = torch.linspace(-3.0, 3.0, 13, dtype=F).unsqueeze(1).requires_grad_()
    mu = 0.3
    x = kr.solve_qp(torch.eye(1, dtype=F), -c, lb=0.0, smoothing=mu).x
    expected = (c + (c**2 + 4 * mu).sqrt()) / 2
    torch.testing.assert_close(x, expected, rtol=1e-7, atol=1e-9)
    (slope,) = torch.autograd.grad(x.sum(), c)
    (true,) = torch.autograd.grad(expected.sum(), c)
    torch.testing.assert_close(slope, true, rtol=1e-6, atol=1e-8)


def test_it_tends_to_the_solution_and_its_gradient() -> None:
    problem = [t.requires_grad_() for t in random_batch(8, 5, 8, 1)]
    exact = kr.solve_qp(*problem)
    expected = torch.autograd.grad(exact.x.sin().sum(), problem)
    errors = []
    for mu in (1e-2, 1e-4, 1e-8):
        smooth = kr.solve_qp(*problem, smoothing=mu)
        found = torch.autograd.grad(smooth.x.sin().sum(), problem)
        errors.append(max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)))
        assert float((smooth.x - exact.x).detach().abs().max()) <= 10 * math.sqrt(mu)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] <= 1e-4


def test_a_linear_program_gets_a_gradient() -> None:
    # over the simplex: x_i = mu/(p_i + y)
    p = torch.tensor([0.3, 0.1, 0.4], dtype=F, requires_grad=True)
    ones, one = torch.ones(1, 3, dtype=F), torch.ones(1, dtype=F)
    exact = kr.solve_qp(torch.zeros(3, 3, dtype=F), p, A=ones, b=one, lb=0.0)
    assert torch.autograd.grad(exact.x @ torch.arange(3.0, dtype=F), p)[0].abs().max() <= 1e-9
    smooth = kr.solve_qp(torch.zeros(3, 3, dtype=F), p, A=ones, b=one, lb=0.0, smoothing=0.05)
    torch.testing.assert_close(smooth.x, 0.05 / (p + smooth.y), rtol=1e-6, atol=1e-8)
    assert torch.autograd.grad(smooth.x @ torch.arange(3.0, dtype=F), p)[0].abs().max() > 0.1


def test_gradients_of_every_output() -> None:
    problem = [t.requires_grad_() for t in random_batch(3, 4, 5, 1)]
    lb = torch.full((3, 4), -4.0, dtype=F, requires_grad=True)

    def solved(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        s = kr.solve_qp(*tensors[:6], lb=tensors[6], ub=torch.inf, smoothing=0.1)
        return s.x, s.y, s.z, s.z_lb, s.s

    assert torch.autograd.gradcheck(solved, (*problem, lb))


def test_shared_inputs_get_the_sum_and_absent_rows_do_not_exist() -> None:
    Q, p, G, h, A, b = random_batch(6, 4, 5, 1)
    Q, G = Q[0].requires_grad_(), G[0].requires_grad_()
    h[1, 2] = torch.inf
    together = torch.autograd.grad(kr.solve_qp(Q, p, G, h, A[0], b * 0, smoothing=0.1).x.sum(), (Q, G))
    apart = [torch.autograd.grad(kr.solve_qp(Q, p[i], G, h[i], A[0], b[i] * 0, smoothing=0.1).x.sum(), (Q, G)) for i in range(6)]
    for index, summed in enumerate(together):
        torch.testing.assert_close(summed, torch.stack([each[index] for each in apart]).sum(0), rtol=1e-7, atol=1e-8)
    solution = kr.solve_qp(Q, p[1], G, h[1], A[0], b[1] * 0, smoothing=0.1)
    assert solution.z[2] == 0
    assert solution.s[2] == torch.inf


def test_a_set_without_interior_has_no_central_path_and_an_empty_one_is_infeasible() -> None:
    eye, p = torch.eye(2, dtype=F), torch.ones(2, dtype=F)
    G = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=F)
    thin = kr.solve_qp(eye, p, G, torch.zeros(2, dtype=F), smoothing=0.1, on_failure="return")
    assert thin.status == kr.Status.NUMERICAL_ERROR
    empty = kr.solve_qp(eye, p, G, torch.tensor([0.0, -1.0], dtype=F), smoothing=0.1, on_failure="return")
    assert empty.status == kr.Status.PRIMAL_INFEASIBLE
    with pytest.raises(kr.SolveError, match="PRIMAL_INFEASIBLE"):
        kr.solve_qp(eye, p, G, torch.tensor([0.0, -1.0], dtype=F), smoothing=0.1)


def test_a_failed_item_sends_no_gradient_and_harms_no_mate() -> None:
    problem = random_batch(4, 4, 5, 0)
    alone = [t[[0, 1, 3]].clone().requires_grad_() for t in problem]
    problem[1][2] = torch.nan
    together = [t.clone().requires_grad_() for t in problem]
    found = torch.autograd.grad(kr.solve_qp(*together[:4], smoothing=0.1, on_failure="return").x.sum(), together[:4])
    expected = torch.autograd.grad(kr.solve_qp(*alone[:4], smoothing=0.1).x.sum(), alone[:4])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one[[0, 1, 3]], other, rtol=1e-9, atol=1e-10)
        assert (one[2] == 0).all()


def test_second_derivatives_are_refused() -> None:
    Q, p, G, h, *_ = (t.requires_grad_() for t in random_batch(2, 3, 4, 0))
    (first,) = torch.autograd.grad(kr.solve_qp(Q, p, G, h, smoothing=0.1).x.sum(), p, create_graph=True)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.autograd.grad(first.square().sum(), p)
