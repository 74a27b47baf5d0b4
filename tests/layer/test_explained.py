"""solution.explain: Farkas sums and directions verified from the user's own matrices, faults by name, and what is active."""

from __future__ import annotations

import copy
import pickle
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import karush as kr

F = torch.float64


def two_blocks(n: int, m: int, k: int) -> tuple[kr.Layer, kr.Variable]:
    """min |x|² subject to G x <= h, B x >= c, A x == b, x >= -1 declared: every kind of row."""
    x = kr.Variable(n, name="x", bounds=[-1.0, None])
    G, h = kr.Parameter((m, n), name="G"), kr.Parameter(m, name="h")
    B, c = kr.Parameter((m, n), name="B"), kr.Parameter(m, name="c")
    A, b = kr.Parameter((k, n), name="A"), kr.Parameter(k, name="b")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x)), {"upper": G @ x <= h, "lower": B @ x >= c, "equal": A @ x == b})
    return kr.compile(problem, on_failure="return"), x


def feasible(rows: list[tuple[np.ndarray, float, bool]], n: int) -> bool:
    """Whether some x satisfies C x <= c, == c, by HiGHS."""
    ub = [(C, c) for C, c, equal in rows if not equal]
    eq = [(C, c) for C, c, equal in rows if equal]
    given = {
        "A_ub": np.array([C for C, _ in ub]) if ub else None, "b_ub": [c for _, c in ub] or None,
        "A_eq": np.array([C for C, _ in eq]) if eq else None, "b_eq": [c for _, c in eq] or None,
    }  # fmt: skip
    return bool(linprog(np.zeros(n), bounds=(None, None), **given).status == 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_sum_cannot_hold_and_every_row_is_needed(seed: int) -> None:
    n, m, k = 3 + seed % 4, 9, 1
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=F)

    given = {"G": draw(m, n), "h": draw(m) - 1, "B": draw(m, n), "c": draw(m) + 1, "A": draw(k, n), "b": draw(k)}
    given["h"][0] = -(abs(draw(1)) + 1)
    given["B"][0], given["c"][0] = given["G"][0], 1.0  # G_0 x <= a negative number, G_0 x >= 1
    layer, _ = two_blocks(n, m, k)
    verdict = layer(**given).explain()
    assert verdict.status is kr.Status.PRIMAL_INFEASIBLE
    conflict = verdict.conflict
    assert conflict is not None
    assert conflict.irreducible
    own = {name: value.numpy() for name, value in given.items()}
    left, right, size, rows = np.zeros(n), 0.0, np.zeros(n), []
    for part in conflict.parts:
        for entry in part.entries:
            if entry.kind == "declared":
                C, c, equal = -np.eye(n)[entry.index[0]], 1.0, False
            elif entry.name == "upper":
                C, c, equal = own["G"][entry.index], own["h"][entry.index], False
            elif entry.name == "lower":
                C, c, equal = -own["B"][entry.index], -own["c"][entry.index], False
            else:
                C, c, equal = own["A"][entry.index], own["b"][entry.index], True
            assert equal or part.weight > 0
            left, right, size = left + part.weight * C, right + part.weight * c, size + abs(part.weight * C)
            rows.append((C, float(c), equal))
    assert (abs(left) <= 2e-5 * size).all()  # printed weights of a part agree to six digits
    assert right < 0
    assert right == pytest.approx(conflict.right, rel=1e-4)
    assert conflict.left < 1e-9
    assert len(rows) <= n + 1
    assert not feasible(rows, n)
    for leave in range(len(rows)):
        assert feasible(rows[:leave] + rows[leave + 1 :], n)


