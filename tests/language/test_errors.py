"""Errors teach: a type, a stable code, the underlined place, the reason and a remedy; all violations at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

import karush as kr
from karush.dsl.diagnostics import DCPError, DefinitionError, ModelError, ShapeError, UsageError

x = kr.Variable(4, name="x")
p = kr.Parameter(4, name="p")


def minimize(cost: Any, *rows: Any) -> kr.Problem:
    return kr.Problem(kr.Minimize(cost), list(rows))


WRONG: list[tuple[type[ModelError], str, str, Callable[[], Any]]] = [
    (ShapeError, "S01", "(4,) and (3,)", lambda: x + np.ones(3)),
    (ShapeError, "S01", "write @", lambda: x * np.ones((2, 4))),
    (ShapeError, "S01", "inner dimensions", lambda: np.ones((3, 3)) @ x),
    (ShapeError, "S01", "axis 1", lambda: kr.sum(x, axis=1)),
    (ShapeError, "S01", "cannot become", lambda: x.reshape(3, 2)),
    (ShapeError, "S01", "index", lambda: x[4]),
    (ShapeError, "S01", "scalar", lambda: kr.Minimize(x)),
    (ShapeError, "S01", "other dimensions", lambda: kr.vstack([x, np.ones(3)])),
    (UsageError, "U01", "[a <= x, x <= b]", lambda: 0 <= x <= 1),
    (UsageError, "U02", "strict", lambda: x < 1),
    (UsageError, "U02", "not convex", lambda: x != 1),
    (UsageError, "U02", "power 3", lambda: x**3),
    (UsageError, "U02", "division", lambda: 1 / x),
    (UsageError, "U02", "exp", lambda: kr.exp(x)),
    (UsageError, "U02", "NumPy", lambda: np.sum(x)),
    (UsageError, "U02", "number", lambda: float(x[0])),
    (UsageError, "U02", "truth value", lambda: bool(x)),
    (UsageError, "U02", "huber", lambda: kr.huber(x, p)),
    (DefinitionError, "N01", "identifier", lambda: kr.Variable(name="two words")),
    (DefinitionError, "N01", "square matrix", lambda: kr.Parameter(3, PSD=True)),
    (DefinitionError, "N01", "integer", lambda: kr.Variable(3, boolean=True)),
    (DefinitionError, "N01", "did you mean nonneg", lambda: kr.Variable(3, nonegg=True)),
    (DefinitionError, "N01", "True or False", lambda: kr.Variable(3, nonneg=cast(Any, 1))),
    (DefinitionError, "N01", "keyword", lambda: kr.Variable(name="lambda")),
    (DefinitionError, "N01", "nonnegative integers", lambda: kr.Variable(cast(Any, 2.0))),
    (DefinitionError, "N01", "there is no", lambda: kr.assume(p, positive=True)),
    (DefinitionError, "N01", "square matrix", lambda: kr.assume(p, PSD=True)),
    (DefinitionError, "N01", "callable", lambda: kr.function(cast(Any, 3), p, shape=4)),
    (UsageError, "U02", "exp", lambda: np.exp(p)),
    (UsageError, "U02", "kr.maximum", lambda: max(p, 0)),
    (ShapeError, "S01", "permutation", lambda: kr.transpose(kr.Variable((2, 3)), (0, 0))),
    (ShapeError, "S01", "dimensions", lambda: kr.stack([x, x], axis=9)),
    (ShapeError, "S01", "index", lambda: x["a"]),
    (ShapeError, "S01", "no entries", lambda: kr.max(kr.Variable(0))),
    (DefinitionError, "N01", "nonnegative integers", lambda: kr.Variable((2, -1))),
    (DefinitionError, "N02", "requires grad", lambda: x + torch.ones(4, requires_grad=True)),
    (DefinitionError, "N02", "NaN", lambda: x + np.nan),
    (DefinitionError, "N02", "real numbers", lambda: x + "a"),
    (DefinitionError, "N03", "Minimize", lambda: kr.Problem(cast(Any, kr.sum(x)))),
    (DefinitionError, "N03", "bool", lambda: minimize(kr.sum(x), True)),
    (DefinitionError, "N03", "share it", lambda: minimize(kr.sum(x) + kr.Variable(name="x"))),
    (DefinitionError, "N03", "share it", lambda: minimize(kr.Parameter(4, name="x") @ x)),
    (DCPError, "D01", "product of variables", lambda: minimize(kr.sum(x * kr.Variable(4)))),
    (DCPError, "D02", "nonneg=True", lambda: minimize(p @ kr.abs(x))),
    (DCPError, "D03", "convex plus concave", lambda: minimize(kr.norm1(x) + kr.min(x))),
    (DCPError, "D04", "square", lambda: minimize(kr.square(kr.max(x)))),
    (DCPError, "D05", "concave", lambda: minimize(kr.min(x))),
    (DCPError, "D05", "convex", lambda: kr.Problem(kr.Maximize(kr.sum_squares(x)))),
    (DCPError, "D06", "affine", lambda: minimize(kr.sum(x), kr.norm1(x) == 1)),
    (DCPError, "D07", "quadratic", lambda: minimize(kr.square(kr.sum_squares(x)))),
    (DCPError, "D07", "quadratic", lambda: minimize(kr.max(kr.square(x)))),
    (DCPError, "D08", "assume", lambda: kr.quad_form(x, kr.Parameter((4, 4), name="P"))),
    (DCPError, "D09", "not convex", lambda: minimize(kr.sum(x), kr.norm1(x) >= 1)),
    (DCPError, "D10", "quadratic constraint", lambda: minimize(kr.sum(x), kr.sum_squares(x) <= 1)),
]


@pytest.mark.parametrize(("kind", "code", "words", "build"), WRONG, ids=[f"{case[1]} {case[2]}" for case in WRONG])
def test_wrong_models_are_refused_with_place_and_reason(
    kind: type[ModelError], code: str, words: str, build: Callable[[], Any]
) -> None:
    with pytest.raises(kind) as caught:
        build()
    message = str(caught.value)
    assert f"[{code}]" in message
    assert words in message
    assert "test_errors.py:" in message
    assert "^" in message


def test_the_message_reads_like_the_template() -> None:
    y = kr.Variable(4, name="y")
    with pytest.raises(DCPError) as caught:
        kr.Problem(kr.Minimize(kr.sum(x * y) + kr.sum_squares(x)))
    head, place, source, caret, why, mend = str(caught.value).splitlines()
    assert head == "a product of two variable expressions  [D01]"
    assert place.startswith("  --> test_errors.py:")
    start = source.index("x * y")
    assert caret.index("^") == start
    assert caret.count("^") == len("x * y")
    assert why.startswith("  why   a product is affine only if one factor is free of variables")
    assert mend.startswith("  mend  ")


def test_all_violations_come_at_once() -> None:
    with pytest.raises(DCPError) as caught:
        minimize(p @ kr.abs(x) + kr.square(kr.max(x)), kr.norm1(x) == 1, kr.sum_squares(x) <= 1)
    assert [finding.code for finding in caught.value.diagnostics] == ["D02", "D04", "D06", "D10"]


def test_without_source_the_expression_itself_is_shown() -> None:
    scope: dict[str, Any] = {"kr": kr, "x": x}
    code = compile("def bad():\n    return kr.Problem(kr.Minimize(kr.square(kr.max(x))))", "<nowhere>", "exec")
    exec(code, scope)  # source text that no file holds
    with pytest.raises(DCPError) as caught:
        scope["bad"]()
    assert "| max(x)**2" in str(caught.value)


def test_valid_neighbours_of_the_wrong_models() -> None:
    minimize(kr.sum(2 * x) + kr.square(kr.pos(kr.max(x))), kr.norm1(x) <= 1, kr.norm1(x) <= 1, kr.sum(x) == 1)
    minimize(kr.sum(kr.multiply(np.ones((2, 4)), x)), -kr.norm1(x) >= -1, [x >= 0, [x <= 1]], {"a": x[0] == 0, "b": [x[1] == 0]})
    kr.Problem(kr.Maximize(kr.min(x) - kr.sum_squares(x)), {"a": kr.abs(p) @ kr.abs(x) <= 1})
