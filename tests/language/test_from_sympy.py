"""From sympy: what is read is what was written, by sympy's own values, closed forms and cvxpy; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import cvxpy
import numpy as np
import pytest
import sympy
import torch

import karush as kr
from karush.dsl.walk import leaves

sp: Any = sympy  # it carries no types
cp: Any = cvxpy  # nor do its atoms


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """Where a problem has no parameters, its solution has torch's default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


x, y = sp.symbols("x y")
t, a = sp.Symbol("t"), sp.Symbol("a", positive=True)
X, P, A, b = sp.MatrixSymbol("X", 3, 1), sp.MatrixSymbol("P", 3, 3), sp.MatrixSymbol("A", 4, 3), sp.MatrixSymbol("b", 4, 1)

QUADRATICS = {
    "as written": (a * (x - t) ** 2 + sp.exp(t) * (x + 2 * y - 1) ** 2 + y**2, {}),
    "products of variables": ((x - t) ** 2 + x * y + y**2 - 3 * y, {}),
    "what cancels": ((x + y) ** 2 + (x - y) ** 2 + (t * x) * (y - x) + t * x**2 - t * x * y, {}),
    "a sum of constant forms": (sp.expand(a * (x - y) ** 2 + (x + y - t) ** 2), {}),
    "pivots": (sp.expand((t * x + y) ** 2 + (x - 1) ** 2), {}),
    "as stated": (x**2 + t * x * y + y**2 - x, {x**2 + t * x * y + y**2 - x: "convex"}),
    "a stated coefficient": ((t + 3) * x**2 + (y - x) ** 2 - y, {t + 3: "nonneg"}),
    "a known sign": ((a / (1 + a)) * (x - 1) ** 2 + (a * x - y) ** 2, {}),
    "a quotient": ((x**2 + x * y + y**2 - x) / a, {}),
}


@pytest.mark.parametrize("name", QUADRATICS)
def test_quadratics_against_their_stationary_point(name: str) -> None:
    cost, facts = QUADRATICS[name]
    known = {t: 0.7, a: 1.3}
    slopes = [sp.diff(cost, v).subs(known) for v in (x, y)]
    exact = sp.solve(slopes, [x, y])
    imported = kr.from_sympy(cost, variables=[x, y], assume=facts)
    given = {str(s): v for s, v in known.items() if s in cost.free_symbols and str(s) in imported.problem.parameters}
    solution = imported.problem.solve({name: torch.tensor(v, dtype=torch.float64) for name, v in given.items()})
    assert abs(float(solution[imported[x]]) - float(exact[x])) <= 1e-7
    assert abs(float(solution[imported[y]]) - float(exact[y])) <= 1e-7


def test_random_forms_are_convex_exactly_when_their_eigenvalues_say_so() -> None:
    rng = np.random.default_rng(0)
    v = sp.symbols("v0:4")
    counts = [0, 0]
    for trial in range(40):
        F = rng.integers(-2, 3, (4, 4))
        H = F @ F.T - (trial % 2) * rng.integers(0, 4) * np.eye(4, dtype=int)
        cost = sp.expand(sum(int(H[i, j]) * v[i] * v[j] for i in range(4) for j in range(4)) + v[0])
        convex = bool(np.linalg.eigvalsh(H).min() >= -1e-9)
        try:
            kr.from_sympy(cost, variables=v)
            found = True
        except kr.DCPError:
            found = False
        assert found == convex, H
        counts[convex] += 1
    assert min(counts) >= 5


def test_matrices_against_cvxpy() -> None:
    rng = np.random.default_rng(1)
    G, h, p = sp.MatrixSymbol("G", 2, 3), sp.MatrixSymbol("h", 2, 1), sp.MatrixSymbol("p", 3, 1)
    cost = X.T * P * X / 2 + p.T * X + a * (A * X - b).T * (A * X - b)
    rows = {"cap": (G * X, "<=", h), "sum": sp.Eq(sp.OneMatrix(1, 3) * X, sp.Matrix([[1]])), "box": (X, ">=", -0.2)}
    imported = kr.from_sympy(cost, rows, variables=[X], assume={P: "PSD"})
    root = rng.standard_normal((3, 3))
    values = {
        "P": root @ root.T,
        "p": rng.standard_normal(3),
        "a": 0.5,
        "A": rng.standard_normal((4, 3)),
        "b": rng.standard_normal(4),
        "G": rng.standard_normal((2, 3)),
        "h": np.array([0.3, 0.2]),
    }
    solution = imported.problem.solve({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})
    z = cp.Variable(3)
    stated = 0.5 * cp.quad_form(z, values["P"]) + values["p"] @ z + 0.5 * cp.sum_squares(values["A"] @ z - values["b"])
    cap = values["G"] @ z <= values["h"]
    cp.Problem(cp.Minimize(stated), [cap, cp.sum(z) == 1, z >= -0.2]).solve(solver=cp.CLARABEL)
    assert np.abs(solution[imported[X]].numpy() - z.value).max() <= 1e-6
    assert np.abs(solution.dual(imported[rows["cap"]]).numpy() - cap.dual_value).max() <= 1e-5
    assert "reshape" not in repr(imported.problem)


