"""Every function of the language against NumPy and cvxpy: value, shape, sign, curvature, solution, gradient.

The oracles are NumPy's functions and cvxpy's atoms of the same meaning, not our own composition exported: a function that was
composed wrongly fails here.
"""

from __future__ import annotations

from typing import Any

import cvxpy
import numpy as np
import pytest
import torch

import karush as kr
from atom_entries import AFFINE, CONCAVE, CONVEX, DATA, REFUSED, Entry
from karush.dsl import functions

# cvxpy tells which of its canonicalizers it uses for some expressions; the answer is the same.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The problem includes expressions that don't support CPP backend"),
    pytest.mark.filterwarnings("ignore:The problem has an expression with dimension greater than 2"),
]

cp: Any = cvxpy  # its atoms carry no types
OF_VARIABLES = {**AFFINE, **CONVEX, **CONCAVE}
SAME_CURVATURE = sorted(name for name, entry in OF_VARIABLES.items() if entry.theirs is not None and not entry.why)
COMPARED = sorted(name for name, entry in OF_VARIABLES.items() if entry.theirs is not None)


def test_no_function_is_missing() -> None:
    """A function is of variables, of data, or refused of variables; all of what it is must be in the tables."""
    public = {name for name, value in vars(functions).items() if callable(value) and not name.startswith("_")}
    assert {name.split()[0] for name in {**OF_VARIABLES, **DATA, **REFUSED}} == public
    assert {name for name in public if getattr(kr, name) is not getattr(functions, name)} == set()


@pytest.mark.parametrize("name", OF_VARIABLES)
def test_value_and_shape(name: str) -> None:
    entry = OF_VARIABLES[name]
    array = np.random.default_rng(3).standard_normal((2, *entry.shape))
    wanted = np.stack([entry.value(item) for item in array])
    x = kr.Variable(entry.shape, name="x")
    ours = entry.ours(x)
    assert ours.shape == wanted.shape[1:]
    np.testing.assert_allclose(kr.evaluate(ours, {x: torch.tensor(array)}).numpy(), wanted, rtol=1e-12, atol=1e-13)
    folded = entry.ours(kr.Constant(array[0]))
    if folded.parameters() == [] and folded.atoms() == []:
        np.testing.assert_allclose(folded.value, wanted[0], rtol=1e-12, atol=1e-13)
    else:
        assert folded.atoms() in (["assume"], ["suppfunc"])  # what is checked, or a linear program, at run time


@pytest.mark.parametrize("name", OF_VARIABLES)
@pytest.mark.parametrize("attributes", [{}, {"nonneg": True}, {"nonpos": True}])
def test_signs_hold(name: str, attributes: dict[str, Any]) -> None:
    entry = OF_VARIABLES[name]
    array = np.random.default_rng(4).standard_normal((20, *entry.shape))
    array = np.abs(array) if "nonneg" in attributes else -np.abs(array) if attributes else array
    x = kr.Variable(entry.shape, name="x", **attributes)
    sign = entry.ours(x).sign
    values = np.stack([entry.value(item) for item in array])
    assert not sign.nonneg or (values >= -1e-12).all()
    assert not sign.nonpos or (values <= 1e-12).all()
    if name in SAME_CURVATURE and entry.theirs is not None:
        theirs = entry.theirs(cp.Variable(entry.shape, **attributes))
        assert sign.nonneg >= theirs.is_nonneg()  # what cvxpy knows, we know
        assert sign.nonpos >= theirs.is_nonpos()


@pytest.mark.parametrize("name", OF_VARIABLES)
def test_curvature(name: str) -> None:
    entry = OF_VARIABLES[name]
    ours = entry.ours(kr.Variable(entry.shape, name="x"))
    wanted = "affine" if name in AFFINE or name == "sum_largest all" else "convex" if name in CONVEX else "concave"
    assert str(ours.curvature) == wanted
    if name in SAME_CURVATURE and entry.theirs is not None:
        theirs = entry.theirs(cp.Variable(entry.shape))
        assert theirs.curvature.lower() == wanted
        assert ours.is_dcp() == theirs.is_dcp()
        assert ours.is_affine() == theirs.is_affine()
        if theirs.is_pwl():
            assert ours.is_pwl()
        if theirs.is_quadratic() and not name.startswith("huber"):
            assert ours.is_quadratic()


@pytest.mark.parametrize("name", sorted(CONVEX) + sorted(CONCAVE))
def test_convex_between_samples(name: str) -> None:
    """Midpoints lie below chords, above them for concave functions."""
    entry = OF_VARIABLES[name]
    rng = np.random.default_rng(8)
    sign = 1 if name in CONVEX else -1
    for _ in range(20):
        a, b = rng.standard_normal((2, *entry.shape))
        bent = sign * (0.5 * (entry.value(a) + entry.value(b)) - entry.value((a + b) / 2))
        assert (np.asarray(bent) >= -1e-12).all()


