"""Models written in cvxpy, read by karush: the same solutions, objectives and multipliers as cvxpy with Clarabel."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import cvxpy
import numpy as np
import pytest
import torch
from cvxpy.atoms.affine.wraps import nonneg_wrap, nonpos_wrap, nsd_wrap, skew_symmetric_wrap
from cvxpy.atoms.elementwise import hyperbolic, trig

import catalogue
import karush as kr
from compat.models import MODELS, W, cp, fill, par
from karush.dsl.cvxpy_atoms import AFFINE_AND_CONVEX, OF_DATA, REFUSED, kind

pytestmark = [
    # cvxpy tells which of its canonicalizers it uses for N-dimensional expressions; the answer is the same.
    pytest.mark.filterwarnings("ignore:The problem includes expressions that don't support CPP backend"),
    pytest.mark.filterwarnings("ignore:The problem has an expression with dimension greater than 2"),
    pytest.mark.filterwarnings("ignore:Reading from a sparse CVXPY expression"),
    pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP"),
]

# Multipliers are not unique where several rows say the same thing at the solution, such as ties of a max.
TIED = {"max", "min", "cummax", "sum_largest", "cvar", "sum_smallest", "kron", "sorted sums of matrices"}


def solved(problem: Any, values: dict[int, np.ndarray]) -> Any:
    """The cvxpy problem with these values, solved by Clarabel."""
    for parameter in problem.parameters():
        parameter.value = values[parameter.id]
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert problem.status == cp.OPTIMAL
    return problem


def dense(value: Any) -> np.ndarray:
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)


@pytest.mark.parametrize("name", MODELS)
def test_the_model_has_the_solution_of_cvxpy(name: str) -> None:
    problem = MODELS[name]()
    imported = kr.from_cvxpy(problem)  # before any parameter has a value
    values = fill(problem)
    layer = kr.compile(imported.problem)
    solution = layer({imported[parameter]: values[parameter.id] for parameter in problem.parameters()})
    solved(problem, values)
    for variable in problem.variables():
        ours = solution[imported[variable]].numpy()
        assert ours.shape == variable.shape
        np.testing.assert_allclose(ours, dense(variable.value), atol=1e-6, rtol=1e-6)
    assert abs(float(solution.objective) - problem.value) <= 1e-6 * max(1, abs(problem.value))
    for constraint in problem.constraints:
        ours = solution.dual(imported[constraint]).numpy()
        assert ours.shape == constraint.shape
        if name not in TIED:
            np.testing.assert_allclose(ours, dense(constraint.dual_value), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in catalogue.CASES if name != "function"])
def test_there_and_back(name: str) -> None:
    """karush -> cvxpy -> karush -> cvxpy: the second karush problem and the second cvxpy problem have the first one's solution."""
    problem = catalogue.CASES[name]()
    item = catalogue.values(problem, np.random.default_rng(7))
    oracle = problem.to_cvxpy(item)
    solved(oracle.problem, {})
    try:
        stated = problem.to_cvxpy()
    except kr.DefinitionError:  # functions of parameters that cvxpy lacks: their values come over
        stated = oracle
    imported = kr.from_cvxpy(stated.problem)
    given = {imported[leaf]: item[label] for label, leaf in stated.parameters.items()}
    solution = kr.compile(imported.problem)(given)
    for label, variable in stated.variables.items():
        np.testing.assert_allclose(solution[imported[variable]].numpy(), dense(oracle.variables[label].value), atol=1e-6, rtol=1e-6)
    back = imported.problem.to_cvxpy({key: item[key] for key in imported.problem.parameters})
    solved(back.problem, {})
    assert abs(back.problem.value - oracle.problem.value) <= 1e-6 * max(1, abs(oracle.problem.value))


