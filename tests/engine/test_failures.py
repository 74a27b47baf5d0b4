"""Verdicts, their certificates, and what callers may do about failed items."""

from __future__ import annotations

import pickle
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import built, random_batch
from karush.backends.solve import solve

F = torch.float64


INFEASIBLE: dict[str, dict[str, Any]] = {
    "contradictory rows": {"G": [[1.0, 1.0], [-1.0, -1.0]], "h": [-1.0, 0.0]},
    "0'x <= -1": {"G": [[0.0, 0.0]], "h": [-1.0]},
    "0'x = 1": {"A": [[0.0, 0.0]], "b": [1.0]},
    "inconsistent equalities": {"A": [[1.0, 2.0], [2.0, 4.0]], "b": [1.0, 3.0]},
    "row against bounds": {"G": [[1.0, 1.0]], "h": [-0.5], "lb": [0.0, 0.0]},
    "equality against bounds": {"A": [[1.0, 1.0]], "b": [5.0], "lb": [0.0, 0.0], "ub": [2.0, 2.0]},
    "bounds crossed": {"lb": [0.0, 1.0], "ub": [1.0, 0.0]},
    "bounds crossed by a hair": {"lb": [0.0, 1.0], "ub": [1.0, np.nextafter(1.0, 0)]},
}


@pytest.mark.parametrize("case", INFEASIBLE)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_infeasible(case: str, scale: float, directional: ModuleType) -> None:
    blocks: dict[str, Any] = {name: torch.tensor(value, dtype=F) for name, value in INFEASIBLE[case].items()}
    for name in ("h", "b", "lb", "ub"):
        if name in blocks and case != "0'x <= -1":
            blocks[name] = blocks[name] * scale
    solution = kr.solve_qp(torch.eye(2, dtype=F), torch.ones(2, dtype=F), **blocks, on_failure="return")
    assert kr.Status(int(solution.status)) is kr.Status.PRIMAL_INFEASIBLE
    empty = {"G": (0, 2), "h": (0,), "A": (0, 2), "b": (0,)}
    G, h, A, b = (blocks[name].numpy() if name in blocks else np.zeros(shape) for name, shape in empty.items())
    ray = solution.ray
    z = ray.z.numpy()
    for name, sign, multiplier in (("lb", -1.0, ray.z_lb), ("ub", 1.0, ray.z_ub)):
        if name in blocks:
            G, h = np.vstack([G, sign * np.eye(2)]), np.concatenate([h, sign * blocks[name].numpy()])
            z = np.concatenate([z, multiplier.numpy()])
    assert directional.certify_infeasible(G, h, A, b, z, ray.y.numpy())


UNBOUNDED: dict[str, dict[str, Any]] = {
    "null space of Q": {"Q": [[1.0, 0.0], [0.0, 0.0]], "p": [1.0, 1.0]},
    "linear program": {"Q": [[0.0, 0.0], [0.0, 0.0]], "p": [-1.0, -1.0], "G": [[1.0, -1.0]], "h": [1.0]},
    "along equalities": {"Q": [[1.0, 1.0], [1.0, 1.0]], "p": [1.0, -1.0], "A": [[1.0, 1.0]], "b": [1.0]},
    "one-sided bounds": {"Q": [[0.0, 0.0], [0.0, 1.0]], "p": [-1.0, 0.0], "lb": [0.0, 0.0]},
}


@pytest.mark.parametrize("case", UNBOUNDED)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_unbounded(case: str, scale: float, directional: ModuleType) -> None:
    blocks: dict[str, Any] = {name: torch.tensor(value, dtype=F) for name, value in UNBOUNDED[case].items()}
    blocks["p"] = blocks["p"] * scale
    solution = kr.solve_qp(**blocks, on_failure="return")
    assert kr.Status(int(solution.status)) is kr.Status.DUAL_INFEASIBLE
    G, A = (blocks[name].numpy() if name in blocks else np.zeros((0, 2)) for name in ("G", "A"))
    if "lb" in blocks:
        G = np.vstack([G, -np.eye(2)])
    assert directional.certify_unbounded(blocks["Q"].numpy(), blocks["p"].numpy(), G, A, solution.ray.x.numpy())