def cost(entry: Entry, name: str, x: kr.Expression) -> Any:
    """What is minimized beside the distance to a parameter: a square of what is affine, a sum of what is bent."""
    value = entry.ours(x)
    if name in AFFINE:
        return kr.sum_squares(value - 0.3)
    return 0.7 * kr.sum(value) if name in CONVEX else -0.7 * kr.sum(value)


def stated(entry: Entry, name: str, center: np.ndarray) -> np.ndarray:
    """The solution of the same model in cvxpy's own atoms."""
    x = cp.Variable(entry.shape)
    assert entry.theirs is not None
    value = entry.theirs(x)
    bent = cp.sum_squares(value - 0.3) if name in AFFINE else 0.7 * cp.sum(value) if name in CONVEX else -0.7 * cp.sum(value)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - center) + bent), [cp.sum(x) <= 0.5])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    assert problem.status == cp.OPTIMAL
    return np.asarray(x.value)


def total(entry: Entry, name: str, x: np.ndarray, center: np.ndarray) -> float:
    """The objective, by NumPy."""
    value = entry.value(x)
    bent = ((value - 0.3) ** 2).sum() if name in AFFINE else (0.7 if name in CONVEX else -0.7) * np.sum(value)
    return float(((x - center) ** 2).sum() + bent)


@pytest.mark.parametrize("name", OF_VARIABLES)
def test_solution_and_gradient(name: str) -> None:
    entry = OF_VARIABLES[name]
    x, c = kr.Variable(entry.shape, name="x"), kr.Parameter(entry.shape, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c) + cost(entry, name, x)), [kr.sum(x) <= 0.5]))
    centers = torch.tensor(np.random.default_rng(6).standard_normal((2, *entry.shape)), requires_grad=True)
    solution = layer(centers)
    assert bool(solution.ok.all())
    if entry.theirs is not None:
        for item in range(2):
            theirs = stated(entry, name, centers[item].detach().numpy())
            np.testing.assert_allclose(solution[x][item].detach().numpy(), theirs, atol=2e-6, rtol=1e-6)
            objective = total(entry, name, theirs, centers[item].detach().numpy())
            assert abs(float(solution.objective[item].detach()) - objective) <= 1e-7 * max(1, abs(objective))
    weight = torch.tensor(np.random.default_rng(9).standard_normal(entry.shape))
    assert torch.autograd.gradcheck(
        lambda center: (weight * layer(center)[x]).sum(), (centers,), eps=1e-6, atol=2e-5, rtol=1e-4, fast_mode=True
    )


