"""What tests share: the data and the independent oracles where they are at hand, and one seed for everything drawn."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

# A failing example must fail again on the next run; and a solver's first call on a busy machine may take a second.
hypothesis.settings.register_profile("karush", deadline=None, derandomize=True)
hypothesis.settings.load_profile("karush")

# The problems here are small: on a busy machine, threads that wait for each other cost ten times what they save.
torch.set_num_threads(1)

os.environ.setdefault("MPLBACKEND", "Agg")  # pictures are written, never shown


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/language/test_messages.py --update-golden`` writes what karush says now; review it as text."""
    parser.addoption("--update-golden", action="store_true", help="write the golden messages and the page of errors anew")


def data_root() -> Path:
    """Where real data lie: the folder that KARUSH_DATA names, else beside the checkout."""
    return Path(os.environ.get("KARUSH_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture
def data() -> Callable[[str], Path]:
    """``data("sudoku4")`` is that data set's folder; without it the test is skipped by name."""

    def folder(name: str) -> Path:
        found = data_root() / name
        if not found.is_dir():
            pytest.skip(f"data set {name} is not at hand (KARUSH_DATA)")
        return found

    return folder


@pytest.fixture(scope="session")
def directional() -> ModuleType:
    """The independent checkers that lie beside the data: solutions, certificates, directional derivatives."""
    path = data_root().parent / "oracles" / "directional.py"
    spec = importlib.util.spec_from_file_location("directional", path)
    if spec is None or spec.loader is None or not path.is_file():
        pytest.skip("the oracles are not at hand (they lie beside KARUSH_DATA)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers, alone or in company."""
    torch.manual_seed(0)
