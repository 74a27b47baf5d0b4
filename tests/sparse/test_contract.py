"""The contract of every engine, held to by the sparse one: statuses, certificates, mates, gradients of what failed, flags."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import karush as kr
from karush.backends.sparse.data import SparseData
from sparse.models import factor_portfolio
from sparse.ways import HANDS_OVER

N = 120


def model() -> kr.Problem:
    """min 1/2 sum d x² + c'x  with a chain of rows x_i + x_i+1 <= u_i, x_0 + ... + x_9 = t, and a lower bound."""
    x = kr.Variable(N, name="x")
    d, c = kr.Parameter(N, name="d"), kr.Parameter(N, name="c")
    u, t, low = kr.Parameter(N - 1, name="u"), kr.Parameter(name="t"), kr.Parameter(N, name="low")
    rows = {"chain": x[:-1] + x[1:] <= u, "total": kr.sum(x[:10]) == t, "low": x >= low}
    return kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, kr.psd_wrap(kr.diag(d))) + c @ x), rows)


def layer(**options: Any) -> kr.Layer:
    return kr.compile(model(), **{"backend": "sparse", **options})


def values(B: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return {
        "d": 0.5 + uniform(B, N),
        "c": uniform(B, N) - 0.7,
        "u": uniform(B, N - 1),
        "t": 0.3 * uniform(B),
        "low": uniform(B, N) - 1.5,
    }


ILLS = {
    "infeasible rows": (kr.Status.PRIMAL_INFEASIBLE, "u", -10.0),
    "infeasible total": (kr.Status.PRIMAL_INFEASIBLE, "t", -100.0),
    "unbounded": (kr.Status.DUAL_INFEASIBLE, "", 0.0),
    "nan": (kr.Status.INVALID_INPUT, "c", torch.nan),
    "nonconvex": (kr.Status.NONCONVEX, "d", -1.0),
}


def sick(kind: str, position: int) -> dict[str, Tensor]:
    """Four problems, one of which has no solution."""
    given = values(4, seed=5)
    _, name, value = ILLS[kind]
    if kind == "unbounded":
        given["d"][position], given["c"][position] = 0.0, 1.0
        given["low"][position] = -torch.inf
    else:
        given[name][position] = value
    return given


@HANDS_OVER
@pytest.mark.parametrize("position", [0, 2])
@pytest.mark.parametrize("kind", ILLS)
def test_an_item_that_fails_has_its_status_and_leaves_its_mates_alone(kind: str, position: int) -> None:
    solve = layer(on_failure="return")
    given = sick(kind, position)
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    solution = solve(leaves)
    healthy = [i for i in range(4) if i != position]
    assert int(solution.status[position]) == ILLS[kind][0]
    assert solution.ok.tolist() == [i != position for i in range(4)]
    assert bool(torch.isfinite(solution["x"]).all())
    alone = {name: value[healthy].clone().requires_grad_() for name, value in given.items()}
    mates = solve(alone)
    assert torch.equal(solution["x"][healthy], mates["x"])
    solution["x"].square().sum().backward()
    mates["x"].square().sum().backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.equal(leaf.grad[position], torch.zeros_like(leaf.grad[position])), name
        grad = alone[name].grad
        assert grad is not None
        assert torch.equal(leaf.grad[healthy], grad), name


@HANDS_OVER
@pytest.mark.parametrize("kind", ["infeasible rows", "infeasible total"])
def test_rays_prove_infeasibility_on_the_data(kind: str) -> None:
    given = sick(kind, 1)
    solution, data = layer(on_failure="return")(given), layer(backend="torch").standard_form(given)
    ray, G, A, lb = solution.raw.ray, data.G.expand(4, -1, -1)[1], data.A.expand(4, -1, -1)[1], data.lb
    y, z, z_lb = ray.y[1], ray.z[1], ray.z_lb[1]
    assert lb is not None
    assert float(torch.cat([z, z_lb]).min()) >= 0
    assert float((G.mT @ z + A.mT @ y - z_lb).abs().max()) <= 1e-11
    assert float(data.h[1] @ z + data.b[1] @ y - lb[1] @ z_lb) < -1e-3
    for i in (0, 2, 3):
        assert not ray.z[i].any()


@HANDS_OVER
def test_policies() -> None:
    given = sick("infeasible total", 1)
    with pytest.raises(kr.SolveError) as caught:
        layer()(given)
    assert caught.value.indices == [1]
    lost = layer(on_failure="nan")(given)
    assert bool(lost["x"][1].isnan().all())
    assert bool(torch.isfinite(lost["x"][[0, 2, 3]]).all())
    assert bool(lost.objective[1].isnan())


def test_a_batch_is_a_loop() -> None:
    solve, given = layer(), values(5)
    whole = solve(given)
    for i in range(5):
        single = solve({name: value[i] for name, value in given.items()})
        assert torch.equal(whole["x"][i], single["x"])
        assert int(whole.iterations[i]) == int(single.iterations)


def test_gradients_of_what_is_shared_are_sums() -> None:
    solve, given = layer(), values(3)
    shared = given["d"][0].clone().requires_grad_()
    solve({**given, "d": shared})["x"].square().sum().backward()
    apart = given["d"][:1].expand(3, -1).clone().requires_grad_()
    solve({**given, "d": apart})["x"].square().sum().backward()
    assert shared.grad is not None
    assert apart.grad is not None
    torch.testing.assert_close(shared.grad, apart.grad.sum(0), rtol=1e-12, atol=1e-12)


def test_first_and_second_derivatives_agree_with_differences() -> None:
    problem, given = factor_portfolio(14, 3)
    solve = kr.compile(problem, backend="sparse", eps=1e-10)
    mu, risk = (given[name].requires_grad_() for name in ("mu", "risk"))

    def function(mu: Tensor, risk: Tensor) -> tuple[Tensor, Tensor]:
        solution = solve(mu=mu, risk=risk)
        return solution["x"], solution.objective

    assert torch.autograd.gradcheck(function, (mu, risk), eps=1e-6, atol=1e-6)
    assert torch.autograd.gradgradcheck(function, (mu, risk), eps=1e-6, atol=1e-5)


def test_regularize_is_part_of_the_problem() -> None:
    given = {name: value[0] for name, value in values(1).items()}
    given["d"] = torch.zeros(N, dtype=torch.float64)
    ours, theirs = (layer(backend=backend, regularize=0.3)(given) for backend in ("sparse", "torch"))
    torch.testing.assert_close(ours["x"], theirs["x"], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(ours.objective, theirs.objective, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, of what it finds in a layer
def test_under_torch_compile_it_runs_as_it_is() -> None:
    solve, given = layer(), values(2)
    leaf, again = (given["c"].clone().requires_grad_() for _ in range(2))
    torch.compile(solve)({**given, "c": leaf})["x"].square().sum().backward()
    solve({**given, "c": again})["x"].square().sum().backward()
    assert leaf.grad is not None
    assert again.grad is not None
    assert torch.equal(leaf.grad, again.grad)


def test_flags_name_what_is_not_regular() -> None:
    """A flat direction, a row that is there twice, and an item that failed; the dense engine says the same."""
    x, c = kr.Variable(40, name="x"), kr.Parameter(40, name="c")
    flat = kr.Problem(kr.Minimize(kr.sum_squares(x[:-1] - x[1:])), [x <= 1])
    twice = kr.Problem(kr.Minimize(kr.sum_squares(x - c)), [kr.sum(x) == 1, 2 * kr.sum(x) == 2, x >= -9])
    regular = kr.Problem(kr.Minimize(kr.sum_squares(x - c)), [kr.sum(x) == 1, x >= -9])
    point = torch.linspace(-1, 1, 40, dtype=torch.float64)
    for problem, inputs in ((flat, {}), (twice, {"c": point}), (regular, {"c": point})):
        ours, theirs = (kr.compile(problem, backend=backend)(inputs).gradient_flags for backend in ("sparse", "torch"))
        assert int(ours) == int(theirs)


def test_the_gradient_of_a_flat_direction_is_bounded() -> None:
    """x is not unique: only what the objective sees is determined, and nothing is divided by what is not there."""
    x, c = kr.Variable(60, name="x"), kr.Parameter(59, name="c")
    solve = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x[:-1] - x[1:] - c)), [x <= 100]), backend="sparse")
    given = torch.linspace(0, 1, 59, dtype=torch.float64).requires_grad_()
    solution = solve(c=given)
    solution["x"].sum().backward()
    assert given.grad is not None
    assert bool(torch.isfinite(given.grad).all())
    assert float(given.grad.abs().max()) < 1e3
    assert int(solution.gradient_flags) & kr.GradientFlag.nonunique


@HANDS_OVER
def test_max_iter_is_the_most_that_an_item_takes() -> None:
    solution = layer(on_failure="return", max_iter=2)(values(2))
    assert int(solution.iterations.max()) <= 2
    assert set(solution.status.tolist()) <= {int(kr.Status.SOLVED), int(kr.Status.MAX_ITERATIONS)}


def test_an_empty_batch_of_an_enormous_model_makes_no_dense_matrices() -> None:
    x, c = kr.Variable(9000, name="x"), kr.Parameter(9000, name="c")
    solution = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c)), [x[1:] - x[:-1] <= 1]))(c=torch.zeros(0, 9000).double())
    assert isinstance(solution.data, SparseData)
    assert solution["x"].shape == (0, 9000)
