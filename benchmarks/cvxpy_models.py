"""The models of ``models`` in cvxpy, as cvxpylayers wants them: data enter affinely (DPP).

A coefficient such as exp(a + b v) is a parameter here, and the user computes it before the call; a parameter times another one,
S (A x + B u), takes a variable that equals the second.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cvxpy
import numpy as np
import torch
from torch import Tensor

from benchmarks.models import HORIZON, MONTHS, PLANT, SIGNAL, WEEKS, WIDTH
from examples import markowitz, mpc, portfolio_vix, stiffness, sudoku, supply_chain, vehicle

cp: Any = cvxpy  # its atoms carry no types


class Statement(NamedTuple):
    problem: Any
    parameters: list[Any]
    variables: list[Any]


def portfolio() -> Statement:
    n = WEEKS.shape[1]
    w, h, aversion = cp.Variable(n), cp.Parameter(n), cp.Parameter(nonneg=True)
    risk = aversion * cp.sum_squares(np.linalg.cholesky(np.cov(WEEKS.T)).T @ w)
    trading = portfolio_vix.KAPPA * cp.norm1(w - h) + portfolio_vix.SHORT * cp.sum(cp.neg(w))
    rows = [cp.sum(w) == 1, cp.norm1(w) <= 1.5, cp.abs(w) <= 0.5]
    return Statement(cp.Problem(cp.Maximize(WEEKS.mean(0) @ w - trading - risk), rows), [h, aversion], [w])


def control() -> Statement:
    X, U = cp.Variable((HORIZON + 1, 2)), cp.Variable((HORIZON, 1))
    x0, q, u_max = cp.Parameter(2), cp.Parameter(2, nonneg=True), cp.Parameter(nonneg=True)
    cost = cp.sum(cp.square(X) @ q) + 0.1 * cp.sum_squares(U) + 10 * (cp.square(X[-1]) @ q)
    rows = [X[0] == x0, X[1:] == X[:-1] @ mpc.A.T + U @ mpc.B.T, cp.abs(U) <= u_max]
    return Statement(cp.Problem(cp.Minimize(cost), rows), [x0, q, u_max], [U])


def regulator() -> Statement:
    A, B = PLANT
    u, y, x, S = cp.Variable(2), cp.Variable(4), cp.Parameter(4), cp.Parameter((4, 4))
    cost = cp.sum_squares(u) + cp.sum_squares(S @ y)
    return Statement(cp.Problem(cp.Minimize(cost), [y == A @ x + B @ u]), [x, S], [u])


def denoiser() -> Statement:
    x, y, strength = cp.Variable(SIGNAL), cp.Parameter(SIGNAL), cp.Parameter(nonneg=True)
    cost = 0.5 * cp.sum_squares(x - y) + strength * cp.norm1(cp.diff(x))
    return Statement(cp.Problem(cp.Minimize(cost)), [y, strength], [x])


def chain() -> Statement:
    u, tomorrow = cp.Variable(8, nonneg=True), cp.Variable(4)
    h, p, d, S, q = cp.Parameter(4), cp.Parameter(2), cp.Parameter(2), cp.Parameter((4, 4)), cp.Parameter(4)
    trade = p @ u[:2] + supply_chain.SHIPPING * cp.sum(u[2:6]) - supply_chain.REVENUE * cp.sum(u[6:])
    rows = [tomorrow == h + (supply_chain.INTO - supply_chain.OUT) @ u, tomorrow <= supply_chain.H_MAX]
    rows += [supply_chain.OUT @ u <= h, u <= supply_chain.U_MAX, u[6:] <= d]
    return Statement(cp.Problem(cp.Minimize(trade + cp.sum_squares(S @ tomorrow) + q @ tomorrow), rows), [h, p, d, S, q], [u])


def steering() -> Statement:
    """The prediction is y = c + C u, and its coefficients are computed before the call."""
    u, y = cp.Variable(2), cp.Variable(3)
    c, turn, S, q = cp.Parameter(3), cp.Parameter(), cp.Parameter((3, 3)), cp.Parameter(3)
    rows = [y == c + cp.hstack([0.0, turn * u[1], vehicle.H * u[0]]), cp.abs(u) <= np.array([2.0, 0.6])]
    cost = cp.sum_squares(u) + cp.sum_squares(S @ y) + q @ y
    return Statement(cp.Problem(cp.Minimize(cost), rows), [c, turn, S, q], [u])


def equilibrium() -> Statement:
    x, k = cp.Variable(stiffness.BLOCKS + 2), cp.Parameter(stiffness.BLOCKS + 1, nonneg=True)
    energy = 0.5 * cp.sum(cp.multiply(k, cp.square(cp.diff(x))))
    rows = [x[0] == 0, x[-1] == stiffness.LENGTH, cp.diff(x) >= stiffness.WIDTH]
    return Statement(cp.Problem(cp.Minimize(energy), rows), [k], [x])


def rectifier() -> Statement:
    x, v = cp.Variable(WIDTH, nonneg=True), cp.Parameter(WIDTH)
    return Statement(cp.Problem(cp.Minimize(cp.sum_squares(x - v))), [v], [x])


def trader() -> Statement:
    n = MONTHS.shape[1]
    w, h, S, mu = cp.Variable(n), cp.Parameter(n), cp.Parameter((n, n)), cp.Parameter(n)
    cost = cp.sum_squares(S @ w) - mu @ w + markowitz.KAPPA * cp.norm1(w - h) + markowitz.SHORT * cp.sum(cp.neg(w))
    rows = [cp.sum(w) == 1, cp.norm1(w) <= markowitz.LEVERAGE]
    return Statement(cp.Problem(cp.Minimize(cost), rows), [h, S, mu], [w])


def puzzle() -> Statement:
    """The right-hand side A exp(v) is computed before the call."""
    n = sudoku.CELLS * sudoku.DIGITS
    x, given, A, b = cp.Variable(n), cp.Parameter(n), cp.Parameter((sudoku.RULES, n)), cp.Parameter(sudoku.RULES)
    problem = cp.Problem(cp.Minimize(0.05 * cp.sum_squares(x) - given @ x), [A @ x == b, x >= 0])
    return Statement(problem, [given, A, b], [x])


STATEMENTS = {
    "portfolio": portfolio,
    "mpc": control,
    "lqr": regulator,
    "denoising": denoiser,
    "supply chain": chain,
    "vehicle": steering,
    "stiffness": equilibrium,
    "relu": rectifier,
    "markowitz": trader,
    "mini-Sudoku": puzzle,
}


def values(name: str) -> list[Tensor]:
    """One item of the parameters of a statement, uniform between 0 and 1; the puzzle's equations have a solution."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.rand(p.shape, generator=generator, dtype=torch.float64) for p in STATEMENTS[name]().parameters]
    if name == "mini-Sudoku":
        drawn[2] = drawn[1].sum(1)
    return drawn
