"""The short way through a solve gives what the long way gives, and its results are tensors like any others."""

from __future__ import annotations

import copy
import pickle
import weakref
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import karush as kr
from engine.problems import random_batch
from karush.backends import direct
from karush.backends.cpu import engine as cpu
from karush.backends.cpu.outcome import Outcome, Rest

F = torch.float64
NAMES = ("Q", "p", "G", "h", "A", "b")


@pytest.fixture
def engine() -> None:
    """These tests are of one engine: they run once."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the short way was taken, call by call."""
    ways: list[bool] = []
    original = direct.solve

    def told(*arguments: Any) -> Any:
        found = original(*arguments)
        ways.append(isinstance(found, kr.QPSolution))
        return found

    monkeypatch.setattr(direct, "solve", told)
    return ways


def in_full(monkeypatch: pytest.MonkeyPatch, call: Callable[[], list[Tensor]]) -> list[Tensor]:
    with monkeypatch.context() as patch:
        patch.setattr(direct, "solve", lambda *_: None)
        return call()


def arguments(B: int = 1, n: int = 4, m: int = 6, k: int = 2) -> dict[str, Any]:
    return dict(zip(NAMES, (tensor.detach() for tensor in random_batch(B, n, m, k)), strict=True))


def single() -> dict[str, Any]:
    return {name: tensor[0] for name, tensor in arguments().items()}


U = torch.tensor([1.0, 10.0, -3.0, 2.0], dtype=F)
BOUNDS = {"lb": torch.full((4,), -0.1, dtype=F), "ub": torch.full((4,), 0.3, dtype=F)}
CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "one problem": single,
    "a batch of one": arguments,
    "a batch of one with shared tensors": lambda: arguments() | {"p": single()["p"], "G": single()["G"]},
    "a batch": lambda: arguments(5),
    "a large batch": lambda: arguments(40),
    "a batch that shares matrices": lambda: arguments(5) | {"Q": single()["Q"], "A": single()["A"][None]},
    "two batch dimensions": lambda: {
        **{name: t.reshape(2, 3, *t.shape[1:]) for name, t in arguments(6).items()}, "Q": single()["Q"],
    },
    "expanded": lambda: arguments(5) | {"Q": single()["Q"].expand(5, 4, 4), "p": single()["p"].expand(5, 4)},
    "turned": lambda: {name: t.mT.contiguous().mT if t.dim() > 1 else t for name, t in single().items()},
    "without rows": lambda: {name: single()[name] for name in ("Q", "p")},
    "without inequalities": lambda: {name: arguments(3)[name] for name in ("Q", "p", "A", "b")},
    "without equalities": lambda: {name: single()[name] for name in ("Q", "p", "G", "h")},
    "bounds": lambda: {name: single()[name] for name in ("Q", "p")} | BOUNDS,
    "bounds that a batch of one shares": lambda: {name: arguments()[name] for name in ("Q", "p")} | BOUNDS,
    "one variable": lambda: {name: tensor for name, tensor in arguments(1, 1, 2, 0).items() if name not in "Ab"} | {
        "Q": torch.ones(1, 1, dtype=F), "ub": torch.zeros(1, dtype=F),
    },
    "a lower bound for a batch": lambda: {name: arguments(3)[name] for name in ("Q", "p")} | {"lb": BOUNDS["lb"]},
    "an upper bound in two dimensions": lambda: {
        "Q": single()["Q"], "p": arguments(6)["p"].reshape(2, 3, 4), "ub": BOUNDS["ub"],
    },
    "a direction without curvature": lambda: {"Q": U[:, None] * U, "p": U},
    "directions without curvature, with rows": lambda: {
        "Q": (U[:, None] * U).expand(3, 4, 4), "p": U * torch.ones(3, 1, dtype=F), "G": U[None], "h": torch.tensor([-2.0], dtype=F),
    },
    "more than lies together": lambda: arguments(1, 60, 30, 3),
    "a diagonal matrix": lambda: {"Q": torch.eye(60, dtype=F), "p": torch.ones(60, dtype=F), "lb": torch.zeros(60, dtype=F)},
}  # fmt: skip


