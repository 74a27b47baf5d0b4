"""Ten models: the examples' own layers, and the data of one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import karush as kr
from examples import denoising, lqr, markowitz, mpc, portfolio_vix, relu, stiffness, sudoku, supply_chain, vehicle

RNG = np.random.default_rng(0)
WEEKS = 0.02 * RNG.standard_normal((200, 10))  # returns of ten stocks
MONTHS = 1 + 0.04 * RNG.standard_normal((200, 8))  # gross returns of eight
PLANT = 0.5 * RNG.standard_normal((4, 4)), RNG.standard_normal((4, 2))
HORIZON, SIGNAL, WIDTH = 10, 80, 16


class Model(NamedTuple):
    """``build`` writes the model and compiles it; ``inputs`` are those of one item."""

    build: Callable[[], kr.Layer]
    inputs: dict[str, Tensor]


def _data(**shapes: int | tuple[int, ...]) -> dict[str, Tensor]:
    """Uniform between 0 and 1, which suits all of them."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


MODELS = {
    "portfolio": Model(partial(portfolio_vix.policy, WEEKS), _data(h=10, v=())),
    "mpc": Model(partial(mpc.controller, HORIZON, mpc.GUESS), _data(x0=2)),
    "lqr": Model(partial(lqr.controller, *PLANT), _data(x=4)),
    "denoising": Model(partial(denoising.denoiser, SIGNAL), _data(y=SIGNAL)),
    "supply chain": Model(supply_chain.policy, _data(h=4, p=2, d=2)),
    "vehicle": Model(vehicle.policy, _data(state=5)),
    "stiffness": Model(stiffness.equilibrium, {}),
    "relu": Model(partial(relu.relu, WIDTH), _data(v=WIDTH)),
    "markowitz": Model(partial(markowitz.policy, MONTHS), _data(h=8)),
    "mini-Sudoku": Model(sudoku.make_layer, _data(puzzle=64)),
}