@pytest.mark.parametrize("M", [1e4, 1e8, 1e12])
def test_almost_unbounded_is_solved(M: float) -> None:
    """-x + x²/2M has its minimum at M."""
    Q, p = torch.tensor([[1 / M]], dtype=F), torch.tensor([-1.0], dtype=F)
    solution = kr.solve_qp(Q, p)
    torch.testing.assert_close(solution.x, torch.tensor([M], dtype=F), rtol=1e-8, atol=0)
    solution = kr.solve_qp(Q, p, lb=0.0)
    torch.testing.assert_close(solution.x, torch.tensor([M], dtype=F), rtol=1e-6, atol=0)


@pytest.mark.parametrize("width", [0.0, 1e-8])
def test_thin_sets_are_not_called_empty(width: float) -> None:
    a = torch.tensor([[1.0, 2.0]], dtype=F)
    G, h = torch.cat([a, -a]), torch.tensor([1.0 + width, -1.0], dtype=F)
    solution = kr.solve_qp(torch.eye(2, dtype=F), torch.zeros(2, dtype=F), G, h)
    torch.testing.assert_close(solution.x, torch.tensor([0.2, 0.4], dtype=F), rtol=0, atol=1e-7)


def test_nonconvex_is_relative_to_the_size_of_q() -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=F)).Q
    for least, expected in (
        (-1e-15, kr.Status.SOLVED),
        (0.0, kr.Status.SOLVED),
        (-1e-6, kr.Status.NONCONVEX),
        (-1.0, kr.Status.NONCONVEX),
    ):
        for size in (1e-8, 1.0, 1e11):
            Q = rotation @ torch.diag(torch.tensor([least, 0.5, 0.7, 1.0], dtype=F)) @ rotation.mT * size
            solution = kr.solve_qp(Q, torch.zeros(4, dtype=F), lb=-1.0, ub=1.0, on_failure="return")
            assert kr.Status(int(solution.status)) is expected, (least, size)