def everything(solution: kr.QPSolution) -> list[Tensor]:
    parts = [getattr(solution, field.name) for field in fields(solution)]
    return [leaf for part in parts for leaf in pytree.tree_leaves(part)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("invariant", [False, True])
def test_the_same_bits_as_in_full(case: str, invariant: bool, monkeypatch: pytest.MonkeyPatch, taken: list[bool]) -> None:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in CASES[case]().items()}
    if case == "expanded":
        leaves = {name: tensor.requires_grad_() for name, tensor in CASES[case]().items()}

    def call() -> list[Tensor]:
        """All that is found, and gradients by every way back: compiled, with the slack by torch, and of a gradient."""
        s = kr.solve_qp(**leaves, batch_invariant=invariant)
        parts = [s.x, s.y, s.z, s.z_lb, s.z_ub]
        loss = torch.stack([(part.sin() * torch.arange(1, 1 + part.numel()).reshape(part.shape)).sum() for part in parts]).sum()
        found = everything(s)
        for total in (loss, loss + s.s.square().sum()):
            found += torch.autograd.grad(total, [*leaves.values()], retain_graph=True)
        first = torch.autograd.grad(loss, [*leaves.values()], create_graph=True)
        found += torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), [*leaves.values()])
        with torch.no_grad():
            return found + everything(kr.solve_qp(**leaves, batch_invariant=invariant))

    call()
    taken.clear()
    short = call()
    assert taken == [True, True]
    long = in_full(monkeypatch, call)
    assert len(short) == len(long)
    for one, other in zip(short, long, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("B", [1, 3])
def test_results_are_independent(B: int) -> None:
    given = arguments(B)
    whole = kr.solve_qp(**given)
    copies = [part.clone() for part in everything(whole)]
    others = (whole.x, whole.y, whole.z, whole.s, whole.z_lb, whole.residuals.scaled)
    for place in range(6):
        solution = kr.solve_qp(**given)
        own = [solution.x, solution.y, solution.z, solution.s, solution.z_lb, solution.residuals.scaled]
        own[place].fill_(7.0)
        for i, (part, before) in enumerate(zip(own, others, strict=True)):
            assert i == place or torch.equal(part, before)
    assert all(torch.equal(part, copy) for part, copy in zip(everything(whole), copies, strict=True))


@pytest.mark.parametrize("B", [1, 3])
def test_changes_are_seen_where_they_matter(B: int) -> None:
    """What the backward pass reads must not be changed before it; all else may be, as it is no business of x."""
    leaves = {name: tensor.requires_grad_() for name, tensor in arguments(B).items()}
    expected = torch.autograd.grad(kr.solve_qp(**leaves).x.sum(), [*leaves.values()])
    solution = kr.solve_qp(**leaves)
    total = solution.x.sum()
    solution.s.detach().fill_(7.0)
    for part in (solution.residuals.scaled, solution.residuals.absolute, solution.active.rows, solution.iterations, solution.ok):
        part.zero_()
    found = torch.autograd.grad(total, [*leaves.values()], retain_graph=True)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    solution.x.mul_(2.0)  # an ordinary result: it may be changed in place, and the tape knows
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(total, [*leaves.values()])


def test_tensors_that_are_saved_elsewhere() -> None:
    """Hooks may keep what is saved in other memory, and views may promise the opposite of what their memory holds."""
    leaves = {name: tensor.requires_grad_() for name, tensor in single().items()}
    expected = torch.autograd.grad(kr.solve_qp(**leaves).x.sum(), [*leaves.values()])
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor.clone()):
        hooked = kr.solve_qp(**leaves | {"p": torch._neg_view(-leaves["p"])}).x.sum()
    found = torch.autograd.grad(hooked, [*leaves.values()])
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_fields_are_made_when_asked_for() -> None:
    solution = kr.solve_qp(**single())
    assert "residuals" not in vars(solution)
    assert solution.residuals is solution.residuals
    copies = (copy.copy(solution), copy.deepcopy(solution), pickle.loads(pickle.dumps(solution)), replace(solution))
    for other in (*copies, pytree.tree_map(lambda leaf: leaf, solution)):
        assert all(torch.equal(*pair) for pair in zip(everything(other), everything(solution), strict=True))
    with pytest.raises(AttributeError, match="no attribute 'residual'"):
        solution.residual  # type: ignore[attr-defined]  # noqa: B018  # the mistake is the test


def test_multipliers_of_no_bounds_have_a_gradient_of_zero() -> None:
    leaves = {name: tensor.requires_grad_() for name, tensor in single().items()}
    solution = kr.solve_qp(**leaves)
    for gradient in torch.autograd.grad(solution.z_lb.sum() + solution.z_ub.sum(), [*leaves.values()]):
        assert (gradient == 0).all()


def source(solution: kr.QPSolution) -> Rest:
    """Where a solution that came by the short way has the rest of it."""
    found: Rest = vars(solution)["_source"]
    return found


@pytest.mark.parametrize(("case", "together"), [("one problem", True), ("more than lies together", False), ("a batch", False)])
def test_what_lies_together(case: str, together: bool) -> None:
    solution = kr.solve_qp(**CASES[case]())
    memories = [memory.untyped_storage() for memory in (solution.x, source(solution).outcome)]
    assert (memories[0].data_ptr() == memories[1].data_ptr()) == together
    assert memories[0].nbytes() <= 8 * (cpu.PACKED + 4) if together else memories[0].nbytes() == 8 * solution.x.numel()