def test_what_does_not_matter_is_left_out() -> None:
    x = kr.Variable(30, name="x")
    cap, floor = kr.Parameter(name="cap"), kr.Parameter(30, name="floor")
    rows = {"budget": kr.sum(x) == 1, "cap": x <= cap, "floor": x >= floor, "ends": x[0] + x[29] <= 0.1}
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), rows))
    low = torch.zeros(30, dtype=F)
    low[0] = low[29] = 0.2
    with pytest.raises(kr.SolveError, match=r"'ends' .* and 'floor' \(x >= floor\) together") as raised:
        layer(cap=1.0, floor=low)
    assert "'cap'" not in str(raised.value)
    assert "'budget'" not in str(raised.value)
    solution = raised.value.solution
    assert isinstance(solution, kr.Solution)
    conflict = solution.explain().conflict
    assert conflict is not None
    assert {part.label: part.weight for part in conflict.parts} == {"ends": 1.0, "floor[0, 29]": 1.0}
    assert conflict.right == pytest.approx(-0.3)
    text = str(solution.explain())
    assert "x[0] + x[29] <= 0.1" in text
    assert "test_explained.py:" in text


def test_scales_of_rows_and_bounds_are_the_users() -> None:
    """2 x_1 <= 1 becomes a bound x_1 <= 1/2; its weight is that of what was written."""
    x, low = kr.Variable(3, name="x"), kr.Parameter(3, name="low")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), {"low": x >= low, "high": 2 * x <= 1}), on_failure="return")
    conflict = layer(low=torch.tensor([0.0, 3.0, 0.0])).explain().conflict
    assert conflict is not None
    assert {part.label: part.weight for part in conflict.parts} == {"low[1]": 2.0, "high[1]": 1.0}
    assert conflict.right == pytest.approx(-5.0)


def test_atoms_take_part_by_their_definition() -> None:
    x, radius = kr.Variable(2, name="x"), kr.Parameter(name="radius")
    rows = [kr.norm1(x) <= radius, x[0] >= 3]
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), rows), on_failure="return")
    verdict = layer(radius=1.0).explain()
    assert verdict.conflict is not None
    assert set(verdict.conflict.constraints) == {"norm1(x) <= radius", "x[0] >= 3"}
    assert "the definition of" in str(verdict)
    assert verdict.conflict.right == pytest.approx(-2.0)


def test_a_single_impossible_row() -> None:
    x, w = kr.Variable(2, name="x"), kr.Parameter(2, name="w")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), {"row": w @ x <= -1}), on_failure="return")
    conflict = layer(w=torch.zeros(2)).explain().conflict
    assert conflict is not None
    assert [(part.label, part.weight) for part in conflict.parts] == [("row", 1.0)]


def test_directions_are_verified_and_in_the_users_sense() -> None:
    x, y = kr.Variable(2, name="x"), kr.Variable(3, name="y")
    g = kr.Parameter(2, name="g")
    problem = kr.Problem(kr.Maximize(g @ x - kr.sum_squares(y)), {"line": x[0] == 2 * x[1], "low": x >= -1, "y": y <= 1})
    verdict = kr.compile(problem, on_failure="return")(g=torch.tensor([1.0, 1.0])).explain()
    assert verdict.status is kr.Status.DUAL_INFEASIBLE
    assert verdict.direction is not None
    d = verdict.direction.values["x"]
    assert np.allclose(d, [1, 0.5])
    assert not verdict.direction.values["y"].any()
    assert verdict.direction.slope == pytest.approx(1.5)  # maximised: it grows
    assert "without end along x" in str(verdict)


@pytest.mark.parametrize("policy", ["return", "nan"])
def test_faults_are_those_of_the_item_as_given(policy: Literal["return", "nan"]) -> None:
    """Failed items borrow the inputs of a mate; what is explained is what came."""
    x = kr.Variable(2, name="x")
    P, g = kr.Parameter((2, 2), name="P", PSD=True), kr.Parameter(2, name="g", nonneg=True)
    c = kr.Parameter(2, name="c", bounds=[-1, 1])
    layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, P) + g @ kr.abs(x) + c @ x)), on_failure=policy)
    eye = torch.eye(2, dtype=F)
    solution = layer(
        P=torch.stack([eye, torch.diag(torch.tensor([1.0, -3.0], dtype=F)), eye, torch.tensor([[1, 0.5], [0, 1]], dtype=F), eye]),
        g=torch.tensor([[1.0, 1], [1, 1], [0, -2], [1, 1], [1, 1]], dtype=F),
        c=torch.tensor([[0.0, 0], [0, 0], [0, 0], [0, 0], [0, 1.5]], dtype=F),
    )
    words = {
        1: "P is not PSD: it has the eigenvalue -3",
        2: r"g is not nonneg: its entry [1] is -2",
        3: "differ by 0.5",
        4: "[1] is 1.5",
    }
    for item, said in words.items():
        assert said in str(solution.explain(item))
    assert solution.explain(0).faults == ()


