"""Gradients of the 15 differentiable problems of Maros and Meszaros: against an exact KKT solve, and against re-solving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import karush as kr
from engine.problems import Array, Problem, clarabel_solution
from robustness.conftest import Backend
from robustness.derivatives import NAMES, Blocks, error, exact, ours, vertex
from robustness.judges import Archived, Worst, archive, as_rows, status_of

Data = Callable[[str], Path]
# LICQ, unique solutions, no weakly active row, by the archive's own labels.
LABELS = {"licq": "True", "primal_solution": "unique", "n_weakly_active": "0"}
LARGEST = 20  # variables; compiling another size costs seconds, and a Clarabel solve of a large problem does, too
STEPS = [1e-4, 1e-3, 1e-5, 1e-2, 1e-6, 1e-7, 1e-8]
GOOD = 1e-7  # a step that does better needs no other
EXACT = 1e-9  # 1e-6 is the contract; where the active set is solved for exactly, rounding is all that is left


def differentiable(folder: Path) -> Iterator[Archived]:
    for item in archive(folder, "small", "medium"):
        if all(item.labels[label] == value for label, value in LABELS.items()):
            yield item


def clarabel(problem: Problem) -> tuple[Array, Array]:
    """x, and the multipliers of all rows with bounds among them."""
    x, _, z = clarabel_solution(as_rows(problem))
    return x, z


def moved(problem: Problem, name: str, rng: np.random.Generator) -> tuple[Callable[[float], Problem], Array]:
    """The problem with one block moved by t, and the derivative of that block by t. Absent bounds and zeros of matrices stay."""
    block = getattr(problem, name)
    if name == "Q":
        S = rng.normal(size=block.shape) / len(block)
        eye = np.eye(len(block))
        return lambda t: with_block(problem, "Q", (eye + t * S) @ block @ (eye + t * S).T), S @ block + block @ S.T  # stays convex
    size = np.abs(block[np.isfinite(block)]).max(initial=0) or 1.0
    direction = rng.normal(size=block.shape) * (block if block.ndim == 2 else size * np.isfinite(block))
    return lambda t: with_block(problem, name, block + t * direction), direction


def with_block(problem: Problem, name: str, value: Array) -> Problem:
    return Problem(**{other: getattr(problem, other) for other in NAMES} | {name: value})


def check_exact(item: Archived, form: str, problem: Problem, backend: Backend, worst: Worst) -> Blocks:
    """Gradients of w'x against the exact ones; returns ours."""
    label = f"{item.name} with {form}"
    w = weights(item)
    solution, found = ours(problem, w, backend)
    assert status_of(solution) is kr.Status.SOLVED, label
    at = vertex(problem, *clarabel(problem))
    true = exact(problem, at, w)
    assert found.keys() == true.keys()
    worst.see("x", error(solution.x.detach().numpy(), at.x), label)
    for name in true:
        worst.see(name, error(found[name], true[name]), label)
    return found


def by_clarabel(problem: Problem) -> Array:
    """x as Clarabel returns it."""
    return clarabel(problem)[0]


def by_its_active_set(problem: Problem) -> Array:
    """x that solves exactly for the rows that Clarabel finds active: its own last digits are not enough for steps below 1e-6, and
    in DUAL3 a row is 3e-7 away."""
    return vertex(problem, *clarabel(problem)).x


def check_differences(item: Archived, found: Blocks, worst: Worst, x: Callable[[Problem], Array]) -> None:
    """<gradient, direction> against a sweep of central differences of w'x, over the size of its terms; the best counts."""
    rng, w = np.random.default_rng(1), weights(item)
    for name in NAMES:
        if not np.isfinite(getattr(item.problem, name)).any():
            continue
        at, direction = moved(item.problem, name, rng)
        size = np.linalg.norm(found[name]) * np.linalg.norm(direction)
        inner = (found[name] * direction).sum()
        best = np.inf
        for t in STEPS:
            best = min(best, abs(w @ (x(at(t)) - x(at(-t))) / (2 * t) - inner) / (size or 1.0))
            if best <= GOOD:
                break
        worst.see("differences", best, f"{item.name} {name}")


def weights(item: Archived) -> Array:
    return np.random.default_rng(0).normal(size=item.n)


def test_exact_and_differences(data: Data, backend: Backend) -> None:
    worst, seen = Worst(f"gradients on the archive, {backend}"), 0
    for item in differentiable(data("maros")):
        if item.n <= LARGEST:
            seen += 1
            check_exact(item, "rows", as_rows(item.problem), backend, worst)
            found = check_exact(item, "bounds", item.problem, backend, worst)
            check_differences(item, found, worst, by_clarabel)
    assert seen == 10
    worst.within(x=1e-9, differences=1e-5, **dict.fromkeys(NAMES, EXACT))


@pytest.mark.stress
def test_exact_and_differences_where_problems_are_large(data: Data, backend: Backend) -> None:
    """85 to 900 variables: the compiled engine takes the smaller two."""
    worst, seen = Worst(f"gradients on the large archive, {backend}"), 0
    for item in differentiable(data("maros")):
        if LARGEST < item.n <= (160 if backend == "cpu" else 900):
            seen += 1
            found = check_exact(item, "bounds", item.problem, backend, worst)
            check_differences(item, found, worst, by_its_active_set)
    assert seen == (2 if backend == "cpu" else 5)
    worst.within(x=1e-9, differences=1e-5, **dict.fromkeys(NAMES, EXACT))
