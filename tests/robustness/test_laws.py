"""Laws of any problem that hypothesis can draw: sizes, ranks, scales and active sets; what is changed moves x, y, z in a known way.

``test_metamorphic`` has twenty bases of one size and every change; here sizes are anything, laws are chained, and the language is
asked as well. Bases are built from their solutions, so that the right answer is known and not ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import karush as kr
from engine.problems import Problem, built

Array = NDArray[np.float64]
Draw = np.random.Generator
TOLERANCE = 1e-8


class Known(Problem):
    """A problem whose x, y, z are its solution."""


def known(Q: Array, p: Array, G: Array, h: Array, A: Array, b: Array, x: Array, y: Array, z: Array) -> Problem:
    return Known(Q, p, G, h, A, b, x=x, y=y, z=z)


def permuted(s: Problem, rng: Draw) -> Problem:
    i, j, e = (rng.permutation(len(v)) for v in (s.x, s.z, s.y))
    return known(s.Q[i][:, i], s.p[i], s.G[j][:, i], s.h[j], s.A[e][:, i], s.b[e], s.x[i], s.y[e], s.z[j])


def objective_scaled(s: Problem, rng: Draw) -> Problem:
    c = 10 ** rng.uniform(-3, 3)
    return known(c * s.Q, c * s.p, s.G, s.h, s.A, s.b, s.x, c * s.y, c * s.z)


def rows_scaled(s: Problem, rng: Draw) -> Problem:
    r, q = 10 ** rng.uniform(-2, 2, len(s.h)), 10 ** rng.uniform(-2, 2, len(s.b))
    return known(s.Q, s.p, r[:, None] * s.G, r * s.h, q[:, None] * s.A, q * s.b, s.x, s.y / q, s.z / r)


def units(s: Problem, rng: Draw) -> Problem:
    d = 10 ** rng.uniform(-1, 1, len(s.p))
    return known(d[:, None] * s.Q * d, d * s.p, s.G * d, s.h, s.A * d, s.b, s.x / d, s.y, s.z)


def moved(s: Problem, rng: Draw) -> Problem:
    t = rng.normal(size=len(s.p))
    return known(s.Q, s.p + s.Q @ t, s.G, s.h - s.G @ t, s.A, s.b - s.A @ t, s.x - t, s.y, s.z)


def unused_variable(s: Problem, rng: Draw) -> Problem:
    a, c, n = rng.uniform(0.5, 2), rng.normal(), len(s.p)
    Q = np.zeros((n + 1, n + 1))
    Q[:n, :n], Q[n, n] = s.Q, a
    G, A = (np.hstack([M, np.zeros((len(M), 1))]) for M in (s.G, s.A))
    return known(Q, np.r_[s.p, c], G, s.h, A, s.b, np.r_[s.x, -c / a], s.y, s.z)


def redundant_row(s: Problem, rng: Draw) -> Problem:
    w = rng.uniform(0, 1, len(s.h))
    G, h = np.vstack([s.G, w @ s.G]), np.r_[s.h, w @ s.h + 1]
    return known(s.Q, s.p, G, h, s.A, s.b, s.x, s.y, np.r_[s.z, 0.0])


def equality_split(s: Problem, rng: Draw) -> Problem:
    """The multipliers of the two rows are known by their difference only."""
    if not len(s.b):
        return s
    G, h = np.vstack([s.G, s.A[:1], -s.A[:1]]), np.r_[s.h, s.b[:1], -s.b[:1]]
    return known(s.Q, s.p, G, h, s.A[1:], s.b[1:], s.x, s.y[1:], np.r_[s.z, np.nan, np.nan])


LAWS: dict[str, Callable[[Problem, Draw], Problem]] = {
    law.__name__: law
    for law in (permuted, objective_scaled, rows_scaled, units, moved, unused_variable, redundant_row, equality_split)
}


@st.composite
def bases(draw: st.DrawFn) -> Problem:
    n = draw(st.integers(1, 9))
    k = draw(st.integers(0, (n - 1) // 2))
    m = draw(st.integers(0, 2 * n))
    active = draw(st.integers(0, min(m, n - k)))
    return built(draw(st.integers(0, 10**6)), n, m, k, active=active)


def error(s: Problem, backend: str) -> float:
    """The worst distance of what is found from what is known, over its size."""
    arguments, _ = s.arguments()
    found = kr.solve_qp(*arguments, backend=backend)  # type: ignore[arg-type]  # one of the engines' names
    assert int(found.status) == kr.Status.SOLVED
    worst = 0.0
    for ours, true in zip((found.x, found.y, found.z), (s.x, s.y, s.z), strict=True):
        known_at = ~np.isnan(true)
        size = 1 + np.abs(true[known_at]).max(initial=0)
        worst = max(worst, float(np.abs(ours.numpy() - true)[known_at].max(initial=0) / size))
    return worst


def conditioned(s: Problem) -> bool:
    """The optimality system of the base is not near singular: laws hold to 1e-8 where 1e-8 can be told from rounding."""
    rows = np.vstack([s.A, s.G[s.z > 0]])
    K = np.block([[s.Q, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    return bool(np.linalg.cond(K) < 1e5)


@settings(max_examples=120)
@given(
    bases(), st.lists(st.sampled_from(sorted(LAWS)), max_size=3, unique=True), st.sampled_from(["cpu", "torch"]), st.integers(0, 99)
)
def test_laws_hold_one_after_the_other(base: Problem, laws: list[str], backend: str, seed: int) -> None:
    if not conditioned(base):
        return
    changed, rng = base, np.random.default_rng(seed)
    for law in laws:
        changed = LAWS[law](changed, rng)
    assert error(changed, backend) <= TOLERANCE


@settings(max_examples=60)
@given(bases(), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_the_objective_shifted_and_scaled(base: Problem, shift: float, scale: float, seed: int) -> None:
    """In the language: c f + t has the solution of f, and c times its multipliers; maximising -f is minimising f."""
    if not conditioned(base):
        return
    x = kr.Variable(len(base.p), name="x")
    f = kr.quad_form(x, base.Q) / 2 + base.p @ x
    rows = {}
    if len(base.h):
        rows["rows"] = base.G @ x <= base.h
    if len(base.b):
        rows["plane"] = base.A @ x == base.b
    value = scale * (base.x @ base.Q @ base.x / 2 + base.p @ base.x)
    t = kr.Parameter(name="t")
    for objective, sign in ((kr.Minimize(scale * f + t), 1), (kr.Maximize(-scale * f - t), -1)):
        solution = kr.compile(kr.Problem(objective, rows))(torch.tensor(shift, dtype=torch.float64))
        assert np.abs(solution["x"].numpy() - base.x).max() <= TOLERANCE * (1 + np.abs(base.x).max())
        size = abs(value) + abs(shift) + scale
        assert abs(float(solution.objective) - sign * (value + shift)) <= TOLERANCE * size
        for name, multiplier in (("rows", base.z), ("plane", base.y)):
            if name in rows:
                found = solution.dual(name).numpy()
                assert np.abs(found - scale * multiplier).max() <= TOLERANCE * scale * (1 + np.abs(multiplier).max())


def test_coefficients_that_are_moved_twice_and_negated() -> None:
    """Transposed, then indexed, then negated: G is what NumPy makes of the same words, h too."""
    x, M = kr.Variable(3, name="x"), kr.Parameter((3, 4), name="M")
    moved, order = -(M.T[[2, 0, 3, 1]][:, [1, 2, 0]]), [3, 1, 0, 2]
    rows = moved @ x + kr.multiply(moved[0], x)[0] <= (-M.T)[order][:, 1]
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), [rows]))
    value = torch.arange(12, dtype=torch.float64).reshape(3, 4).sin() + 2
    data, m = layer.standard_form(value), value.numpy()
    expected = -(m.T[[2, 0, 3, 1]][:, [1, 2, 0]])
    expected[:, 0] += expected[0, 0].copy()
    np.testing.assert_allclose(data.G[0].numpy(), expected, rtol=1e-15)
    np.testing.assert_allclose(data.h[0].numpy(), (-m.T)[order][:, 1], rtol=1e-15)


def test_the_bases_are_of_all_kinds() -> None:
    kinds = set()

    @settings(max_examples=100, database=None)
    @given(bases())
    def see(base: Problem) -> None:
        kinds.add((len(base.b) > 0, bool((base.z > 0).any()), conditioned(base)))

    see()
    assert {(k, active, True) for k in (False, True) for active in (False, True)} <= kinds


def test_the_measure_sees_an_error() -> None:
    base = built(0, 4, 5, 1)
    assert error(base, "cpu") <= TOLERANCE
    base.x = base.x + 1e-6
    assert error(base, "cpu") > TOLERANCE
