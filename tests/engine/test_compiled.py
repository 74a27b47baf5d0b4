"""The compiled engine by itself: its matrices against NumPy, its answers bit by bit, and the code it keeps on disk."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from engine.problems import random_batch
from karush.backends import engine as torch_engine
from karush.backends.cpu import engine as cpu
from karush.backends.cpu import machine, threads
from karush.backends.cpu.llvm import Lanes
from karush.backends.cpu.values import Index, Memory

F = torch.float64


@pytest.fixture
def engine() -> None:
    """These tests are of one engine: they run once."""


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the torch engine is given."""
    sizes: list[int] = []
    original = torch_engine.run

    def counted(data: kr.QPData, *rest: Any, **named: Any) -> torch_engine.Outcome:
        sizes.append(data.batch)
        return original(data, *rest, **named)

    monkeypatch.setattr(torch_engine, "run", counted)
    return sizes


def run(write: Any, memory: np.ndarray, layout: machine.Layout) -> np.ndarray:
    """Write a function that works on one piece of memory, compile it, and call it; W numbers to an entry."""
    W = layout.W
    compiled = machine.compiled(lambda t: t.function("f", 3, lambda t, a, b, c, i, j: write(t, a), longs=2), layout)
    kernel = machine.loaded(compiled, "f")
    room = torch.zeros(memory.size * W + 8, dtype=F)
    start = -room.data_ptr() % 64 // 8
    place = room[start : start + memory.size * W].view(-1, W)
    place[:] = torch.from_numpy(memory)[:, None] * torch.arange(1, W + 1)  # each lane its own multiple
    kernel(place.data_ptr(), 0, 0, 0, 0)
    return place.numpy().T.copy()


LAYOUTS = [pytest.param(machine.lanes(), id="lanes"), pytest.param(machine.alone(), id="alone")]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 11, 16, 37, 64])
def test_matrices_agree_with_numpy(n: int, layout: machine.Layout) -> None:
    rng, rows = np.random.default_rng(n), n + 2
    root = rng.standard_normal((n, n))
    Q, W = root @ root.T + np.eye(n), rng.standard_normal((rows, n))
    D, free, r, w = rng.random(rows), (rng.random(n) > 0.2) * 1.0, rng.standard_normal(n), rng.standard_normal(rows)
    parts = [Q, W, D, np.ones(n), free, np.zeros((n, n)), np.zeros(n), np.zeros(1), r, w, np.zeros(rows), np.zeros(n)]

    def write(t: Lanes, pointer: Any) -> None:
        memory = Memory(t, pointer)
        Q, W, D, ones, free, U, inverse, good, r, w, along, across = (
            memory.array(*part.shape) if part.ndim == 2 else memory.array(part.size) for part in parts
        )
        count = Index(t, t.index(rows))
        t.call(t.matrices.matvec, count, W, r, along, sizes=(n,))
        t.call(t.matrices.vecmat, count, w, W, across, sizes=(n,))
        t.call(t.matrices.factor, count, Q, W, D, ones, free, U, inverse, good, sizes=(n,))
        t.call(t.matrices.solve, U, inverse, r, sizes=(n,))

    lanes = run(write, np.concatenate([part.ravel() for part in parts]), layout)
    ends = np.cumsum([part.size for part in parts])[:-1]
    for lane, found in enumerate(lanes, 1):
        *_, U, _, good, solved, _, along, across = (p.reshape(q.shape) for p, q in zip(np.split(found, ends), parts, strict=True))
        mask = np.diag(lane * free)  # every array of this lane is a multiple
        H = mask @ (lane * Q + (lane * W).T @ np.diag(lane * D) @ (lane * W)) @ mask + lane * np.eye(n)
        np.testing.assert_allclose(along, lane**2 * W @ r, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(across, lane**2 * W.T @ w, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(U, np.linalg.cholesky(H).T, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(H @ solved, lane * r, rtol=1e-9, atol=1e-9)
        assert good == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_matrix_that_is_not_definite_is_told_and_stays_finite(layout: machine.Layout) -> None:
    def write(t: Lanes, pointer: Any) -> None:
        memory = Memory(t, pointer)
        Q, D, one, U, inverse, good = (memory.array(*shape) for shape in ((2, 2), (1,), (2,), (2, 2), (2,), (1,)))
        none = Index(t, t.index(0))
        t.call(t.matrices.factor, none, Q, Q, D, D, one, U, inverse, good, sizes=(2,))

    Q = np.array([1.0, 2.0, 2.0, 1.0])
    lanes = run(write, np.concatenate([Q, [0.0], [1.0, 1.0], np.zeros(4), np.zeros(2), [7.0]]), layout)
    assert (lanes[:, -1] == 0).all()
    assert np.isfinite(lanes).all()


def test_scales_are_powers_of_two_near_the_root() -> None:
    values = np.array([1e-300, 0.1, 0.4999, 0.5, 1.0, 2.0, 3.9, 4.0, 1e10, 3e299])

    def write(t: Lanes, pointer: Any) -> None:
        a = Memory(t, pointer).array(len(values))
        for i in t.range(len(values)):
            a[i] = t.even_root(a[i])

    for lane, found in enumerate(run(write, values, machine.lanes()), 1):
        mantissa, _ = np.frexp(found)
        assert (mantissa == 0.5).all()
        ratio = found / np.sqrt(lane * values)
        assert ratio.min() >= 0.5**0.5 * (1 - 1e-15)
        assert ratio.max() <= 2**0.5 * (1 + 1e-15)


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 0), (1, 0, 1), (3, 0, 0), (4, 7, 0), (5, 0, 2), (7, 9, 3), (13, 20, 4)])
@pytest.mark.parametrize("bounded", [False, True])
def test_every_shape_agrees_with_the_torch_engine(n: int, m: int, k: int, bounded: bool, handed_over: list[int]) -> None:
    problem = random_batch(11, n, m, k)
    bounds = {}
    if bounded:
        inside = kr.solve_qp(*problem).x  # feasible, and no longer optimal once p is another
        problem[1] = problem[1].roll(1, 0)
        bounds = {"lb": inside - 0.1, "ub": (inside + 0.1).where(torch.arange(n) != 0, torch.inf)}
    solution = kr.solve_qp(*problem, **bounds)  # type: ignore[arg-type]  # tensors by name
    assert not handed_over
    expected = kr.solve_qp(*problem, **bounds, backend="torch")  # type: ignore[arg-type]  # tensors by name
    assert solution.residuals.worst.max() <= 1e-10
    for name in ("x", "y", "z", "z_lb", "z_ub", "s"):
        torch.testing.assert_close(getattr(solution, name), getattr(expected, name), rtol=1e-7, atol=1e-8)


