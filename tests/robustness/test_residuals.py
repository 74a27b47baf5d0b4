"""Residuals of any point, by the definitions of docs/conventions.md written out in loops: what statuses are derived from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import karush as kr
from karush.backends.residuals import Measure, Point
from karush.backends.screen import screen

N, M, K = 4, 5, 2


def by_definition(blocks: dict[str, np.ndarray], point: dict[str, np.ndarray]) -> list[float]:
    """Inequalities, equalities, dual, gap; scaled."""
    Q, p, G, h, A, b, lb, ub = (blocks[name] for name in ("Q", "p", "G", "h", "A", "b", "lb", "ub"))
    x, y, z, z_lb, z_ub = (point[name] for name in ("x", "y", "z", "z_lb", "z_ub"))

    def unit(row: np.ndarray) -> float:
        return min(1.0, np.abs(row).max()) or 1.0

    ineq = [max(0.0, g @ x - r) / (unit(g) + abs(r) + np.abs(g) @ np.abs(x)) for g, r in zip(G, h, strict=True)]
    eq = [abs(a @ x - r) / (unit(a) + abs(r) + np.abs(a) @ np.abs(x)) for a, r in zip(A, b, strict=True)]
    u_f = min(1.0, np.abs(Q).max() + np.abs(p).max()) or 1.0
    dual = []
    for j in range(N):
        terms = [*(Q[j] * x), p[j], *(G[:, j] * z), *(A[:, j] * y), -z_lb[j], z_ub[j]]
        u_j = min(1.0, abs(p[j]) + np.abs(Q[j]).max()) or u_f
        dual.append(abs(sum(terms)) / (u_j + sum(map(abs, terms))))
    f = x @ Q @ x / 2 + p @ x
    d = -x @ Q @ x / 2 - h @ z - b @ y + lb @ z_lb - ub @ z_ub
    return [max(ineq), max(eq), max(dual), abs(f - d) / (u_f + abs(f) + abs(d))]


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e6])
def test_every_component(size: float) -> None:
    """``size`` is that of the objective and of the rows by turns; points are anywhere, so that no residual is zero for all."""
    seen = np.zeros(4)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        root = rng.normal(size=(N, N))
        shapes: dict[str, int | tuple[int, int]] = {"p": N, "G": (M, N), "h": M, "A": (K, N), "b": K}
        blocks = {"Q": root @ root.T} | {name: rng.normal(size=shape) for name, shape in shapes.items()}
        for name in ("Q", "p") if seed % 2 else ("G", "h", "A", "b"):
            blocks[name] = blocks[name] * size
        blocks |= {"lb": -rng.uniform(1, 2, N), "ub": rng.uniform(1, 2, N)}
        point = {name: rng.uniform(0, 1, length) for name, length in (("z", M), ("z_lb", N), ("z_ub", N))}
        point |= {"x": rng.uniform(-1, 1, N), "y": rng.normal(size=K)}
        if seed % 3 == 0:  # equalities hold but for a little, on either side
            blocks["b"] = blocks["A"] @ point["x"] + rng.choice([-1e-3, 1e-3]) * np.abs(blocks["b"]).max()
        data = kr.QPData(*(torch.tensor(blocks[name])[None] for name in ("Q", "p", "G", "h", "A", "b", "lb", "ub")))
        measure = Measure(screen(data, None))
        x, y, z, z_lb, z_ub = (torch.tensor(point[name])[None] for name in ("x", "y", "z", "z_lb", "z_ub"))
        found = measure.residuals(Point(x, torch.cat([y, z], 1), z_lb, z_ub), measure.floors).scaled[0].numpy()
        np.testing.assert_allclose(found, by_definition(blocks, point), rtol=1e-10, atol=1e-13)
        seen = np.maximum(seen, found)
    assert (seen > 1e-4).all()
