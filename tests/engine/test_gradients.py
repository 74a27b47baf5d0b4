"""Derivatives: against finite differences, against an independent dense solve, and by identities that need no oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import built, dense_adjoint, random_batch
from karush.backends.envelope import optimal_value
from karush.backends.solve import solve

# torch's own forward mode loads a module of its decompositions that says this.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

NAMES = ("Q", "p", "G", "h", "A", "b")


def everything(*tensors: Tensor) -> tuple[Tensor, ...]:
    s = kr.solve_qp(*tensors[:6], lb=tensors[6], ub=tensors[7])
    return s.x, s.y, s.z, s.z_lb, s.z_ub, s.s


def bounded_batch() -> list[Tensor]:
    """Three problems with some of each active: rows, lower and upper bounds."""
    Q, p, G, h, A, b = random_batch(3, 4, 3, 1, seed=3)
    x = kr.solve_qp(Q, p, G, h, A, b).x
    lb, ub = x - 0.4, x + 0.6
    lb[:, 0], ub[:, 1] = x[:, 0] + 0.1, x[:, 1] - 0.15
    h = h + 0.5 * (h < 1e9)
    return [t.clone().requires_grad_() for t in (Q, p, G, h, A, b, lb, ub)]


def leaves(tensors: list[Tensor]) -> list[Tensor]:
    return [t.clone().requires_grad_() for t in tensors]


def test_every_output_by_every_input_to_second_order() -> None:
    tensors = bounded_batch()
    solution = kr.solve_qp(*tensors[:6], lb=tensors[6], ub=tensors[7])
    active = solution.active
    assert active.rows.any()
    assert active.lb.any()
    assert active.ub.any()
    assert torch.autograd.gradcheck(everything, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(everything, tensors)


@pytest.mark.parametrize("needed", [s for r in (1, 2, 5) for s in itertools.combinations(range(6), r)])
def test_any_subset_of_inputs(needed: tuple[int, ...]) -> None:
    tensors = [t.requires_grad_(i in needed) for i, t in enumerate(random_batch(2, 3, 4, 1))]
    kr.solve_qp(*tensors).x.sum().backward()
    full = leaves(random_batch(2, 3, 4, 1))
    kr.solve_qp(*full).x.sum().backward()
    for i, (some, whole) in enumerate(zip(tensors, full, strict=True)):
        assert (some.grad is None) == (i not in needed)
        if some.grad is not None:
            torch.testing.assert_close(some.grad, whole.grad, rtol=0, atol=0)


@pytest.mark.parametrize(("n", "m", "k"), [(4, 6, 0), (5, 8, 2), (12, 20, 4)])
def test_adjoint_against_an_independent_dense_solve(n: int, m: int, k: int) -> None:
    for seed in range(5):
        problem = built(seed, n, m, k)
        arguments = leaves(problem.arguments()[0])
        solution = kr.solve_qp(*arguments)
        g_x, g_y, g_z = (torch.randn(size, dtype=torch.float64) for size in (n, k, m))
        g_z = g_z * solution.active.rows  # an inactive multiplier has no derivative
        ((g_x * solution.x).sum() + (g_y * solution.y).sum() + (g_z * solution.z).sum()).backward()
        points = (part.detach().numpy() for part in (solution.x, solution.y, solution.z, g_x, g_y, g_z))
        expected = dense_adjoint(problem, *points)
        for name, tensor in zip(NAMES, arguments, strict=True):
            assert tensor.grad is not None
            scale = max(1.0, np.abs(expected[name]).max(initial=0))
            np.testing.assert_allclose(tensor.grad, expected[name], rtol=0, atol=1e-9 * scale)


def test_identities() -> None:
    """Scaling a row, an equality or the objective moves x by nothing; d x stays in the active constraints."""
    Q, p, G, h, A, b = tensors = leaves(random_batch(20, 12, 20, 3))
    solution = kr.solve_qp(*tensors)
    g = torch.randn_like(solution.x)
    dQ, dp, dG, dh, dA, db = torch.autograd.grad((g * solution.x).sum(), tensors)
    size = g.abs().amax()
    for sums in ((dG * G).sum(2) + dh * h, (dA * A).sum(2) + db * b, (dQ * Q).sum((1, 2)) + (dp * p).sum(1)):
        assert sums.abs().amax() <= 1e-10 * size * 100  # sums of some hundred products
    assert (A @ dp.unsqueeze(2)).abs().amax() <= 1e-10 * size
    assert ((G @ dp.unsqueeze(2)).squeeze(2) * solution.active.rows).abs().amax() <= 1e-10 * size


def test_jacobian_of_x_by_p_is_symmetric_negative_and_bounded() -> None:
    Q, p, G, h, A, b = (t[0] for t in random_batch(1, 6, 8, 2))
    J = torch.func.jacrev(lambda p: kr.solve_qp(Q, p, G, h, A, b).x)(p)
    torch.testing.assert_close(J, J.mT, rtol=0, atol=1e-12)
    eigenvalues = torch.linalg.eigvalsh(J)
    assert eigenvalues.max() <= 1e-12
    assert -eigenvalues.min() <= (1 + 1e-9) / torch.linalg.eigvalsh(Q).min()


def test_gradient_of_a_shared_input_is_the_sum() -> None:
    """qpth returns the mean: wrong by the batch size."""
    batch = random_batch(7, 5, 6, 2)
    shared = [t[0] if name in ("Q", "G", "A") else t for name, t in zip(NAMES, batch, strict=True)]
    x0 = torch.randn(7, 5, 1, dtype=torch.float64)
    shared[3] = (shared[2] @ x0).squeeze(2) + 0.1
    shared[5] = (shared[4] @ x0).squeeze(2)
    one = leaves(shared)
    kr.solve_qp(*one).x.square().sum().backward()
    totals = [torch.zeros_like(t) for t in shared]
    for i in range(7):
        single = leaves([t if name in ("Q", "G", "A") else t[i] for name, t in zip(NAMES, shared, strict=True)])
        kr.solve_qp(*single).x.square().sum().backward()
        for total, name, leaf in zip(totals, NAMES, single, strict=True):
            (total if name in ("Q", "G", "A") else total[i]).add_(leaf.grad if leaf.grad is not None else 0)
    for leaf, total in zip(one, totals, strict=True):
        torch.testing.assert_close(leaf.grad, total, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("which", ["jacrev", "jacfwd"])
def test_jacobians_equal_finite_differences(which: str) -> None:
    tensors = [t[0] for t in random_batch(1, 4, 5, 1)]
    for position in range(6):

        def x_of(value: Tensor, position: int = position) -> Tensor:
            return kr.solve_qp(*(value if i == position else t for i, t in enumerate(tensors))).x

        J = getattr(torch.func, which)(x_of)(tensors[position]).reshape(4, -1)
        flat = tensors[position].reshape(-1)
        for j in range(len(flat)):
            step = torch.zeros_like(flat)
            step[j] = 1e-6
            ahead, behind = (x_of((flat + sign * step).reshape(tensors[position].shape)) for sign in (1, -1))
            torch.testing.assert_close(J[:, j], (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-6)  # truncation plus rounding/step


def test_vmap_equals_a_loop() -> None:
    Q, p, G, h, A, b = random_batch(4, 4, 5, 1)

    def loss(p: Tensor, h: Tensor) -> Tensor:
        return kr.solve_qp(Q[0], p, G[0], h, A[0], b[0]).x.square().sum()

    h = h.abs() + 1
    mapped = torch.func.vmap(loss, in_dims=(0, 0))(p, h)
    looped = torch.stack([loss(*pair) for pair in zip(p, h, strict=True)])
    torch.testing.assert_close(mapped, looped, rtol=1e-12, atol=1e-12)
    per_item = torch.func.vmap(torch.func.grad(loss))(p, h)
    singles = torch.stack([torch.func.grad(loss)(*pair) for pair in zip(p, h, strict=True)])
    torch.testing.assert_close(per_item, singles, rtol=1e-10, atol=1e-10)


def test_vmap_over_a_batched_call() -> None:
    Q, p, G, h, A, b = random_batch(3, 4, 5, 1)
    factors = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)

    def scaled(factor: Tensor) -> Tensor:
        return kr.solve_qp(Q, p * factor, G, h, A, b).x

    expected = torch.stack([scaled(factor) for factor in factors])
    torch.testing.assert_close(torch.func.vmap(scaled)(factors), expected, rtol=1e-12, atol=1e-12)


def test_hessian_of_a_loss() -> None:
    """Forward over reverse equals reverse over reverse equals differences of the gradient."""
    Q, p, G, h, A, b = (t[0] for t in random_batch(1, 4, 5, 1))

    def loss(Q: Tensor) -> Tensor:
        return kr.solve_qp(Q, p, G, h, A, b).x.pow(3).sum()

    forward = torch.func.jacfwd(torch.func.grad(loss))(Q)
    reverse = torch.func.jacrev(torch.func.grad(loss))(Q)
    torch.testing.assert_close(forward, reverse, rtol=1e-9, atol=1e-9)
    step = torch.zeros_like(Q)
    step[1, 2] = 1e-5
    difference = (torch.func.grad(loss)(Q + step) - torch.func.grad(loss)(Q - step)) / 2e-5
    torch.testing.assert_close(forward[:, :, 1, 2], difference, rtol=1e-5, atol=1e-7)


def test_backward_can_be_repeated() -> None:
    tensors = leaves(random_batch(2, 4, 5, 1))
    x = kr.solve_qp(*tensors).x
    first = torch.autograd.grad(x.sum(), tensors, retain_graph=True)
    second = torch.autograd.grad(x.sum(), tensors)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_optimal_value_follows_the_envelope() -> None:
    tensors = bounded_batch()

    def value(*tensors: Tensor) -> Tensor:
        data = kr.QPData(*tensors)
        return optimal_value(data, solve(data))

    data = kr.QPData(*tensors)
    solution = solve(data)
    names = ("dh", "db", "dlb", "dub")
    found = torch.autograd.grad(optimal_value(data, solution).sum(), [tensors[i] for i in (3, 5, 6, 7)], retain_graph=True)
    expected = (-solution.z, -solution.y, solution.z_lb, -solution.z_ub)
    for name, ours, theirs in zip(names, found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12, msg=name)
    assert torch.autograd.gradcheck(value, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(value, tensors)


def test_relu_and_simplex_jacobians() -> None:
    u = torch.tensor([0.7, -0.4, 0.2, 1.1, -2.0], dtype=torch.float64)
    eye = torch.eye(5, dtype=torch.float64)
    relu = torch.func.jacrev(lambda u: kr.solve_qp(eye, -u, lb=0.0).x)(u)
    torch.testing.assert_close(relu, torch.diag((u > 0).double()), rtol=0, atol=1e-12)
    ones, one = torch.ones(1, 5, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    J, x = (f(lambda u: kr.solve_qp(eye, -u, A=ones, b=one, lb=0.0).x)(u) for f in (torch.func.jacrev, lambda f: f))
    support = (x > 0).double()
    torch.testing.assert_close(J, torch.diag(support) - torch.outer(support, support) / support.sum(), rtol=0, atol=1e-12)


def test_duplicate_rows_share_one_gradient() -> None:
    problem = built(2, 5, 6, 1, active=2)
    Q, p, G, h, A, b = problem.arguments()[0]
    h = h.requires_grad_()
    p = p.requires_grad_()
    single = torch.autograd.grad(kr.solve_qp(Q, p, G, h, A, b).x.sum(), (h, p))
    twice = kr.solve_qp(Q, p, torch.cat([G, 1e3 * G[:1]]), torch.cat([h, 1e3 * h[:1]]), A, b)
    double = torch.autograd.grad(twice.x.sum(), (h, p))
    for ours, theirs in zip(double, single, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_flat_direction_gets_the_gradient_of_least_norm() -> None:
    """x_2 has no curvature and no constraint: x_1 alone answers to p."""
    Q = torch.diag(torch.tensor([2.0, 0.0], dtype=torch.float64))
    p = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    solution = kr.solve_qp(Q, p)
    torch.testing.assert_close(solution.x, torch.tensor([-0.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-9)
    (gradient,) = torch.autograd.grad(solution.x.sum(), p)
    torch.testing.assert_close(gradient, torch.tensor([-0.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-9)


def test_linear_program_vertex_does_not_move_with_its_cost() -> None:
    problem = built(1, 6, 10, 1, rank=0, active=5)
    Q, p, G, h, A, b = problem.arguments()[0]
    p.requires_grad_()
    (gradient,) = torch.autograd.grad(kr.solve_qp(Q, p, G, h, A, b).x.sum(), p)
    assert gradient.abs().max() <= 1e-7  # the true derivative is zero; sizes here are one
