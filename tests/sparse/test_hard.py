"""What sparse factors cannot tell: singular systems, flags at them, limits that are far away, numbers that overflow."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends.sparse import hard, tables
from karush.backends.sparse.tables import Tables
from sparse.models import scattered
from sparse.ways import HANDS_OVER, SIDE_BY_SIDE

F = torch.float64


def jacobian(Q: Tensor, p: Tensor, **rows: Any) -> Tensor:
    """dx/dp of the first of nine equal items."""
    leaf = p.expand(9, -1).clone().requires_grad_()
    x = kr.solve_qp(Q, leaf, backend="sparse", **rows).x
    return torch.stack([torch.autograd.grad(x[0, j], leaf, retain_graph=True)[0][0] for j in range(len(p))])


def test_where_x_is_not_unique_the_derivative_is_the_pseudoinverse() -> None:
    Q = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=F)
    torch.testing.assert_close(jacobian(Q, torch.tensor([-1.0, -2.0], dtype=F)), -torch.linalg.pinv(Q), rtol=1e-9, atol=1e-12)
    held = {"A": torch.ones(1, 3, dtype=F), "b": torch.ones(1, dtype=F)}
    assert float(jacobian(torch.ones(3, 3, dtype=F), torch.zeros(3, dtype=F), **held).abs().max()) <= 1e-12


@pytest.mark.parametrize("sizes", [(40, 10, 8), (100, 20, 20)])
def test_flat_directions_under_many_rows(sizes: tuple[int, int, int]) -> None:
    """The reduced Hessian has not the rank it needs: flagged, and dx/dp = -Z (Z'QZ)^+ Z' with a basis Z of the null space of A."""
    n, k, r = sizes
    rng = np.random.default_rng(0)
    R, A, x = rng.standard_normal((r, n)), rng.standard_normal((k, n)), rng.standard_normal(n)
    Q = R.T @ R
    p = torch.from_numpy(A.T @ rng.standard_normal(k) - Q @ x).expand(3, -1).clone().requires_grad_()
    rows: dict[str, Any] = {"A": torch.from_numpy(A), "b": torch.from_numpy(A @ x)}
    solution = kr.solve_qp(torch.from_numpy(Q), p, backend="sparse", **rows)
    weight = rng.standard_normal(n)
    (found,) = torch.autograd.grad((solution.x @ torch.from_numpy(weight)).sum(), p)
    Z = np.linalg.svd(A)[2][k:].T
    expected = -Z @ np.linalg.pinv(Z.T @ Q @ Z, rcond=1e-10) @ Z.T @ weight
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-8 * np.abs(expected).max())
    sparse = {**rows, "A": rows["A"].to_sparse_coo()}
    flags = kr.conditioning(solution, torch.from_numpy(Q).to_sparse_coo(), p, **sparse).flags
    assert bool((flags & int(kr.GradientFlag.nonunique)).all())


def test_where_x_is_not_unique_a_large_model_gets_a_bounded_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were too large for dense matrices: the sum of x is flat, and nothing along it comes back."""
    monkeypatch.setattr(hard, "SMALL", 0)
    x, c = kr.Variable(200, name="x"), kr.Parameter(199, name="c")
    solve = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x[1:] - x[:-1] - c))), backend="sparse")
    given = torch.linspace(0, 1, 199, dtype=F).requires_grad_()
    solution = solve(c=given)
    weight = torch.linspace(-1, 1, 200, dtype=F) + 1  # sees the flat direction
    (found,) = torch.autograd.grad(solution["x"] @ weight, given)
    D = np.diff(np.eye(200), axis=0)
    expected = np.linalg.pinv(D).T @ weight.numpy()
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 * np.abs(expected).max())


@HANDS_OVER
@pytest.mark.parametrize("scale", [1e60, 1e115])
def test_numbers_that_overflow_are_no_reason_to_raise(scale: float) -> None:
    Q, G = torch.diag(torch.tensor([0.0, 1.0], dtype=F)), torch.tensor([[0.0, 0.0], [0.0, -1.0]], dtype=F)
    p = scale * torch.tensor([1.2, 0.2], dtype=F)
    solution = kr.solve_qp(Q, p, G, torch.ones(2, dtype=F), backend="sparse", on_failure="return")
    assert not bool(solution.ok)


