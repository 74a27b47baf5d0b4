"""The demo: its puzzles are what they claim to be, and a short training run learns."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).resolve().parents[2] / "examples" / "sudoku.py"


@pytest.fixture(scope="module")
def sudoku() -> ModuleType:
    if not FILE.exists():
        pytest.skip("examples/sudoku.py is not beside these tests: they run outside the repository")
    spec = importlib.util.spec_from_file_location("sudoku", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sudoku"] = module
    spec.loader.exec_module(module)
    return module


def test_there_are_288_boards(sudoku: ModuleType) -> None:
    grids = sudoku.all_grids()
    assert len({grid.tobytes() for grid in grids}) == 288
    assert sudoku.valid(grids.reshape(-1, 4, 4)).all()
    assert not sudoku.valid(np.arange(16).reshape(1, 4, 4) % 4 + 1)[0]


def test_generated_puzzles_have_one_solution(sudoku: ModuleType) -> None:
    boards = sudoku.generate_boards(100, np.random.default_rng(3))
    grids = sudoku.all_grids()
    for puzzle, solution in zip(boards.puzzle.reshape(-1, 16), boards.solution.reshape(-1, 16), strict=True):
        given = puzzle > 0
        assert 4 <= given.sum() <= 8
        fits = grids[(grids[:, given] == puzzle[given]).all(1)]
        assert len(fits) == 1
        assert (fits[0] == solution).all()


@pytest.mark.slow
def test_a_short_training_learns_and_draws(sudoku: ModuleType, tmp_path: Path) -> None:
    boards = sudoku.generate_boards(1000, np.random.default_rng(0))
    layer, history = sudoku.train(boards, epochs=2, seed=0)
    first, last = history[0][0], history[-1][1]
    assert last.loss < 0.7 * first.loss
    picture = tmp_path / "sudoku.png"
    sudoku.draw(layer, boards, history, picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
