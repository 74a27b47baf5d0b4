"""The module: inputs, outputs, weights, dtype, failure policy, copying, and what it prints."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import karush as kr

BUDGET = 1.0


def portfolio(**options: Any) -> kr.Layer:
    x = kr.Variable(5, name="x")
    gamma, mu = kr.Parameter(nonneg=True, name="gamma"), kr.Parameter(5, name="mu")
    problem = kr.Problem(kr.Minimize(gamma * kr.sum_squares(x) - mu @ x), {"budget": kr.sum(x) == BUDGET, "long only": x >= 0})
    return kr.compile(problem, **options)


def mu(*batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*batch, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projected(v: torch.Tensor) -> torch.Tensor:
    """Onto the simplex, by sorting: the closed form of the portfolio with gamma = 1/2."""
    ordered, _ = v.sort(descending=True)
    excess = (ordered.cumsum(-1) - BUDGET) / torch.arange(1, v.shape[-1] + 1)
    count = (ordered > excess).sum(-1, keepdim=True)
    return (v - excess.gather(-1, count - 1)).clamp(min=0)


# Inputs


def test_inputs_by_name_mapping_and_position() -> None:
    v = mu(3)
    layer = portfolio(inputs=["gamma", "mu"])
    expected = projected(v)
    for solution in (layer(gamma=0.5, mu=v), layer({"gamma": 0.5, "mu": v}), layer(0.5, v), layer(0.5, mu=v)):
        torch.testing.assert_close(solution["x"], expected, rtol=1e-9, atol=1e-9)


def test_parameters_and_variables_are_keys() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c))))
    value = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for solution in (layer({c: value}), layer(value)):
        torch.testing.assert_close(solution[x], value)
        torch.testing.assert_close(solution[2 * x[1] + c[0]], torch.tensor(5.0, dtype=torch.float64))


@pytest.mark.parametrize("batch", [(), (1,), (4,), (2, 3), (0,), (2, 0, 3)])
def test_any_batch_shape(batch: tuple[int, ...]) -> None:
    v = mu(*batch)
    solution = portfolio()(gamma=torch.full(batch, 0.5, dtype=torch.float64), mu=v)
    assert solution["x"].shape == (*batch, 5)
    assert solution.status.shape == solution.objective.shape == solution.dual("budget").shape == batch
    torch.testing.assert_close(solution["x"], projected(v) if v.numel() else v, rtol=1e-9, atol=1e-9)


def test_batches_broadcast_but_never_multiply_by_accident() -> None:
    layer = portfolio()
    shared = layer(gamma=torch.full((2, 1), 0.5), mu=mu(2, 3))
    torch.testing.assert_close(shared["x"], projected(mu(2, 3)), rtol=1e-9, atol=1e-9)
    with pytest.raises(kr.InputError, match=r"(?s)\(64, 1\).*\(64,\).*4096 solves.*squeeze"):
        layer(gamma=torch.ones(64, 1), mu=mu(64))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"gamma": 0.5}, "missing inputs: mu"),
        ({"gamma": 0.5, "mu": mu(), "nu": 1}, "unknown input 'nu', did you mean 'mu'"),
        ({"gamma": 0.5, "mu": torch.ones(3)}, r"input mu: expected shape batch \+ \(5,\), got \(3,\)"),
        ({"gamma": 0.5, "mu": torch.ones(5, 1)}, r"input mu: expected shape"),
        ({"gamma": "a", "mu": mu()}, "input gamma: expected a tensor"),
        ({"gamma": 0.5, "mu": mu() + 0j}, "input mu: expected real numbers"),
        ({"gamma": torch.ones(2), "mu": mu(3)}, "do not broadcast"),
        ({"gamma": torch.ones(2, device="meta"), "mu": mu(2)}, "different devices"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(kr.InputError, match=words):
        portfolio()(**inputs)


def test_another_models_leaves_are_refused() -> None:
    solution = portfolio()(gamma=0.5, mu=mu())
    with pytest.raises(kr.InputError, match="another model"):
        solution[kr.Variable(5, name="x")]
    with pytest.raises(kr.InputError, match="no variable 'y'"):
        solution["y"]
    with pytest.raises(kr.InputError, match="budget, long only"):
        solution.dual("bugdet")


# Outputs


def test_outputs_make_a_plain_module() -> None:
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - c)), {"sum": kr.sum(x) == 1})
    value = torch.randn(2, 3, dtype=torch.float64)
    first, dual, cost = kr.compile(problem, outputs=[x[0], kr.dual("sum"), kr.objective])(value)
    assert first.shape == dual.shape == cost.shape == (2,)
    shift = (value.sum(1) - 1) / 3
    torch.testing.assert_close(first, value[:, 0] - shift)
    torch.testing.assert_close(dual, 2 * shift)  # 2 (x - c) + y = 0
    torch.testing.assert_close(cost, 3 * shift**2)
    stacked = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), kr.compile(problem, outputs=x))
    assert stacked(value).shape == (2, 3)
    with pytest.raises(kr.DefinitionError, match="does not occur"):
        kr.compile(problem, outputs=[kr.Variable(3)])
    with pytest.raises(kr.DefinitionError, match="no constraint"):
        kr.compile(problem, outputs=[kr.dual("other")])


def test_gradients_of_the_objective_are_multipliers() -> None:
    x, b, c = kr.Variable(4, name="x"), kr.Parameter(name="b"), kr.Parameter(4, name="c")
    layer = kr.compile(kr.Problem(kr.Maximize(c @ x - kr.sum_squares(x)), {"sum": kr.sum(x) <= b}))
    right = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    solution = layer(b=right, c=torch.ones(4, dtype=torch.float64))
    solution.objective.backward()
    torch.testing.assert_close(right.grad, solution.dual("sum").detach())  # a maximum grows with its right-hand side
    assert float(solution.dual("sum").detach()) > 0.5


# Dtype and device


def test_results_follow_the_inputs_dtype() -> None:
    layer = portfolio()
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        v = mu(2).to(dtype).requires_grad_()
        solution = layer(gamma=0.5, mu=v)
        assert solution["x"].dtype == solution.objective.dtype == dtype
        torch.testing.assert_close(solution["x"], projected(v.double()).to(dtype))  # solved in float64, rounded once
        solution["x"].square().sum().backward()
        assert v.grad is not None
        assert v.grad.dtype == dtype
        assert v.grad.isfinite().all()
    assert layer(gamma=torch.tensor(0.5), mu=mu(2))["x"].dtype == torch.float64
    assert layer(gamma=1, mu=[1, 2, 3, 4, 5])["x"].dtype == torch.get_default_dtype()


def test_shared_inputs_get_the_sum() -> None:
    layer = portfolio()
    gamma = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    v = mu(6)
    layer(gamma=gamma, mu=v)["x"].square().sum().backward()
    total = torch.zeros((), dtype=torch.float64)
    for item in v:
        own = gamma.detach().clone().requires_grad_()
        layer(gamma=own, mu=item)["x"].square().sum().backward()
        assert own.grad is not None
        total += own.grad
    torch.testing.assert_close(gamma.grad, total, rtol=1e-11, atol=1e-12)


# Weights


def learner() -> tuple[kr.Layer, kr.Parameter]:
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    P = kr.Parameter((3, 3), name="P", PSD=True)
    g = kr.Parameter(name="g", nonneg=True)
    problem = kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, P) + g * kr.norm1(x) - c @ x))
    return kr.compile(problem, weights={P: torch.eye(3) * 2, "g": 0.1}, outputs=[x]), P


def test_weights_are_module_parameters_with_their_attributes() -> None:
    layer, P = learner()
    assert set(layer.state_dict()) == {"P", "g"}
    torch.testing.assert_close(layer.weight(P), torch.eye(3) * 2)
    torch.testing.assert_close(layer.weight("g"), torch.tensor(0.1))
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.ones(4, 3)).sum().neg().backward()
        optimizer.step()
    assert float(layer.weight("g").detach()) >= 0
    assert float(torch.linalg.eigvalsh(layer.weight(P).detach()).min()) >= 0
    assert not torch.equal(layer.weight(P), torch.eye(3) * 2)


def test_a_shared_parameter_is_the_same_object() -> None:
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    mine = nn.Parameter(torch.ones(3))
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c))), weights={c: mine})
    assert next(layer.parameters()) is mine
    torch.testing.assert_close(layer()["x"], torch.ones(3))


def test_bad_weights_are_refused() -> None:
    x, g = kr.Variable(3, name="x"), kr.Parameter(name="g", nonneg=True)
    forward = kr.Parameter(3, name="forward")
    problem = kr.Problem(kr.Minimize(g * kr.norm1(x) + kr.sum_squares(x - forward)))
    with pytest.raises(kr.InputError, match="weight g: the initial value is not nonneg"):
        kr.compile(problem, weights={g: -1.0})
    with pytest.raises(kr.InputError, match=r"weight g: expected shape \(\), got \(2,\)"):
        kr.compile(problem, weights={g: torch.ones(2)})
    with pytest.raises(kr.DefinitionError, match="taken"):
        kr.compile(problem, weights={forward: torch.ones(3)})
    with pytest.raises(kr.DefinitionError, match="does not occur"):
        kr.compile(problem, weights={"h": 1.0})


def test_half_and_to_keep_the_constants() -> None:
    layer, _ = learner()
    before = layer(torch.ones(3))
    halved = layer.half()
    assert halved(torch.ones(3)).dtype == torch.float32  # the input's float32 and the weights' float16 promote
    torch.testing.assert_close(halved(torch.ones(3)), before, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(layer.to(torch.float64)(torch.ones(3)), before.double(), rtol=1e-3, atol=1e-3)


# Copying


def test_copies_pickles_and_state_dicts_solve_the_same() -> None:
    layer, _ = learner()
    value = torch.randn(4, 3)
    expected = layer(value)
    stream = io.BytesIO()
    torch.save(layer.state_dict(), stream)
    stream.seek(0)
    fresh, _ = learner()
    nn.init.constant_(fresh.get_parameter("g"), 0.7)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        torch.testing.assert_close(twin(value), expected, rtol=0, atol=0)


def test_keys_survive_pickling() -> None:
    x, c = kr.Variable(2, name="x"), kr.Parameter(2, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c))))
    twin, x_twin = pickle.loads(pickle.dumps((layer, x)))
    value = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(twin(value)[x], value)
    torch.testing.assert_close(layer(value)[x_twin], value)
    solution = pickle.loads(pickle.dumps(layer(value)))
    torch.testing.assert_close(solution[x], value)


def _solve_in_worker(layer: kr.Layer, value: torch.Tensor, queue: Any) -> None:
    queue.put(layer(value).tolist())


def test_spawned_workers() -> None:
    layer, _ = learner()
    value = torch.ones(2, 3)
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_solve_in_worker, args=(layer, value, queue))
    worker.start()
    answer = queue.get(timeout=120)
    worker.join()
    assert answer == layer(value).tolist()


# Failure


def feasibility(**options: Any) -> kr.Layer:
    x, u, c = kr.Variable(2, name="x"), kr.Parameter(name="u"), kr.Parameter(2, name="c")
    rows = {"lower": kr.sum(x) >= 1, "upper": kr.sum(x) <= u}
    return kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - kr.exp(c))), rows), **options)


def test_raise_names_the_items_and_the_conflict() -> None:
    with pytest.raises(kr.SolveError) as caught:
        feasibility()(u=torch.tensor([2.0, 0.0, 2.0]), c=torch.zeros(2))
    message = str(caught.value)
    assert "PRIMAL_INFEASIBLE" in message
    assert "'lower'" in message
    assert "'upper'" in message
    assert list(caught.value.indices) == [1]
    assert caught.value.solution.ok.tolist() == [True, False, True]
    assert isinstance(caught.value.solution, kr.Solution)
    torch.testing.assert_close(caught.value.solution["x"][0], torch.ones(2))


@pytest.mark.parametrize("policy", ["return", "nan"])
def test_a_failed_item_harms_nobody(policy: str) -> None:
    layer = feasibility(on_failure=policy)
    u = torch.tensor([3.0, 0.0, 1.5, float("nan")], dtype=torch.float64, requires_grad=True)
    c = torch.zeros(4, 2, dtype=torch.float64)
    c[2] = float("nan")
    c.requires_grad_()
    solution = layer(u=u, c=c)
    assert solution.status.tolist() == [
        kr.Status.SOLVED,
        kr.Status.PRIMAL_INFEASIBLE,
        kr.Status.INVALID_INPUT,
        kr.Status.INVALID_INPUT,
    ]
    failed = solution["x"][1:]
    assert failed.isfinite().all() if policy == "return" else failed.isnan().all()
    solution["x"].sum().backward()
    assert u.grad is not None
    assert c.grad is not None
    assert (u.grad[1:] == 0).all()
    assert (c.grad[1:] == 0).all()
    torch.testing.assert_close(c.grad[0], torch.ones(2, dtype=torch.float64))  # x = exp(c) is feasible there


def test_a_shared_input_survives_a_poisoned_mate() -> None:
    layer = feasibility(on_failure="return")
    c = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    layer(u=torch.tensor([3.0, float("nan"), 3.0], dtype=torch.float64), c=c)["x"].sum().backward()
    torch.testing.assert_close(c.grad, torch.full((2,), 2.0, dtype=torch.float64))


def test_values_that_break_declarations_are_named() -> None:
    with pytest.raises(kr.SolveError, match="parameter gamma is not nonneg"):
        portfolio()(gamma=torch.tensor([1.0, -1.0]), mu=mu(2))
    with pytest.raises(kr.SolveError, match="parameter mu is NaN"):
        portfolio()(gamma=1.0, mu=mu(2) * torch.tensor([[1.0], [float("nan")]]))
    x, P = kr.Variable(2, name="x"), kr.Parameter((2, 2), name="P", PSD=True)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, P) + kr.sum(x)), [x >= -1]))
    with pytest.raises(kr.SolveError, match="parameter P is not PSD") as caught:
        layer(torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -1.0]))]))
    assert caught.value.solution.status.tolist() == [kr.Status.SOLVED, kr.Status.NONCONVEX]
    a = kr.Parameter(name="a")
    assumed = kr.compile(kr.Problem(kr.Minimize(kr.assume(a, nonneg=True) * kr.norm1(x) + kr.sum_squares(x))))
    with pytest.raises(kr.SolveError, match="assume"):
        assumed(-1.0)


def test_unbounded_problems_name_the_direction() -> None:
    x, y, c = kr.Variable(2, name="x"), kr.Variable(name="y"), kr.Parameter(name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x) + c * y), [y >= 0]))
    assert layer(1.0).ok
    with pytest.raises(kr.SolveError, match="DUAL_INFEASIBLE") as caught:
        layer(-1.0)
    assert "along y" in str(caught.value)


def test_options_of_one_call() -> None:
    layer = portfolio()
    inputs = {"gamma": 0.5, "mu": mu(2)}
    with pytest.raises(kr.SolveError, match="MAX_ITERATIONS"):
        layer.solve(inputs, max_iter=1)
    assert layer.solve(inputs, max_iter=1, on_failure="return").iterations.max() == 1
    assert layer.solve(inputs).ok.all()
    with pytest.raises(kr.InputError, match="option eps"):
        layer.solve(inputs, eps=-1)


# Transforms


# torch's own forward mode warns of torch.jit.script, which it uses to load its derivatives.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_vmap_and_jacobians() -> None:
    layer = portfolio()
    v = mu(4)
    mapped = torch.func.vmap(lambda item: layer(gamma=0.5, mu=item)["x"])(v)
    torch.testing.assert_close(mapped, projected(v), rtol=1e-9, atol=1e-9)
    x = projected(v[0])
    support = (x > 0).double()
    expected = torch.diag(support) - torch.outer(support, support) / support.sum()
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        computed = jacobian(lambda item: layer(gamma=0.5, mu=item)["x"])(v[0])
        torch.testing.assert_close(computed, expected, rtol=1e-8, atol=1e-8)


def test_second_derivatives() -> None:
    x, a = kr.Variable(2, name="x"), kr.Parameter(2, name="a", nonneg=True)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum(kr.multiply(a, kr.square(x))) - kr.sum(x))))  # x = 1 / (2 a)
    value = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    solution = layer(value)
    torch.testing.assert_close(solution["x"], 1 / (2 * value))
    (first,) = torch.autograd.grad(solution["x"].sum(), value, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), value)
    torch.testing.assert_close(second, 1 / value**3)
    cost = layer(value).objective  # -sum 1 / (4 a)
    (slope,) = torch.autograd.grad(cost, value, create_graph=True)
    torch.testing.assert_close(slope, 1 / (4 * value**2))
    (curve,) = torch.autograd.grad(slope.sum(), value)
    torch.testing.assert_close(curve, -1 / (2 * value**3))


# Without a module, and what things print


def test_problem_solve_and_evaluate() -> None:
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - c)), [kr.sum(x) == 1])
    value = torch.randn(2, 3, dtype=torch.float64)
    solution = problem.solve(c=value)
    torch.testing.assert_close(solution[x], value - (value.sum(1, keepdim=True) - 1) / 3)
    cost = kr.evaluate(kr.sum_squares(x - c), {x: solution[x], c: value})
    torch.testing.assert_close(cost, solution.objective)
    with pytest.raises(kr.InputError, match="missing values: c"):
        kr.evaluate(x + c, {x: value})


def test_stats_and_texts() -> None:
    layer = portfolio()
    solution = layer(gamma=0.5, mu=mu(7))
    stats = solution.stats()
    assert stats["items"] == 7
    assert stats["solved"] == 1
    assert 0 <= stats["residual_max"] <= 1e-8
    assert 1 <= stats["iterations_mean"] <= stats["iterations_max"] <= 50
    assert "7 SOLVED" in repr(solution)
    for words in ("minimize", "budget", "n = 5", "gamma"):
        assert words in str(layer.explain())
    assert "gamma" in repr(layer)


def test_solutions_are_pytrees() -> None:
    solution = portfolio()(gamma=0.5, mu=mu(2))
    moved = torch.utils._pytree.tree_map(lambda tensor: tensor.clone(), solution)
    assert isinstance(moved, kr.Solution)
    torch.testing.assert_close(moved["x"], solution["x"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_inside_the_model_is_trained_in_its_own_precision(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to(dtype)
    x, z = kr.Variable(2, name="x"), kr.Parameter(3, name="z")
    target = kr.function(net, z, shape=2)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - target)), [x >= -10]))
    assert {name.split(".")[-1] for name, _ in layer.named_parameters()} == {"weight", "bias"}
    value = torch.randn(5, 3, dtype=dtype)
    torch.testing.assert_close(layer(value)["x"], net(value))
    layer(value)["x"].sum().backward()
    assert all(p.grad is not None for p in net.parameters())
