"""Random nests of atoms: what the rules call convex is convex, and what is compiled has the optimum of what was written.

No oracle solves these: a solution is compared with the value of the expression itself, there and at points around it. A relaxation
that is not tight, or a sign that is not so, shows as a value that the solver believes and the expression does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import karush as kr

N = 4
M = np.random.default_rng(3).standard_normal((N, N))
Step = Callable[[kr.Expression, np.random.Generator], Any]

# Vector to vector. What need not fit the rules is tried all the same, and left out where it does not.
STEPS: list[Step] = [
    lambda e, rng: -e,
    lambda e, rng: e + rng.standard_normal(N),
    lambda e, rng: float(rng.uniform(0.3, 2)) * e,
    lambda e, rng: np.abs(M) @ e,
    lambda e, rng: M @ e,
    lambda e, rng: kr.abs(e),
    lambda e, rng: kr.pos(e),
    lambda e, rng: kr.neg(e),
    lambda e, rng: kr.maximum(e, rng.standard_normal(N)),
    lambda e, rng: kr.minimum(e, float(rng.standard_normal())),
    lambda e, rng: kr.cummax(e),
    lambda e, rng: kr.cummin(e),
    lambda e, rng: kr.cumsum(e),
    lambda e, rng: kr.scalene(e, 0.5, 2.0),
    lambda e, rng: kr.roll(e, 1) + kr.flip(e),
    lambda e, rng: kr.broadcast_to(kr.max(e), N) + e,
    lambda e, rng: kr.broadcast_to(kr.sum_largest(e, 1.7), N),
    lambda e, rng: kr.broadcast_to(kr.dotsort(e, [1.5, 0.5]), N),
    lambda e, rng: kr.broadcast_to(kr.ptp(e), N),
    lambda e, rng: kr.convolve([0.5, 1.0], e)[:N],
    lambda e, rng: kr.outer(rng.random(2), e)[1],
]
ENDS: list[Step] = [
    lambda e, rng: kr.sum(e),
    lambda e, rng: kr.max(e),
    lambda e, rng: kr.norm1(e),
    lambda e, rng: kr.norm_inf(e),
    lambda e, rng: kr.sum_squares(e),
    lambda e, rng: kr.square(kr.norm1(e)),
    lambda e, rng: kr.sum(kr.huber(e, 0.4)),
    lambda e, rng: kr.var(e),
    lambda e, rng: kr.tv(e),
    lambda e, rng: kr.cvar(e, 0.3),
    lambda e, rng: kr.quad_form(e, M @ M.T),
    lambda e, rng: e @ e,
    lambda e, rng: -kr.sum_smallest(e, 2.5),
]


def drawn(seed: int) -> tuple[kr.Variable, kr.Expression]:
    """A variable and an expression of it that a quadratic program can minimize."""
    rng = np.random.default_rng(seed)
    for _ in range(1000):
        attributes: dict[str, Any] = [{}, {"nonneg": True}, {"nonpos": True}][rng.integers(3)]
        x = kr.Variable(N, name="x", **attributes)
        e: kr.Expression = kr.Constant(M) @ x if rng.random() < 0.5 else x - rng.standard_normal(N)
        if rng.random() < 0.3:
            e = x + 0.0
        for _ in range(rng.integers(1, 5)):
            e = STEPS[rng.integers(len(STEPS))](e, rng)
        end = ENDS[rng.integers(len(ENDS))](e, rng)
        if end.is_concave() and not end.is_convex():
            end = -end
        if end.is_convex() and end.is_qpwa() and not end.is_affine():
            return x, end
    raise AssertionError("nothing fits")


@pytest.mark.parametrize("seed", range(60))
def test_a_random_nest(seed: int) -> None:
    x, e = drawn(seed)
    rng = np.random.default_rng(seed)
    center = rng.standard_normal(N)
    cost = e + kr.sum_squares(x - center)
    solution = kr.Problem(kr.Minimize(cost)).solve()
    assert bool(solution.ok)
    best = solution[x].double().numpy()

    def value(points: np.ndarray, of: kr.Expression = cost) -> np.ndarray:
        return kr.evaluate(of, {x: torch.tensor(points)}).numpy()

    reached = float(value(best))
    size = max(1.0, abs(reached))
    assert abs(float(solution.objective) - reached) <= 1e-5 * size  # float32 results of a float64 solve
    around = best + np.concatenate([10.0**-k * rng.standard_normal((20, N)) for k in range(4)])
    around = np.maximum(around, 0) if x.is_nonneg() else np.minimum(around, 0) if x.is_nonpos() else around
    assert value(around).min() >= reached - 1e-5 * size

    a, b = (np.abs(rng.standard_normal((30, N))) * (-1 if x.is_nonpos() else 1) for _ in range(2))
    if not (x.is_nonneg() or x.is_nonpos()):
        a, b = rng.standard_normal((2, 30, N)) * 2
    middle, chord = value((a + b) / 2, e), (value(a, e) + value(b, e)) / 2
    assert (middle <= chord + 1e-9 * np.maximum(1, np.abs(chord))).all()
    assert not e.is_nonneg() or value(a, e).min() >= -1e-12
    assert not e.is_nonpos() or value(a, e).max() <= 1e-12