def test_engines_agree_to_the_last_digits_on_regular_items() -> None:
    problem = [t.requires_grad_() for t in random_batch(30, 8, 12, 3)]
    found = []
    backends: tuple[Literal["cpu", "torch"], ...] = ("cpu", "torch")
    for backend in backends:
        solution = kr.solve_qp(*problem, backend=backend)
        weighted = (solution.x.square().sum() + solution.z.sum() - solution.y.sum(), problem)
        found.append((solution, torch.autograd.grad(*weighted)))
    (ours, grads), (theirs, expected) = found
    for name in ("x", "y", "z", "s"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-10)
    for name, one, other in zip("QpGhAb", grads, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8, msg=name)


def answers(problem: list[Tensor], batch_invariant: bool = False) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in problem]
    solution = kr.solve_qp(*leaves, on_failure="return", batch_invariant=batch_invariant)
    gradients = torch.autograd.grad((solution.x.sin().sum() + solution.z.sum(), leaves)[0], leaves)
    return [solution.x, solution.z, solution.s, solution.status, solution.iterations, solution.residuals.scaled, *gradients]


def same_bits(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_few_problems_are_solved_one_by_one_with_the_same_result() -> None:
    problem = random_batch(9, 20, 30, 3)
    assert cpu.layout(20, 2, False) == machine.alone() != cpu.layout(20, 9, False)
    assert cpu.layout(20, 2, True) == machine.lanes()
    whole = answers(problem)
    for i in (0, 7):
        for one, other in zip(answers([t[i : i + 2] for t in problem]), whole, strict=True):
            torch.testing.assert_close(one, other[i : i + 2], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n", [6, cpu.LARGE + 1])
def test_an_item_has_the_same_bits_in_batches_of_any_size(n: int) -> None:
    problem = random_batch(21, n, 9, 2)
    whole = answers(problem, batch_invariant=True)
    for i in (0, 7, 8, 20):
        same_bits(answers([t[i : i + 1] for t in problem], batch_invariant=True), [t[i : i + 1] for t in whole])


def test_an_item_has_the_same_bits_in_any_company() -> None:
    problem = random_batch(21, 6, 9, 2)
    whole = answers(problem)
    order = torch.randperm(21)
    same_bits(answers([t[order] for t in problem]), [t[order] for t in whole])
    spoiled = [t.clone() for t in problem]
    spoiled[1][3], spoiled[0][4], spoiled[3][5] = torch.nan, -torch.eye(6, dtype=F), -1e9  # NaN, not convex, most likely infeasible
    keep = [i for i in range(21) if i not in (3, 4, 5)]
    same_bits([t[keep] for t in answers(spoiled)], [t[keep] for t in whole])


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 0)
    problem = random_batch(100, 5, 8, 1)
    before = torch.get_num_threads()
    try:
        found = []
        for several in (1, 2, 5):
            torch.set_num_threads(several)
            found.append(answers(problem))
    finally:
        torch.set_num_threads(before)
    same_bits(found[1], found[0])
    same_bits(found[2], found[0])


# What is kept on disk


def in_a_new_process(cache: str, n: int = 3) -> subprocess.CompletedProcess[str]:
    """Solve in a process of its own; prints whether anything was compiled."""
    program = (
        "import torch, karush as kr\n"
        "from karush.backends.cpu import machine\n"
        "compiled, original = [], machine.compiled\n"
        "machine.compiled = lambda *given: compiled.append(1) or original(*given)\n"
        f"x = kr.solve_qp(torch.eye({n}).double(), -torch.ones({n}).double(), lb=0.0).x\n"
        f"assert torch.allclose(x, torch.ones({n}).double())\n"
        "print(len(compiled))\n"
    )
    environment = os.environ | {"KARUSH_CACHE": cache}
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_code_is_kept_and_found_again_and_never_trusted_blindly(tmp_path: Path) -> None:
    cache = tmp_path / "kept"
    assert in_a_new_process(str(cache)).stdout.strip() == "1"
    (kept,) = cache.iterdir()
    if os.name == "posix":
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert in_a_new_process(str(cache)).stdout.strip() == "0"
    whole = kept.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        kept.write_bytes(damaged)
        assert in_a_new_process(str(cache)).stdout.strip() == "1"
        assert kept.read_bytes() == whole
    if os.name == "posix":
        cache.chmod(0o777)  # anyone could have put it there
        assert in_a_new_process(str(cache)).stdout.strip() == "1"


def test_a_cache_that_is_off_or_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    assert in_a_new_process("off").stdout.strip() == "1"
    (tmp_path / "file").write_text("no folder")
    assert in_a_new_process(str(tmp_path / "file" / "below")).stdout.strip() == "1"


def test_processes_share_a_cache(tmp_path: Path) -> None:
    program = "import torch, karush as kr; print(float(kr.solve_qp(torch.eye(2).double(), -torch.ones(2).double()).x.sum()))"
    environment = os.environ | {"KARUSH_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", program]
    several = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in several] == ["2.0"] * 3
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("shape", [(2, 3, 1), (4, 3, 1), (2, 4, 1), (1, 1, 4), (1, 1, 2)])
def test_registers_of_other_machines(shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch, handed_over: list[int]) -> None:
    """Fewer lanes and other tiles, as on processors without AVX-512: the same answers."""
    monkeypatch.setattr(cpu, "layout", lambda *_: machine.Layout(*shape))
    monkeypatch.setattr(machine, "_kernels", {})
    problem = [t.requires_grad_() for t in random_batch(7, 7, 9, 2)]
    solution = kr.solve_qp(*problem)
    found = torch.autograd.grad(solution.x.sin().sum() + solution.z.sum(), problem)
    assert not handed_over
    expected = kr.solve_qp(*problem, backend="torch")
    torch.testing.assert_close(solution.x, expected.x, rtol=1e-9, atol=1e-10)
    others = torch.autograd.grad(expected.x.sin().sum() + expected.z.sum(), problem)
    for one, other in zip(found, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_a_kernel_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of kernels forgets one that a solve of the same size still calls."""
    Q, p = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    first = kr.solve_qp(Q, p, lb=0.0).x
    monkeypatch.setattr(machine, "_kernels", {})
    gc.collect()
    assert torch.equal(kr.solve_qp(Q, p, lb=0.0).x, first)