@pytest.mark.parametrize("name", DATA)
def test_functions_of_data(name: str) -> None:
    """Value, sign and gradient of a coefficient; constants are folded."""
    entry = DATA[name]
    arrays = np.stack([entry.draw(np.random.default_rng(seed)) for seed in (1, 2)])
    p = kr.Parameter(arrays.shape[1:], name="p")
    ours = entry.ours(p)
    wanted = np.stack([entry.value(item) for item in arrays])
    assert ours.is_constant()
    assert str(ours.sign) == entry.sign
    inputs = torch.tensor(arrays, requires_grad=True)
    if not ours.parameters():
        np.testing.assert_array_equal(kr.evaluate(ours, {}).numpy(), wanted[0])
        return
    value = kr.evaluate(ours, {p: inputs})
    np.testing.assert_allclose(np.broadcast_to(value.detach().numpy(), wanted.shape), wanted, rtol=1e-11, atol=1e-13)
    if value.requires_grad:
        symmetric = name not in ("outer", "kron", "einsum") and arrays.shape[1:] == (3, 3)
        assert torch.autograd.gradcheck(
            lambda v: kr.evaluate(ours, {p: (v + v.mT) / 2 if symmetric else v}), (inputs,), fast_mode=True, eps=1e-6, atol=1e-5
        )
    if "assume" not in ours.atoms() and "function" not in ours.atoms():
        folded = entry.ours(kr.Constant(arrays[0]))
        np.testing.assert_allclose(folded.value, wanted[0], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_teach(name: str) -> None:
    """Which function, why it is no quadratic program, and what to write instead."""
    x = kr.Variable(4, name="x")
    with pytest.raises(kr.UsageError) as caught:
        REFUSED[name](x)
    (finding,) = caught.value.diagnostics
    assert finding.code in ("U08", "U10")
    assert name.split()[0] in finding.title or name in ("power", "pnorm", "norm of order", "mixed_norm")
    assert len(finding.why) > 20
    assert finding.mend


def test_nothing_splits_into_parts_of_nothing() -> None:
    x = kr.Variable((3, 0), name="x")
    assert [part.shape for part in kr.split(x, 2, 1)] == [part.shape for part in np.split(np.zeros((3, 0)), 2, 1)]
    assert [part.shape for part in kr.split(x, [0], 1)] == [(3, 0), (3, 0)]


def test_a_norm_may_be_read_and_squared_but_not_minimized() -> None:
    x = kr.Variable(3, name="x")
    norm = kr.norm(x - 1)
    assert norm.is_convex()
    assert norm.is_nonneg()
    assert not norm.is_qpwa()
    solution = kr.Problem(kr.Minimize(norm**2), [kr.sum(x) == 1]).solve()
    assert torch.allclose(solution[norm], torch.tensor(2 / 3**0.5), atol=1e-5)
    for wrong in (norm, 2 * norm + kr.sum(x), kr.max(norm)):
        with pytest.raises(kr.DCPError) as caught:
            kr.Problem(kr.Minimize(wrong))
        assert caught.value.diagnostics[0].code == "D14"
    with pytest.raises(kr.DCPError, match="D14"):
        kr.Problem(kr.Minimize(kr.sum(x)), [norm <= 1])


def test_the_number_of_entries_at_its_ends() -> None:
    """None, less than one, all and more than all of the entries; the largest sum is then nothing, a share, or the whole sum."""
    x, k, c = kr.Variable(4, name="x"), kr.Parameter(name="k", nonneg=True), kr.Parameter(4, name="c")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c) + kr.sum_largest(x, k))), inputs=[c, k])
    center = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
    numbers = torch.tensor([0.0, 0.5, 1.0, 4.0, 9.0], dtype=torch.float64)
    found = layer(center, numbers)[x]
    taken = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0.25], [0, 0, 0, 0.5], [0.5] * 4, [0.5] * 4], dtype=torch.float64)
    torch.testing.assert_close(found, center - taken, rtol=1e-7, atol=1e-7)


def test_weights_that_tie() -> None:
    """Equal weights make a sum, none nothing, negative ones are allowed."""
    x, w, c = kr.Variable(4, name="x"), kr.Parameter(4, name="w"), torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - c) + kr.dotsort(x, w))))
    for weight in (0.0, 1.0, -1.0):
        torch.testing.assert_close(layer(torch.full((4,), weight, dtype=torch.float64))[x], c - weight / 2, rtol=1e-7, atol=1e-7)


x5, y5 = kr.Variable(5, name="x"), kr.Variable(5, name="y", nonneg=True)
X5 = kr.Variable((6, 5), name="X")

# What an atom adds to the program: variables and rows.
COSTS: list[tuple[kr.Expression, int, int]] = [
    (kr.sum(kr.cumsum(kr.flip(kr.roll(x5, 2)))), 0, 0),
    (kr.sum_squares(kr.convolve(np.ones(3), x5)), 0, 0),
    (kr.sum(kr.quad_form(X5, np.eye(5))), 0, 0),
    (kr.var(x5) + kr.norm(x5) ** 2 + x5 @ x5, 0, 0),
    (kr.norm1(x5), 5, 10),
    (kr.norm1(y5), 0, 0),
    (kr.sum(kr.pos(y5)) + kr.sum(kr.neg(y5)), 0, 0),
    (kr.pos(kr.norm1(x5)), 5, 10),
    (kr.norm_inf(kr.abs(x5)), 6, 15),
    (kr.sum(kr.pos(x5)), 5, 5),
    (kr.ptp(x5), 2, 10),
    (kr.sum(kr.cummax(x5)), 5, 9),
    (kr.sum_largest(x5, 2), 6, 5),
    (kr.sum_largest(x5, 1), 1, 5),
    (kr.sum_largest(x5, 5), 0, 0),
    (kr.dotsort(x5, [2.0, 1.0, 1.0]), 7, 10),
    (kr.sum(kr.huber(x5)), 10, 0),
]


@pytest.mark.parametrize(("cost", "variables", "rows"), COSTS, ids=[repr(cost) for cost, _, _ in COSTS])
def test_what_an_atom_costs(cost: kr.Expression, variables: int, rows: int) -> None:
    used = cost.variables()
    anchor = kr.sum([kr.sum_squares(leaf) for leaf in used])
    n, m, _ = kr.compile(kr.Problem(kr.Minimize(cost + anchor))).standard_form().sizes
    assert (n - sum(leaf.size for leaf in used), m) == (variables, rows)