def test_squared_norms_are_quadratic() -> None:
    """cvxpy makes second-order cones of them, which Clarabel solves to 1e-5 only; the same model in squares is the oracle."""
    F, M = np.random.default_rng(2).standard_normal((5, 4)), np.random.default_rng(3).standard_normal((3, 4))
    x, X, b = cp.Variable(4), cp.Variable((3, 4)), cp.Parameter(5)
    norms = (
        cp.norm(x - 1) ** 2 + cp.square(2 * cp.norm(F @ x - b, 2)) + cp.sum_squares(cp.norm2(x) / 3) + cp.power(cp.norm(X[0]), 2)
    )
    norms += cp.sum_squares(cp.norm(X - M, 2, axis=1)) + cp.norm(X, "fro") ** 2 + cp.quad_over_lin(cp.norm(X[1] - 1), 2)
    squares = cp.sum_squares(x - 1) + 4 * cp.sum_squares(F @ x - b) + cp.sum_squares(x) / 9 + cp.sum_squares(X[0])
    squares += cp.sum_squares(X - M) + cp.sum_squares(X) + cp.sum_squares(X[1] - 1) / 2
    rows = [cp.sum(x) == 1, X[0] <= x]
    imported = kr.from_cvxpy(cp.Problem(cp.Minimize(norms), rows))
    value = np.arange(5.0)
    solution = kr.compile(imported.problem)({imported[b]: value})
    solved(cp.Problem(cp.Minimize(squares), rows), {b.id: value})
    for variable in (x, X):
        np.testing.assert_allclose(solution[imported[variable]].numpy(), variable.value, atol=1e-6)


def test_gradients_are_those_of_the_model_written_here() -> None:
    problem = MODELS["markowitz"]()
    imported = kr.from_cvxpy(problem)
    drawn = fill(problem)
    values = {p: torch.tensor(drawn[p.id], requires_grad=True) for p in problem.parameters()}
    theirs = kr.compile(imported.problem)({imported[p]: v for p, v in values.items()})[imported[problem.variables()[0]]]
    x, L, mu, gamma = kr.Variable(6), kr.Parameter((6, 3)), kr.Parameter(6), kr.Parameter(nonneg=True)
    risk = gamma * kr.sum_squares(L.T @ x) + 0.1 * kr.sum_squares(x)
    written = kr.Problem(kr.Maximize(mu @ x - risk - 0.1 * kr.norm1(x)), [kr.sum(x) == 1, x <= 0.6])
    by_name = {parameter.name(): value for parameter, value in values.items()}
    ours = kr.compile(written)({L: by_name["L"], mu: by_name["mu"], gamma: by_name["gamma"]})[x]
    weight = torch.arange(6.0, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(theirs @ weight, list(values.values())),
        torch.autograd.grad(ours @ weight, list(values.values())),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


# What can be looked up


def test_lookup_by_the_objects_of_cvxpy() -> None:
    problem = MODELS["labels"]()
    x, c = problem.variables()[0], problem.parameters()[0]
    imported = kr.from_cvxpy(problem)
    assert list(imported.problem.constraints) == ["budget", "floor"]
    solution = kr.compile(imported.problem)({imported[c]: [0.0, 1.0, 2.0]})
    np.testing.assert_allclose(solution[imported[x]].numpy(), [-2 / 3, 1 / 3, 4 / 3], atol=1e-9)
    np.testing.assert_allclose(solution[imported[x[1:] - c[0]]].numpy(), [1 / 3, 4 / 3], atol=1e-9)  # an expression never seen
    budget = problem.constraints[0]
    torch.testing.assert_close(solution.dual(imported[budget]), solution.dual("budget"))
    torch.testing.assert_close(solution.dual(imported[budget.dual_variables[0]]), solution.dual("budget"))


def test_names_come_over_where_they_can_be_names() -> None:
    x, y, z = cp.Variable(2, name="weights"), cp.Variable(2, name="weights"), cp.Variable(2, name="x[0]")
    p, q = cp.Parameter(2, name="returns"), cp.Parameter(2)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - p) + cp.sum_squares(y - q) + cp.sum_squares(z)))
    imported = kr.from_cvxpy(problem).problem
    assert set(imported.variables) == {"weights", "variable0", "variable1"}
    assert set(imported.parameters) == {"returns", "parameter0"}


