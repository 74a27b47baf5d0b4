"""Draw every picture of the gallery again: runs the examples in full (some minutes) and writes docs/pictures.

The pictures are committed, so that the pages show them wherever they are read, and building the documentation trains nothing.
A palette of 64 colours keeps each under 60 kB.

    python docs/pictures.py [names ...]
"""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

import karush as kr

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
EXAMPLES = (
    "relu", "stiffness", "lqr", "mpc", "vehicle", "supply_chain", "denoising", "markowitz", "portfolio_vix", "decision_focused",
)  # fmt: skip
LARGEST = 60_000  # bytes


def portfolio() -> kr.Layer:
    """The model of the README."""
    x = kr.Variable(20, name="x")
    L, mu = kr.Parameter((20, 5), name="L"), kr.Parameter(20, name="mu")
    gamma = kr.Parameter(nonneg=True, name="gamma")
    cost = gamma * kr.sum_squares(L.T @ x) - mu @ x + kr.norm1(x)
    return kr.compile(kr.Problem(kr.Minimize(cost), {"budget": kr.sum(x) == 1, "long only": x >= 0}))


def save(figure: Figure, name: str, dpi: int) -> None:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=dpi)
    path = FOLDER / f"{name}.png"
    Image.open(stream).convert("RGB").quantize(64).save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path.name} has {path.stat().st_size} bytes; draw less, or at fewer dots per inch")


def main() -> None:
    sys.path.insert(0, str(ROOT / "examples"))
    wanted = sys.argv[1:] or [*EXAMPLES, "spy"]
    FOLDER.mkdir(exist_ok=True)
    for name in wanted:
        if name == "spy":
            mpc = importlib.import_module("mpc")
            save(portfolio().spy(), "spy_portfolio", 110)
            save(mpc.controller(8, mpc.GUESS).spy(), "spy_mpc", 110)
            save(importlib.import_module("sudoku").make_layer().spy(), "spy_sudoku", 110)
        else:
            example = importlib.import_module(name)
            save(example.draw(example.run()), name, 110)


if __name__ == "__main__":
    main()