@HANDS_OVER
@pytest.mark.parametrize("far", [1e8, 1e12, 1e16, 1e20])
def test_far_limits_change_nothing(far: float) -> None:
    Q, p, A = torch.eye(2, dtype=F), torch.tensor([-3.0, -3.0], dtype=F), torch.tensor([[1.0, 3.0]], dtype=F)
    rows: dict[str, Any] = {"A": A, "b": torch.ones(1, dtype=F), "lb": -5.0, "backend": "sparse"}
    G = torch.tensor([[2.0, 1.0], [1.0, -1.0]], dtype=F)
    for solution in (
        kr.solve_qp(Q, p, G, torch.tensor([far, 0.5], dtype=F), **rows),
        kr.solve_qp(Q, p, G[1:], torch.tensor([0.5], dtype=F), ub=far, **rows),
    ):
        torch.testing.assert_close(solution.x, torch.tensor([0.625, 0.125], dtype=F), rtol=1e-9, atol=1e-9)


def test_variables_that_are_fixed_need_no_second_look() -> None:
    """lb = ub on some variables, pulled either way: the multipliers say how hard, side by side for every item."""
    rng = np.random.default_rng(3)
    n, B = 12, 8
    lb, ub = np.full((B, n), -2.0), np.full((B, n), 2.0)
    fixed = rng.random((B, n)) < 0.3
    lb[fixed] = ub[fixed] = rng.standard_normal(int(fixed.sum()))
    p, d = rng.standard_normal((B, n)), 1 + rng.random(n)
    solution = kr.solve_qp(
        torch.diag(torch.from_numpy(d)), torch.from_numpy(p), lb=torch.from_numpy(lb), ub=torch.from_numpy(ub), backend="sparse"
    )
    x = np.clip(-p / d, lb, ub)
    np.testing.assert_allclose(solution.x.numpy(), x, atol=1e-12)
    np.testing.assert_allclose((solution.z_lb - solution.z_ub).numpy(), d * x + p, atol=1e-9)


def test_batches_of_several_axes() -> None:
    Q, generator = torch.eye(6, dtype=F), torch.Generator().manual_seed(0)
    p, G, h = (torch.randn(*shape, generator=generator, dtype=F) for shape in ((3, 1, 6), (4, 6), (3, 4, 4)))
    for left, right in ((p, h.abs()), (p[:, 0].repeat(2, 1)[:4], h.abs())):
        ours, theirs = (kr.solve_qp(Q, left, G, right, backend=backend).x for backend in ("sparse", "torch"))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@SIDE_BY_SIDE
def test_few_tables_are_remembered() -> None:
    """Products are megabytes: those of models that are gone are gone, forward and backward."""
    for n in range(30, 30 + 2 * tables.MADE):
        problem, values = scattered(n)
        leaf = values["p"].clone().requires_grad_()
        kr.compile(problem, backend="sparse")({**values, "p": leaf})["x"].sum().backward()
    gc.collect()
    assert sum(type(held) is Tables for held in gc.get_objects()) <= tables.MADE + 1


@HANDS_OVER
def test_rows_that_agree_to_1e8_change_x_no_more_than_they_must() -> None:
    """A flow whose demands add up but for float32: x and gradients are those of demands that do, within that rounding."""
    generator = torch.Generator().manual_seed(0)
    n, B, N = 60, 16, 20
    i = torch.arange(n)
    A = torch.zeros(N, n, dtype=F)
    A[i % N, i] = 1
    A[(i + 1 + (i // N) * 3) % N, i] -= 1
    flow, cost = torch.rand(B, n, generator=generator, dtype=F), torch.randn(B, n, generator=generator, dtype=F)
    b, ub = flow @ A.T, flow + torch.rand(B, n, generator=generator, dtype=F)
    b[:, 0] += 1.4e-7 * torch.rand(B, generator=generator, dtype=F)
    Q = torch.diag(torch.rand(n, generator=generator, dtype=F) + 0.2)

    def found(b: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        p = cost.clone().requires_grad_()
        x = kr.solve_qp(Q, p, A=A, b=b, lb=torch.zeros(n, dtype=F), ub=ub, **options).x
        return x.detach(), torch.autograd.grad(x.square().sum(), p)[0]

    expected = found(b - b.mean(1, keepdim=True), backend="torch")
    for ours, theirs in zip(found(b, backend="sparse"), expected, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5