def test_who_keeps_a_solution_keeps_no_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is as large as Q, and dies with the graph; without one, it is never written down."""
    factors: list[weakref.ref[Tensor] | None] = []
    original = cpu.find

    def told(*given: Any) -> Outcome:
        outcome = original(*given)
        factors.append(None if outcome.rest.factor is None else weakref.ref(outcome.rest.factor))
        return outcome

    monkeypatch.setattr(cpu, "find", told)
    given = arguments(3, 60, 30, 3)
    with torch.no_grad():
        kr.solve_qp(**given)
    solution = kr.solve_qp(**{name: tensor.requires_grad_() for name, tensor in given.items()})
    none, factor = factors
    assert none is None
    assert source(solution).factor is None
    assert factor is not None
    assert factor() is not None
    solution.x.sum().backward()
    assert factor() is None
    assert solution.residuals.worst.max() <= 1e-8


def test_what_is_not_solved_goes_the_long_way(taken: list[bool]) -> None:
    given = arguments(3)
    given["A"], given["b"] = torch.zeros_like(given["A"]), given["b"].clone()
    given["b"][:] = 0
    given["b"][1] = 1.0
    leaves = {name: tensor.requires_grad_() for name, tensor in given.items()}
    for _ in range(2):
        solution = kr.solve_qp(**leaves, on_failure="return")
        assert solution.ok.tolist() == [True, False, True]
        gradients = torch.autograd.grad(solution.x.sum(), [*leaves.values()])
        assert all((gradient[1] == 0).all() for gradient in gradients)
        with pytest.raises(kr.SolveError, match="1 of 3 problems"):
            kr.solve_qp(**leaves)
    assert not any(taken)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own forward mode says this
def test_transforms_and_dual_numbers_after_a_plain_call() -> None:
    given = single()
    rest = {name: given[name] for name in NAMES if name != "p"}

    def x(p: Tensor) -> Tensor:
        return kr.solve_qp(p=p, **rest).x

    p = given["p"].clone().requires_grad_()
    jacobian = torch.stack([torch.autograd.grad(x(p)[i], p)[0] for i in range(len(p))])
    for transform in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(transform(x)(given["p"]), jacobian, rtol=1e-9, atol=1e-9)
    several = torch.stack([given["p"], 2 * given["p"]])
    torch.testing.assert_close(torch.func.vmap(x)(several), torch.stack([x(p) for p in several]), rtol=1e-9, atol=1e-9)
    with torch.autograd.forward_ad.dual_level():
        pushed = torch.autograd.forward_ad.unpack_dual(x(torch.autograd.forward_ad.make_dual(given["p"], torch.ones(4, dtype=F))))
    torch.testing.assert_close(pushed.tangent, jacobian.sum(1), rtol=1e-9, atol=1e-9)


def test_tensors_that_escaped_from_a_transform() -> None:
    given, escaped = single(), []

    def told(p: Tensor) -> Tensor:
        escaped.append(p)
        return p.sum()

    torch.func.grad(told)(given["p"])
    expected = kr.solve_qp(**given).x
    Q = given["Q"].clone().requires_grad_()
    solution = kr.solve_qp(**given | {"p": escaped[0], "Q": Q})
    assert torch.equal(solution.x, expected)
    solution.x.sum().backward()
    assert Q.grad is not None
    with torch.no_grad():
        assert torch.equal(kr.solve_qp(**given | {"p": escaped[0]}).x, expected)


def test_an_item_that_is_left_is_no_reason_to_solve_its_mates_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled engine is asked once, and its answers count, in the shapes of the call."""
    calls = []
    original = cpu.find

    def counted(*given: Any) -> Any:
        calls.append(1)
        return original(*given)

    problem = {name: t.reshape(2, 3, *t.shape[1:]).clone() for name, t in arguments(6).items()}
    problem["p"][1, 1] = torch.nan
    leaves = {name: t.requires_grad_() for name, t in problem.items()}
    healthy = torch.tensor([True] * 4 + [False] + [True])
    monkeypatch.setattr(cpu, "find", counted)
    solution = kr.solve_qp(**leaves, on_failure="return")
    solution.x.square().sum().backward()
    assert len(calls) == 1
    assert torch.equal(solution.ok.reshape(-1), healthy)
    others = {name: t.detach().reshape(6, *t.shape[2:])[healthy].requires_grad_() for name, t in problem.items()}
    mates = kr.solve_qp(**others)
    mates.x.square().sum().backward()
    assert torch.equal(solution.x.reshape(6, -1)[healthy], mates.x)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.equal(leaf.grad.reshape(others[name].new_zeros(6, *leaf.shape[2:]).shape)[healthy], others[name].grad), name
        assert not leaf.grad.reshape(6, -1)[4].any()


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize(("B", "n"), [(1, 4), (1, 60), (3, 4), (3, 60)])
def test_what_has_no_solution_takes_the_long_way_with_and_without_gradients(B: int, n: int, wanted: bool) -> None:
    Q, p = torch.eye(n, dtype=F), torch.ones(B, n, dtype=F, requires_grad=wanted)
    rows = torch.stack([torch.ones(n, dtype=F), -torch.ones(n, dtype=F)])
    solution = kr.solve_qp(Q, p, rows, torch.tensor([-1.0, -1.0], dtype=F), on_failure="return")
    assert solution.status.tolist() == [int(kr.Status.PRIMAL_INFEASIBLE)] * B
    if wanted:
        solution.x.sum().backward()
        assert p.grad is not None
        assert not p.grad.any()
