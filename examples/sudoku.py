"""Learn the rules of mini-Sudoku from examples alone: the showpiece of the OptNet paper (Amos & Kolter 2017, section 4.4).

A layer that knows nothing of rows, columns or blocks solves

    minimize    0.05 |x|² - puzzle' x      subject to    A x = A exp(v),   x >= 0

and learns A (40 x 64) and v by gradient descent through the solution. x holds a one-hot digit for each of the 16 cells.

    python examples/sudoku.py [--epochs 6] [--seed 0] [--picture sudoku.png]
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

import karush as kr

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # the backend has to be chosen first

CELLS, DIGITS, RULES = 16, 4, 40
# Share of test boards with an invalid row, column or block after each epoch, read off the paper's figure.
PAPER = {
    "OptNet (paper)": {1: 1.0, 2: 0.147, 3: 0.001, 4: 0.005, 5: 0.003, 8: 0.146, 10: 0.002, 15: 0.0, 18: 0.014, 19: 0.023},
    "convolutions (paper)": {1: 1.0, 2: 0.872, 3: 0.269, 4: 0.157, 5: 0.124, 10: 0.066, 15: 0.058, 18: 0.09},
}


def make_layer() -> kr.Layer:
    """The layer, written in the language; its only free parameter is the puzzle."""
    x = kr.Variable(CELLS * DIGITS, name="x")
    puzzle = kr.Parameter(CELLS * DIGITS, name="puzzle")
    A = kr.Parameter((RULES, CELLS * DIGITS), name="A")
    v = kr.Parameter(CELLS * DIGITS, name="v")
    problem = kr.Problem(
        kr.Minimize(0.05 * kr.sum_squares(x) - puzzle @ x),
        {"rules": A @ x == A @ kr.exp(v), "nonnegative": x >= 0},
    )
    start = {A: torch.rand(RULES, CELLS * DIGITS, dtype=torch.float64), v: torch.zeros(CELLS * DIGITS, dtype=torch.float64)}
    return kr.compile(problem, outputs=[x], weights=start, on_failure="return")


# Data


@dataclass(frozen=True)
class Boards:
    """Puzzles (0 where unknown) and solutions as digits of shape (N, 4, 4), and where they come from."""

    puzzle: np.ndarray
    solution: np.ndarray
    source: str


def load_boards(total: int) -> Boards:
    """OptNet's own 10,000 puzzles where they are found, generated ones otherwise."""
    root = Path(os.environ.get("KARUSH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    file = root / "sudoku4" / "sudoku4.npz"
    if file.exists():
        with np.load(file, allow_pickle=False) as data:
            return Boards(data["puzzle"][:total], data["solution"][:total], "OptNet's puzzles")
    return generate_boards(total, np.random.default_rng(0))


def generate_boards(total: int, rng: np.random.Generator) -> Boards:
    """Distinct puzzles with exactly one solution and 4 to 8 givens: cells are cleared while the solution stays unique."""
    grids = all_grids()
    puzzles: list[np.ndarray] = []
    solutions: list[np.ndarray] = []
    seen: set[bytes] = set()
    while len(puzzles) < total:
        grid = grids[rng.integers(len(grids))]
        puzzle, fewest = grid.copy(), rng.integers(4, 9)
        for cell in rng.permutation(CELLS):
            cleared = puzzle.copy()
            cleared[cell] = 0
            given = cleared > 0
            if given.sum() >= fewest and (grids[:, given] == cleared[given]).all(1).sum() == 1:
                puzzle = cleared
        if (puzzle > 0).sum() <= 8 and puzzle.tobytes() not in seen:
            seen.add(puzzle.tobytes())
            puzzles.append(puzzle.reshape(4, 4))
            solutions.append(grid.reshape(4, 4))
    return Boards(np.stack(puzzles), np.stack(solutions), "generated puzzles")


def all_grids() -> np.ndarray:
    """The 288 valid boards, as (288, 16)."""
    rows = list(permutations(range(1, 5)))
    found: list[np.ndarray] = []

    def extend(board: list[tuple[int, ...]]) -> None:
        if len(board) == 4:
            grid = np.array(board, dtype=np.uint8)
            if valid(grid[None])[0]:
                found.append(grid.reshape(-1))
            return
        for row in rows:
            if all(row[column] != above[column] for above in board for column in range(4)):
                extend([*board, row])

    extend([])
    return np.stack(found)


def valid(boards: np.ndarray) -> np.ndarray:
    """Whether each board (N, 4, 4) has every digit once in every row, column and block."""
    blocks = boards.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4)
    groups = np.concatenate([boards, boards.transpose(0, 2, 1), blocks], axis=1)
    return np.asarray((np.sort(groups, axis=2) == np.arange(1, 5)).all((1, 2)))


def one_hot(boards: np.ndarray) -> Tensor:
    """(N, 64): four numbers a cell, all zero where the cell is unknown."""
    return torch.from_numpy(np.eye(5)[boards][..., 1:].reshape(len(boards), -1))


# Training


@dataclass
class Score:
    """Mean squared error, and the shares of boards that are invalid and not exactly the solution."""

    loss: float
    invalid: float
    inexact: float


def score(output: Tensor, solution: np.ndarray) -> Score:
    digits = output.reshape(-1, 4, 4, DIGITS).argmax(3).numpy() + 1
    loss = float((output - one_hot(solution)).square().mean())
    return Score(loss, float((~valid(digits)).mean()), float((digits != solution).any((1, 2)).mean()))


def evaluate(layer: nn.Module, puzzles: Tensor, batch: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([layer(part) for part in puzzles.split(batch)])


def train(boards: Boards, epochs: int, seed: int, batch: int = 150) -> tuple[nn.Module, list[tuple[Score, Score]]]:
    """Adam on the squared error; the first nine tenths train, the rest test. Returns the layer and the scores by epoch.

    The rate falls from epoch to epoch: at OptNet's constant 0.1 a layer that solves every board forgets some of them now and then.
    """
    torch.manual_seed(seed)
    layer = make_layer()
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    slower = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    split = len(boards.puzzle) * 9 // 10
    puzzles, solutions = one_hot(boards.puzzle), one_hot(boards.solution)
    known = {puzzle.tobytes() for puzzle in boards.puzzle[:split]}
    fresh = np.array([puzzle.tobytes() not in known for puzzle in boards.puzzle[split:]])
    history = []
    for epoch in range(1, epochs + 1):
        outputs = []
        bar = tqdm(torch.randperm(split).split(batch), desc=f"epoch {epoch}", leave=False)
        order = []
        for chosen in bar:
            output = layer(puzzles[chosen])
            loss = (output - solutions[chosen]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            outputs.append(output.detach())
            order.append(chosen)
            bar.set_postfix(loss=f"{loss.item():.4f}")
        slower.step()
        trained = score(torch.cat(outputs), boards.solution[torch.cat(order).numpy()])
        answers = evaluate(layer, puzzles[split:], batch)
        tested = score(answers, boards.solution[split:])
        unseen = score(answers[torch.from_numpy(fresh)], boards.solution[split:][fresh])
        history.append((trained, tested))
        print(
            f"epoch {epoch}   train: loss {trained.loss:.5f}, invalid {trained.invalid:.2%}, not exact {trained.inexact:.2%}"
            f"   test: loss {tested.loss:.5f}, invalid {tested.invalid:.2%}, not exact {tested.inexact:.2%}"
            f" ({unseen.inexact:.2%} of the {fresh.sum()} unseen in training)",
            flush=True,
        )
    return layer, history


# Picture


def draw(layer: nn.Module, boards: Boards, history: list[tuple[Score, Score]], path: Path) -> None:
    """Three test puzzles with the layer's answers, and the learning curve beside the paper's."""
    figure = plt.figure(figsize=(12, 5), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[1, 1.3])
    left, right = halves
    axes = np.asarray(left.subplots(2, 3))
    split = len(boards.puzzle) * 9 // 10
    puzzles, solutions = boards.puzzle[split : split + 3], boards.solution[split : split + 3]
    answers = evaluate(layer, one_hot(puzzles), 3).reshape(-1, 4, 4, DIGITS).argmax(3).numpy() + 1
    for column in range(3):
        _board(axes[0, column], puzzles[column], puzzles[column], solutions[column])
        _board(axes[1, column], answers[column], puzzles[column], solutions[column])
    axes[0, 1].set_title("test puzzles")
    axes[1, 1].set_title("the layer's answers")
    axis: Any = right.subplots()
    floor = 2e-4
    epochs = range(1, len(history) + 1)
    axis.plot(epochs, [max(tested.invalid, floor) for _, tested in history], "o-", color="C0", label="karush, test")
    axis.plot(epochs, [max(trained.invalid, floor) for trained, _ in history], ":", color="C0", label="karush, while training")
    for (name, curve), color in zip(PAPER.items(), ("C1", "C7"), strict=True):
        axis.plot(list(curve), [max(value, floor) for value in curve.values()], "s--", color=color, label=name, markersize=4)
    axis.set(yscale="log", xlabel="epoch", ylabel="boards with an invalid row, column or block", xticks=[1, 2, 4, 6, 10, 15, 20])
    axis.axhline(floor, color="0.8", linewidth=1)
    axis.annotate("none", (axis.get_xlim()[1], floor), ha="right", va="bottom", color="0.5")
    axis.legend()
    axis.set_title(f"learned from {split:,} boards ({boards.source})")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _board(axis: Any, digits: np.ndarray, puzzle: np.ndarray, solution: np.ndarray) -> None:
    axis.set(xlim=(0, 4), ylim=(4, 0), aspect="equal", xticks=[], yticks=[])
    for line in range(5):
        width = 2.0 if line % 2 == 0 else 0.6
        axis.axhline(line, color="black", linewidth=width)
        axis.axvline(line, color="black", linewidth=width)
    for row in range(4):
        for column in range(4):
            digit = digits[row, column]
            if digit:
                color = "black" if puzzle[row, column] else "C0" if digit == solution[row, column] else "C3"
                axis.text(column + 0.5, row + 0.54, str(digit), ha="center", va="center", fontsize=15, color=color)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn mini-Sudoku with an optimisation layer.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--boards", type=int, default=10_000, help="how many puzzles; nine tenths of them train")
    parser.add_argument("--picture", type=Path, default=Path("sudoku.png"))
    options = parser.parse_args()
    boards = load_boards(options.boards)
    print(f"{len(boards.puzzle):,} boards: {boards.source}")
    began = time.perf_counter()
    layer, history = train(boards, options.epochs, options.seed)
    print(f"trained in {time.perf_counter() - began:.0f} s")
    draw(layer, boards, history, options.picture)
    print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
