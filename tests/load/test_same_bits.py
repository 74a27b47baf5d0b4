"""The same input gives the same bits: again, in other processes, in threads that share a layer, after a fork, after any error."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import karush as kr
from karush.backends.cpu import threads
from load.work import ERRORS, called, digest, inputs, layer

TESTS = Path(__file__).resolve().parents[1]
FEW_OR_MANY = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.stress)])


def started(program: list[str]) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen([sys.executable, *program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path})


@FEW_OR_MANY
def test_again_and_in_other_processes(many: bool) -> None:
    runs, processes = (50, 5) if many else (5, 1)
    hashes = {digest() for _ in range(runs)}
    for process in [started(["-m", "load.work"]) for _ in range(processes)]:
        hashes.add(process.communicate(timeout=120)[0].strip())
    assert len(hashes) == 1
    assert len(hashes.pop()) == 64


def batch(thread: int, i: int) -> list[Tensor]:
    return called(1 + 7 * thread + i, 100 * thread + i)


@FEW_OR_MANY
def test_eight_threads_call_one_layer(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with batches of its own and errors in between, while the engine spreads its blocks over a pool as well."""
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 0)
    calls = 100 if many else 8
    expected = [[digest(batch(thread, i)) for i in range(3)] for thread in range(8)]
    state = {name: value.clone() for name, value in layer().state_dict().items()}
    errors = list(ERRORS.values())

    def works(thread: int) -> list[int]:
        wrong = []
        for i in range(calls):
            if digest(batch(thread, i % 3)) != expected[thread][i % 3]:
                wrong.append(i)
            if i % 4 == 3:
                with pytest.raises(kr.KarushError):
                    errors[(thread + i) % len(errors)]()
        return wrong

    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(works, range(8)))
    finally:
        torch.set_num_threads(1)
    assert found == [[]] * 8
    assert all(torch.equal(value, state[name]) for name, value in layer().state_dict().items())
    assert len({code for row in expected for code in row}) == 24  # the batches do differ


@pytest.mark.parametrize("kind", ERRORS)
def test_after_any_error(kind: str, before: str) -> None:
    with pytest.raises(kr.KarushError):
        ERRORS[kind]()
    assert digest(called(9, 0)) == before


@pytest.fixture(scope="module")
def before() -> str:
    return digest(called(9, 0))


class Items(Dataset[tuple[str, Tensor]]):
    """Solves where it is read, as a worker that prepares data would; ``on`` is the layer that travelled there."""

    def __init__(self) -> None:
        self.on = layer()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[str, Tensor]:
        return digest(called(5, i)), self.on(inputs(5, i))["x"].detach()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_loader(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    here = [Items()[i] for i in range(4)]
    loader = DataLoader(Items(), batch_size=None, num_workers=1, multiprocessing_context=method)
    for (code, x), (own_code, own_x) in zip(loader, here, strict=True):
        assert code == own_code
        assert torch.equal(x, own_x)


FORK = """
import os, signal, torch, karush as kr
from karush.backends.cpu import threads
threads.WORTH_A_THREAD = 0
torch.set_num_threads(2)
Q, p = torch.eye(20).double(), torch.arange(6000).double().sin().reshape(300, 20)
x = kr.solve_qp(Q, p, lb=0.0).x
assert threads._pool.cache_info().currsize == 1, "the pool was not at work"
if not (child := os.fork()):
    signal.alarm(20)
    os._exit(not torch.equal(kr.solve_qp(Q, p, lb=0.0).x, x))
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_threads_were_at_work() -> None:
    """The child has its parent's pool but none of its threads: it must make its own, or it waits for ever.

    Small tensors, because torch itself waits for ever if its own threads were at work before a fork.
    """
    told, _ = started(["-W", "ignore", "-c", FORK]).communicate(timeout=60)
    assert told.strip() == "0"


def test_the_number_of_threads_changes_digits_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "WORTH_A_THREAD", 0)
    found = []
    try:
        for several in (1, 2):
            torch.set_num_threads(several)
            found.append(called(200, 5))
    finally:
        torch.set_num_threads(1)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_deterministic_algorithms_are_enough() -> None:
    expected = digest()
    torch.use_deterministic_algorithms(True)
    try:
        assert digest() == expected
    finally:
        torch.use_deterministic_algorithms(False)


def test_random_state_is_not_touched() -> None:
    before = torch.get_rng_state()
    digest()
    assert torch.equal(torch.get_rng_state(), before)