def test_labels_that_meet_each_other_and_the_numbers() -> None:
    x = cp.Variable(2)
    rows = [x >= 0, x <= 1, x <= 2, x >= -1, cp.sum(x) == 1]
    rows[0].label, rows[2].label, rows[3].label = "constraint1", "cap", "cap"
    imported = kr.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x)), rows))
    names = list(imported.problem.constraints)
    assert len(set(names)) == 5
    assert names[0] == "constraint1"
    assert names[2] == "cap"
    solution = kr.compile(imported.problem)()
    for name, row in zip(names, rows, strict=True):
        assert torch.equal(solution.dual(name), solution.dual(imported[row]))


def test_attributes_come_over() -> None:
    p = par(3, nonneg=True)
    S, B, U = par(3, 3, PSD=True), par(3, boolean=True), par(3, bounds=[-1, 2])
    x = cp.Variable(3, nonpos=True)
    problem = cp.Problem(cp.Minimize(p @ cp.square(x - U) + cp.quad_form(x, S)), [x <= B])
    imported = kr.from_cvxpy(problem)
    assert imported[p].attributes.nonneg
    assert imported[S].attributes.PSD
    assert imported[B].attributes.boolean
    assert imported[x].attributes.nonpos
    layer = kr.compile(imported.problem, on_failure="return")
    good = {imported[p]: np.ones(3), imported[S]: np.eye(3), imported[B]: np.ones(3), imported[U]: np.zeros(3)}
    assert bool(layer(good).ok)
    for bad in (
        {imported[p]: -np.ones(3)},
        {imported[S]: -np.eye(3)},
        {imported[B]: 2 * np.ones(3)},
        {imported[U]: 3 * np.ones(3)},
    ):
        assert not bool(layer({**good, **bad}).ok)


def test_the_cvxpy_problem_is_not_touched() -> None:
    problem = MODELS["markowitz"]()
    before = [str(problem), [p.value for p in problem.parameters()], [c.id for c in problem.constraints], problem.status]
    imported = kr.from_cvxpy(problem)
    kr.compile(imported.problem)
    after = [str(problem), [p.value for p in problem.parameters()], [c.id for c in problem.constraints], problem.status]
    assert before == after
    assert all(variable.value is None for variable in problem.variables())


# Refusals

x, X, t = cp.Variable(3, name="x"), cp.Variable((3, 3), name="X"), cp.Variable(name="t")
u = cp.Variable(3)

