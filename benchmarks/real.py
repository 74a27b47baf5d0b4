"""Five real models as batches: karush through its language and as matrices, beside every peer that is installed.

    walking        model-predictive control of a walking robot (LIPMWALK): P and G shared, 30 states
    portfolio      20 stocks: mean and covariance of 256 windows of a year of daily returns, long only, at most a quarter in each
    scheduling     generation for 24 hours under ramp limits, shortage dearer than surplus: 2,048 days of load
    mini-Sudoku    OptNet's: 40 shared equalities, 64 unknowns, 150 puzzles
    denoising      total variation of 100 points of a well log, 150 windows

Peers of matrices get what ``layer.standard_form`` gives, written out for each item as they want it, and the gradient of every block
that depends on an input; cvxpylayers gets the model in cvxpy. *error* is the worst of the user's variables over 20 items, over
their largest entry, against Clarabel and the optimality conditions at its active set; *residual* the worst of the scaled KKT
residuals, recomputed in NumPy, of what is solved in standard form.

`PYTHONPATH=tests python -m benchmarks.real`
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import clarabel
import cvxpy
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

import karush as kr
from benchmarks import peers
from benchmarks.qp_vs_peers import residual
from benchmarks.timing import Outputs, interleaved, ratio, spread, step, told
from examples import sudoku

cp: Any = cvxpy  # its atoms carry no types
Array = NDArray[np.float64]
CHECKED = 20
PATIENCE_S = 2.0
WINDOW, CAP, AVERSION = 250, 0.25, 5.0
UNDER, OVER, RAMP = 50.0, 0.5, 0.4  # of the paper on learning for the task
POINTS, SMOOTH = 100, 1.0


class Model(NamedTuple):
    """A problem and what a call brings; ``statement``: the same in cvxpy, parameters in the order of the inputs, the variable."""

    problem: kr.Problem
    variable: kr.Variable
    inputs: dict[str, Tensor]
    statement: Callable[[], tuple[Any, list[Any], Any]]


def walking(folder: Path) -> Model:
    data = np.load(folder / "mpc" / "LIPMWALK.npz")
    P, G = data["P"], data["G"]
    x, q, h = kr.Variable(len(P), name="x"), kr.Parameter(len(P), name="q"), kr.Parameter(len(G), name="h")
    problem = kr.Problem(kr.Minimize(0.5 * kr.quad_form(x, P) + q @ x), [G @ x <= h])

    def statement() -> tuple[Any, list[Any], Any]:
        y, c, d = cp.Variable(len(P)), cp.Parameter(len(P)), cp.Parameter(len(G))
        return cp.Problem(cp.Minimize(0.5 * cp.quad_form(y, P) + c @ y), [G @ y <= d]), [c, d], y

    return Model(problem, x, {"q": torch.from_numpy(data["q"]), "h": torch.from_numpy(data["h"])}, statement)


def portfolio(folder: Path) -> Model:
    price = np.load(folder / "sp500_prices" / "sp500_prices.npz")["price"].astype(np.float64)
    daily = price[1:] / price[:-1] - 1
    n, ends = daily.shape[1], np.linspace(WINDOW, len(daily), 256).astype(int)
    windows = np.stack([daily[end - WINDOW : end] for end in ends])
    mu = 252 * windows.mean(1)
    S = 252**0.5 * np.linalg.cholesky(np.stack([np.cov(window.T) for window in windows])).swapaxes(1, 2)
    w = kr.Variable(n, name="w", bounds=[0, CAP])
    m, R = kr.Parameter(n, name="mu"), kr.Parameter((n, n), name="R")
    problem = kr.Problem(kr.Maximize(m @ w - AVERSION * kr.sum_squares(R @ w)), [kr.sum(w) == 1])

    def statement() -> tuple[Any, list[Any], Any]:
        y, c, d = cp.Variable(n), cp.Parameter(n), cp.Parameter((n, n))
        rows = [cp.sum(y) == 1, y >= 0, y <= CAP]
        return cp.Problem(cp.Maximize(c @ y - AVERSION * cp.sum_squares(d @ y)), rows), [c, d], y

    return Model(problem, w, {"mu": torch.from_numpy(mu), "R": torch.from_numpy(S)}, statement)


def scheduling(folder: Path) -> Model:
    load = np.load(folder / "pjm_load" / "pjm_load.npz")["load"][:2048].astype(np.float64)
    z, y = kr.Variable(24, name="z"), kr.Parameter(24, name="y")
    cost = UNDER * kr.sum(kr.pos(y - z)) + OVER * kr.sum(kr.pos(z - y)) + 0.5 * kr.sum_squares(z - y)
    problem = kr.Problem(kr.Minimize(cost), [kr.abs(kr.diff(z)) <= RAMP])

    def statement() -> tuple[Any, list[Any], Any]:
        x, c = cp.Variable(24), cp.Parameter(24)
        total = UNDER * cp.sum(cp.pos(c - x)) + OVER * cp.sum(cp.pos(x - c)) + 0.5 * cp.sum_squares(x - c)
        return cp.Problem(cp.Minimize(total), [cp.abs(cp.diff(x)) <= RAMP]), [c], x

    return Model(problem, z, {"y": torch.from_numpy(load)}, statement)


def mini_sudoku(folder: Path) -> Model:
    puzzle = np.load(folder / "sudoku4" / "sudoku4.npz")["puzzle"][:150]
    given = np.eye(5)[puzzle][..., 1:].reshape(len(puzzle), -1)
    n, k = given.shape[1], sudoku.RULES
    A0 = _rules(k)
    x, p, A = kr.Variable(n, name="x", nonneg=True), kr.Parameter(n, name="puzzle"), kr.Parameter((k, n), name="A")
    problem = kr.Problem(kr.Minimize(0.05 * kr.sum_squares(x) - p @ x), [A @ x == 1])

    def statement() -> tuple[Any, list[Any], Any]:
        y, c, d = cp.Variable(n), cp.Parameter(n), cp.Parameter((k, n))
        return cp.Problem(cp.Minimize(0.05 * cp.sum_squares(y) - c @ y), [d @ y == 1, y >= 0]), [c, d], y

    return Model(problem, x, {"puzzle": torch.from_numpy(given), "A": torch.from_numpy(A0)}, statement)


def _rules(k: int) -> Array:
    """Rows of the rules of a 4 x 4 Sudoku, k that are independent: each cell has a digit, each row, column and block each digit."""
    row, col, digit = (part.reshape(-1) for part in np.indices((4, 4, 4)))
    groups = ((row, col), (row, digit), (col, digit), (2 * (row // 2) + col // 2, digit))
    every = np.stack([((a == i) & (b == j)).astype(float) for a, b in groups for i in range(4) for j in range(4)])
    kept: list[Array] = []
    for rule in every:
        if np.linalg.matrix_rank(np.stack([*kept, rule])) > len(kept):
            kept.append(rule)
    assert len(kept) == k
    return np.stack(kept)


def denoising(folder: Path) -> Model:
    signal = np.load(folder / "well_log" / "well_log.npz")["signal"]
    signal = (signal - np.median(signal)) / signal.std()
    starts = np.linspace(0, len(signal) - POINTS, 150).astype(int)
    x, y = kr.Variable(POINTS, name="x"), kr.Parameter(POINTS, name="y")
    problem = kr.Problem(kr.Minimize(0.5 * kr.sum_squares(x - y) + SMOOTH * kr.norm1(kr.diff(x))))

    def statement() -> tuple[Any, list[Any], Any]:
        z, c = cp.Variable(POINTS), cp.Parameter(POINTS)
        return cp.Problem(cp.Minimize(0.5 * cp.sum_squares(z - c) + SMOOTH * cp.norm1(cp.diff(z)))), [c], z

    return Model(problem, x, {"y": torch.from_numpy(np.stack([signal[start : start + POINTS] for start in starts]))}, statement)


MODELS = {
    "walking": walking, "portfolio": portfolio, "scheduling": scheduling, "mini-Sudoku": mini_sudoku, "denoising": denoising,
}  # fmt: skip


def exact(data: kr.QPData, item: int) -> Array:
    """x of one item in standard form: by Clarabel, and then by the optimality conditions at its active set, if they hold better."""
    Q, p, G, h, A, b = (part[min(item, part.shape[0] - 1)].detach().numpy() for part in data.tensors)
    Q, k = (Q + Q.T) / 2, len(b)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.tol_feas, settings.tol_gap_abs, settings.tol_gap_rel = False, 1e-11, 1e-11, 1e-11
    cones = [clarabel.ZeroConeT(k), clarabel.NonnegativeConeT(len(h))]
    C, c = np.vstack([A, G]), np.concatenate([b, h])
    found = clarabel.DefaultSolver(sp.csc_matrix(np.triu(Q)), p, sp.csc_matrix(C), c, cones, settings).solve()
    x, z, s = np.array(found.x), np.array(found.z), np.array(found.s)
    active = np.concatenate([np.ones(k, dtype=bool), z[k:] > s[k:]])
    rows = C[active]
    r = len(rows)
    K = np.block([[Q, rows.T], [rows, np.zeros((r, r))]])
    polished = np.linalg.lstsq(K, np.concatenate([-p, c[active]]), rcond=None)[0]
    kept = (G @ polished[: len(p)] <= h + 1e-12 * (1 + np.abs(h))).all() and (polished[len(p) + k :] >= -1e-12).all()
    return polished[: len(p)] if kept else x


def calls(
    model: Model, layer: kr.Layer, data: kr.QPData, own: slice, kept: dict[str, Tensor]
) -> Iterator[tuple[str, Callable[[], Outputs]]]:
    """Contestants: a name, and a call to the user's variable. ``kept`` gets what they found, the whole x where they have it."""
    leaves = {name: value.clone().requires_grad_() for name, value in model.inputs.items()}

    def language() -> Tensor:
        solution: kr.Solution = layer(leaves)
        kept["karush"] = solution.raw.x.detach()
        return solution[model.variable]

    def matrices(name: str, solve: peers.Layer, blocks: list[Tensor]) -> Tensor:
        x = solve(*blocks)
        kept[name] = x.detach()
        return x[:, own]

    def through_cvxpy(name: str, made: Any) -> Tensor:
        x: Tensor = made(*leaves.values())[0]
        kept[name] = x.detach()
        return x

    yield "karush", language
    depends = [part.requires_grad for part in data.tensors]
    blocks = [part.detach().clone().requires_grad_(free) for part, free in zip(data.tensors, depends, strict=True)]
    yield "karush, matrices", partial(matrices, "karush, matrices", peers.karush, blocks)
    written = [part.detach().expand(data.batch, *part.shape[1:]).contiguous() for part in data.tensors]
    written = [part.requires_grad_(free) for part, free in zip(written, depends, strict=True)]
    for name, solve in peers.installed().items():
        if name not in ("karush", "karush torch", "qpth 1e-12"):
            yield name, partial(matrices, name, solve, written)
    if importlib.util.find_spec("cvxpylayers"):
        from cvxpylayers.torch import CvxpyLayer

        for name, solver in (("cvxpylayers", None), ("with Moreau", "MOREAU")):
            if solver is None or importlib.util.find_spec("moreau"):
                problem, parameters, variable = model.statement()
                made = CvxpyLayer(problem, parameters=parameters, variables=[variable], solver=solver)
                yield name, partial(through_cvxpy, name, made)


