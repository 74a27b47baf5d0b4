"""Explanations against numbers: what is said of the canonical matrices holds for matrices that were computed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import sys
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import karush as kr
from catalogue import CASES, batch
from karush.canon.canonicalize import canonicalize
from karush.canon.structure import patterns

LETTERS = ("Q", "p", "G", "h", "A", "b", "lb", "ub")


def portfolio(**options: Any) -> kr.Layer:
    x, L = kr.Variable(6, name="x"), kr.Parameter((6, 2), name="L")
    gamma, mu = kr.Parameter(nonneg=True, name="gamma"), kr.Parameter(6, name="mu")
    cost = gamma * kr.sum_squares(L.T @ x) - mu @ x + kr.norm1(x)
    return kr.compile(kr.Problem(kr.Minimize(cost), {"budget": kr.sum(x) == 1, "long only": x >= 0}), **options)


def switched() -> kr.Problem:
    x, G = kr.Variable(3, name="x"), kr.Parameter((4, 3), name="G")
    on, high = kr.Parameter(4, name="on", boolean=True), kr.Parameter(name="high", nonneg=True)
    rows = {"rows": (G @ x <= 0).where(on), "cap": (x <= high).where(on[0])}
    return kr.Problem(kr.Minimize(kr.sum_squares(x - 1)), rows)


MODELS = {**CASES, "switched": switched}


def blocks(data: kr.QPData) -> Iterator[tuple[str, Tensor]]:
    for letter in LETTERS:
        value = getattr(data, letter)
        if value is not None:
            yield letter, value[0] if value.ndim == 3 else value[0].unsqueeze(1)


# Patterns


@pytest.mark.parametrize("name", MODELS)
def test_patterns_hold_for_numbers(name: str) -> None:
    """Nothing differs from zero outside of the pattern, and nothing moves with a parameter outside of its own.

    The oracle is the assembled data at two random points that differ in one parameter alone. Where the data do move, the pattern
    must say so; a pattern may say more, since what two draws leave equal need not be constant.
    """
    problem = MODELS[name]()
    found = patterns(canonicalize(problem).qp)
    layer = kr.compile(problem)
    one, other = batch(problem, 1, seed=1), batch(problem, 1, seed=2)
    here = dict(blocks(layer.standard_form(one)))
    for letter, value in here.items():
        there = torch.isfinite(value) if letter in ("lb", "ub") else value != 0
        assert not (there & ~torch.from_numpy(found[letter].every.toarray())).any(), letter
    for parameter in problem.parameters:
        for letter, value in blocks(layer.standard_form(one | {parameter: other[parameter]})):
            moved = value != here[letter]
            said = found[letter].by.get(parameter)
            assert not (moved & ~torch.from_numpy(said.toarray() if said is not None else np.zeros(moved.shape, bool))).any(), (
                letter
            )


def test_patterns_are_not_larger_than_needed() -> None:
    told = portfolio().explain()
    entries = {(item.name, entry.letter): entry.entries for item in told.parameters for entry in item.enters}
    assert entries == {("gamma", "Q"): 36, ("L", "Q"): 36, ("mu", "p"): 6}
    blocks_told = {block.letter: (block.entries, block.parameters, block.diagonal) for block in told.blocks}
    assert blocks_told == {
        "Q": (36, ("L", "gamma"), False),
        "p": (12, ("mu",), False),
        "G": (24, (), False),
        "h": (0, (), False),
        "A": (6, (), False),
        "b": (1, (), False),
        "lb": (6, (), False),
    }


@pytest.mark.parametrize("name", MODELS)
def test_the_rank_of_Q_is_bounded(name: str) -> None:
    problem = MODELS[name]()
    layer = kr.compile(problem)
    rank = layer.explain().rank
    for item in layer.standard_form(batch(problem, 5)).Q:
        assert int(torch.linalg.matrix_rank(item)) <= rank


def test_the_bound_is_the_rank_where_it_matters() -> None:
    assert portfolio().explain().rank == 2
    x, c = kr.Variable(5, name="x"), kr.Parameter(5, name="c")
    assert kr.compile(kr.Problem(kr.Minimize(c @ x), [x >= 0])).explain().rank == 0
    a = np.ones((3, 5)) + np.eye(3, 5)
    assert kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(a @ x) + c @ x), [x >= 0])).explain().rank == 3


# What it says


def test_sizes_as_written_and_canonical() -> None:
    sizes = portfolio().explain().sizes
    assert dataclasses.astuple(sizes) == (6, 6, 1, 12, 12, 1, 6, 0)


def test_linear_programs_are_told_of_their_gradients() -> None:
    x, y, c = kr.Variable(3, name="x"), kr.Variable(2, name="y"), kr.Parameter(3, name="c")
    rows = [x >= 0, kr.sum(x) == 1, y == x[:2]]

    def titles(cost: kr.Expression, **options: Any) -> list[str]:
        return [note.title for note in kr.compile(kr.Problem(kr.Minimize(cost), rows), **options).explain().notes]

    linear = c @ x + kr.sum(y)
    assert titles(linear)[0] == "Q is structurally zero: this is a linear program."
    assert titles(linear + kr.sum_squares(x))[0] == "Q is structurally singular: this is a linear program in y."
    assert titles(linear + kr.sum_squares(x[1:]) + kr.sum_squares(y))[0].endswith("in 1 entry of x.")
    assert titles(linear + kr.sum_squares(x) + kr.sum_squares(y)) == []
    assert titles(linear, regularize=1e-3) == ["Regularized."]
    assert portfolio().explain().notes[0].title.startswith("Q has rank 2 at most, for 6 variables")
    told = str(portfolio().explain())
    for remedy in ("1. regularize=", "solution.objective"):
        assert remedy in told


def test_independent_problems_are_counted() -> None:
    x, v = kr.Variable(7, name="x"), kr.Parameter(7, name="v")
    alone = kr.Problem(kr.Minimize(kr.sum_squares(x - v)), [x >= 0])
    assert kr.compile(alone).explain().separable == 7
    joined = kr.Problem(kr.Minimize(kr.sum_squares(x - v)), [x >= 0, kr.sum(x[:4]) == 1])
    assert kr.compile(joined).explain().separable == 4


def test_routes_name_derived_parameters_and_weights() -> None:
    x, t, c = kr.Variable(4, name="x"), kr.Parameter(name="t"), kr.Parameter(4, name="c")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x) - c @ x), {"cap": kr.sum(x) <= kr.exp(t)})
    told = kr.compile(problem, weights={t: 0.5}).explain()
    weight = next(item for item in told.parameters if item.name == "t")
    assert weight.weight
    assert [(entry.letter, entry.through) for entry in weight.enters] == [("h", ("exp(t)",))]
    assert [line.split(" = ")[1] for line in told.program] == ["exp(t) ()"]
    costs = next(item for item in told.parameters if item.name == "c")
    assert costs.enters[0].routes == ("scale by -1",)


def test_it_is_frozen_and_prints_everywhere() -> None:
    told = portfolio(backend="torch").explain()
    with pytest.raises(dataclasses.FrozenInstanceError):
        told.rank = 3  # type: ignore[misc]  # that it cannot be assigned is what is tested
    assert "because backend='torch'" in str(told)
    assert repr(told) == str(told)
    assert max(map(len, str(told).splitlines())) <= 132
    x = kr.Variable(2, name="x")
    page = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), {"<b>": x >= 0})).explain()._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>:" not in page
    assert page.count("<table>") == page.count("</table>") >= 4


# Rows


def test_rows_index_the_standard_form() -> None:
    layer = portfolio()
    data = layer.standard_form(L=torch.ones(6, 2), gamma=1.0, mu=torch.ones(6))
    budget, positive = layer.rows("budget"), layer.rows("long only")
    assert budget.A.tolist() == [0]
    assert positive.lb.tolist() == list(range(6))
    assert len(budget.G) == len(budget.lb) == len(positive.A) == 0
    torch.testing.assert_close(data.A[:, budget.A], torch.tensor([[[1.0] * 6 + [0.0] * 6]], dtype=torch.float64))
    with pytest.raises(kr.InputError, match="long only"):
        layer.rows("longonly")
    for other in (kr.Variable(3), 0):
        with pytest.raises(kr.InputError, match="no constraint"):
            layer.rows(cast(Any, other))


def test_the_rows_of_a_constraint_are_the_constraint() -> None:
    """C x - c at random x is left - right of what the user wrote, whatever became of its entries."""
    x, G, h = kr.Variable((2, 3), name="x"), kr.Parameter((4, 6), name="G"), kr.Parameter((2, 3), name="h", nonneg=True)
    scaled = np.array([[1.0, 2.0, 4.0], [1.0, 0.5, 8.0]])
    written = {
        "rows": G @ x.reshape(6) <= h.reshape(6)[:4],
        "both": kr.multiply(scaled, x) <= h,  # single variables: bounds, divided by their coefficients
        "again": x >= -h,
        "more": -2 * x <= 7,  # the side is taken: rows of G
        "equal": x[0] == 2 * x[1] + h[1],
    }
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(x)), written))
    generator = torch.Generator().manual_seed(3)
    values = {
        "G": torch.randn(5, 4, 6, generator=generator, dtype=torch.float64),
        "h": torch.rand(2, 3, generator=generator, dtype=torch.float64),
    }
    data = layer.standard_form(values)
    point = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    weights = {"both": 1 / torch.from_numpy(scaled)}
    for name, constraint in written.items():
        rows = layer.rows(constraint)
        assert rows.name == name
        assert len(rows) == constraint.left.size
        C, c = rows.of(data)
        known = {leaf: value for leaf, value in values.items() if leaf in str(constraint)}
        residual = kr.evaluate(constraint.residual, {"x": point, **known}) * weights.get(name, 1.0)
        computed = (C @ point.reshape(6) - c).reshape(-1, *constraint.shape)
        torch.testing.assert_close(*torch.broadcast_tensors(computed, residual), rtol=1e-13, atol=1e-13)


# Pictures


def test_the_picture_shows_every_entry_in_its_colour() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex
    from matplotlib.patches import PathPatch

    layer = portfolio()
    figure = layer.spy()
    (legend,) = figure.legends
    colours = {
        text.get_text(): to_hex(patch.get_facecolor()) for text, patch in zip(legend.get_texts(), legend.get_patches(), strict=True)
    }
    assert list(colours) == ["mu", "L, gamma", "constant"]
    areas = dict.fromkeys(colours.values(), 0.0)
    for patch in figure.axes[0].patches:
        if isinstance(patch, PathPatch):
            corners = np.asarray(patch.get_path().vertices).reshape(-1, 5, 2)
            size = corners[:, 2] - corners[:, 0]
            areas[to_hex(patch.get_facecolor())] += float((size[:, 0] * size[:, 1]).sum())
    assert areas[colours["L, gamma"]] == pytest.approx(36)  # a unit of area for each entry of a matrix
    words = {text.get_text() for text in figure.axes[0].texts}
    assert {"x", "abs", "budget", "long only", "$Q$", "$G$", "$A$", "$p$", "$h$", "$b$"} <= words


@pytest.mark.parametrize("name", ["switched", *list(CASES)[::8]])
def test_every_model_can_be_drawn(name: str) -> None:
    pytest.importorskip("matplotlib")
    layer = kr.compile(MODELS[name]())
    figure = layer.spy()
    assert figure._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"


def test_without_matplotlib_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "karush.backends.spy", raising=False)
    with pytest.raises(kr.DefinitionError, match=r"karush\[examples\]"):
        portfolio().spy()


# Small things that people print


def test_the_version_is_that_of_the_package() -> None:
    assert kr.__version__ == importlib.metadata.version("karush")


def test_data_print_what_they_are() -> None:
    layer = portfolio()
    data = layer.standard_form(L=torch.ones(6, 2), gamma=torch.ones(4), mu=torch.ones(4, 6))
    told = repr(data)
    for words in ("batch 4", "n = 12, m = 12, k = 1", "shared G h A b lb;", "float64"):
        assert words in told
    assert "\n" not in told
    assert "inputs=[gamma(), L(6, 2), mu(6,)]" in repr(layer)
