"""Warm starts through a layer: across steps of a training, and for shuffled batches."""

from __future__ import annotations

import pytest
import torch

import karush as kr

F = torch.float64


def portfolio(**options: float) -> tuple[kr.Variable, kr.Layer]:
    x = kr.Variable(8, name="x")
    mu, gamma = kr.Parameter(8, name="mu"), kr.Parameter(nonneg=True, name="gamma")
    risk = torch.randn(8, 4, dtype=F)
    cost = gamma * kr.sum_squares(risk.T @ x) + 0.1 * kr.sum_squares(x) - mu @ x + 0.05 * kr.norm1(x)
    problem = kr.Problem(kr.Minimize(cost), {"budget": kr.sum(x) == 1, "cap": x <= 0.4, "floor": x >= -0.1})
    return x, kr.compile(problem, **options)  # type: ignore[arg-type]  # options by name


def test_a_training_loop_saves_most_of_its_iterations() -> None:
    x, layer = portfolio()
    mu = torch.randn(40, 8, dtype=F, requires_grad=True)
    optimizer = torch.optim.SGD([mu], lr=0.05)
    previous: kr.Solution | None = None
    cold, warm = 0, 0
    for step in range(20):
        solution = layer.solve({"mu": mu, "gamma": 1.0}, warm_start=previous)
        check = layer.solve({"mu": mu, "gamma": 1.0})
        torch.testing.assert_close(solution[x], check[x], rtol=0, atol=1e-7)
        if step:
            warm, cold = warm + int(solution.iterations.sum()), cold + int(check.iterations.sum())
        loss = (solution[x] - 1 / 8).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        previous = solution
    assert warm < 0.2 * cold


def test_items_of_a_shuffled_batch_find_their_own_start() -> None:
    x, layer = portfolio()
    mu = torch.randn(30, 8, dtype=F)
    whole = layer.solve({"mu": mu, "gamma": 1.0})
    order = torch.randperm(30)[:12]
    some = layer.solve({"mu": mu[order], "gamma": 1.0}, warm_start=whole[order])
    torch.testing.assert_close(some[x], whole[x][order], rtol=0, atol=1e-7)
    assert int(some.iterations.max()) <= 1
    assert not whole[order].x.requires_grad
    chosen = layer.solve({"mu": mu[3:5], "gamma": 1.0}, warm_start=whole[3:5])
    torch.testing.assert_close(chosen[x], whole[x][3:5], rtol=0, atol=1e-7)


def test_batches_of_several_dimensions_and_other_dtypes() -> None:
    x, layer = portfolio()
    mu = torch.randn(2, 5, 8)
    first = layer.solve({"mu": mu, "gamma": 1.0})
    again = layer.solve({"mu": mu, "gamma": 1.0}, warm_start=first)
    assert again[x].shape == (2, 5, 8)
    assert again[x].dtype == torch.float32
    torch.testing.assert_close(again[x], first[x], rtol=0, atol=1e-6)


def test_the_start_of_another_model_is_refused() -> None:
    _, layer = portfolio()
    y = kr.Variable(3, name="y")
    other = kr.Problem(kr.Minimize(kr.sum_squares(y - 1)), [y >= 0]).solve()
    with pytest.raises(kr.InputError, match=r"warm_start.*\(n, m, k\)"):
        layer.solve({"mu": torch.zeros(8, dtype=F), "gamma": 1.0}, warm_start=other)


def test_smoothing_through_a_layer() -> None:
    x, layer = portfolio(smoothing=0.01)
    mu = torch.randn(4, 8, dtype=F, requires_grad=True)
    solution = layer(mu=mu, gamma=1.0)
    assert (solution[x] <= 0.4).all()
    assert torch.autograd.gradcheck(lambda mu: layer(mu=mu, gamma=1.0)[x], mu)
