"""Functions of a set that constraints describe: what they are worth, what they make of a model, how they read."""

from __future__ import annotations

import torch

import karush as kr

x, u = kr.Variable(3, name="x"), kr.Variable(3, name="u")
c, r = kr.Parameter(3, name="c"), kr.Parameter(name="r")
T = torch.float64


def test_an_indicator_is_its_constraints() -> None:
    rows = [x >= c, kr.sum(x) == 4]
    centers = torch.randn(5, 3, dtype=T)
    costly = kr.Problem(kr.Minimize(kr.sum_squares(x) + kr.indicator(rows))).solve(c=centers)
    stated = kr.Problem(kr.Minimize(kr.sum_squares(x)), rows).solve(c=centers)
    assert torch.allclose(costly[x], stated[x], atol=1e-8)
    assert torch.allclose(costly.objective, stated.objective)
    assert costly[kr.indicator(rows)].tolist() == [0.0] * 5
    named = kr.indicator({"a": x >= 1, "b": [kr.abs(x) <= 2]})
    assert kr.evaluate(named, {x: torch.tensor([[1.0, 2, 1], [1, 3, 1]])}).tolist() == [0.0, torch.inf]


def test_support_functions_have_values_and_gradients() -> None:
    ball = kr.suppfunc(u, [u <= 1, u >= -r, kr.sum(u) == 0.5])
    value = ball(x - c)
    assert value.is_convex()
    assert not value.is_concave()
    assert value.variables() == [x]
    at = torch.randn(4, 3, dtype=T, requires_grad=True)
    radius = torch.rand(4, dtype=T) + 0.5
    radius.requires_grad_()
    assert torch.autograd.gradcheck(lambda c_, r_: kr.evaluate(value, {x: torch.zeros(3, dtype=T), c: c_, r: r_}), (at, radius))
    layer = kr.compile(kr.Problem(kr.Minimize(value + kr.sum_squares(x))))
    solution = layer(c=at, r=radius)
    assert torch.allclose(solution[value] + solution[kr.sum_squares(x)], solution.objective, atol=1e-7)


def test_suprema_that_are_infinite() -> None:
    half, none = kr.suppfunc(u, [u <= 1])(x), kr.suppfunc(u, [u <= 1, u >= 2])(x)
    points = torch.tensor([[1.0, 1, 1], [-1, 0, 0]])
    assert kr.evaluate(half, {x: points}).tolist() == [3.0, torch.inf]
    assert kr.evaluate(none, {x: points}).tolist() == [-torch.inf, -torch.inf]
    assert kr.evaluate(kr.suppfunc(u, [u <= 1])([1.0, 1, -1]), {}) == torch.inf
    solution = kr.Problem(kr.Minimize(kr.sum_squares(x + 1) + half)).solve()
    assert torch.allclose(solution[x], torch.zeros(3), atol=1e-6)  # infinite where x < 0


def test_zero_in_the_set_makes_it_nonnegative() -> None:
    assert kr.suppfunc(u, [u <= 1])(x).is_nonneg()
    assert not kr.suppfunc(u, [u <= 1, kr.sum(u) == 1])(x).is_nonneg()
    bounded = kr.Variable(3, bounds=[-1, 2])
    assert float(kr.evaluate(kr.suppfunc(bounded, [])(x), {x: torch.tensor([1.0, -1, 0])})) == 3.0


def test_they_read_as_they_were_written() -> None:
    assert repr(kr.indicator([x >= 1, kr.sum(x) == 4])) == "<convex (): indicator(1 - x <= 0, (sum(x) - 4).flatten() == 0)>"
    assert kr.indicator(x <= c).latex() == r"\mathcal{I}(x - c \leq 0)"
    assert repr(kr.suppfunc(u, [u <= 1])(x - c)) == "<convex (): suppfunc(x - c)>"
    assert kr.suppfunc(u, [u <= 1])(x).latex() == r"\sigma(x)"
