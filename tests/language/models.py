"""A handful of models as users write them, for the tests that look at how they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import karush as kr

FOLDER = Path(__file__).resolve().parent / "displays"  # golden texts


def portfolio() -> kr.Problem:
    x = kr.Variable(20, name="x")
    L, gamma, mu = kr.Parameter((20, 5), name="L"), kr.Parameter(nonneg=True, name="gamma"), kr.Parameter(20, name="mu")
    cost = gamma * kr.sum_squares(L.T @ x) - mu @ x + 0.1 * kr.norm1(x)
    return kr.Problem(kr.Minimize(cost), {"budget": kr.sum(x) == 1, "long only": x >= 0})


def control() -> kr.Problem:
    """Model predictive control over three steps."""
    x, u = kr.Variable((4, 2), name="x"), kr.Variable((3, 1), name="u", bounds=[-1, 1])
    A, B, Q = kr.Parameter((2, 2), name="A"), kr.Parameter((2, 1), name="B"), kr.Parameter((2, 2), name="Q", PSD=True)
    x_init, u_max = kr.Parameter(2, name="x_init"), kr.Parameter(name="u_max", nonneg=True)
    cost = kr.sum([kr.quad_form(x[t], Q) for t in range(4)]) + 0.01 * kr.sum_squares(u)
    steps = [x[t + 1] == A @ x[t] + B @ u[t] for t in range(3)]
    rows = {"start": x[0] == x_init, "dynamics": steps, "input": kr.norm_inf(u) <= u_max, "rate": kr.abs(kr.diff(u)) <= 0.5}
    return kr.Problem(kr.Minimize(cost), rows)


def sudoku() -> kr.Problem:
    """The learned layer of mini-Sudoku."""
    z = kr.Variable(64, name="z", nonneg=True)
    p, A, v = kr.Parameter(64, name="p"), kr.Parameter((40, 64), name="A"), kr.Parameter(64, name="log_z0")
    return kr.Problem(kr.Minimize(0.05 * kr.sum_squares(z) - p @ z), {"rules": A @ z == A @ kr.exp(v)})


def everything() -> kr.Problem:
    """Conditions, prices, bounds, patterns and statements."""
    x = kr.Variable(3, name="x_max", bounds=[None, kr.Parameter(3, name="u")])
    S, y = kr.Variable((2, 2), name="Sigma", symmetric=True), kr.Variable(2, name="y", nonneg=True)
    w, g = kr.Parameter(3, name="w", boolean=True), kr.Parameter(name="g", nonneg=True)
    p, t = kr.Parameter(3, name="p_hat", bounds=[0, 1]), kr.Parameter(name="theta")
    cost = (
        kr.sum_squares(x - p)
        + kr.quad_form(S.flatten(), np.eye(4))
        + kr.assume(1 - t, nonneg=True) * kr.norm_inf(y)
        - 2 * kr.min(x)
    )
    rows = {
        "50% of {a_b}": (x >= g).where(w),
        "soft": kr.soft(kr.sum(x) <= 1, g),
        "rest": [kr.pos(y) <= 1, x / (1 + g) >= -kr.sum(y)],
    }
    return kr.Problem(kr.Maximize(-cost), [rows, x[::2] <= 2])


SHOWN = (portfolio, control, sudoku, everything)