REFUSALS: dict[str, tuple[Any, list[Any], str]] = {
    "exponential": (cp.sum(cp.exp(x)), [], "exp(x)"),
    "logarithm": (-cp.sum(cp.log(x)), [], "log(x)"),
    "entropy": (-cp.sum(cp.entr(x)), [], "entr(x)"),
    "Euclidean norm": (cp.norm(x) + cp.sum_squares(x), [], "Pnorm"),
    "norm in a constraint": (cp.sum(x), [cp.norm(x - 1) <= 1], "in constraint 0"),
    "three-norm": (cp.pnorm(x, 3), [], "power cone"),
    "cube": (cp.sum(cp.power(cp.pos(x), 3)), [], "powers 0, 1 and 2"),
    "square root": (-cp.sum(cp.sqrt(x)), [], "powers 0, 1 and 2"),
    "inverse": (cp.sum(cp.inv_pos(x)), [], "powers 0, 1 and 2"),
    "geometric mean": (-cp.geo_mean(x), [], "GeoMean"),
    "quadratic over a variable": (cp.quad_over_lin(x, t), [], "quad_over_lin"),
    "eigenvalue": (cp.lambda_max(X), [], "lambda_max"),
    "determinant": (-cp.log_det(X), [], "log_det"),
    "nuclear norm": (cp.normNuc(X), [], "normNuc"),
    "fraction": (cp.matrix_frac(x, X), [], "MatrixFrac"),
    "two-dimensional variation": (cp.tv(X), [], "Pnorm"),
    "indicator of a cone": (cp.sum_squares(x) + cp.transforms.indicator([cp.SOC(t, x)]), [], "indicator"),
    "support function of a ball": (cp.suppfunc(u, [cp.norm(u) <= 1])(x), [], "no polyhedron"),
    "cone": (cp.sum(x), [cp.SOC(t, x)], "SOC"),
    "semidefinite constraint": (cp.trace(X), [X >> 0], "PSD"),
    "quadratic constraint": (cp.sum(x), [cp.sum_squares(x) <= 1], "sum_squares(x)"),
    "square of a square": (cp.square(cp.sum_squares(x)), [], "sum_squares(x)"),
    "concave objective": (-cp.sum_squares(x), [], "-kr.sum_squares(x)"),
    "discrete": (cp.sum_squares(cp.Variable(2, integer=True, name="n")), [], "integer"),
    "Boolean": (cp.sum_squares(cp.Variable(2, boolean=True, name="n")), [], "boolean"),
    "semidefinite variable": (cp.trace(cp.Variable((2, 2), PSD=True, name="n")), [], "PSD"),
    "complex": (cp.sum_squares(cp.real(cp.Variable(2, complex=True, name="n"))), [], "complex"),
    "callback": (cp.sum_squares(x - cp.CallbackParam(callback=lambda: np.ones(3), shape=(3,))), [], "callback"),
    "sign of a coefficient unknown": (par() * cp.norm1(x), [], "sign"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_quadratic_program_is_named(name: str) -> None:
    cost, rows, told = REFUSALS[name]
    with pytest.raises(kr.ModelError) as caught:
        kr.from_cvxpy(cp.Problem(cp.Minimize(cost), rows))
    assert told in str(caught.value)


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(kr.DCPError) as caught:
        kr.from_cvxpy(cp.Problem(cp.Minimize(cp.sum(cp.exp(x))), [cp.log(t) >= 0, cp.SOC(t, x), cp.norm(x) <= t]))
    told = str(caught.value)
    assert len(caught.value.diagnostics) == 4
    assert "in the objective" in told
    assert "in constraint 0" in told
    assert "in constraint 2" in told
    with pytest.raises(kr.DCPError) as beside:
        kr.from_cvxpy(cp.Problem(cp.Minimize(cp.norm(x) + cp.exp(x[0]) + cp.norm(x - 1))))
    assert len(beside.value.diagnostics) == 3


@pytest.mark.parametrize("given", [x, x >= 1, None, "a problem", cp.Minimize(cp.sum(x))])
def test_something_else_than_a_problem(given: Any) -> None:
    with pytest.raises(kr.DefinitionError):
        kr.from_cvxpy(given)


@pytest.mark.parametrize("given", [cp.Variable(3), cp.Variable(3) + x, par(2), cp.Variable(3) >= 0, 3.0, "x"])
def test_lookup_of_what_is_not_in_the_problem(given: Any) -> None:
    imported = kr.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1]))
    with pytest.raises(kr.DefinitionError):
        imported[given]


def test_an_expression_that_cannot_be_read_is_refused_every_time() -> None:
    imported = kr.from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= 1]))
    strange = cp.exp(x) + x
    for _ in range(2):
        with pytest.raises(kr.DCPError, match="exp"):
            imported[strange]


# Tables


def atoms() -> Iterator[type]:
    """Every atom of the installed cvxpy that can be built."""
    for module in pkgutil.walk_packages(cp.atoms.__path__, "cvxpy.atoms."):
        import_module(module.name)
    bases = [cvxpy.atoms.atom.Atom]
    while bases:
        base = bases.pop()
        bases.extend(base.__subclasses__())
        yield base


ABSTRACT = {"Atom", "AffAtom", "AxisAtom", "Elementwise", "BinaryOperator", "UnaryOperator", "Wrap"}
ABSTRACT |= {"LogicExpression", "_NaryLogicExpression"}


def test_every_atom_of_cvxpy_has_an_entry() -> None:
    known = {*AFFINE_AND_CONVEX, *OF_DATA, *REFUSED, *ABSTRACT}
    missing = [atom.__name__ for atom in atoms() if not known & {cls.__name__ for cls in atom.__mro__[:2]}]
    assert missing == []


def test_no_atom_stands_in_two_tables() -> None:
    tables = [set(AFFINE_AND_CONVEX), set(OF_DATA), set(REFUSED)]
    assert sum(map(len, tables)) == len(set.union(*tables))


