"""``layer.bind``: parameters and weights made constants. By hand, by NumPy and by Clarabel; and as the layer was before."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import karush as kr
from fuzz.models import model

F = torch.float64
RNG = np.random.default_rng(0)


def drawn(*shape: int) -> Tensor:
    return torch.from_numpy(RNG.standard_normal(shape))


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def regression(**options: Any) -> kr.Layer:
    """min |A x - b|² + gamma |x|², whose normal equations NumPy solves."""
    x = kr.Variable(3, name="x")
    A, b, gamma = kr.Parameter((5, 3), name="A"), kr.Parameter(5, name="b"), kr.Parameter(nonneg=True, name="gamma")
    return kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(A @ x - b) + gamma * kr.sum_squares(x))), **options)


def normal(A: Tensor, b: Tensor, gamma: float) -> Tensor:
    return torch.from_numpy(np.linalg.solve((A.mT @ A).numpy() + gamma * np.eye(3), (A.mT @ b).numpy()))


def control() -> tuple[kr.Problem, dict[str, Tensor]]:
    """Products of parameters, a Gram matrix, soft rows, switched rows, bounds of parameters and a definite matrix."""
    X, U = kr.Variable((4, 2), name="X"), kr.Variable((3, 1), name="U")
    A, B, Q = kr.Parameter((2, 2), name="A"), kr.Parameter((2, 1), name="B"), kr.Parameter((2, 2), PSD=True, name="Q")
    x0, limit = kr.Parameter(2, name="x0"), kr.Parameter(pos=True, name="limit")
    w, on = kr.Parameter((3, 2), name="w"), kr.Parameter(boolean=True, name="on")
    cost = kr.sum([kr.quad_form(X[t], Q) for t in range(4)]) + limit * kr.sum_squares(w @ X.T) + 0.1 * kr.norm1(U)
    rows = {
        "start": X[0] == x0,
        "moves": [X[t + 1] == A @ X[t] + B @ U[t] for t in range(3)],
        "limit": kr.abs(U) <= limit,
        "switched": (kr.sum(U) <= 0.05 * limit).where(on),
        "soft": kr.soft(X[1:, 0] <= 0.1 * kr.exp(limit), 2.0),
    }
    values = {"A": torch.eye(2, dtype=F) + 0.3 * drawn(2, 2), "B": drawn(2, 1), "x0": drawn(6, 2), "w": drawn(3, 2)}
    values |= {"Q": torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=F), "limit": torch.tensor(0.7, dtype=F)}
    return kr.Problem(kr.Minimize(cost), rows), values | {"on": torch.ones((), dtype=F)}


def answers(problem: kr.Problem, solution: kr.Solution) -> list[Tensor]:
    found = [solution[v] for v in problem.variables.values()]
    return [*found, *(solution.dual(c) for c in problem.constraints.values() if c.size), solution.objective]


def assert_same(problem: kr.Problem, layer: kr.Layer, free: dict[str, Tensor], constants: dict[str, Tensor]) -> None:
    """Answers, and the gradient of a random projection of them in every input that stays, before and after binding."""
    several = []
    for one, fixed in ((layer, constants), (layer.bind(constants), {})):
        leaves = {name: value.clone().requires_grad_() for name, value in free.items()}
        solution = one({**leaves, **fixed})
        found = answers(problem, solution)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(part.shape, generator=generator, dtype=F) for part in found]
        total = torch.stack([(w * part).sum() for w, part in zip(weights, found, strict=True)]).sum()
        several.append((found, torch.autograd.grad(total, list(leaves.values()), allow_unused=True) if leaves else ()))
    (before, slopes), (after, others) = several
    for a, b in zip(before, after, strict=True):
        assert_close(a, b.to(a.dtype))
    for p, q, value in zip(slopes, others, free.values(), strict=True):
        p, q = (torch.zeros_like(value) if slope is None else slope for slope in (p, q))
        assert_close(p, q, 1e-9 * (1 + float(p.abs().max())))


@pytest.mark.parametrize("constants", [["A"], ["b"], ["gamma"], ["A", "gamma"], ["A", "b"], ["b", "gamma"]], ids="+".join)
def test_least_squares_by_its_normal_equations(constants: list[str]) -> None:
    values = {"A": drawn(5, 3), "b": drawn(5), "gamma": torch.tensor(0.3, dtype=F)}
    layer = regression()
    bound = layer.bind({name: values[name] for name in constants})
    free = {name: value for name, value in values.items() if name not in constants}
    assert_close(bound(free)["x"], normal(values["A"], values["b"], 0.3))
    assert [item.name for item in layer._qp.inputs] == ["A", "b", "gamma"]  # the layer is what it was


def test_blocks_of_constants_are_written_out_and_their_steps_are_gone() -> None:
    A = drawn(5, 3)
    layer = regression()
    assert layer._qp.grams
    assert not layer.bind(A=A)._qp.grams
    both = layer.bind(A=A, gamma=0.3)
    assert both._qp.Q.fixed
    assert not both._qp.p.fixed
    np.testing.assert_allclose(both._qp.Q.constant.toarray(), 2 * (A.mT @ A).numpy() + 0.6 * np.eye(3), rtol=1e-12)
    assert both._qp.program.inputs == ("b",)
    assert "Q" in str(both.explain())
    assert both.explain().blocks[0].parameters == ()
    every = both.bind(b=torch.ones(5))
    assert not every._qp.program.steps
    assert_close(every()["x"].double(), normal(A, torch.ones(5, dtype=F), 0.3), 1e-6)


@pytest.mark.parametrize(
    "constants", [["A", "B"], ["Q"], ["w"], ["limit"], ["x0"], ["on"], ["A", "B", "Q", "w", "limit", "on"]], ids="+".join
)
def test_a_model_with_everything_in_it(constants: list[str]) -> None:
    problem, values = control()
    fixed = {name: value[0] if name == "x0" else value for name, value in values.items() if name in constants}
    free = {name: value for name, value in values.items() if name not in constants}
    differentiable = {name: value for name, value in free.items() if name != "on"}
    layer = kr.compile(problem, backend="torch")
    held = layer.bind({name: value for name, value in free.items() if name == "on"}) if "on" in free else layer
    assert_same(problem, held, differentiable, fixed)


def test_clarabel_agrees_with_a_bound_layer() -> None:
    problem, values = control()
    fixed = {name: values[name] for name in ("A", "B", "Q", "on")}
    report = kr.compile(problem).bind(fixed).check({name: value for name, value in values.items() if name not in fixed}, item=2)
    assert report.ok, report
    assert report.regular


@pytest.mark.parametrize("seed", range(0, 120, 3))
def test_random_models(seed: int) -> None:
    """Half of the inputs become constants; regular points have one answer."""
    m = model(seed)
    rng = np.random.default_rng(seed)
    inputs = {name: value.double() for name, value in m.inputs.items()}
    picked = [name for name in inputs if rng.random() < 0.5] or list(inputs)[:1]
    shapes = {name: m.problem.parameters[name].shape for name in inputs}
    fixed = {name: inputs[name][0] if inputs[name].dim() > len(shapes[name]) else inputs[name] for name in picked}
    free = {name: value for name, value in inputs.items() if name not in picked}
    layer = kr.compile(m.problem, backend="torch", on_failure="return")
    solution = layer({**free, **fixed})
    if not picked or not free or not bool(solution.ok.all()) or bool(solution.gradient_flags.any()):
        bound = layer.bind(fixed)(free) if picked else solution
        assert torch.equal(bound.ok, solution.ok)
    else:
        assert_same(m.problem, layer, free, fixed)


def test_weights_keep_their_trained_values() -> None:
    x, mu = kr.Variable(3, name="x"), kr.Parameter(3, name="mu")
    S, gamma = kr.Parameter((3, 3), PSD=True, name="S"), kr.Parameter(nonneg=True, name="gamma")
    problem = kr.Problem(kr.Minimize(kr.quad_form(x, S) + gamma * kr.sum_squares(x) - mu @ x))
    start = torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=F)
    layer = kr.compile(problem, weights={S: start, gamma: torch.tensor(0.5, dtype=F)}, outputs=x)
    steps = torch.optim.SGD(layer.parameters(), lr=0.05)
    costs = drawn(8, 3)
    for _ in range(3):
        steps.zero_grad()
        layer(costs).square().sum().backward()
        steps.step()
    with torch.no_grad():
        trained = 2 * layer.weight(S) + 2 * layer.weight(gamma) * torch.eye(3, dtype=F)
    expected = torch.from_numpy(np.linalg.solve(trained.numpy(), costs.numpy().T).T.copy())
    deployed = layer.bind()
    assert not list(deployed.parameters())
    assert_close(deployed(costs), expected)
    half = layer.bind(S)
    assert list(half.state_dict()) == ["gamma"]
    assert_close(half(costs), expected)
    half(costs).sum().backward()
    with torch.no_grad():
        half.get_parameter("gamma").fill_(9.0)
    assert_close(layer(costs).detach(), expected)  # weights were copied
    assert_close(layer.bind(S, gamma=...)(costs), expected)


def test_a_weight_may_be_bound_to_another_value() -> None:
    x, g = kr.Variable(2, name="x"), kr.Parameter(2, name="g")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - g))), weights={g: torch.zeros(2)}, outputs="x")
    assert layer.bind(g=[1.0, 2.0])().tolist() == [1.0, 2.0]
    assert layer().tolist() == [0.0, 0.0]


def test_outputs_order_options_and_names_carry_over() -> None:
    x = kr.Variable(2, name="x")
    a, b, c = (kr.Parameter(2, name=name) for name in "abc")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - a) + (b * c) @ x), {"cap": kr.sum(x) <= 1})
    layer = kr.compile(problem, inputs=[c, b, a], outputs=[x, kr.dual("cap"), x - a], on_failure="return")
    bound = layer.bind(b=torch.tensor([1.0, 2.0], dtype=F))
    values = torch.tensor([0.5, -0.25], dtype=F), torch.tensor([3.0, 1.0], dtype=F)
    for one, other in zip(bound(*values), layer(values[0], torch.tensor([1.0, 2.0], dtype=F), values[1]), strict=True):
        assert_close(one, other)
    assert "constants=[b]" in repr(bound)
    assert bound._options == layer._options
    solution = bound.solve({c: values[0], a: values[1]})
    assert_close(solution[b * c], torch.tensor([0.5, -0.5], dtype=F))  # a constant still has its name
    assert solution[b].tolist() == [1.0, 2.0]
    for twin in (pickle.loads(pickle.dumps(bound)), copy.deepcopy(bound)):
        assert_close(twin(*values)[0], bound(*values)[0], 0.0)


def test_a_declared_value_can_be_kept() -> None:
    x, g, h = kr.Variable(name="x"), kr.Parameter(name="g", value=2.0), kr.Parameter(name="h")
    bound = kr.compile(kr.Problem(kr.Minimize((x - g * h) ** 2))).bind(g)
    assert [item.name for item in bound._qp.inputs] == ["h"]
    assert_close(bound(torch.tensor(1.5, dtype=F))[x], torch.tensor(3.0, dtype=F))


def test_rows_that_constants_leave_with_one_variable_become_bounds() -> None:
    x, S, c = kr.Variable(3, name="x"), kr.Parameter((3, 3), name="S"), kr.Parameter(3, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x) - c @ x), {"cap": S @ x <= 1}))
    assert layer._qp.m == 3
    bound = layer.bind(S=2 * torch.eye(3))
    assert bound._qp.m == 0
    assert bound._qp.ub is not None
    solution = bound(torch.tensor([4.0, 0.0, -1.0], dtype=F))
    assert_close(solution[x], torch.tensor([0.5, 0.0, -0.5], dtype=F))
    assert_close(solution.dual("cap"), torch.tensor([1.5, 0.0, 0.0], dtype=F))  # 2 x - c + 2 z = 0


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.number, self.linear = 0, nn.Linear(2, 2).double()

    def forward(self, t: Tensor) -> Tensor:
        self.number += 1
        out: Tensor = self.linear(t)
        return out


def test_functions_are_evaluated_once_unless_they_can_be_trained() -> None:
    x, t, u = kr.Variable(2, name="x"), kr.Parameter(2, name="t"), kr.Parameter(2, name="u")
    calls = []

    def plain(value: Tensor) -> Tensor:
        calls.append(1)
        return value.sin()

    value = torch.tensor([0.3, 0.7], dtype=F)
    bound = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - u - kr.function(plain, t, shape=2))))).bind(t=value)
    before = len(calls)
    assert_close(bound(torch.ones(2, dtype=F))[x], 1 + value.sin())
    assert len(calls) == before
    net = Calls()
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - u - kr.function(net, t, shape=2)))), outputs=x)
    live = layer.bind(t=value)
    live(torch.ones(2, dtype=F)).sum().backward()
    assert net.linear.weight.grad is not None  # it is still trained
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    frozen = layer.eval().bind(t=value)
    before = net.number
    assert_close(frozen(torch.ones(2, dtype=F)), 1 + net.linear(value))
    assert net.number == before
    assert not frozen.training


def test_modes_of_modules_are_left_alone() -> None:
    x, t, u = kr.Variable(2, name="x"), kr.Parameter(2, name="t"), kr.Parameter(2, name="u")
    net = Calls()
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - u - kr.function(net, t, shape=2)))))
    net.eval()
    assert layer.bind(u=torch.ones(2)).training
    assert not net.training


def test_constants_have_no_part_in_the_dtype_but_keep_their_rounding() -> None:
    x, P, c = kr.Variable(4, name="x"), kr.Parameter((4, 4), PSD=True, name="P"), kr.Parameter(4, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, P) - c @ x), {"sum": kr.sum(x) == 1}))
    L = drawn(4, 2).float()
    P0 = L @ L.mT  # semidefinite but for the rounding of float32, which float64 would call negative
    for dtype in (torch.float32, F):
        solution = layer.bind(P=P0)(torch.ones(4, dtype=dtype))
        assert solution[x].dtype == dtype
        assert bool(solution.ok)


x, mu, gamma = kr.Variable(3, name="x"), kr.Parameter(3, name="mu"), kr.Parameter(nonneg=True, name="gamma")
S, theta = kr.Parameter((3, 3), PSD=True, name="S"), kr.Parameter(name="theta")
COST = gamma * kr.sum_squares(x - mu) + kr.quad_form(x, S) + kr.log(theta) * kr.sum(x)
LAYER = kr.compile(kr.Problem(kr.Minimize(COST), {"sane": theta <= 2}), weights={gamma: 1.0})


@pytest.mark.parametrize(
    ("arguments", "values", "code", "said"),
    [
        ((), {"nu": 1.0}, "I01", "unknown input 'nu', did you mean 'mu'?"),
        ((kr.Parameter(3, name="other"),), {}, "I11", "does not occur in this model"),
        (({mu: torch.ones(3)},), {"mu": torch.ones(3)}, "I04", "mu: bound twice"),
        ((), {"mu": torch.ones(4)}, "I05", "input mu: expected shape batch + (3,), got (4,)"),
        ((), {"mu": torch.ones(2, 3)}, "I05", "input mu: expected shape (3,), got (2, 3)"),
        ((), {"mu": "ones"}, "I09", "input mu: expected a tensor"),
        ((mu,), {}, "I18", "mu has no value that could be kept"),
        ((), {"gamma": -1.0}, "I18", "the value of gamma is not nonneg"),
        ((), {"S": -torch.eye(3)}, "I18", "the value of S is not PSD"),
        ((), {"mu": torch.tensor([1.0, torch.nan, 0.0])}, "I18", "the value of mu is NaN"),
        ((), {"mu": torch.tensor([1.0, torch.inf, 0.0])}, "I18", "not finite"),
        ((), {"theta": -1.0}, "I18", "outside of a function's domain"),
        ((), {"theta": 3.0}, "I18", "constraint 'sane' does not hold"),
    ],
)
def test_what_cannot_be_bound(arguments: tuple[Any, ...], values: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(kr.InputError) as caught:
        LAYER.bind(*arguments, **values)
    assert caught.value.diagnostics[0].code == code
    assert said in str(caught.value)


def test_what_is_bound_is_no_input_any_more() -> None:
    bound = LAYER.bind(mu=torch.ones(3))
    for again in (lambda: bound(mu=torch.ones(3), S=torch.eye(3), theta=1.0), lambda: bound.bind(mu=torch.ones(3))):
        with pytest.raises(kr.InputError, match="is a constant") as caught:
            again()
        assert caught.value.diagnostics[0].code == "I10"
    with pytest.raises(kr.InputError, match="nothing to bind"):
        bound.bind().bind()
