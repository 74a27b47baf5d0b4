"""No item feels its mates: bit for bit within one batch size, whatever is wrong with them and wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import built, random_batch
from karush.backends import engine as torch_engine
from karush.backends.cpu import engine as cpu_engine

F = torch.float64
B = 7
NAMES = ("Q", "p", "G", "h", "A", "b")
Backend = Literal["cpu", "torch"]
BACKENDS: tuple[Backend, ...] = ("cpu", "torch")
Spoil = Callable[[list[Tensor], int], None]


def infeasible(problem: list[Tensor], i: int) -> None:
    problem[2][i, 1], problem[3][i, :2] = -problem[2][i, 0], -1


def unbounded(problem: list[Tensor], i: int) -> None:
    Q, p, G, h, A, b = problem
    for zero in (Q, G, A, b):
        zero[i] = 0
    p[i], h[i] = 1, 1


def not_a_number(problem: list[Tensor], i: int) -> None:
    problem[1][i, 0] = torch.nan


def infinite(problem: list[Tensor], i: int) -> None:
    problem[2][i, 0, 0] = torch.inf


def nonconvex(problem: list[Tensor], i: int) -> None:
    problem[0][i] -= 10 * torch.eye(problem[0].shape[-1], dtype=F)


def singular(problem: list[Tensor], i: int) -> None:
    Q, p, *_ = problem
    Q[i], p[i] = 0, 0
    Q[i, 0, 0] = p[i, 0] = 1


def dependent_equalities(problem: list[Tensor], i: int) -> None:
    problem[4][i], problem[5][i] = problem[4][i, :1].clone(), problem[5][i, :1].clone()


def condition_1e12(problem: list[Tensor], i: int) -> None:
    n = problem[0].shape[-1]
    U = torch.from_numpy(np.linalg.qr(np.random.default_rng(i).normal(size=(n, n)))[0])
    problem[0][i] = U @ torch.diag(torch.logspace(0, -12, n, dtype=F)) @ U.mT


def huge(problem: list[Tensor], i: int) -> None:
    problem[0][i] *= 1e12
    problem[1][i] *= 1e12


def overflowing(problem: list[Tensor], i: int) -> None:
    problem[2][i] *= 1e300


ILLS: dict[Spoil, set[kr.Status]] = {
    infeasible: {kr.Status.PRIMAL_INFEASIBLE},
    unbounded: {kr.Status.DUAL_INFEASIBLE},
    not_a_number: {kr.Status.INVALID_INPUT},
    infinite: {kr.Status.INVALID_INPUT},
    nonconvex: {kr.Status.NONCONVEX},
    singular: {kr.Status.SOLVED},
    dependent_equalities: {kr.Status.SOLVED},
    condition_1e12: {kr.Status.SOLVED},
    huge: {kr.Status.SOLVED},
    overflowing: set(kr.Status),
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """An engine, and the proof that it was asked."""
    asked: set[str] = set()

    def seen(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            asked.add(name)
            return original(*arguments, **named)

        return wrapped

    monkeypatch.setattr(cpu_engine, "find", seen("cpu", cpu_engine.find))
    monkeypatch.setattr(torch_engine, "run", seen("torch", torch_engine.run))
    yield request.param
    assert request.param in asked


def answers(
    problem: Sequence[Tensor], backend: Backend, upstream: int | None = None, *, invariant: bool = False
) -> dict[str, Tensor]:
    """All that a solve tells, and gradients by every door; the item ``upstream`` is sent NaN from above."""
    leaves = [t.detach().clone().requires_grad_() for t in problem]
    s = kr.solve_qp(*leaves, on_failure="return", backend=backend, batch_invariant=invariant)
    found = {"x": s.x, "y": s.y, "z": s.z, "s": s.s, "status": s.status, "iterations": s.iterations}
    found |= {"scaled": s.residuals.scaled, "absolute": s.residuals.absolute, "rows": s.active.rows}
    # Without the slack the compiled engine runs the backward pass, with it the torch engine.
    for door, parts in (("", (s.x, s.y, s.z)), ("with slack: ", (s.x, s.y, s.z, s.s))):
        weights = [(1 + torch.arange(part[0].numel(), dtype=F)).sin().expand(part.shape).clone() for part in parts]
        if upstream is not None:
            for weight in weights:
                weight[upstream] = torch.nan
        gradients = torch.autograd.grad(parts, leaves, weights, retain_graph=True)
        found |= {f"{door}d{name}": g for name, g in zip(NAMES, gradients, strict=True)}
    return {name: part.detach() for name, part in found.items()}


def same_bits(found: dict[str, Tensor], expected: dict[str, Tensor], keep: list[int], where: object) -> None:
    for name, part in found.items():
        if len(part) == len(expected[name]) == B:
            assert torch.equal(part[keep], expected[name][keep]), (name, where)


@pytest.mark.parametrize("spoil", ILLS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_a_sick_mate_changes_no_bit(spoil: Spoil, size: float, backend: Backend) -> None:
    """``size`` is that of x: where it is small, floors of residuals are small as well."""
    problem = random_batch(B, 6, 8, 2, seed=3)
    for vector in (1, 3, 5):
        problem[vector] *= size
    healthy = answers(problem, backend)
    assert healthy["status"].tolist() == [0] * B
    for position in range(B):
        spoiled = [t.clone() for t in problem]
        spoil(spoiled, position)
        found = answers(spoiled, backend, position)
        if size == 1:
            assert kr.Status(int(found["status"][position])) in ILLS[spoil]
        same_bits(found, healthy, [i for i in range(B) if i != position], position)
        if found["status"][position] >= kr.Status.PRIMAL_INFEASIBLE:  # upstream NaN is dropped, and nothing flows back
            for name in NAMES:
                assert not found[f"d{name}"][position].any(), name
                assert not found[f"with slack: d{name}"][position].any(), name


@pytest.mark.parametrize("spoil", [singular, condition_1e12], ids=lambda spoil: spoil.__name__)
def test_a_mate_whose_refinement_takes_longer_changes_no_bit(spoil: Spoil, backend: Backend) -> None:
    problem = random_batch(B, 20, 30, 4, seed=3)
    healthy = answers(problem, backend)
    for position in range(B):
        spoiled = [t.clone() for t in problem]
        spoil(spoiled, position)
        same_bits(answers(spoiled, backend), healthy, [i for i in range(B) if i != position], position)


def test_all_mates_sick_at_once(backend: Backend) -> None:
    problem = random_batch(B, 6, 8, 2, seed=4)
    healthy = answers(problem, backend)
    kinds = list(ILLS)
    for alone in range(B):
        spoiled = [t.clone() for t in problem]
        for i in range(B):
            if i != alone:
                kinds[(i + alone) % len(kinds)](spoiled, i)
        same_bits(answers(spoiled, backend), healthy, [alone], alone)


@pytest.mark.parametrize("shared", ["", "Q", "G", "QG", "p"])
def test_order_changes_no_bit(shared: str, backend: Backend) -> None:
    problem = [t[0] if name in shared else t for name, t in zip(NAMES, _with_common_point(shared), strict=True)]
    order = [3, 0, 6, 1, 5, 2, 4]
    straight = answers(problem, backend)
    turned = answers([t if name in shared else t[order] for name, t in zip(NAMES, problem, strict=True)], backend)
    for name, part in straight.items():
        if len(part) == B and not (name.split("d")[-1] in shared and shared):
            assert torch.equal(part[order], turned[name]), name
    for name in shared:  # a sum in another order
        torch.testing.assert_close(turned[f"d{name}"], straight[f"d{name}"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("invariant", [False, True])
@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 0), (3, 0, 1), (5, 10, 0), (12, 20, 3), (33, 40, 5)])
def test_a_batch_is_a_loop(n: int, m: int, k: int, invariant: bool, backend: Backend) -> None:
    """Few problems are laid out otherwise, and torch's products round by size: last digits move; with ``batch_invariant`` no bit.

    The maximum over all items and parts is what counts. Problems are built from their solutions, so that the loop is no oracle of
    itself.
    """
    whole = answers(problem := random_batch(19, n, m, k, seed=5), backend, invariant=invariant)
    known = torch.tensor(np.stack([built(5000 + i, n, m, k).x for i in range(19)]))
    assert (whole["x"] - known).abs().max() <= 1e-8 * known.abs().max()
    assert whole["status"].tolist() == [0] * 19
    worst = 0.0
    for start, stop in [(i, i + 1) for i in range(19)] + [(0, 2), (3, 10), (2, 18), (1, 19)]:
        part = answers([t[start:stop] for t in problem], backend, invariant=invariant)
        for name, found in part.items():
            expected = whole[name][start:stop]
            if invariant or not found.dtype.is_floating_point:
                assert torch.equal(found, expected), (name, start, stop)
            elif name not in ("scaled", "absolute") and found.numel():  # of residuals nothing but rounding is left
                size = expected.abs().flatten(1).amax(1).clamp(min=1)
                worst = max(worst, float(((found - expected).abs().flatten(1).amax(1) / size).max()))
    assert worst <= 1e-12


def test_a_layer_gives_an_item_the_same_bits_in_any_company() -> None:
    """Derived parameters, Gram products and all; NaN, an infeasible item and an overflow as mates."""
    x = kr.Variable(6, name="x")
    L, mu, cap = kr.Parameter((6, 3), name="L"), kr.Parameter(6, name="mu"), kr.Parameter(name="cap")
    cost = kr.sum_squares(L.T @ x) + kr.sum_squares(kr.multiply(kr.exp(mu), x)) - mu @ x + 0.1 * kr.norm1(x)
    problem = kr.Problem(kr.Minimize(cost), {"cap": kr.sum(x) <= cap, "low": x >= -1})
    layer = kr.compile(problem, on_failure="return", batch_invariant=True)

    def told(given: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        s = layer(leaves)
        gradients = torch.autograd.grad(s[x].sin().sum() + s.objective.sum() + s.dual("cap").sum(), list(leaves.values()))
        found = {"x": s[x], "objective": s.objective, "dual": s.dual("cap"), "status": s.status, "iterations": s.iterations}
        return {name: part.detach() for name, part in (found | dict(zip(leaves, gradients, strict=True))).items()}

    given = {"L": torch.randn(B, 6, 3, dtype=F), "mu": torch.randn(B, 6, dtype=F), "cap": torch.rand(B, dtype=F)}
    healthy = told(given)
    assert healthy["status"].tolist() == [0] * B
    for position in range(B):
        for name, value in (("mu", torch.nan), ("cap", -100.0), ("mu", 800.0), ("L", torch.inf), ("L", 1e9)):
            spoiled = {key: part.clone() for key, part in given.items()}
            spoiled[name][position] = value
            same_bits(told(spoiled), healthy, [i for i in range(B) if i != position], (name, value, position))
        alone = told({name: value[position : position + 1] for name, value in given.items()})
        for name, part in alone.items():
            assert torch.equal(part, healthy[name][position : position + 1]), name


@pytest.mark.parametrize("options", [{}, {"smoothing": 1e-3}, {"regularize": 1e-2}, {"backend": "torch"}], ids=str)
def test_all_that_a_layer_says_is_the_same_in_a_batch_of_any_size(options: dict[str, Any]) -> None:
    """Constants times parameters, a network, an inverse; expressions of the solution, multipliers, the objective, and gradients."""
    rng = np.random.default_rng(0)
    C, D = rng.normal(size=(9, 33)), rng.normal(size=(33, 33))
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(33, 17), torch.nn.Tanh(), torch.nn.Linear(17, 9)).double()
    x = kr.Variable(9, name="x")
    u, S = kr.Parameter(33, name="u"), kr.Parameter((9, 9), name="S", PSD=True)
    target = C @ u + kr.function(network, u, shape=9)
    cost = kr.sum_squares(x - target) + kr.quad_form(x, kr.inv(S)) + kr.sum_squares((C @ D) @ kr.exp(u) / 99 + C[:, :9] @ x)
    problem = kr.Problem(kr.Minimize(cost), {"cap": C[:, :9] @ x <= kr.abs(C @ u) + 1, "low": x >= -1})
    layer = kr.compile(problem, batch_invariant=True, **options)
    G = torch.from_numpy(rng.normal(size=(B, 9, 9)))
    given = {"u": torch.from_numpy(rng.normal(size=(B, 33))) / 9, "S": G @ G.mT + torch.eye(9, dtype=F)}

    def told(some: slice) -> list[Tensor]:
        leaves = {name: value[some].clone().requires_grad_() for name, value in given.items()}
        s = layer(leaves)
        said = [s[x], s.dual("cap"), s.objective, s[C[:, :9] @ x - target], s[kr.quad_form(x, S)]]
        total = sum(((1 + torch.arange(part[0].numel(), dtype=F)).sin() * part.flatten(1)).sum() for part in map(_column, said))
        assert isinstance(total, Tensor)
        return [part.detach() for part in said] + list(torch.autograd.grad(total, list(leaves.values())))

    whole = told(slice(None))
    for start, stop in [(i, i + 1) for i in range(B)] + [(0, 3), (2, 7)]:
        for place, (found, expected) in enumerate(zip(told(slice(start, stop)), whole, strict=True)):
            assert torch.equal(found, expected[start:stop]), (place, start, stop)


def _column(part: Tensor) -> Tensor:
    return part.reshape(len(part), -1)


@pytest.mark.parametrize("spoil", [singular, dependent_equalities, condition_1e12, huge], ids=lambda spoil: spoil.__name__)
def test_hard_items_too_are_the_same_in_a_batch_of_any_size(spoil: Spoil, backend: Backend) -> None:
    """What the compiled engine cannot prove goes on to the torch engine, where the number of such mates must not count either."""
    problem = random_batch(B, 20, 30, 4, seed=8)
    for i in range(0, B, 2):
        spoil(problem, i)
    whole = answers(problem, backend, invariant=True)
    for start, stop in [(i, i + 1) for i in range(B)] + [(0, 3), (2, 7)]:
        part = answers([t[start:stop] for t in problem], backend, invariant=True)
        for name, found in part.items():
            assert torch.equal(found, whole[name][start:stop]), (name, start, stop)


def test_smoothed_items_are_the_same_in_a_batch_of_any_size() -> None:
    problem = [t.clone().requires_grad_() for t in random_batch(B, 12, 20, 3, seed=9)]

    def smoothed(some: slice) -> tuple[Tensor, ...]:
        leaves = [t[some] for t in problem]
        s = kr.solve_qp(*leaves, smoothing=1e-3, batch_invariant=True)
        return s.x, s.z, s.s, *torch.autograd.grad((s.x.sin().sum() + s.z.sum() + s.s.cos().sum()), problem)

    whole = smoothed(slice(None))
    for start, stop in [(i, i + 1) for i in range(B)] + [(0, 3), (2, 7)]:
        x, z, s, *gradients = smoothed(slice(start, stop))
        for found, expected in zip((x, z, s), whole[:3], strict=True):
            assert torch.equal(found, expected[start:stop])
        for found, expected in zip(gradients, whole[3:], strict=True):
            assert torch.equal(found[start:stop], expected[start:stop])


def test_a_smoothed_item_that_fails_is_named_where_it_stands() -> None:
    problem = random_batch(B, 6, 8, 2, seed=3)
    infeasible(problem, 4)
    with pytest.raises(kr.SolveError) as raised:
        kr.solve_qp(*problem, smoothing=1e-3, batch_invariant=True)
    assert list(raised.value.indices) == [4]


# Inputs: aliased, read-only, expanded, and never written to


def test_one_tensor_in_several_places(backend: Backend) -> None:
    """G and A are one tensor, h and b another, lb a view of p: gradients add up, as for copies."""
    M, v, w = torch.randn(B, 2, 6, dtype=F), torch.zeros(B, 2, dtype=F), torch.randn(B, 6, dtype=F)
    Q = random_batch(B, 6, 1, 0)[0]
    found = []
    for copies in (False, True):
        leaves = [t.clone().requires_grad_() for t in (Q, w, M, v)]
        q, p, G, h = leaves
        A, b, lb = (t.clone() if copies else t for t in (G, h, p))
        s = kr.solve_qp(q, p, G, h, A, b, lb=lb - 9, backend=backend)
        found.append([s.x, *torch.autograd.grad(s.x.sin().sum(), leaves)])
    for aliased, copied in zip(*found, strict=True):
        assert torch.equal(aliased, copied)


def test_inputs_may_be_read_only_and_stay_what_they_are(backend: Backend, recwarn: pytest.WarningsRecorder) -> None:
    """Memory that cannot be written to, as of a file: a write would end the process."""
    import mmap

    problem = random_batch(B, 6, 8, 2, seed=6)
    problem[1][2, 0] = torch.nan
    expected = answers(problem, backend)
    held = []
    for t in problem:
        memory = mmap.mmap(-1, t.numel() * 8)
        memory.write(t.numpy().tobytes())
        locked = np.frombuffer(memoryview(memory).toreadonly(), dtype=np.float64).reshape(tuple(t.shape))
        held.append(torch.from_numpy(locked))  # torch warns, rightly: it could be written to
    recwarn.clear()
    before = [t.clone() for t in held]
    s = kr.solve_qp(*held, on_failure="return", backend=backend)
    assert torch.equal(s.x, expected["x"])
    for t, copy in zip(held, before, strict=True):
        torch.testing.assert_close(t, copy, rtol=0, atol=0, equal_nan=True)


def test_expanded_inputs_are_no_copies_and_give_gradients(backend: Backend) -> None:
    problem = [t[:1] for t in random_batch(1, 6, 8, 2)]
    leaves = [t.clone().requires_grad_() for t in problem]
    whole = kr.solve_qp(*(t.expand(B, *t.shape[1:]) for t in leaves), backend=backend)
    gradients = torch.autograd.grad(whole.x.sum() / B, leaves)
    alone = [t.clone().requires_grad_() for t in problem]
    single = kr.solve_qp(*alone, backend=backend)
    assert (whole.x == whole.x[:1]).all()
    torch.testing.assert_close(whole.x[:1], single.x, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients, torch.autograd.grad(single.x.sum(), alone), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def _with_common_point(shared: str) -> list[Tensor]:
    """Problems that stay feasible where Q, G or p of the first is that of all."""
    problem = random_batch(B, 6, 8, 2, seed=7)
    if "G" in shared:
        inside = torch.linalg.lstsq(problem[4], problem[5].unsqueeze(2)).solution.squeeze(2)
        problem[3] = inside @ problem[2][0].mT + 1
    return problem
