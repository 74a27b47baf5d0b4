"""``karush.compat.cvxpylayers``: code written for cvxpylayers runs with one changed import."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import karush as kr
from compat.models import cp, par
from compat.tensors import T, gradcheck, randn
from karush.compat.cvxpylayers import CvxpyLayer


def ridge(m: int = 10, n: int = 4) -> tuple[CvxpyLayer, int, int]:
    A, b, x = par(m, n, name="A"), par(m, name="b"), cp.Variable(n, name="x")
    return CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + cp.sum_squares(x))), [A, b], [x]), m, n


def ridge_solution(A: Tensor, b: Tensor) -> Tensor:
    eye = torch.eye(A.shape[-1], dtype=T)
    exact: Tensor = torch.linalg.solve(A.mT @ A + eye, A.mT @ b.unsqueeze(-1))
    return exact.squeeze(-1)


# Forward, backward, batches


def test_ridge_has_its_closed_form() -> None:
    layer, m, n = ridge()
    A, b = randn(m, n), randn(m)
    (x,) = layer(A, b, solver_args={"eps": 1e-10})
    exact = ridge_solution(A, b)
    torch.testing.assert_close(x, exact, atol=1e-9, rtol=1e-9)
    weight = torch.arange(1.0, n + 1, dtype=T)
    for ours, theirs in zip(torch.autograd.grad(x @ weight, [A, b]), torch.autograd.grad(exact @ weight, [A, b]), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    gradcheck(layer, A, b)


def test_a_shared_tensor_gets_the_sum_over_the_batch() -> None:
    layer, m, n = ridge()
    A, b = randn(m, n), randn(3, m)
    (x,) = layer(A, b)
    assert x.shape == (3, n)
    dA, db = torch.autograd.grad(x.square().sum(), [A, b])
    loop = [torch.autograd.grad(layer(A, b[i])[0].square().sum(), [A, b]) for i in range(3)]
    torch.testing.assert_close(dA, sum(each[0] for each in loop), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(db, sum(each[1] for each in loop), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("batched", [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("size", [1, 3, 0])
def test_the_batch_dimension_is_kept(batched: tuple[bool, bool], size: int) -> None:
    layer, m, n = ridge()
    A = randn(size, m, n) if batched[0] else randn(m, n)
    b = randn(size, m) if batched[1] else randn(m)
    (x,) = layer(A, b)
    assert x.shape == ((size, n) if any(batched) else (n,))
    torch.testing.assert_close(x, ridge_solution(A, b), atol=1e-9, rtol=1e-9)
    x.sum().backward()
    assert A.grad is not None
    assert A.grad.shape == A.shape


def test_batch_sizes_may_vary_from_call_to_call() -> None:
    layer, m, n = ridge()
    b = randn(m)
    for size in (4, 1, 7):
        A = randn(size, m, n, seed=size)
        torch.testing.assert_close(layer(A, b)[0], ridge_solution(A, b), atol=1e-9, rtol=1e-9)


def test_one_tensor_in_two_layers() -> None:
    A, x = par(10, 5), cp.Variable(5)
    first, second = np.arange(10.0), np.arange(10.0)[::-1].copy()
    layers = [
        CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b))), parameters=[A], variables=[x]) for b in (first, second)
    ]
    arguments = {"eps": 1e-10, "acceleration_lookback": 0, "max_iters": 10000}
    gradcheck(lambda given: torch.cat([layer(given, solver_args=arguments)[0] for layer in layers]), randn(10, 5))


def test_results_come_in_the_order_of_variables() -> None:
    x, y, p, q = cp.Variable(2), cp.Variable((2, 3)), par(2), par(2, 3)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + cp.sum_squares(y - q)))
    given = randn(2), randn(2, 3)
    a, b = CvxpyLayer(problem, [p, q], [x, y])(*given)
    d, c = CvxpyLayer(problem, [q, p], (y, x))(*given[::-1])
    assert torch.equal(a, c)
    assert torch.equal(b, d)
    torch.testing.assert_close(b, given[1], atol=1e-9, rtol=1e-9)  # a matrix comes back entry by entry


def test_without_gradients() -> None:
    layer, m, n = ridge()
    A, b = randn(m, n), randn(m)
    with torch.no_grad():
        (x,) = layer(A, b)
    assert not x.requires_grad
    assert not layer(A.detach(), b.detach())[0].requires_grad
    (x,) = layer(A.detach(), b)
    x.sum().backward()
    assert A.grad is None
    assert b.grad is not None


def test_results_have_the_dtype_of_the_tensors() -> None:
    layer, m, n = ridge()
    A, b = randn(m, n, grad=False).float().requires_grad_(), randn(m, grad=False).float()
    (x,) = layer(A, b)
    assert x.dtype == torch.float32
    x.sum().backward()
    assert A.grad is not None
    assert A.grad.dtype == torch.float32
    torch.testing.assert_close(x.double(), ridge_solution(A.double(), b.double()), atol=1e-5, rtol=1e-5)


def test_no_parameters_at_all() -> None:
    x = cp.Variable(3)
    (value,) = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum_squares(x - 1)), [cp.sum(x) == 1]), [], [x])()
    torch.testing.assert_close(value.double(), torch.full((3,), 1 / 3, dtype=T), atol=1e-6, rtol=1e-6)


# What is refused


def two_parameters() -> tuple[Any, Any, Any, Any]:
    x, a, b = cp.Variable(1), par(1, nonneg=True), par(1, nonneg=True)
    return cp.Problem(cp.Minimize(a * cp.norm(x, 1) + b * cp.sum_squares(x))), x, a, b


def test_parameters_must_be_those_of_the_problem() -> None:
    problem, x, a, b = two_parameters()
    for parameters in ([a], [a, b, par()], [a, a], [], [a, x]):
        with pytest.raises(ValueError, match="must exactly match problem"):
            CvxpyLayer(problem, parameters, [x])
    with pytest.raises(ValueError, match="list or tuple"):
        CvxpyLayer(problem, {a, b}, [x])


def test_variables_must_be_those_of_the_problem() -> None:
    problem, x, a, b = two_parameters()
    for strange in (cp.Variable(1), (x >= 1).dual_variables[0], 2 * x):
        with pytest.raises(ValueError, match="must be a subset of problem"):
            CvxpyLayer(problem, [a, b], [x, strange])


def test_each_parameter_needs_a_tensor() -> None:
    problem, x, a, b = two_parameters()
    layer = CvxpyLayer(problem, [a, b], [x])
    one = torch.ones(1)
    for tensors in ((one,), (one, one, one), ()):
        with pytest.raises(ValueError, match="A tensor must be provided for each"):
            layer(*tensors)
    with pytest.raises(ValueError, match="expected a tensor, got NoneType"):
        layer(one, None)


def test_shapes_must_fit() -> None:
    layer, m, n = ridge()
    with pytest.raises(ValueError, match="Inconsistent batch sizes"):
        layer(randn(32, m, n), randn(20, m))
    with pytest.raises(ValueError, match="Inconsistent batch sizes"):
        layer(randn(1, m, n), randn(20, m))
    with pytest.raises(ValueError, match="Invalid parameter shape"):
        layer(randn(32, m, n), randn(32, 2 * m))
    with pytest.raises(ValueError, match="Invalid parameter shape"):
        layer(randn(m, n), randn(2 * m))
    with pytest.raises(ValueError, match="Invalid parameter dimensionality"):
        layer(randn(32, m, n), randn(32, 32, m))
    with pytest.raises(ValueError, match="Invalid parameter dimensionality"):
        layer(randn(m, n), randn(1).squeeze())


def test_failure_is_told_and_can_be_returned() -> None:
    x, p = cp.Variable(1), par(1)
    infeasible = CvxpyLayer(cp.Problem(cp.Minimize(p @ x), [x >= 1, x <= -p]), [p], [x])
    given = torch.tensor([[1.0], [-2.0]], dtype=T, requires_grad=True)
    with pytest.raises(kr.SolveError) as caught:
        infeasible(given)
    assert caught.value.indices == [0]
    (value,) = infeasible(given, solver_args={"on_failure": "return"})
    torch.testing.assert_close(value[1], torch.tensor([2.0], dtype=T), atol=1e-8, rtol=0)
    value.sum().backward()
    assert given.grad is not None
    assert given.grad[0] == 0
    unbounded = CvxpyLayer(cp.Problem(cp.Minimize(cp.sum(x)), [x <= p]), [p], [x])
    with pytest.raises(kr.SolveError):
        unbounded(torch.ones(1))


def test_geometric_programs_and_cones_are_refused() -> None:
    problem, x, a, b = two_parameters()
    with pytest.raises(ValueError, match="gp=True"):
        CvxpyLayer(problem, [a, b], [x], gp=True)
    with pytest.raises(ValueError, match="solver object"):
        CvxpyLayer(problem, [a, b], [x], solver=object())
    y, p = cp.Variable(3), par(3)
    with pytest.raises(ValueError, match="exp"):
        CvxpyLayer(cp.Problem(cp.Minimize(cp.sum(cp.exp(y)) + p @ y)), [p], [y])


def test_arguments_of_other_solvers_are_accepted_and_others_are_not() -> None:
    problem, x, a, b = two_parameters()
    layer = CvxpyLayer(problem, [a, b], [x], solver="CLARABEL", verbose=True, canon_backend="diffcp", solver_args={"eps": 1e-9})
    one = torch.ones(1, dtype=T)
    for arguments in (
        {"solve_method": "SCS", "eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 5000, "acceleration_lookback": 0},
        {"solve_method": "Clarabel", "tol_gap_abs": 1e-10, "verbose": False},
        {"mode": "lsqr", "n_jobs_forward": 1, "n_jobs_backward": 1},
        {"max_iter": 30, "accept": "solved", "regularize": 0.0},
    ):
        layer(one, one, solver_args=arguments, warm_start=True)
    with pytest.raises(ValueError, match="did you mean 'max_iters'"):
        layer(one, one, solver_args={"max_itres": 5})
    with pytest.raises(ValueError, match="unknown 'foo'"):
        CvxpyLayer(problem, [a, b], [x], solver_args={"foo": 1})


def test_arguments_take_effect_for_one_call_only() -> None:
    layer, m, n = ridge()
    A, b = randn(m, n), randn(m)
    (exact,) = layer(A, b)
    (pulled,) = layer(A, b, solver_args={"regularize": 1.0})
    assert (pulled - exact).abs().max() > 1e-3
    assert torch.equal(layer(A, b)[0], exact)
    always = CvxpyLayer(*_ridge_problem(m, n), solver_args={"regularize": 1.0})
    torch.testing.assert_close(always(A, b)[0], pulled, atol=1e-12, rtol=1e-12)


def _ridge_problem(m: int, n: int) -> tuple[Any, list[Any], list[Any]]:
    A, b, x = par(m, n), par(m), cp.Variable(n)
    return cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + cp.sum_squares(x))), [A, b], [x]


# The module


@pytest.mark.parametrize("drop_in", ["cvxpylayers", "qpth"])
def test_nothing_foreign_is_imported(drop_in: str) -> None:
    code = (
        f"import sys, karush.compat.{drop_in} as door\n"
        "assert not {'cvxpy', 'cvxpylayers', 'diffcp', 'qpth'} & {name.split('.')[0] for name in sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)


def test_copies_and_pickles() -> None:
    layer, m, n = ridge()
    A, b = randn(m, n), randn(m)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(A, b)[0], layer(A, b)[0])


def test_checkpoints() -> None:
    """Nothing to save here; what cvxpylayers saved loads."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.layer = nn.Linear(4, 10), ridge()[0]

    model = Model()
    assert list(model.state_dict()) == ["dense.weight", "dense.bias"]
    foreign = {**model.state_dict(), "layer.P": torch.ones(2), "layer.q": torch.ones(2), "layer.A": torch.ones(2)}
    model.load_state_dict(foreign)
    assert set(foreign) >= {"layer.P"}  # the caller's dict is left as it was
    with pytest.raises(RuntimeError, match="strange"):
        model.load_state_dict({**model.state_dict(), "layer.strange": torch.ones(2)})


def test_under_transforms_of_torch() -> None:
    layer, m, n = ridge()
    A, b = randn(3, m, n, grad=False), randn(3, m, grad=False)
    together = layer(A, b)[0]
    torch.testing.assert_close(torch.func.vmap(lambda a, c: layer(a, c)[0])(A, b), together, atol=1e-10, rtol=1e-10)
    jacobian = torch.func.jacrev(lambda c: layer(A[0], c)[0])(b[0])
    exact = torch.linalg.solve(A[0].mT @ A[0] + torch.eye(n, dtype=T), A[0].mT)
    torch.testing.assert_close(jacobian, exact, atol=1e-9, rtol=1e-9)


def test_the_layer_of_karush_is_at_hand() -> None:
    layer, m, n = ridge()
    assert isinstance(layer.compiled, kr.Layer)
    solution = layer.compiled.solve({"A": randn(2, m, n), "b": randn(m)})
    assert solution["x"].shape == (2, n)
    assert solution.iterations.shape == (2,)
    assert "A(10, 4)" in repr(layer)
