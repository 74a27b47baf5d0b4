"""Tests of this folder run on both engines, and fail if the engine they are for did not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, TypedDict, Unpack

import pytest
import torch

import karush as kr
from engine.problems import Problem
from karush.backends import engine as torch_engine
from karush.backends.cpu import engine as cpu_engine
from robustness.judges import FIGURES

Backend = Literal["cpu", "torch"]


class Choices(TypedDict, total=False):
    """Options of ``solve_qp`` that a test may set; the engine and what failures do are the fixture's."""

    eps: float
    eps_abs: float
    max_iter: int
    accept: Literal["solved", "inaccurate"]
    regularize: float


class Solver(Protocol):
    """Solve one problem and return what there is, failed or not."""

    def __call__(self, problem: Problem, **options: Unpack[Choices]) -> kr.QPSolution: ...


@pytest.fixture(params=["cpu", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """An engine's name. The compiled engine hands on what it cannot prove; "torch" never lets it try."""
    calls = {"cpu": 0, "torch": 0}

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return original(*arguments, **named)

        return wrapped

    monkeypatch.setattr(cpu_engine, "find", counted("cpu", cpu_engine.find))
    monkeypatch.setattr(torch_engine, "run", counted("torch", torch_engine.run))
    yield request.param
    assert calls[request.param], f"the {request.param} engine was never asked: this test says nothing about it"
    assert request.param == "cpu" or not calls["cpu"]


@pytest.fixture
def solve(backend: Backend) -> Solver:
    def solved(problem: Problem, **options: Unpack[Choices]) -> kr.QPSolution:
        blocks, bounds = problem.arguments()
        lb, ub = bounds.get("lb"), bounds.get("ub")
        return kr.solve_qp(*blocks, lb=lb, ub=ub, on_failure="return", backend=backend, **options)

    return solved


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The worst figures, where they were asked for: ``make stress``, or ``pytest -v``."""
    if FIGURES and (config.getoption("markexpr") == "stress" or config.getoption("verbose") > 0):
        terminalreporter.section("worst figures")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tests may change the number of threads; none may leave it changed."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