def compare(name: str, model: Model, repeats: int) -> None:
    """Print a row for each contestant."""
    layer = kr.compile(model.problem)
    leaves = {key: value.clone().requires_grad_() for key, value in model.inputs.items()}
    data = layer.standard_form(leaves).to_standard_form()
    at = next(v for v in layer._qp.variables if v.name == model.variable.name)
    own = slice(at.start, at.start + at.size)
    n, m, k = data.sizes
    print(f"\n{name}: (n, m, k) = {(n, m, k)}, batch {data.batch}")
    kept: dict[str, Tensor] = {}
    several = {who: partial(step, call) for who, call in calls(model, layer, data, own, kept)}
    steps = interleaved(several, repeats, PATIENCE_S, _refused)
    expected = np.stack([exact(data, i)[own] for i in range(min(CHECKED, data.batch))])
    there = data.G.detach().abs().amax((0, 2)) > 0  # a row of zeros says nothing, and has no scale
    blocks = [data.Q, data.p, data.G[:, there], data.h[:, there], data.A, data.b]
    problem = [part.detach().expand(data.batch, *part.shape[1:])[:CHECKED] for part in blocks]
    ours = [one.total for one in steps["karush"]]
    print(f"  {'':<18}{'forward':>10}{'backward':>10}{'total (quartiles)':>28}{'':>9}{'error':>9}{'residual':>10}")
    for who, runs in steps.items():
        x = kept[who][:CHECKED]
        whole = x.shape[1] == n
        error = float(np.abs((x[:, own] if whole else x).numpy() - expected).max() / np.abs(expected).max())
        worst = f"{residual(problem, x):10.0e}" if whole else f"{'-':>10}"
        forward, _, _ = spread([one.forward for one in runs])
        backward, _, _ = spread([one.backward for one in runs])
        middle, low, high = spread([one.total for one in runs])
        times = f"{middle:.2f} ({low:.2f}-{high:.2f})"
        against = f"{ratio([one.total for one in runs], ours):8.1f}x"
        print(f"  {who:<18}{forward:10.2f}{backward:10.2f}{times:>28}{against}{error:9.0e}{worst}", flush=True)


def _refused(who: str, error: Exception) -> None:
    print(f"  {who} raises {type(error).__name__}: {(str(error).splitlines() or [''])[0][:80]}")


def main(repeats: int = 15) -> None:
    folder = Path(os.environ.get("KARUSH_DATA", "../shared/data"))
    if not (folder / "mpc").is_dir():
        print(f"no data at {folder}: KARUSH_DATA names the folder")
        return
    warnings.filterwarnings("ignore")  # of peers, on which of their solvers they take
    print(f"\nreal models, forward and backward, milliseconds, {told()}")
    for name, make in MODELS.items():
        compare(name, make(folder), repeats)


if __name__ == "__main__":
    main()
