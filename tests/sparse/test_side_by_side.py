"""Batches in the compiled programs: cvxpy agrees with every item, derivatives solve their system, nothing depends on mates."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import karush as kr
from agreement import agrees_with_cvxpy
from karush.backends.data import Active
from karush.backends.options import Options
from karush.backends.sparse import choose, lanes, tables
from karush.backends.sparse.data import SparseData
from karush.backends.sparse.item import Floats
from karush.backends.sparse.solve import _found
from sparse.models import MODELS, batch, control, denoising, factor_portfolio, scattered
from sparse.ways import HANDS_OVER, SIDE_BY_SIDE


@pytest.mark.parametrize("name", MODELS)
def test_cvxpy_agrees_with_every_item(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, values = MODELS[name]()
    if name == "control":  # a matrix that is changed may be one that the force cannot steer
        values = {"F": values["F"].expand(3, -1, -1), "start": batch({"start": values["start"]}, 3)["start"]}
    else:
        values = batch(values, 3)
    compiled: Any = kr.compile
    monkeypatch.setattr(kr, "compile", lambda problem: compiled(problem, backend="sparse"))
    agrees_with_cvxpy(problem, values)


def optimality_system(data: SparseData, active: Active, i: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """K of an item in (x, y, z, w), written out with all its rows; units in which these have length 1; what takes part."""
    one = data.dense(i)
    Q, A, G = (part[0].numpy() for part in (one.Q, one.A, one.G))
    n, _, k = data.sizes
    C = np.concatenate([A, G, np.eye(n)])
    taken = np.concatenate([np.ones(n + k, dtype=bool), active.rows[i].numpy(), (active.lb | active.ub)[i].numpy()])
    unit = np.concatenate([np.ones(n), 1 / np.maximum(np.linalg.norm(C, axis=1), 1e-300)])
    return np.block([[Q, C.T], [C, np.zeros((len(C), len(C)))]]), unit, taken


@SIDE_BY_SIDE
@pytest.mark.parametrize("B", [1, 2, 11])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_solves_the_optimality_system(name: str, B: int) -> None:
    """K u = r with K itself, written out and multiplied in NumPy, for every item, however rows are folded.

    Of control some lifted variables are free, and K is singular: there u is the solution of least norm.
    """
    problem, values = MODELS[name]()
    values = {**values, **batch({k: v for k, v in values.items() if k != "F"}, B)}
    solution = kr.compile(problem, backend="sparse")(values)
    data = solution.data
    assert isinstance(data, SparseData)
    again, systems = _found(data, Options(), None, None)
    assert systems.kept is not None
    assert bool(systems.kept.proved.all())
    n, m, k = data.sizes
    rng, written = np.random.default_rng(1), [optimality_system(data, again.active, i) for i in range(B)]
    r = rng.standard_normal((B, n + k + m + n))
    for own, (K, unit, taken) in zip(r, written, strict=True):  # in the range of K
        own[taken] = K[np.ix_(taken, taken)] @ (unit * rng.standard_normal(len(own)))[taken]
    parts = torch.from_numpy(r).split([n, k, m, n], 1)
    of_factors, lost = lanes.derive(data, systems.kept, parts)
    u = torch.cat(systems.solve(parts, k), 1).numpy()
    assert name == "control" or not bool(lost.any())
    for i, (K, unit, taken) in enumerate(written):
        K, own = (unit[:, None] * K * unit)[np.ix_(taken, taken)], (u[i] / unit)[taken]
        size = max(np.abs(own).max(), np.abs(right := (unit * r[i])[taken]).max())
        assert np.abs(K @ own - right).max() <= 1e-9 * size
        assert not u[i, ~taken].any()
        if bool(lost[i]):
            least = np.linalg.pinv(K, rcond=1e-9, hermitian=True) @ right
            np.testing.assert_allclose(own, least, atol=1e-7 * size)
        else:
            assert np.array_equal(torch.cat(of_factors, 1)[i].numpy(), u[i])


@SIDE_BY_SIDE
def test_long_rows_are_set_apart_where_that_saves_most_products() -> None:
    structures = {}
    for name, (problem, values) in {"portfolio": factor_portfolio(250, 12), "scattered": scattered(120)}.items():
        data = kr.compile(problem, backend="sparse")(values).data
        assert isinstance(data, SparseData)
        structures[name] = data.structure
    portfolio, other = (tables.counted(structures[name]) for name in ("portfolio", "scattered"))
    assert portfolio is not None
    assert other is not None
    assert portfolio.apart.all()
    assert not other.apart.any()
    at = tables.tables(structures["portfolio"])
    assert at is not None
    assert len(at.arrays["given"]) == at.places.stored + 1
    assert len(at.arrays["given_left"]) > 0  # the rows set apart meet each other


@HANDS_OVER
def test_a_sick_item_has_its_status_and_the_others_their_gradients() -> None:
    """One infeasible, one NaN, among eleven: the others are as they are without them."""
    problem, values = scattered(120)
    layer = kr.compile(problem, backend="sparse", on_failure="return")
    given = batch(values, 11)
    given["h"][4], given["p"][7, 3] = -1e3, torch.nan
    healthy = [i for i in range(11) if i not in (4, 7)]

    def outcome(items: list[int]) -> tuple[kr.Solution, dict[str, Tensor]]:
        leaves = {name: value[items].clone().requires_grad_() for name, value in given.items()}
        solution = layer(leaves)
        solution["x"].square().sum().backward()
        return solution, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}

    (solution, grads), (mates, expected) = outcome(list(range(11))), outcome(healthy)
    assert solution.status[[4, 7]].tolist() == [kr.Status.PRIMAL_INFEASIBLE, kr.Status.INVALID_INPUT]
    assert torch.equal(solution["x"][healthy], mates["x"])
    for name, grad in grads.items():
        assert torch.equal(grad[healthy], expected[name])
        assert not grad[[4, 7]].any()


def test_rows_and_bounds_that_are_not_there() -> None:
    """h = inf and bounds of inf, in some items: as without these rows."""
    n, m, B = 60, 30, 9
    generator = torch.Generator().manual_seed(2)
    G = torch.randn(m, n, generator=generator, dtype=torch.float64) * (torch.rand(m, n, generator=generator) < 0.1)
    p, h = (torch.randn(B, size, generator=generator, dtype=torch.float64) for size in (n, m))
    h = G @ torch.ones(n, dtype=torch.float64) + h.abs()
    h[2, ::3], h[5] = torch.inf, torch.inf
    lb, ub = torch.full((B, n), -0.5, dtype=torch.float64), torch.full((B, n), 2.0, dtype=torch.float64)
    lb[3], ub[3, ::2] = -torch.inf, torch.inf
    Q = torch.diag(torch.linspace(0.5, 2, n, dtype=torch.float64))
    ours = kr.solve_qp(Q.to_sparse(), p, G.to_sparse(), h, lb=lb, ub=ub)
    theirs = kr.solve_qp(Q, p, G, h, lb=lb, ub=ub, backend="torch")
    for name in ("x", "z", "z_lb", "z_ub"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-9)
    assert torch.equal(ours.s.isinf(), h.isinf())


def test_a_warm_start_saves_iterations_and_changes_nothing() -> None:
    problem, values = control(25, 6)
    layer = kr.compile(problem, backend="sparse")
    first = layer(F=values["F"], start=values["start"].expand(9, -1))
    moved = batch({"start": values["start"]}, 9)["start"]
    cold, warm = layer(F=values["F"], start=moved), layer.solve({"F": values["F"], "start": moved}, warm_start=first)
    torch.testing.assert_close(warm["U"], cold["U"], rtol=1e-7, atol=1e-7)
    assert int(warm.iterations.sum()) < int(cold.iterations.sum()) / 3


def test_the_starts_of_a_shuffled_batch() -> None:
    """Each item begins at its own: it goes the way that it goes in the order of before."""
    problem, values = MODELS["denoising"]()
    layer = kr.compile(problem, backend="sparse")
    given = batch(values, 9)
    previous = layer(given)
    moved = {name: 1.01 * value for name, value in given.items()}
    whole, indices = layer.solve(moved, warm_start=previous), torch.tensor([7, 2, 5, 0, 4])
    some = {name: value[indices] for name, value in moved.items()}
    warm, cold = layer.solve(some, warm_start=previous[indices]), layer(some)
    assert torch.equal(warm["x"], whole["x"][indices])
    assert torch.equal(warm.iterations, whole.iterations[indices])
    assert int(warm.iterations.sum()) < int(cold.iterations.sum()) / 2
    torch.testing.assert_close(warm["x"], cold["x"], rtol=1e-7, atol=1e-7)


@HANDS_OVER
@SIDE_BY_SIDE
def test_an_absolute_bound_sends_items_to_the_other_way() -> None:
    problem, values = scattered(120)
    given = batch(values, 4)
    tight, loose = (kr.compile(problem, backend="sparse", eps_abs=bound, on_failure="return")(given) for bound in (1e-18, 1e-6))
    assert set(tight.status.tolist()) == {int(kr.Status.SOLVED_INACCURATE)}
    assert set(loose.status.tolist()) == {int(kr.Status.SOLVED)}


def test_a_solution_leaves_nothing_behind() -> None:
    """No cycle holds the results: what nobody asks for any more is gone at once."""
    problem, values = scattered(120)
    layer = kr.compile(problem, backend="sparse")

    def alive() -> int:
        return sum(issubclass(type(held), torch.Tensor) for held in gc.get_objects())

    leaf = values["p"].clone().requires_grad_()
    layer({**values, "p": leaf})
    gc.collect()
    gc.disable()
    try:
        before = alive()
        for _ in range(3):
            layer({**values, "p": leaf})["x"].sum()
        assert alive() <= before
    finally:
        gc.enable()


def test_second_derivatives_reach_through_the_kept_factors() -> None:
    problem, values = scattered(60)
    layer = kr.compile(problem, backend="sparse", eps=1e-10)
    given = batch(values, 2)
    p, h = given["p"].requires_grad_(), given["h"].requires_grad_()

    def objective(p: Tensor, h: Tensor) -> Tensor:
        solution = layer(p=p, h=h)
        found: Tensor = solution["x"].square().sum(1) + solution.objective
        return found

    assert torch.autograd.gradcheck(objective, (p, h), eps=1e-6, atol=1e-6, fast_mode=True)
    assert torch.autograd.gradgradcheck(objective, (p, h), eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.fixture
def few_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if lists of products were allowed to be short only; nothing is remembered from before, or for later."""
    remembered = tables.counted, tables.tables, choose._counted

    def forget() -> None:
        for function in remembered:
            function.cache_clear()

    forget()
    monkeypatch.setattr(tables, "MOST", 100)
    yield
    forget()


