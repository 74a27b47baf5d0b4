"""Constraints that exist for some items only: exact, without a gradient, whatever stands in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import karush as kr
from agreement import agrees_with_cvxpy, batch_equals_singles, drawn, gradients_are_right

# cvxpy tells which of its canonicalizers it uses for broadcasting; the answer is the same.
pytestmark = pytest.mark.filterwarnings("ignore:The problem includes expressions that don't support CPP backend")

CASES: dict[str, Callable[[], kr.Problem]] = {}


def case(build: Callable[[], kr.Problem]) -> Callable[[], kr.Problem]:
    CASES[build.__name__] = build
    return build


def near(x: kr.Expression) -> kr.Expression:
    return kr.sum_squares(x - kr.Parameter(x.shape, name="c"))


def on(*shape: int) -> kr.Parameter:
    return kr.Parameter(shape, name="on", boolean=True)


@case
def inequalities() -> kr.Problem:
    u = kr.Variable(3, name="u")
    G, h = kr.Parameter((4, 3), name="G"), kr.Parameter(4, name="h", nonneg=True)
    return kr.Problem(kr.Minimize(near(u)), {"rows": (G @ u <= h).where(on(4)), "sum": kr.sum(u) <= 1})


@case
def constant_inequalities() -> kr.Problem:
    u = kr.Variable(3, name="u")
    return kr.Problem(kr.Minimize(near(u)), {"rows": (u[:2] + u[2] >= 0.4).where(on(2))})


@case
def equalities() -> kr.Problem:
    u, A = kr.Variable(4, name="u"), kr.Parameter((2, 4), name="A")
    return kr.Problem(kr.Minimize(near(u)), {"rows": (A @ u == kr.Parameter(2, name="b")).where(on(2)), "low": u >= -2})


@case
def native_bounds() -> kr.Problem:
    u = kr.Variable(4, name="u")
    limit, switch = kr.Parameter(4, name="limit", nonneg=True), on(4)
    return kr.Problem(kr.Minimize(near(u)), {"high": (u <= 0.3 * limit).where(switch), "low": (2 * u >= -0.2).where(switch[0])})


@case
def one_switch() -> kr.Problem:
    u = kr.Variable((2, 3), name="u")
    return kr.Problem(kr.Minimize(near(u)), {"rows": (kr.sum(u, axis=0) <= 0.2).where(on()), "total": kr.sum(u) == 0.5})


@case
def computed_switch() -> kr.Problem:
    u, q = kr.Variable(3, name="u"), kr.Parameter(3, name="q", boolean=True)
    never = (u == 7).where([False, False, False])
    return kr.Problem(kr.Minimize(near(u)), {"rows": (u + u[::-1] <= 0).where(1 - q), "never": never})


@case
def piecewise_linear() -> kr.Problem:
    u, switch = kr.Variable(3, name="u"), on(2)
    ball, box = kr.norm1(u) <= 0.5, kr.abs(u) <= 0.4
    return kr.Problem(kr.Minimize(near(u)), {"ball": ball.where(switch[0]), "box": box.where(switch[1])})


@case
def beside_declared_bounds() -> kr.Problem:
    u = kr.Variable(3, name="u", bounds=[-0.5, 0.5])
    return kr.Problem(kr.Minimize(near(u)), {"tighter": (u >= 0).where(on(3)), "sum": kr.sum(u) == 0.2})


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_oracle(name: str) -> None:
    problem = CASES[name]()
    unique = {"native_bounds": ("low",), "computed_switch": ("rows",), "piecewise_linear": (), "equalities": ("low",)}
    agrees_with_cvxpy(problem, drawn(problem, size=5), unique.get(name, tuple(problem.constraints)))


@pytest.mark.parametrize("name", CASES)
def test_a_batch_equals_a_loop_of_singles(name: str) -> None:
    problem = CASES[name]()
    batch_equals_singles(problem, drawn(problem, size=4, seed=1))


@pytest.mark.parametrize("name", CASES)
def test_gradients_agree_with_differences(name: str) -> None:
    problem = CASES[name]()
    gradients_are_right(problem, drawn(problem, size=3, seed=2), ("on", "q"))


@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf"), 1e30])
def test_a_row_that_does_not_exist_is_the_row_left_out(equal: bool, rubbish: float) -> None:
    """Against the model without the rows: the same solution and gradient, to the last digit, whatever stands in the others."""
    generator = torch.Generator().manual_seed(0)
    c, G, h = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3,), (4, 3), (4,)))
    active = torch.tensor([True, False, True, False])

    def built(rows: int, active: object) -> kr.Layer:
        u, G, h = kr.Variable(3, name="u"), kr.Parameter((rows, 3), name="G"), kr.Parameter(rows, name="h")
        relation = G @ u == h if equal else G @ u <= h
        relation = relation if active is None else relation.where(kr.Parameter(rows, name="on"))
        return kr.compile(kr.Problem(kr.Minimize(near(u)), {"rows": relation}))

    G_all, h_all = G.clone(), h.clone()
    G_all[~active], h_all[~active] = rubbish, rubbish
    G_all.requires_grad_()
    h_all.requires_grad_()
    G_some, h_some = G[active].clone().requires_grad_(), h[active].clone().requires_grad_()
    ours, plain = built(4, True)(c=c, G=G_all, h=h_all, on=active), built(2, None)(c=c, G=G_some, h=h_some)
    torch.testing.assert_close(ours["u"], plain["u"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.dual("rows")[active], plain.dual("rows"), rtol=1e-9, atol=1e-9)
    assert bool((ours.dual("rows")[~active] == 0).all())
    for solution in (ours, plain):
        (solution["u"].square().sum() + solution.dual("rows").sum() + solution.objective).backward()
    for whole, part in ((G_all.grad, G_some.grad), (h_all.grad, h_some.grad)):
        assert whole is not None
        assert part is not None
        torch.testing.assert_close(whole[active], part, rtol=1e-9, atol=1e-9)
        assert bool((whole[~active] == 0).all())


def test_infeasible_only_where_active() -> None:
    u, on = kr.Variable(2, name="u"), kr.Parameter(name="on", boolean=True)
    problem = kr.Problem(kr.Minimize(kr.sum_squares(u)), {"a": kr.sum(u) >= 1, "b": (kr.sum(u) <= 0).where(on)})
    solution = kr.compile(problem, on_failure="return")(torch.tensor([True, False]))
    assert solution.status.tolist() == [kr.Status.PRIMAL_INFEASIBLE, kr.Status.SOLVED]


def test_conditions_combine() -> None:
    u = kr.Variable(2, name="u")
    a, b = kr.Parameter(2, name="a", boolean=True), kr.Parameter(name="b", boolean=True)
    problem = kr.Problem(kr.Minimize(near(u)), {"zero": (u == 0).where(a).where(b)})
    switches = torch.tensor([[True, True], [True, False], [True, True]]), torch.tensor([True, True, False])
    x = kr.compile(problem)(c=torch.ones(2, dtype=torch.float64), a=switches[0], b=switches[1])["u"]
    torch.testing.assert_close(x, torch.tensor([[0.0, 0], [0, 1], [1, 1]], dtype=torch.float64))


def test_a_switch_that_is_neither_on_nor_off_is_refused_per_item() -> None:
    u, p = kr.Variable(2, name="u"), kr.Parameter(2, name="p")
    layer = kr.compile(kr.Problem(kr.Minimize(near(u)), [(u <= 0).where(p)]))
    values = torch.tensor([[0.0, 1.0], [0.5, 1.0]])
    with pytest.raises(kr.SolveError, match=r"p\)? is not boolean"):
        layer(c=torch.ones(2), p=values)
    assert layer.solve({"c": torch.ones(2), "p": values}, on_failure="return").status.tolist() == [
        kr.Status.SOLVED,
        kr.Status.INVALID_INPUT,
    ]


def test_the_original_constraint_is_untouched_and_told_apart() -> None:
    u = kr.Variable(2, name="u")
    plain = u >= 1
    switched = plain.where(False)
    problem = kr.Problem(kr.Minimize(kr.sum_squares(u)), {"a": plain, "b": switched})
    solution = problem.solve()
    assert plain.active is None
    torch.testing.assert_close(solution.dual(plain), torch.full((2,), 2.0))
    assert solution.dual(switched).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("active", "code"),
    [(np.array([0.5, 1]), "N16"), (np.ones(3), "S08"), (kr.Variable(2), "N16"), (kr.Parameter((2, 2)), "S08"), ("yes", "N02")],
)
def test_conditions_that_cannot_be_used(active: object, code: str) -> None:
    with pytest.raises(kr.ModelError) as caught:
        (kr.Variable(2) <= 0).where(active)
    assert caught.value.diagnostics[0].code == code