# Atoms that cvxpy itself cannot solve with on real numbers, deprecates, or makes only of data or of what the user promises.
APART: dict[str, tuple[Any, Any]] = {
    "real": (lambda x: W @ cp.real(x), lambda x: W @ x),
    "imag": (lambda x: W @ cp.imag(x), lambda x: 0 * x[0]),
    "skew_symmetric_wrap": (lambda x: W @ skew_symmetric_wrap(cp.diag(x)) @ W, lambda x: W**2 @ x),
    "hermitian_wrap": (lambda x: W @ cp.hermitian_wrap(cp.diag(x)) @ W, lambda x: W**2 @ x),
    "nonneg_wrap": (lambda x: cp.square(nonneg_wrap(cp.max(x) - cp.min(x))), lambda x: cp.square(cp.ptp(x))),
    "nonpos_wrap": (lambda x: cp.square(nonpos_wrap(cp.min(x) - cp.max(x))), lambda x: cp.square(cp.ptp(x))),
    "nsd_wrap": (lambda x: -cp.quad_form(x, nsd_wrap(-np.eye(4))), cp.sum_squares),
}


@pytest.mark.parametrize("name", APART)
def test_atoms_apart_mean_what_they_say(name: str) -> None:
    odd, plain = APART[name]
    x = cp.Variable(4)
    near = cp.sum_squares(x - np.array([1.0, -1.0, 0.5, 5.0]))
    imported = kr.from_cvxpy(cp.Problem(cp.Minimize(near + odd(x))))
    solved(cp.Problem(cp.Minimize(near + plain(x))), {})
    np.testing.assert_allclose(kr.compile(imported.problem)()[imported[x]].numpy(), x.value, atol=1e-6)


@pytest.mark.filterwarnings("ignore:conv is deprecated")
def test_conv_keeps_its_column() -> None:
    x = cp.Variable((4, 1))
    product = cp.conv([1.0, -2.0, 0.5], x)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - 1)), [product[1:3] <= -1])
    imported = kr.from_cvxpy(problem)
    solved(problem, {})
    np.testing.assert_allclose(kr.compile(imported.problem)()[imported[x]].numpy(), x.value, atol=1e-6)


def test_every_representable_atom_is_in_a_model() -> None:
    seen: set[str] = set()
    for build in MODELS.values():
        problem = build()
        stack = [problem.objective.args[0], *(side for c in problem.constraints for side in c.args)]
        while stack:
            node = stack.pop()
            seen.add(kind(node))
            stack.extend(node.args)
    assert set(AFFINE_AND_CONVEX) - seen - set(APART) - {"conv"} == set()


@pytest.mark.parametrize("name", sorted(OF_DATA))
def test_functions_of_data_have_the_values_of_cvxpy(name: str) -> None:
    """As the right side of x == f(p), evaluated by the layer, against cvxpy's own value of f at p."""
    p, P = par(3, name="p", pos=True), par(3, 3, name="P", PSD=True)
    q = p / 4  # below 1
    made: dict[str, Any] = {
        "rel_entr": cp.rel_entr(p, q), "kl_div": cp.kl_div(p, q + 1), "GeoMean": cp.geo_mean(p, [1, 2, 1]), "Prod": cp.prod(p - 1),
        "MatrixFrac": cp.matrix_frac(p, P + np.eye(3)), "tr_inv": cp.tr_inv(P + np.eye(3)), "one_minus_pos": cp.one_minus_pos(q),
        "eye_minus_inv": cp.eye_minus_inv(cp.diag(q / 4)), "gmatmul": cp.gmatmul(np.arange(6.0).reshape(2, 3), p),
        "log_sum_exp": cp.log_sum_exp(cp.vstack([1000 * p, -p]), axis=1), "atanh": hyperbolic.atanh(q / 2),
    }  # fmt: skip
    homes = (cp, trig, hyperbolic)
    f = made[name] if name in made else next(getattr(home, name) for home in homes if hasattr(home, name))(p)
    values = {p: np.array([0.3, 1.1, 2.0]), P: np.diag([1.0, 2.0, 3.0])}
    y = cp.Variable(f.shape)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(y)), [y == f])
    imported = kr.from_cvxpy(problem)
    solution = kr.compile(imported.problem)({imported[leaf]: values[leaf] for leaf in problem.parameters()})
    for leaf in problem.parameters():
        leaf.value = values[leaf]
    np.testing.assert_allclose(solution[imported[y]].numpy(), f.value, rtol=1e-9)
