"""``karush.compat.cvxpylayers.Solver`` inside the original layer of cvxpylayers: its canonical form, our engine and derivative."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from compat.models import cp, par
from karush.compat.cvxpylayers import CvxpyLayer, Solver

T = torch.float64
absent = importlib.util.find_spec("cvxpylayers") is None
plugged = pytest.mark.skipif(absent, reason="cvxpylayers is not installed")


def original(*args: Any, **kwargs: Any) -> Any:
    """cvxpylayers' own layer with our solver inside."""
    layers: Any = import_module("cvxpylayers.torch")
    return layers.CvxpyLayer(*args, solver=kwargs.pop("with_solver", None) or Solver(), **kwargs)


def models() -> dict[str, tuple[Any, list[Any], list[Any]]]:
    """Problem, parameters, outputs; variables and duals."""
    x, X, y = cp.Variable(4), cp.Variable((2, 3)), cp.Variable(3, nonneg=True)
    A, b, c, M, g = par(6, 4), par(6), par(4), par(2, 3), par(nonneg=True)
    P = par(4, 4, PSD=True)
    simplex = [cp.sum(x) == 1, x >= 0]
    rows = [cp.sum(X, axis=0) <= 0.3, X >= -1, X[0, 1] == 0.1]
    box = [y <= 0.5, y >= -0.2, -y <= 0.1]
    return {
        "ridge on a simplex": (
            cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b)), simplex),
            [A, b],
            [x, *(r.dual_variables[0] for r in simplex)],
        ),
        "matrix": (
            cp.Problem(cp.Minimize(cp.sum_squares(X - M) + g * cp.norm1(X)), rows),
            [M, g],
            [X, *(r.dual_variables[0] for r in rows)],
        ),
        "quadratic form": (cp.Problem(cp.Minimize(cp.quad_form(x, P) + c @ x), [x <= 1]), [P, c], [x]),
        "unconstrained": (cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + cp.sum_squares(x))), [A, b], [x]),
        "maximize": (cp.Problem(cp.Maximize(c @ x - cp.sum_squares(x)), [x <= 0.3, cp.sum(x) == 0]), [c], [x]),
        "signed variable": (cp.Problem(cp.Minimize(cp.sum_squares(y - b[:3])), box), [b], [y]),
    }


def draw(parameters: list[Any], *batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    drawn = []
    for parameter in parameters:
        raw = torch.randn((*batch, *parameter.shape), dtype=T, generator=generator)
        if parameter.attributes["PSD"]:
            raw = raw @ raw.mT + torch.eye(raw.shape[-1], dtype=T)
        drawn.append((raw.abs() if parameter.attributes["nonneg"] else raw).requires_grad_())
    return drawn


@plugged
@pytest.mark.parametrize("name", models())
@pytest.mark.parametrize("batch", [(), (1,), (3,)])
def test_the_original_layer_with_our_solver_equals_our_layer(name: str, batch: tuple[int, ...]) -> None:
    """Two roads to the same QP: cvxpy's canonicalization under DPP, and ours. Gradients meet in the parameters."""
    problem, parameters, outputs = models()[name]
    theirs, ours = original(problem, parameters, outputs), CvxpyLayer(problem, parameters, outputs)
    given = draw(parameters, *batch)
    found, wanted = theirs(*given), ours(*given)
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)
    weights = [torch.linspace(-1, 1, value.numel(), dtype=T).reshape(value.shape) for value in found]
    losses = [torch.stack([(w * v).sum() for w, v in zip(weights, values, strict=True)]).sum() for values in (found, wanted)]
    gradients = [torch.autograd.grad(loss, given) for loss in losses]
    for parameter, a, b in zip(parameters, *gradients, strict=True):
        if parameter.attributes["PSD"]:  # cvxpylayers reads the upper triangle, karush the symmetric part
            a, b = (torch.triu(each + each.mT, 1) + torch.diag_embed(torch.diagonal(each, 0, -2, -1)) for each in (a, b))
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-7)