@SIDE_BY_SIDE
@HANDS_OVER
@pytest.mark.usefixtures("few_products")
def test_a_structure_of_too_many_products_goes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, values = denoising(400)
    ways: list[bool] = []
    original = lanes.find

    def told(*arguments: Any) -> Any:
        found = original(*arguments)
        ways.append(found is not None)
        return found

    monkeypatch.setattr(lanes, "find", told)
    layer, given = kr.compile(problem), batch(values, 3)
    engine = layer.explain().engine
    assert engine[0].startswith("sparse asked")
    assert [line.split()[0] for line in engine] == ["sparse", "one", "others"]  # and nothing of batches
    given["signal"].requires_grad_()
    found = []
    for each in (layer, kr.compile(problem, backend="torch")):
        solution = each(given)
        found.append((solution["x"], torch.autograd.grad(solution["x"].sin().sum(), given["signal"])[0]))
    assert ways == [False]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def test_large_batches_of_middling_models_are_sparse_and_single_ones_dense() -> None:
    """What a call costs more is earned back by many problems. ``batch_invariant`` decides once, for every batch."""
    x, d, cap = kr.Variable(24, name="x"), kr.Parameter(24, name="d"), kr.Parameter(name="cap")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - d)), [kr.abs(x[1:] - x[:-1]) <= cap, kr.sum(x) == 1])
    layer, fixed = kr.compile(problem), kr.compile(problem, batch_invariant=True)
    generator = torch.Generator().manual_seed(0)
    given = {"d": torch.randn(128, 24, generator=generator, dtype=torch.float64), "cap": torch.full((128,), 0.2).double()}
    many = layer(given)
    assert isinstance(many.data, SparseData)
    assert isinstance(fixed(given).data, SparseData)
    one = {name: value[3] for name, value in given.items()}
    assert not isinstance(layer(one).data, SparseData)
    assert isinstance(fixed(one).data, SparseData)
    torch.testing.assert_close(layer(one)["x"], many["x"][3], rtol=1e-9, atol=1e-9)
    told = str(layer.explain())
    assert "in batches from" in told
    assert "cpu    asked for float64 on a CPU" in told
