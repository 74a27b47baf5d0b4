"""What flows back through failed items: exactly nothing, by every door, whatever stands between parameter and problem."""

from __future__ import annotations

import pytest
import torch

import karush as kr

NAN = float("nan")
F = torch.float64


def model(**options: object) -> tuple[kr.Layer, kr.Variable, kr.Parameter, kr.Parameter]:
    """min y² + exp(th) q y + th²  subject to  0 <= y <= u."""
    y = kr.Variable(name="y")
    th, q, u = kr.Parameter(name="th"), kr.Parameter(name="q"), kr.Parameter(name="u")
    problem = kr.Problem(kr.Minimize(y**2 + kr.exp(th) * q * y + th**2), {"low": y >= 0, "high": y <= u})
    return kr.compile(problem, inputs=["th", "q", "u"], **options), y, th, q  # type: ignore[arg-type]  # options of each test


POLICIES = pytest.mark.parametrize("policy", ["return", "nan"])


@POLICIES
@pytest.mark.parametrize("door", ["variable", "expression", "objective", "dual"])
def test_a_failed_item_sends_nothing_back(policy: str, door: str) -> None:
    layer, y, th, q = model(on_failure=policy)
    theta = torch.tensor([0.1, 0.2, NAN, 0.4], dtype=F, requires_grad=True)
    slope = torch.tensor([-1.0, -1.0, -1.0, NAN], dtype=F, requires_grad=True)
    upper = torch.tensor([9.0, -1.0, 9.0, 9.0], dtype=F, requires_grad=True)  # the second is infeasible
    solution = layer(theta, slope, upper)
    assert solution.ok.tolist() == [True, False, False, False]
    value = {
        "variable": lambda: solution[y],
        "expression": lambda: solution[kr.exp(th) * q * y],
        "objective": lambda: solution.objective,
        "dual": lambda: solution.dual("low") + solution[y],
    }[door]()
    assert value[1:].isnan().all() if policy == "nan" else value[1:].isfinite().all()
    value.sum().backward()
    for given in (theta, slope, upper):
        assert given.grad is not None
        assert (given.grad[1:] == 0).all()
        assert given.grad.isfinite().all()
    assert theta.grad is not None
    assert theta.grad[0] != 0


@POLICIES
@pytest.mark.parametrize("batch", [1, 3])
def test_shared_parameters_survive_when_nothing_is_usable(policy: str, batch: int) -> None:
    layer, y, th, q = model(on_failure=policy)
    theta = torch.tensor(0.3, dtype=F, requires_grad=True)
    solution = layer(theta, torch.full((batch,), NAN, dtype=F), torch.ones(batch, dtype=F))
    assert not solution.ok.any()
    (solution[y].sum() + solution[kr.exp(th) * q * y].sum() + solution.objective.sum()).backward()
    assert theta.grad == 0


def test_a_single_bad_item_sends_nothing_back() -> None:
    layer, y, _, _ = model(on_failure="return")
    theta = torch.tensor(NAN, dtype=F, requires_grad=True)
    layer(theta, -1.0, 1.0)[y].backward()
    assert theta.grad == 0


def test_causes_are_named() -> None:
    layer, _, _, _ = model()
    for inputs, words in (
        ((NAN, 1.0, 1.0), "parameter th is NaN"),
        ((0.0, float("inf"), 1.0), "parameter q is infinite"),
        ((800.0, 1.0, 1.0), r"exp\(th\) is not finite"),
        ((0.0, 1.0, -1.0), r"'low' \(y >= 0\).*'high' \(y <= u\)"),
    ):
        with pytest.raises(kr.SolveError, match=words):
            layer(*inputs)


def test_places_follow_the_batch() -> None:
    layer, _, _, _ = model()
    upper = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F)
    with pytest.raises(kr.SolveError, match=r"item \(1, 1\)"):
        layer(0.0, 1.0, upper)


def test_signs_and_definiteness_are_told_apart() -> None:
    x, P = kr.Variable(2, name="x"), kr.Parameter((2, 2), name="P", PSD=True, nonneg=True)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, P) + kr.sum(x)), [x >= -1]), on_failure="return")
    eye = torch.eye(2, dtype=F)
    given = torch.stack(
        [eye, 1 - 2 * eye, torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=F), eye * NAN, torch.tensor([[1.0, 0.5], [0.0, 1.0]])]
    )
    codes = [kr.Status.SOLVED, kr.Status.INVALID_INPUT, kr.Status.NONCONVEX, kr.Status.INVALID_INPUT, kr.Status.INVALID_INPUT]
    assert layer(given).status.tolist() == codes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_that_earlier_layers_computed_are_semidefinite(dtype: torch.dtype) -> None:
    """Correlation, outer product, Gram and inverse carry the rounding of their own precision."""
    n = 6
    x, P, c = kr.Variable(n, name="x"), kr.Parameter((n, n), name="P", PSD=True), kr.Parameter(n, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, P) + c @ x), [x >= -1, x <= 1]))
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        A = torch.randn(n, 3, generator=generator, dtype=dtype)
        v = torch.randn(n, generator=generator, dtype=dtype)
        full = torch.randn(n, 20, generator=generator, dtype=dtype)
        for matrix in (A @ A.T, torch.outer(v, v), torch.corrcoef(full), torch.linalg.inv(full @ full.T)):
            assert layer(P=matrix, c=v).ok
            assert kr.solve_qp(matrix, v, lb=-1.0, ub=1.0).ok.all()


def test_items_beyond_those_that_are_spelled_out_are_counted() -> None:
    x, d = kr.Variable(2, name="x"), kr.Parameter(2, name="d", nonneg=True)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x) + d @ x), [x >= -1]))
    with pytest.raises(kr.SolveError, match="2 more: the error's solution") as caught:
        layer(-torch.ones(5, 2))
    assert isinstance(caught.value.solution, kr.Solution)
    assert "d is not nonneg" in str(caught.value.solution.explain(4))
    with pytest.raises(kr.SolveError) as few:
        layer(-torch.ones(3, 2))
    assert "more:" not in str(few.value)