@pytest.mark.parametrize("name", ["Q", "p", "G", "h", "A", "b", "lb", "ub"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_mean_nothing(name: str, value: float) -> None:
    blocks: dict[str, Any] = dict(zip(("Q", "p", "G", "h", "A", "b"), random_batch(3, 4, 5, 1), strict=True))
    blocks["lb"], blocks["ub"] = torch.full((3, 4), -9.0, dtype=F), torch.full((3, 4), 9.0, dtype=F)
    blocks[name][1].view(-1)[0] = value
    status = kr.solve_qp(**blocks, on_failure="return").status.tolist()
    absent = (name, value) in (("h", torch.inf), ("ub", torch.inf), ("lb", -torch.inf))
    assert status == [0, 0 if absent else int(kr.Status.INVALID_INPUT), 0]


def infeasible_second() -> list[Tensor]:
    Q, p, G, h, A, b = random_batch(3, 4, 5, 1)
    G[1, 1], h[1, :2] = -G[1, 0], -1.0
    return [t.requires_grad_() for t in (Q, p, G.clone(), h.clone(), A, b)]


def test_raise_names_items_and_carries_everything() -> None:
    with pytest.raises(kr.SolveError, match=r"1 of 3 problems is infeasible(.*\n)*.*PRIMAL_INFEASIBLE at batch index 1") as caught:
        kr.solve_qp(*infeasible_second())
    error = caught.value
    assert error.indices == [1]
    assert error.status == [kr.Status.PRIMAL_INFEASIBLE]
    assert isinstance(error.solution, kr.QPSolution)
    assert error.solution.x.shape == (3, 4)
    assert error.solution.status.tolist() == [0, 2, 0]


def test_error_survives_pickling() -> None:
    with pytest.raises(kr.SolveError) as caught:
        kr.solve_qp(*(t.detach() for t in infeasible_second()))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.indices == [1]


def test_nan_marks_the_item_and_only_that() -> None:
    problem = infeasible_second()
    solution = kr.solve_qp(*problem, on_failure="nan")
    assert solution.x[1].isnan().all()
    assert solution.z[1].isnan().all()
    assert solution.x[[0, 2]].isfinite().all()
    solution.x[[0, 2]].sum().backward()
    for tensor in problem:
        assert tensor.grad is not None
        assert (tensor.grad[1] == 0).all()
        assert tensor.grad.isfinite().all()


def test_return_gives_a_finite_iterate_and_no_gradient() -> None:
    problem = infeasible_second()
    solution = kr.solve_qp(*problem, on_failure="return")
    assert solution.x.isfinite().all()
    assert not solution.ok[1]
    solution.x.sum().backward()
    for tensor in problem:
        assert tensor.grad is not None
        assert (tensor.grad[1] == 0).all()


def test_iteration_limit() -> None:
    problem = random_batch(4, 20, 40, 3)
    solution = kr.solve_qp(*problem, max_iter=1, on_failure="return")
    assert set(solution.status.tolist()) <= {int(kr.Status.MAX_ITERATIONS), int(kr.Status.SOLVED)}
    assert (solution.iterations <= 1).all()
    assert int(kr.Status.MAX_ITERATIONS) in solution.status.tolist()


def test_no_item_takes_more_iterations_than_allowed() -> None:
    """Degenerate problems at tolerances that take several attempts; a bad start may take twelve more."""
    problems = [built(seed, 10, 20, 2, rank=seed % 10, active=8 + seed % 6) for seed in range(40)]
    stacked = [torch.tensor(np.stack([getattr(p, name) for p in problems])) for name in ("Q", "p", "G", "h", "A", "b")]
    start = kr.solve_qp(*random_batch(40, 10, 20, 2, seed=3), on_failure="return")
    seen = set()
    for eps in (1e-8, 1e-13):
        for max_iter in (2, 5, 8, 12, 50):
            for warm, more in ((None, 0), (start, 12)):
                solution = kr.solve_qp(*stacked, eps=eps, max_iter=max_iter, on_failure="return", warm_start=warm)
                assert int(solution.iterations.max()) <= max_iter + more
                seen.update(solution.iterations[solution.ok].tolist())
    assert len(seen) > 8


def test_status_never_contradicts_residuals() -> None:
    problem = random_batch(20, 10, 20, 2)
    for eps in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10):
        for max_iter in (1, 3, 5, 50):
            solution = kr.solve_qp(*problem, eps=eps, max_iter=max_iter, on_failure="return")
            worst = solution.residuals.worst
            assert torch.equal(solution.status == kr.Status.SOLVED, worst <= eps)
            assert not ((solution.status == 2) | (solution.status == 3)).any()


def test_absolute_tolerance() -> None:
    problem = built(0, 6, 8, 1)
    arguments, _ = problem.arguments()
    huge = [arguments[0] * 1e14, arguments[1] * 1e14, *arguments[2:]]
    assert kr.solve_qp(*huge).status == kr.Status.SOLVED
    assert kr.solve_qp(*huge, eps_abs=1e-9, on_failure="return").status != kr.Status.SOLVED


def test_callers_verdict_is_kept() -> None:
    problem = random_batch(3, 4, 5, 1)
    problem[1][2] = torch.nan
    rejected = torch.tensor([0, int(kr.Status.NONCONVEX), int(kr.Status.INVALID_INPUT)], dtype=torch.int8)
    solution = solve(kr.QPData(*problem), kr.Options(on_failure="return"), rejected=rejected)
    assert solution.status.tolist() == [0, 7, 6]
    assert solution.ok.tolist() == [True, False, False]


def test_an_unsound_item_in_a_shared_block_reaches_no_gradient_as_nan() -> None:
    Q, p, G, h, A, b = random_batch(3, 4, 5, 1)
    G, A = G[0].requires_grad_(), A[0]
    h, b = h.abs() + 1, torch.zeros(3, 1, dtype=F)
    p[1, 0] = torch.nan
    solution = kr.solve_qp(Q, p, G, h, A, b, on_failure="return")
    solution.x.sum().backward()
    assert G.grad is not None
    assert G.grad.isfinite().all()


def test_every_status_says_what_it_means() -> None:
    for status in kr.Status:
        assert len(status.message) > 20
        assert pickle.loads(pickle.dumps(status)) is status