@plugged
def test_the_solution_is_that_of_clarabel() -> None:
    problem, parameters, outputs = models()["matrix"]
    given = draw(parameters)
    for parameter, value in zip(parameters, given, strict=True):
        parameter.value = value.detach().numpy()
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    found = original(problem, parameters, outputs)(*given)
    np.testing.assert_allclose(found[0].detach().numpy(), problem.variables()[0].value, atol=1e-6)
    for value, constraint in zip(found[1:], problem.constraints, strict=True):
        np.testing.assert_allclose(value.detach().numpy(), constraint.dual_value, atol=1e-6)


@plugged
def test_gradcheck_and_no_grad() -> None:
    problem, parameters, outputs = models()["ridge on a simplex"]
    layer = original(problem, parameters, outputs[:1])
    given = draw(parameters)
    assert torch.autograd.gradcheck(lambda *v: layer(*v)[0], given, atol=1e-6)
    with torch.no_grad():
        (x,) = layer(*given)
    assert not x.requires_grad


@plugged
def test_options_of_the_solver_and_of_a_call() -> None:
    problem, parameters, outputs = models()["quadratic form"]
    given = draw(parameters)
    plain = original(problem, parameters, outputs)
    pulled = original(problem, parameters, outputs, with_solver=Solver(regularize=1.0))
    (once,) = plain(*given, solver_args={"regularize": 1.0})
    torch.testing.assert_close(once, pulled(*given)[0], atol=1e-12, rtol=1e-12)
    assert (once - plain(*given)[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="unknown 'foo'"):
        Solver(foo=1)


@plugged
def test_one_solver_serves_one_layer() -> None:
    solver = Solver()
    problem, parameters, outputs = models()["unconstrained"]
    original(problem, parameters, outputs, with_solver=solver)
    with pytest.raises(kr.DefinitionError, match="second layer"):
        original(problem, parameters, outputs, with_solver=solver)


@plugged
def test_cones_are_refused_when_the_layer_is_built() -> None:
    x, p = cp.Variable(3), par(3)
    with pytest.raises(kr.DefinitionError, match="soc"):
        original(cp.Problem(cp.Minimize(cp.norm(x - p, 2) + cp.sum(x)), [x >= 0]), [p], [x])


@plugged
def test_failure_is_told() -> None:
    x, p = cp.Variable(1), par(1)
    layer = original(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1, x <= p]), [p], [x])
    given = torch.tensor([[2.0], [0.0]], dtype=T, requires_grad=True)
    with pytest.raises(kr.SolveError) as caught:
        layer(given)
    assert caught.value.indices == [1]
    (value,) = layer(given, solver_args={"on_failure": "return"})
    value.sum().backward()
    assert given.grad is not None
    assert given.grad[1] == 0


@pytest.mark.skipif(not absent, reason="cvxpylayers is installed")
def test_without_cvxpylayers_it_says_what_to_install() -> None:
    with pytest.raises(kr.DefinitionError, match="cvxpylayers"):
        Solver()


@plugged
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its use of NumPy
@pytest.mark.skipif(importlib.util.find_spec("diffcp") is None, reason="diffcp is not installed")
@pytest.mark.parametrize("name", sorted(set(models()) - {"quadratic form"}))  # no parametric matrix on diffcp
def test_the_drop_in_agrees_with_what_it_replaces(name: str) -> None:
    """The very same calls, once with each import; diffcp's least-squares derivative is good to four digits or so."""
    problem, parameters, outputs = models()[name]
    layers: Any = import_module("cvxpylayers.torch")
    given = draw(parameters, 3)
    solver_args = {"solve_method": "CLARABEL", "tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
    found = [
        layer(problem, parameters=parameters, variables=outputs)(*given, solver_args=solver_args)
        for layer in (layers.CvxpyLayer, CvxpyLayer)
    ]
    for theirs, ours in zip(*found, strict=True):
        assert theirs.shape == ours.shape
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    losses = [torch.stack([value.square().sum() for value in values[:1]]).sum() for values in found]
    for theirs, ours in zip(*(torch.autograd.grad(loss, given) for loss in losses), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)