u, w = sp.symbols("u w", positive=True)
COEFFICIENTS = [
    sp.exp(u) - sp.log(w) + sp.sqrt(u * w),
    sp.sin(u) * sp.cos(w) / sp.tan(u),
    sp.tanh(u) + sp.sinh(w) - sp.cosh(u),
    1 / u + u**-2 + w ** sp.Rational(3, 2) + 1 / sp.sqrt(w),
    u**w + 2**u + sp.pi * w - sp.E,
    sp.Max(u, w, 1) - sp.Min(u, 2 * w) + sp.Abs(u - w),
    (u - w) ** 3 / (1 + u**2),
    sp.Rational(1, 3) * u - sp.Float("0.1") * w,
    1 / (1 + sp.exp(-u)),
]


@pytest.mark.parametrize("coefficient", COEFFICIENTS, ids=str)
def test_functions_of_parameters_are_worth_what_sympy_says(coefficient: Any) -> None:
    imported = kr.from_sympy(x**2 + coefficient * x, variables=[x])
    rng = np.random.default_rng(2)
    values = {str(s): rng.uniform(0.5, 2.0, 5) for s in coefficient.free_symbols}
    found = kr.evaluate(imported[coefficient], {name: torch.tensor(value) for name, value in values.items()})
    expected = sp.lambdify(list(coefficient.free_symbols), coefficient, "numpy")(
        *(values[str(s)] for s in coefficient.free_symbols)
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


B, C, v = sp.MatrixSymbol("B", 3, 3), sp.MatrixSymbol("C", 3, 3), sp.MatrixSymbol("v", 3, 1)
MATRICES = [
    B * C - 2 * C.T,
    B.inverse() * v,
    sp.HadamardProduct(B, C),
    B**2 * v + sp.Identity(3) * v,
    sp.OneMatrix(1, 3) * B * v,
    sp.BlockMatrix([[B, C], [C, sp.Identity(3)]]),
    B[0:2, 1:3],
    v.applyfunc(sp.Abs),
    B.applyfunc(sp.exp),
    sp.DiagMatrix(v) * B,
    sp.Trace(B * C),
    sp.Trace(B.T * B),
    B[0, 1] * v[2] + sp.Trace(C),
    sp.Matrix([[v[0] + 1, 2], [u, v[1] ** 2]]),
    v.T * v,
    v.T * B * B.T * v,
]


@pytest.mark.parametrize("expression", MATRICES, ids=lambda e: str(e).replace("\n", ""))
def test_matrix_expressions_are_worth_what_sympy_says(expression: Any) -> None:
    imported = kr.from_sympy(x**2 + u, variables=[x], parameters=[B, C, v, u])
    rng = np.random.default_rng(3)
    arrays = {B: rng.standard_normal((3, 3)), C: rng.standard_normal((3, 3)), v: rng.standard_normal((3, 1))}
    made = imported[expression]
    used = {leaf.name for leaf in leaves([made])}
    given = {m.name: torch.tensor(value.reshape(3) if m == v else value) for m, value in arrays.items() if m.name in used}
    given |= {"u": torch.tensor(1.5, dtype=torch.float64)} if "u" in used else {}
    table = {m: sp.Matrix(value.tolist()) for m, value in arrays.items()}
    exact = expression.subs({u: 1.5}).subs(table).doit()
    exact = sp.Matrix(exact) if getattr(exact, "is_Matrix", False) else sp.Matrix([[exact]])
    expected = np.array(exact.tolist(), dtype=float)
    np.testing.assert_allclose(kr.evaluate(made, given).numpy().reshape(expected.shape), expected, rtol=1e-10, atol=1e-12)


def test_piecewise_linear_models_against_cvxpy() -> None:
    cost = sp.Abs(x - 2 * y) + 3 * sp.Max(x, -y, t) - sp.Min(x, 1) + x**2 / 2 + y**2
    rows = [sp.Abs(x) + sp.Max(y, 0) <= 1, sp.Min(x, y) >= -1, sp.And(x >= -2, y <= 2)]
    imported = kr.from_sympy(cost, rows, variables=[x, y])
    for value in (-1.0, 0.3, 2.0):
        p, q = cp.Variable(), cp.Variable()
        stated = cp.abs(p - 2 * q) + 3 * cp.maximum(p, -q, value) - cp.minimum(p, 1) + cp.square(p) / 2 + cp.square(q)
        oracle = cp.Problem(cp.Minimize(stated), [cp.abs(p) + cp.pos(q) <= 1, cp.minimum(p, q) >= -1, p >= -2, q <= 2])
        oracle.solve(solver=cp.CLARABEL)
        solution = imported.problem.solve({"t": torch.tensor(value, dtype=torch.float64)})
        assert abs(float(solution.objective) - oracle.value) <= 1e-6


def test_real_numbers_are_meant() -> None:
    """sqrt(x**2) is |x| of a real x, an exponent of 2.0 is one of 2, and a lone symbol may be stated to be convex."""
    imported = kr.from_sympy(sp.sqrt((x - t) ** 2) + (x - 1) ** 2.0, variables=[x])
    solution = imported.problem.solve(t=torch.tensor(0.0, dtype=torch.float64))
    assert abs(float(solution[imported[x]]) - 0.5) <= 1e-8
    assert abs(float(kr.from_sympy(x, [x >= 2], variables=[x], assume={x: "convex"}).problem.solve().objective) - 2) <= 1e-8


def test_a_model_of_a_hundred_variables_is_read_in_seconds() -> None:
    z, c, i = sp.IndexedBase("z", shape=(100,)), sp.IndexedBase("c", shape=(100,)), sp.Symbol("i")
    cost = sp.Sum((z[i] - c[i]) ** 2, (i, 0, 99)) + sp.Sum(z[i] * z[i + 1], (i, 0, 98)) / 2
    imported = kr.from_sympy(cost, sp.Ge(sp.Sum(z[i], (i, 0, 99)), 1), variables=z)
    Q = 2 * np.eye(100) + (np.eye(100, k=1) + np.eye(100, k=-1)) / 2
    data = np.random.default_rng(0).standard_normal(100) + 1
    exact = np.linalg.solve(Q, 2 * data)
    assert exact.sum() > 1
    np.testing.assert_allclose(imported.problem.solve(c=torch.tensor(data))["z"].numpy(), exact, atol=1e-7)


def test_indexed_symbols_and_sums() -> None:
    z, i = sp.IndexedBase("z", shape=(4,)), sp.Symbol("i", integer=True)
    c = sp.IndexedBase("c", shape=(4,))
    imported = kr.from_sympy(
        sp.Sum((z[i] - c[i]) ** 2, (i, 0, 3)), {"sum": sp.Eq(sp.Sum(z[i], (i, 0, 3)), 1)}, variables=[z], parameters=[c]
    )
    data = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    solution = imported.problem.solve(c=data)
    assert solution["z"].shape == (4,)
    assert (solution["z"] - (data + (1 - data.sum()) / 4)).abs().max() <= 1e-8  # the projection onto a plane


def test_a_matrix_of_symbols_is_one_leaf() -> None:
    V, T = sp.Matrix(sp.symbols("v0:3")), sp.Matrix([[t, 1], [1, t + 2]])
    S = sp.Matrix([sp.symbols("s0 s1"), sp.symbols("s1 s2")])
    cost = (V - sp.Matrix([1, 2, 3])).dot(V - sp.Matrix([1, 2, 3])) + ((S - T) * (S - T).T).trace()
    imported = kr.from_sympy(cost, variables={"V": V, "S": S})
    assert imported.problem.variables["S"].attributes.symmetric
    solution = imported.problem.solve(t=torch.tensor(0.5, dtype=torch.float64))
    np.testing.assert_allclose(solution[imported[V]].numpy(), [1, 2, 3], atol=1e-7)
    np.testing.assert_allclose(solution[imported[S]].numpy(), [[0.5, 1], [1, 2.5]], atol=1e-7)
    assert abs(float(solution[imported[S[0, 1] + V[0]]]) - 2) <= 1e-7


def test_assumptions_become_signs_and_names_become_identifiers() -> None:
    inside, down = sp.Symbol("x_{1}", nonnegative=True), sp.Symbol("lambda", negative=True)
    q, r = sp.Symbol("q", positive=True), sp.Symbol("r", nonpositive=True)
    imported = kr.from_sympy(q * sp.Abs(inside - 1) - r * down**2 + (inside - down) ** 2, variables=[inside, down])
    assert set(imported.problem.variables) == {"x_1", "lambda_"}
    assert imported[inside].attributes.nonneg
    assert imported[down].attributes.nonpos
    assert imported[q].attributes.nonneg
    assert imported[r].attributes.nonpos


def test_relations_that_sympy_settles_and_bounds_at_infinity() -> None:
    safe = sp.Symbol("safe", nonnegative=True)
    rows = {"known": safe >= 0, "far": sp.Le(x, sp.oo), "near": x >= 1}
    imported = kr.from_sympy(x**2 + safe, rows, variables=[x, safe])
    assert "known" not in imported.problem.constraints
    assert abs(float(imported.problem.solve()[imported[x]]) - 1) <= 1e-8


def test_a_layer_from_sympy_has_the_derivative_that_sympy_finds() -> None:
    imported = kr.from_sympy((x - sp.sin(t)) ** 2 + a * (x - y) ** 2 + y**2, variables=[x, y])
    exact = sp.solve([sp.diff((x - sp.sin(t)) ** 2 + a * (x - y) ** 2 + y**2, s) for s in (x, y)], [x, y])[x]
    theta = torch.linspace(-1, 1, 7, dtype=torch.float64, requires_grad=True)
    layer = kr.compile(imported.problem, outputs=imported[x])
    layer(t=theta, a=torch.tensor(2.0, dtype=torch.float64)).sum().backward()
    expected = sp.lambdify(t, sp.diff(exact, t).subs(a, 2))(theta.detach().numpy())
    assert theta.grad is not None
    np.testing.assert_allclose(theta.grad.numpy(), expected, atol=1e-8)


def test_what_is_stated_is_checked() -> None:
    cost = x**2 + t * x * y + y**2
    layer = kr.compile(kr.from_sympy(cost, variables=[x, y], assume={cost: "convex"}).problem, on_failure="return")
    solution = layer(torch.tensor([0.0, 1.9, 2.5], dtype=torch.float64))
    assert solution.status.tolist() == [kr.Status.SOLVED, kr.Status.SOLVED, kr.Status.NONCONVEX]


WRONG: list[tuple[type[kr.ModelError], str, str, Callable[[], Any]]] = [
    (kr.DefinitionError, "X06", "strings are not evaluated", lambda: kr.from_sympy("x**2", variables=[x])),
    (kr.DefinitionError, "X06", "strings are not evaluated", lambda: kr.from_sympy(x**2, ["x >= 1"], variables=[x])),
    (kr.DefinitionError, "X06", "strings are not evaluated", lambda: kr.from_sympy(x**2, variables=["x"])),
    (kr.DefinitionError, "X06", "a string", lambda: kr.from_sympy(x**2, variables=[x], assume={"x": "nonneg"})),
    (kr.DefinitionError, "X06", "sympy.Eq", lambda: kr.from_sympy(x**2, [x == y], variables=[x, y])),
    (kr.DefinitionError, "X06", "strict", lambda: kr.from_sympy(x**2, [x < 1], variables=[x])),
    (kr.DefinitionError, "X06", "never holds", lambda: kr.from_sympy(x**2, [sp.false], variables=[x])),
    (kr.DefinitionError, "X06", "no relation", lambda: kr.from_sympy(x**2, [sp.Ne(x, 1)], variables=[x])),
    (kr.DefinitionError, "X06", "relation '<'", lambda: kr.from_sympy(x**2, [(x, "<", 1)], variables=[x])),
    (kr.DefinitionError, "X06", "names none", lambda: kr.from_sympy(x**2, variables=[])),
    (kr.DefinitionError, "X06", "complex", lambda: kr.from_sympy(x, variables=[x], parameters=[sp.Symbol("i", imaginary=True)])),
    (kr.DefinitionError, "X06", "integer", lambda: kr.from_sympy(x, variables=[x, sp.Symbol("k", integer=True)])),
    (kr.DefinitionError, "X06", "different assumptions", lambda: kr.from_sympy(x + sp.Symbol("x", real=True), variables=[x])),
    (kr.DefinitionError, "X06", "sizes", lambda: kr.from_sympy(x, variables=[x, sp.MatrixSymbol("M", sp.Symbol("n"), 2)])),
    (kr.DefinitionError, "X06", "no shape", lambda: kr.from_sympy(x, variables=[x, sp.IndexedBase("q")])),
    (kr.DefinitionError, "X06", "scalar", lambda: kr.from_sympy(X, variables=[X])),
    (kr.DefinitionError, "X06", "no fact", lambda: kr.from_sympy(x**2, variables=[x], assume={t: "positive"})),
    (kr.DefinitionError, "X06", "declared twice", lambda: kr.from_sympy(x, variables=[x], parameters=[x])),
    (kr.DefinitionError, "X06", "declared twice", lambda: kr.from_sympy(x, variables={"x": x, "z": sp.Matrix([x, y])})),
    (kr.DCPError, "X03", "x**3", lambda: kr.from_sympy(t + x**3, variables=[x])),
    (kr.DCPError, "X03", "x**2*y", lambda: kr.from_sympy(x + t * x**2 * y, variables=[x, y])),
    (kr.DCPError, "X03", "exp of x", lambda: kr.from_sympy(t * sp.exp(x), variables=[x])),
    (kr.DCPError, "X03", "power -1", lambda: kr.from_sympy(x**2 + 1 / x, variables=[x])),
    (kr.DCPError, "X03", "besselj", lambda: kr.from_sympy(x**2 + sp.besselj(0, t) * x, variables=[x])),
    (kr.DCPError, "X03", "the symbol _t", lambda: kr.from_sympy(x**2 + t * x, variables=[x], parameters=[a])),
    (kr.DCPError, "X03", "not real", lambda: kr.from_sympy(x**2 + sp.I * x, variables=[x])),
    (kr.DCPError, "X03", "determinant", lambda: kr.from_sympy(x**2 + sp.Determinant(P) * x, variables=[x])),
    (kr.DCPError, "D08", "falls along x + y", lambda: kr.from_sympy(x**2 - 3 * x * y + y**2, variables=[x, y])),
    (kr.DCPError, "D08", "convex", lambda: kr.from_sympy(x**2 + t * x * y + y**2, variables=[x, y])),
    (kr.DCPError, "D08", 'assume={P: "PSD"}', lambda: kr.from_sympy(X.T * P * X, variables=[X])),
    (kr.DCPError, "D01", "x.T*P*x", lambda: kr.from_sympy(X.T * P * sp.Matrix([x, x, x]), variables=[X, x])),
    (kr.DCPError, "D01", "product", lambda: kr.from_sympy(x * sp.Abs(y), variables=[x, y])),
    (kr.DCPError, "D02", 'assume={t: "nonneg"}', lambda: kr.from_sympy(t * x**2, variables=[x])),
    (kr.DCPError, "D02", "sign", lambda: kr.from_sympy(x**2 + t * sp.Abs(x), variables=[x])),
    (kr.DCPError, "D05", "convex", lambda: kr.from_sympy(-sp.Abs(x), variables=[x])),
    (kr.DCPError, "D05", "concave", lambda: kr.from_sympy(x**2, variables=[x], minimize=False)),
    (kr.DCPError, "D09", "not convex", lambda: kr.from_sympy(x**2, [sp.Abs(x) >= 1], variables=[x])),
    (kr.DCPError, "D10", "quadratic", lambda: kr.from_sympy(x**2, [x**2 + y**2 <= 1], variables=[x, y])),
]


@pytest.mark.parametrize(("kind", "code", "words", "build"), WRONG, ids=[f"{case[1]} {case[2]}" for case in WRONG])
def test_what_cannot_be_read_is_refused_by_name(kind: type[kr.ModelError], code: str, words: str, build: Callable[[], Any]) -> None:
    with pytest.raises(kind) as caught:
        build()
    assert code in [finding.code for finding in caught.value.diagnostics]
    assert words in str(caught.value)


def test_all_findings_come_at_once() -> None:
    with pytest.raises(kr.DCPError) as caught:
        kr.from_sympy(x**3, [x * y <= 1, sp.sin(x) <= 2], variables=[x, y])
    assert [finding.code for finding in caught.value.diagnostics] == ["X03", "D08", "X03"]


def test_strings_never_run() -> None:
    with pytest.raises(kr.DefinitionError):
        kr.from_sympy("__import__('sys').exit(3)", variables=[x])
    with pytest.raises(kr.DefinitionError):
        kr.from_sympy(x**2, [(x, "<=", "__import__('sys').exit(3)")], variables=[x])


def test_strange_questions_are_refused() -> None:
    imported = kr.from_sympy(x**2, variables=[x])
    for strange in (y, X, "x", 3):
        with pytest.raises(kr.DefinitionError, match="imported problem"):
            imported[strange]


def test_without_sympy_both_doors_say_what_to_install() -> None:
    z = kr.Variable(name="z")
    problem = kr.Problem(kr.Minimize(kr.square(z)))
    with mock.patch.dict("sys.modules", {"sympy": None}):
        for door in (problem.to_sympy, lambda: kr.from_sympy(x**2, variables=[x])):
            with pytest.raises(kr.DefinitionError, match=r"karush\[sympy\]"):
                door()