def test_places_in_the_batch() -> None:
    x, u = kr.Variable(name="x"), kr.Parameter(name="u")
    layer = kr.compile(kr.Problem(kr.Minimize(x**2), {"low": x >= 1, "high": x <= u}), on_failure="return")
    solution = layer(u=torch.tensor([[2.0, 2.0, 0.0], [2.0, 0.5, 2.0]]))
    for item, bad in {(0, 2): True, (1, 1): True, (0, 0): False, (-1, -2): True}.items():
        assert (solution.explain(item).conflict is not None) == bad
    assert solution.explain((-1, -2)).index == (1, 1)
    for wrong in (None, 0, (2, 0), (0, 0, 0)):
        with pytest.raises(kr.InputError, match="no item"):
            solution.explain(wrong)
    assert layer(u=2.0).explain().status is kr.Status.SOLVED


def test_active_constraints_have_their_multipliers() -> None:
    x, u = kr.Variable(3, name="x"), kr.Parameter(3, name="u")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x - u)), {"cap": kr.sum(x) <= 1, "positive": 2 * x >= 0}))
    solution = layer(u=torch.tensor([1.0, 0.8, -1.0], dtype=F))
    verdict = solution.explain()
    told = {part.label: part.weight for part in verdict.active}
    assert told == {"cap": pytest.approx(0.8), "positive[2]": pytest.approx(float(solution.dual("positive")[2]))}
    assert verdict.flags == kr.GradientFlag(0)
    kink = layer(u=torch.tensor([0.5, 0.5, -1.0], dtype=F)).explain()
    assert kink.flags == kr.GradientFlag.weakly_active
    assert "kink" in str(kink)


def test_unsolved_items_say_where_it_is_worst() -> None:
    n, m = 30, 60
    x, G, h = kr.Variable(n, name="x"), kr.Parameter((m, n), name="G"), kr.Parameter(m, name="h")
    rows = {"many": G @ x <= h, "tiny": 1e-10 * kr.sum(x) <= 1e-10, "fixed": x[0] + x[1] == 2}
    layer = kr.compile(kr.Problem(kr.Minimize(kr.norm1(x - 1)), rows), on_failure="return", max_iter=1, backend="torch")
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(m, n, generator=generator, dtype=F), torch.rand(m, generator=generator, dtype=F)
    solution = layer(G=given[0], h=given[1])
    verdict = solution.explain()
    own, x_now = solution.data, solution.raw.x[0]
    excess = (own.G[0] @ x_now - own.h[0]).clamp(min=0)
    assert excess.max() > 1e-6
    size = own.G[0].abs().amax(1).clamp(max=1) + own.h[0].abs() + own.G[0].abs() @ x_now.abs()
    worst = int((excess / size).argmax())
    many = layer.rows("many").G
    if worst in many:
        assert verdict.residuals[0][2] == f"many[{int((many == worst).nonzero())}]"
    else:
        assert verdict.residuals[0][2] in ("tiny", "the definition of norm1")
    assert verdict.status is kr.Status.MAX_ITERATIONS
    assert [value for _, value, _ in verdict.residuals] == solution.residuals.scaled.tolist()
    assert any("same units" in hint and "tiny" in hint for hint in verdict.hints)


def test_explanations_survive_copies() -> None:
    x, u = kr.Variable(2, name="x"), kr.Parameter(name="u")
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), {"low": x >= 1, "high": x <= u}), on_failure="return")
    told = str(layer(u=0.0).explain())
    assert "test_explained.py:" in told
    assert str(pickle.loads(pickle.dumps(layer))(u=0.0).explain()) == told
    assert str(copy.deepcopy(layer)(u=0.0).explain()) == told
