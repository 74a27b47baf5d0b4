"""Gradient flags: on where the point is not regular, off where it is."""

from __future__ import annotations

import pytest
import torch

import karush as kr
from engine.problems import random_batch
from karush.backends.flags import GradientFlag, gradient_flags
from karush.backends.solve import solve

F = torch.float64


def flags(
    Q: object, p: object, G: object = None, h: object = None, A: object = None, b: object = None, **options: str
) -> GradientFlag:
    def block(value: object, *empty: int) -> torch.Tensor:
        return torch.zeros(1, *empty, dtype=F) if value is None else torch.tensor([value], dtype=F)

    n = len(p)  # type: ignore[arg-type]  # a list in every call
    data = kr.QPData(block(Q), block(p), block(G, 0, n), block(h, 0), block(A, 0, n), block(b, 0))
    solution = solve(data, kr.Options(**options))  # type: ignore[arg-type]  # policies, by name
    return GradientFlag(int(gradient_flags(data, solution)))


EYE = [[1.0, 0.0], [0.0, 1.0]]


def test_regular_points_have_no_flag() -> None:
    data = kr.QPData(*random_batch(20, 8, 12, 2))
    assert (gradient_flags(data, solve(data)) == 0).all()


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ((EYE, [0.0, 1.0], [[1.0, 0.0]], [0.0]), GradientFlag.weakly_active),
        ((EYE, [-1.0, 0.0], [[1.0, 0.0], [1.0, 0.0]], [0.5, 0.5]), GradientFlag.licq),
        ((EYE, [-1.0, 0.0], [[1.0, 0.0], [1e6, 0.0]], [0.5, 5e5]), GradientFlag.licq),
        ((EYE, [1.0, 0.0], None, None, [[1.0, 1.0], [1.0, 1.0]], [1.0, 1.0]), GradientFlag.licq),
        (([[1.0, 0.0], [0.0, 0.0]], [1.0, 0.0]), GradientFlag.nonunique),
        (([[1.0, 0.0], [0.0, 1e-7]], [1.0, 0.0]), GradientFlag.ill_conditioned),
        ((EYE, [1.0, 0.0], None, None, [[1.0, 0.0], [1.0, 1e-6]], [0.5, 0.5]), GradientFlag.ill_conditioned),
        ((EYE, [1.0, 0.0], [[0.0, 0.0]], [1.0]), GradientFlag(0)),
        ((EYE, [1.0, 0.0], [[1.0, 0.0]], [float("inf")]), GradientFlag(0)),
    ],
)
def test_irregular_points(problem: tuple[object, ...], expected: GradientFlag) -> None:
    assert flags(*problem) == expected


def test_failed_items_are_masked() -> None:
    assert flags(EYE, [float("nan"), 0.0], on_failure="return") == GradientFlag.masked
