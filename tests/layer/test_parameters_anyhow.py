"""Parameters may enter in any way: what disciplined parametrized programming refuses is accepted, what it accepts is kept.

Each model is solved for a batch; cvxpy with Clarabel solves it item by item after the numbers are put in. Beside every accepted
form stand the facts that make it convex, and what happens without them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cvxpy
import numpy as np
import pytest
import torch

import karush as kr
from agreement import drawn, gradients_are_right

cp: Any = cvxpy  # its atoms carry no types
N = 3
A = np.round(np.random.default_rng(5).standard_normal((4, N)), 2)
Values = dict[str, Any]


def par(name: str, *shape: int, **attributes: Any) -> kr.Parameter:
    return kr.Parameter(shape, name=name, **attributes)


def scalar() -> kr.Parameter:
    return par("p")


def nonneg() -> kr.Parameter:
    return par("g", nonneg=True)


def vector() -> kr.Parameter:
    return par("p", N)


def factor() -> kr.Parameter:
    return par("F", 4, N)


# name: (cost and rows of x here, the same in cvxpy with numbers v for the parameters)
Here = Callable[[kr.Variable], tuple[Any, list[Any]]]
There = Callable[[Any, Values], tuple[Any, list[Any]]]


def cost(term: Callable[[kr.Variable], Any]) -> Here:
    return lambda x: (term(x), [])


def same(term: Callable[[Any, Values], Any]) -> There:
    return lambda x, v: (term(x, v), [])


def _with_factor(x: kr.Variable) -> tuple[Any, list[Any]]:
    F = factor()
    return kr.quad_form(x, F.T @ F), []


REFUSED_THERE: dict[str, tuple[Here, There]] = {
    "p*q*x": (cost(lambda x: scalar() * par("q") * x[0]), same(lambda x, v: v["p"] * v["q"] * x[0])),
    "x/p": (cost(lambda x: kr.sum(x / par("p", pos=True))), same(lambda x, v: cp.sum(x) / v["p"])),
    "sum_squares(x)/p": (cost(lambda x: kr.sum_squares(x) / par("p", pos=True)), same(lambda x, v: cp.sum_squares(x) / v["p"])),
    "quad_over_lin(x,p)": (
        cost(lambda x: kr.quad_over_lin(x, par("p", pos=True))),
        same(lambda x, v: cp.quad_over_lin(x, float(v["p"]))),
    ),
    "abs(p)@x": (cost(lambda x: kr.abs(vector()) @ kr.abs(x)), same(lambda x, v: np.abs(v["p"]) @ cp.abs(x))),
    "square(p)*x": (cost(lambda x: kr.square(scalar()) * kr.norm1(x)), same(lambda x, v: v["p"] ** 2 * cp.norm1(x))),
    "exp(p)*x": (cost(lambda x: kr.exp(scalar()) * kr.max(x)), same(lambda x, v: np.exp(v["p"]) * cp.max(x))),
    "sqrt(p)*x": (cost(lambda x: kr.sqrt(nonneg()) * kr.norm_inf(x)), same(lambda x, v: np.sqrt(v["g"]) * cp.norm_inf(x))),
    "g*g*f": (cost(lambda x: (lambda g: g * g * kr.norm1(x))(nonneg())), same(lambda x, v: v["g"] ** 2 * cp.norm1(x))),
    "g*sum_squares(F@x)": (
        cost(lambda x: nonneg() * kr.sum_squares(factor() @ x)),
        same(lambda x, v: v["g"] * cp.sum_squares(v["F"] @ x)),
    ),
    "g*quad_form(x,P)": (
        cost(lambda x: nonneg() * kr.quad_form(x, par("P", N, N, PSD=True))),
        same(lambda x, v: v["g"] * cp.quad_form(x, v["P"], assume_PSD=True)),
    ),
    "quad_form(x-p,P)": (
        cost(lambda x: kr.quad_form(x - vector(), par("P", N, N, PSD=True))),
        same(lambda x, v: cp.quad_form(x - v["p"], v["P"], assume_PSD=True)),
    ),
    "quad_form(x,F.T@F)": (_with_factor, same(lambda x, v: cp.sum_squares(v["F"] @ x))),
    "x<=square(p)": (lambda x: (0.0, [x <= kr.square(vector()) - 1]), lambda x, v: (0.0, [x <= v["p"] ** 2 - 1])),
    "kron(F,X)": (
        cost(lambda x: kr.sum_squares(kr.kron(par("F", 2, 2), x.reshape(1, N)) - 1)),
        same(lambda x, v: cp.sum_squares(cp.kron(v["F"], cp.reshape(x, (1, N), order="C")) - 1)),
    ),
    "conv(p,x)": (
        cost(lambda x: kr.sum_squares(kr.convolve(par("p", 2), x) - 1)),
        same(lambda x, v: cp.sum_squares(cp.convolve(v["p"], x) - 1)),
    ),
    "k": (
        cost(lambda x: kr.sum_largest(x, par("g", bounds=[0.2, 2.8]))),
        same(lambda x, v: cp.sum_largest(x, float(v["g"]))),
    ),
    "beta": (cost(lambda x: kr.cvar(x, par("g", bounds=[0, 0.9]))), same(lambda x, v: cp.cvar(x, float(v["g"])))),
    "diagonal": (
        cost(lambda x: kr.quad_form(x, par("D", N, N, diag=True, nonneg=True))),
        same(lambda x, v: cp.sum(cp.multiply(np.diag(v["D"]), cp.square(x)))),
    ),
    "sparse": (
        cost(lambda x: kr.sum_squares(par("D", N, N, sparsity=([0, 1, 2], [1, 2, 0])) @ x - 1)),
        same(lambda x, v: cp.sum_squares(v["D"] @ x - 1)),
    ),
    "inverse": (
        cost(lambda x: kr.quad_form(x, kr.inv(par("P", N, N, PSD=True) + np.eye(N)))),
        same(lambda x, v: cp.quad_form(x, np.linalg.inv(v["P"] + np.eye(N)))),
    ),
    "cholesky": (
        cost(lambda x: kr.sum_squares(kr.cholesky(par("P", N, N, PSD=True) + np.eye(N)) @ x - 1)),
        same(lambda x, v: cp.sum_squares(np.linalg.cholesky(v["P"] + np.eye(N)) @ x - 1)),
    ),
    "solve": (
        cost(lambda x: kr.solve(par("P", N, N, PSD=True) + np.eye(N), vector()) @ x),
        same(lambda x, v: np.linalg.solve(v["P"] + np.eye(N), v["p"]) @ x),
    ),
    "network": (
        cost(lambda x: kr.function(torch.tanh, vector(), shape=N) @ x),
        same(lambda x, v: np.tanh(v["p"]) @ x),
    ),
    "gather": (cost(lambda x: vector()[[2, 0, 2]] @ x), same(lambda x, v: v["p"][[2, 0, 2]] @ x)),
    "no parameters": (cost(lambda x: kr.sum_squares(A @ x - 1)), same(lambda x, v: cp.sum_squares(A @ x - 1))),
}

ACCEPTED_THERE: dict[str, tuple[Here, There]] = {
    "sum_squares(F@x-p)": (
        cost(lambda x: kr.sum_squares(factor() @ x - par("p", 4))),
        same(lambda x, v: cp.sum_squares(v["F"] @ x - v["p"])),
    ),
    "g*f": (cost(lambda x: nonneg() * kr.norm1(x)), same(lambda x, v: v["g"] * cp.norm1(x))),
    "multiply(w,abs(x))": (
        cost(lambda x: kr.sum(kr.multiply(par("w", N, nonneg=True), kr.abs(x)))),
        same(lambda x, v: cp.sum(cp.multiply(v["w"], cp.abs(x)))),
    ),
    "norm1(multiply(p,x))": (
        cost(lambda x: kr.norm1(kr.multiply(vector(), x))),
        same(lambda x, v: cp.norm1(cp.multiply(v["p"], x))),
    ),
    "max(F@x+q)": (cost(lambda x: kr.max(factor() @ x + par("q", 4))), same(lambda x, v: cp.max(v["F"] @ x + v["q"]))),
    "huber(x,p)": (cost(lambda x: kr.sum(kr.huber(x, nonneg()))), same(lambda x, v: cp.sum(cp.huber(x, float(v["g"]))))),
    "dotsort(x,p)": (cost(lambda x: kr.dotsort(x, vector())), same(lambda x, v: cp.dotsort(x, v["p"]))),
    "dotsort(x,short p)": (cost(lambda x: kr.dotsort(x, par("p", 2))), same(lambda x, v: cp.dotsort(x, v["p"]))),
    "scalene(x,p,q)": (
        cost(lambda x: kr.sum(kr.scalene(x, nonneg(), par("h", nonneg=True)))),
        same(lambda x, v: cp.sum(cp.scalene(x, v["g"], v["h"]))),
    ),
    "outer": (
        cost(lambda x: kr.sum_squares(kr.outer(par("p", 2), x) - 1)),
        same(lambda x, v: cp.sum_squares(cp.outer(v["p"], x) - 1)),
    ),
    "vdot": (cost(lambda x: kr.vdot(vector(), x)), same(lambda x, v: v["p"] @ x)),
    "einsum": (
        cost(lambda x: kr.sum_squares(kr.einsum("ij,j->i", factor(), x) - 1)),
        same(lambda x, v: cp.sum_squares(v["F"] @ x - 1)),
    ),
    "x>=square(p)": (lambda x: (0.0, [x >= kr.square(vector()) / 9]), lambda x, v: (0.0, [x >= v["p"] ** 2 / 9])),
    "quad_form(x,P)": (
        cost(lambda x: kr.quad_form(x, par("P", N, N, PSD=True))),
        same(lambda x, v: cp.quad_form(x, v["P"], assume_PSD=True)),
    ),
    "quad_form(x,-P)": (
        cost(lambda x: kr.quad_form(x, -par("P", N, N, NSD=True))),
        same(lambda x, v: cp.quad_form(x, -v["P"], assume_PSD=True)),
    ),
    "quad_form(x,P+Q)": (
        cost(lambda x: kr.quad_form(x, par("P", N, N, PSD=True) + par("Q", N, N, PSD=True))),
        same(lambda x, v: cp.quad_form(x, v["P"] + v["Q"], assume_PSD=True)),
    ),
    "quad_form(x,2P)": (
        cost(lambda x: kr.quad_form(x, 2 * par("P", N, N, PSD=True))),
        same(lambda x, v: cp.quad_form(x, 2 * v["P"], assume_PSD=True)),
    ),
}
MODELS = {**REFUSED_THERE, **ACCEPTED_THERE}


def built(name: str) -> kr.Problem:
    x = kr.Variable(N, name="x")
    term, rows = MODELS[name][0](x)
    center = np.array([0.4, -1.2, 0.9])
    return kr.Problem(kr.Minimize(kr.sum_squares(x - center) + term), [*rows, kr.sum(x) <= 2])


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_cvxpy_after_putting_numbers_in(name: str) -> None:
    problem = built(name)
    batch = drawn(problem)
    solution = kr.compile(problem)(**batch)
    assert bool(solution.ok.all())
    for i in range(3 if batch else 1):
        v = {key: value[i].numpy() for key, value in batch.items()}
        x = cp.Variable(N)
        term, rows = MODELS[name][1](x, v)
        stated = cp.Problem(cp.Minimize(cp.sum_squares(x - np.array([0.4, -1.2, 0.9])) + term), [*rows, cp.sum(x) <= 2])
        stated.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
        assert stated.status == cp.OPTIMAL
        at = i if batch else ...
        atol = 1e-5 if name == "beta" else 2e-6  # Clarabel stops short where two entries tie at the level
        np.testing.assert_allclose(solution["x"][at].numpy(), x.value, atol=atol, rtol=1e-6)
        assert abs(float(solution.objective[at]) - stated.value) <= 1e-7 * max(1, abs(stated.value))


def structured(leaf: kr.Parameter) -> bool:
    """Whether differences of single entries would leave the declared set."""
    return bool(leaf.attributes.square) or leaf.attributes.sparsity is not None


def within(leaf: kr.Parameter, value: torch.Tensor) -> torch.Tensor:
    """The nearest matrix of the declared structure."""
    if leaf.attributes.diag:
        return torch.diag_embed(torch.diagonal(value, 0, 1, 2))
    if leaf.attributes.sparsity is not None:
        return value * torch.tensor(leaf.attributes.sparsity.array)
    return (value + value.mT) / 2 if leaf.attributes.square else value


@pytest.mark.parametrize("name", [name for name in MODELS if name != "no parameters"])
def test_gradients_are_those_of_differences(name: str) -> None:
    problem = built(name)
    fixed = tuple(key for key, leaf in problem.parameters.items() if structured(leaf))
    moving = set(problem.parameters) - set(fixed)
    if moving:
        gradients_are_right(problem, drawn(problem, 2, seed=3), fixed)


@pytest.mark.parametrize("name", [name for name in MODELS if any(map(structured, built(name).parameters.values()))])
def test_gradients_in_structured_matrices(name: str) -> None:
    """Within the declared set: the parameter is built of a free matrix in torch."""
    problem = built(name)
    layer = kr.compile(problem)
    batch = drawn(problem, 2, seed=4)
    free = {key: value.clone().requires_grad_() for key, value in batch.items()}

    def loss(*values: torch.Tensor) -> torch.Tensor:
        whole = {key: within(problem.parameters[key], value) for key, value in zip(free, values, strict=True)}
        solution = layer(**whole)
        result: torch.Tensor = (solution["x"] * torch.tensor([1.0, -0.3, 0.6])).sum() + 0.1 * solution.objective.sum()
        return result

    assert torch.autograd.gradcheck(loss, tuple(free.values()), eps=1e-6, atol=2e-5, rtol=1e-4, fast_mode=True)


# What cvxpy refuses for the form of its atoms: its Kronecker product and convolution take a constant first, its layers take dense
# matrices. The models themselves are affine in their parameters.
AFFINE_ALL_THE_SAME = ("kron(F,X)", "conv(p,x)", "no parameters", "sparse", "gather")
# What some layers of cvxpy take, and its rules do not: the matrix of a quadratic form.
IN_SOME_LAYERS = ("quad_form(x,P)", "quad_form(x,-P)", "quad_form(x,P+Q)", "quad_form(x,2P)")


@pytest.mark.parametrize("name", MODELS)
def test_the_narrower_rules_are_answered_and_not_needed(name: str) -> None:
    refused = (name in REFUSED_THERE and name not in AFFINE_ALL_THE_SAME) or name in IN_SOME_LAYERS
    assert built(name).is_dpp() != refused


UNSIGNED = kr.Parameter(name="s")
MATRIX = kr.Parameter((N, N), name="M", symmetric=True)

STAY_ERRORS: dict[str, tuple[str, Callable[[kr.Variable], Any]]] = {
    "unknown sign times convex": ("D02", lambda x: UNSIGNED * kr.norm1(x)),
    "unknown sign times square": ("D02", lambda x: UNSIGNED * kr.sum_squares(x)),
    "unknown signs of weights": ("D02", lambda x: vector() @ kr.abs(x)),
    "difference of squares": ("D02", lambda x: (kr.square(UNSIGNED) - 1) * kr.norm1(x)),
    "quad_form": ("D08", lambda x: kr.quad_form(x, MATRIX)),
    "x @ M @ x": ("D08", lambda x: x @ MATRIX @ x),
    "a difference of matrices": ("D08", lambda x: kr.quad_form(x, MATRIX - par("P", N, N, PSD=True))),
    "threshold": ("D11", lambda x: kr.sum(kr.huber(x, UNSIGNED))),
    "divisor": ("D11", lambda x: kr.quad_over_lin(x, UNSIGNED)),
    "number of entries": ("D11", lambda x: kr.sum_largest(x, UNSIGNED)),
    "slopes": ("D02", lambda x: kr.sum(kr.scalene(x, UNSIGNED, 1.0))),
    "variables as weights": ("D12", lambda x: kr.dotsort(vector(), x)),
    "variables as slopes": ("D12", lambda x: kr.sum(kr.scalene(x, x, 1.0))),
    "variables as number": ("D12", lambda x: kr.sum_largest(x, x[0])),
    "variables as level": ("D12", lambda x: kr.cvar(x, x[0])),
    "variables as divisor": ("D12", lambda x: kr.quad_over_lin(x, x[0])),
}


@pytest.mark.parametrize("name", STAY_ERRORS)
def test_what_stays_an_error(name: str) -> None:
    code, term = STAY_ERRORS[name]
    x = kr.Variable(N, name="x")
    with pytest.raises(kr.DCPError) as caught:
        kr.Problem(kr.Minimize(term(x)))
    assert code in [finding.code for finding in caught.value.diagnostics]
    assert all(finding.mend for finding in caught.value.diagnostics)


@pytest.mark.parametrize(
    ("term", "good", "bad"),
    [
        (lambda x: kr.assume(UNSIGNED, nonneg=True) * kr.norm1(x), {"s": 1.0}, {"s": -1.0}),
        (lambda x: kr.quad_form(x, kr.assume(MATRIX, PSD=True)), {"M": np.eye(N)}, {"M": -np.eye(N)}),
        (lambda x: kr.cvar(x, UNSIGNED), {"s": 0.5}, {"s": 1.0}),
        (lambda x: kr.cvar(x, UNSIGNED), {"s": 0.0}, {"s": -0.5}),
        (lambda x: kr.sum(kr.cholesky(MATRIX) @ x), {"M": np.eye(N)}, {"M": -np.eye(N)}),
        (lambda x: kr.sum(kr.inv(MATRIX) @ x), {"M": np.eye(N)}, {"M": np.zeros((N, N))}),
        (lambda x: kr.solve(MATRIX, np.ones(N)) @ x, {"M": np.eye(N)}, {"M": np.zeros((N, N))}),
    ],
    ids=["sign", "definiteness", "level 1", "level below 0", "cholesky", "inv", "solve"],
)
def test_one_bad_item_is_told_and_its_mates_are_not_concerned(
    term: Callable[[kr.Variable], Any], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    x = kr.Variable(N, name="x")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - 1) + term(x)))
    layer = kr.compile(problem, on_failure="return")
    both = {key: torch.tensor(np.stack([good[key], bad[key]]), dtype=torch.float64, requires_grad=True) for key in good}
    solution = layer(**both)
    assert solution.ok.tolist() == [True, False]
    alone = layer(**{key: value[0] for key, value in both.items()})
    torch.testing.assert_close(solution[x][0], alone[x], rtol=1e-10, atol=1e-10)
    solution[x].sum().backward()
    for value in both.values():
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()
        assert (value.grad[1] == 0).all()


def test_an_error_inside_of_a_function_says_whose_it_is() -> None:
    x, p = kr.Variable(3), kr.Parameter(3, name="p")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - kr.function(np.exp, p, shape=3)))))
    with pytest.raises(RuntimeError) as caught:
        layer(torch.ones(2, 3))
    (note,) = caught.value.__notes__
    assert "the function exp of kr.function" in note
    assert "one item with tensors of shapes (3,)" in note
