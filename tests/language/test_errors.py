"""Errors teach: a type, a stable code, the underlined place, the reason and a remedy; all violations at once.

The messages themselves are golden (``test_messages``); here stands what must hold of them beyond one text.
"""

from __future__ import annotations

import copy
import pickle
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
    (ShapeError, "S01", "x has shape (4,), np.ones(3) has shape (3,)", lambda: x + np.ones(3)),
    (ShapeError, "S01", "np.ones((4, 2)).T", lambda: x + np.ones((4, 2)).T[:, :3]),
    (ShapeError, "S01", "write x[:, None]", lambda: x - np.ones((4, 3))),
    (ShapeError, "S01", "(3,)", lambda: np.ones(3) >= x),
    (ShapeError, "S02", "write kr.multiply(x, np.ones((2, 4)))", lambda: x * np.ones((2, 4))),
    (ShapeError, "S02", "write np.ones((2, 4)) @ x", lambda: np.ones((2, 4)) * x),
    (ShapeError, "S02", "give both the same shape", lambda: x * np.ones((2, 3))),
    (ShapeError, "S02", "write (np.ones((2, 4)) + 1) @ x", lambda: (np.ones((2, 4)) + 1) * x),
    (ShapeError, "S03", "3 against 4", lambda: np.ones((3, 3)) @ x),
    (ShapeError, "S03", "write x @ np.ones((2, 4)).T", lambda: x @ np.ones((2, 4))),
    (ShapeError, "S03", "write * to scale", lambda: x @ 2),
    (ShapeError, "S04", "the last entry is x[-1]", lambda: x[4]),
    (ShapeError, "S04", "integers, slices", lambda: x["a"]),
    (ShapeError, "S04", "rows of zeros and ones", lambda: x[p]),
    (ShapeError, "S05", "axis 1", lambda: kr.sum(x, axis=1)),
    (ShapeError, "S05", "named once", lambda: kr.transpose(kr.Variable((2, 3)), (0, 0))),
    (ShapeError, "S05", "2 dimensions", lambda: kr.stack([x, x], axis=9)),
    (ShapeError, "S06", "4 do not fill 6", lambda: x.reshape(3, 2)),
    (ShapeError, "S06", 'order="C" for rows', lambda: x.reshape(2, 2, order=cast(Any, "A"))),
    (ShapeError, "S07", "kr.sum(x)", lambda: kr.Minimize(x)),
    (ShapeError, "S08", "no entries", lambda: kr.max(kr.Variable(0))),
    (ShapeError, "S09", "other dimensions", lambda: kr.vstack([x, np.ones(3)])),
    (UsageError, "U01", "[0 <= x, x <= 1]", lambda: 0 <= x <= 1),
    (UsageError, "U01", "[0 <= x, x <= p]", lambda: 0 <= x <= p <= 1),
    (UsageError, "U01", "joined by 'or'", lambda: (x >= 0) or (x <= 1)),
    (UsageError, "U01", "any(x is one for one in [p, x])", lambda: x in [p, x]),
    (UsageError, "U01", "write `is`", lambda: 1 if x == p else 2),
    (UsageError, "U02", "write x <= 1", lambda: x < 1),
    (UsageError, "U02", "write 1 >= x", lambda: 1 > x),  # noqa: SIM300  # turned around
    (UsageError, "U02", "write np.ones(4) <= x", lambda: np.ones(4) < x),
    (UsageError, "U03", "write x == 1", lambda: x != 1),
    (UsageError, "U04", "used as a condition", lambda: bool(x)),
    (UsageError, "U05", "write kr.sum(x)", lambda: np.sum(x)),
    (UsageError, "U05", "write kr.exp(p)", lambda: np.exp(p)),
    (UsageError, "U05", "kr.exp is for data", lambda: np.exp(x)),
    (UsageError, "U05", "write kr.exp(p)", lambda: torch.exp(cast(Any, p))),
    (UsageError, "U05", "kr.function(torch.erf, p", lambda: torch.erf(cast(Any, p))),
    (UsageError, "U05", "torch's stack", lambda: torch.stack(cast(Any, [x, x]))),
    (UsageError, "U06", "float(solution[x[0]])", lambda: float(x[0])),
    (UsageError, "U06", "int(solution[x[0]])", lambda: int(x[0])),
    (UsageError, "U07", "a remainder of x", lambda: x % 2),
    (UsageError, "U07", "//", lambda: 7 // x),
    (UsageError, "U08", "power 3", lambda: x**3),
    (UsageError, "U08", "kr.exp(0.693147 * p)", lambda: 2**p),
    (UsageError, "U08", "kr.exp(0.693147 * (p + 1))", lambda: 2 ** (p + 1)),
    (UsageError, "U08", "kr.exp((p + 1) * kr.log(p))", lambda: p ** (p + 1)),
    (UsageError, "U08", "write (x + p)**2", lambda: (x + p) ** 3),
    (UsageError, "U08", "only of data", lambda: 2**x),
    (UsageError, "U09", "division", lambda: 1 / x),
    (UsageError, "U10", "exp", lambda: kr.exp(x)),
    (UsageError, "U12", "a scalar has no length", lambda: len(x[0])),
    (UsageError, "U13", "the expression in it is x", lambda: kr.sum(x >= 0)),
    (UsageError, "U13", "[x >= 0, x <= 1]", lambda: cast(Any, x >= 0) & (x <= 1)),
    (UsageError, "U13", "solve one problem for each", lambda: cast(Any, x >= 0) | (x <= 1)),
    (UsageError, "U13", "the expression in it is x", lambda: sum([cast(Any, x >= 0)])),
    (UsageError, "U13", "the expression in it is x", lambda: 2 * cast(Any, x >= 0) - 1),
    (UsageError, "U16", "solution[x]", lambda: cast(Any, x).value),
    (UsageError, "U16", "solution[x + 1]", lambda: cast(Any, x + 1).numpy()),
    (UsageError, "U16", "(x + 1).var()", lambda: cast(Any, x + 1).std()),
    (UsageError, "U16", "{'budget': constraint}", lambda: cast(Any, x).set_label("x")),
    (UsageError, "U16", "problem.solve(p=...)", lambda: setattr(p, "value", 1.0)),
    (UsageError, "U16", "kr.evaluate(expression, {x: point})", lambda: setattr(x, "value", np.ones(4))),
    (UsageError, "U16", "solution.dual(constraint)", lambda: cast(Any, x >= 0).dual_value),
    (UsageError, "U16", "kr.Problem(objective, {'budget': constraint})", lambda: cast(Any, x >= 0).set_label("b")),
    (UsageError, "U16", "solution.objective", lambda: cast(Any, minimize(kr.norm1(x))).value),
    (UsageError, "U16", "write solution['x']", lambda: cast(Any, minimize(kr.norm1(x)).solve()).x),
    (UsageError, "U17", "entry by entry: x >= 0", lambda: cast(Any, x) >> 0),
    (UsageError, "U14", "kr.maximum(p, 0)", lambda: max(p, 0)),
    (UsageError, "U14", "write kr.min(x)", lambda: min(x)),
    (UsageError, "U14", "sorted", lambda: sorted(x)),
    (UsageError, "U15", "kr.concatenate", lambda: cast(Any, x).__setitem__(0, 1)),
    (DefinitionError, "N01", "2.0", lambda: kr.Variable(cast(Any, 2.0))),
    (DefinitionError, "N01", "nonnegative integers", lambda: kr.Variable((2, -1))),
    (DefinitionError, "N02", ".detach()", lambda: x + torch.ones(4, requires_grad=True)),
    (DefinitionError, "N02", "NaN", lambda: x + np.nan),
    (DefinitionError, "N02", "real numbers", lambda: x + "a"),
    (DefinitionError, "N02", "imaginary", lambda: x + 1j),
    (DefinitionError, "N03", "write kr.Minimize(kr.sum(x))", lambda: kr.Problem(cast(Any, kr.sum(x)))),
    (DefinitionError, "N03", "this is True", lambda: minimize(kr.sum(x), True)),
    (DefinitionError, "N03", "decided by NumPy or torch", lambda: minimize(kr.sum(x), np.ones(3) <= 2)),
    (DefinitionError, "N05", "name='two_words'", lambda: kr.Variable(name="two words")),
    (DefinitionError, "N05", "name='lambda_'", lambda: kr.Variable(name="lambda")),
    (DefinitionError, "N06", "did you mean nonneg?", lambda: kr.Variable(3, nonegg=True)),
    (DefinitionError, "N06", "an integer variable", lambda: kr.Variable(3, integer=True)),
    (DefinitionError, "N06", "True or False", lambda: kr.Variable(3, nonneg=cast(Any, 1))),
    (DefinitionError, "N06", "attributes", lambda: kr.assume(p, positive=True)),
    (DefinitionError, "N07", "square matrix", lambda: kr.Parameter(3, PSD=True)),
    (DefinitionError, "N07", "keep PSD", lambda: kr.Parameter((3, 3), PSD=True, diag=True)),
    (DefinitionError, "N07", "square matrix", lambda: kr.assume(p, PSD=True)),
    (DefinitionError, "N08", "the second 'x'", lambda: minimize(kr.sum(x) + kr.Variable(name="x"))),
    (DefinitionError, "N08", "the parameter 'x'", lambda: minimize(kr.Parameter(4, name="x") @ x)),
    (DefinitionError, "N17", "[-t <= x, x <= t", lambda: kr.suppfunc(x, [kr.norm1(x) <= 1])),
    (DefinitionError, "N17", "no constraint", lambda: kr.indicator([x])),
    (DefinitionError, "N17", "without variables", lambda: kr.indicator(p >= 0)),
    (DefinitionError, "N17", "may be broken", lambda: kr.indicator(kr.soft(x >= 0, 1.0))),
    (DefinitionError, "N12", "got 3", lambda: kr.function(cast(Any, 3), p, shape=4)),
    (DCPError, "D01", "both contain variables", lambda: minimize(kr.sum(x * kr.Variable(4)))),
    (DCPError, "D02", 'p = kr.Parameter(4, name="p", nonneg=True)', lambda: minimize(p @ kr.abs(x))),
    (DCPError, "D02", "kr.assume(p[0] - 1, nonneg=True)", lambda: minimize((p[0] - 1) * kr.norm1(x))),
    (DCPError, "D03", "kr.norm1(x) is convex, kr.min(x) is concave", lambda: minimize(kr.norm1(x) + kr.min(x))),
    (DCPError, "D03", "-kr.max(x) is concave", lambda: minimize(kr.norm1(x) - kr.max(x))),
    (DCPError, "D04", "kr.pos(kr.max(x))", lambda: minimize(kr.square(kr.max(x)))),
    (DCPError, "D04", "min of a convex expression", lambda: kr.Problem(kr.Maximize(kr.min(kr.abs(x))))),
    (DCPError, "D05", "write kr.Maximize(kr.min(x))", lambda: minimize(kr.min(x))),
    (DCPError, "D05", "write kr.Minimize(", lambda: kr.Problem(kr.Maximize(kr.sum_squares(x)))),
    (DCPError, "D06", "relax it: kr.norm1(x) <= 1", lambda: minimize(kr.sum(x), kr.norm1(x) == 1)),
    (DCPError, "D06", "relax it: kr.min(x) >= 1", lambda: minimize(kr.sum(x), 1 == kr.min(x))),  # noqa: SIM300  # turned around
    (DCPError, "D06", "as a penalty: weight * kr.sum_squares(x)", lambda: minimize(kr.sum(x), kr.sum_squares(x) == 1)),
    (DCPError, "D09", "as a penalty: weight * kr.square(x)", lambda: minimize(kr.sum(x), kr.square(x) >= 1)),
    (DCPError, "D07", "kr.sum_squares(x) is quadratic", lambda: minimize(kr.square(kr.sum_squares(x)))),
    (DCPError, "D08", "PSD=True", lambda: kr.quad_form(x, kr.Parameter((4, 4), name="P"))),
    (DCPError, "D08", "from -1 to 3", lambda: kr.quad_form(x, np.diag([1.0, 2.0, 3.0, -1.0]))),
    (DCPError, "D08", "(np.tri(4) + 3.0).T) / 2", lambda: kr.quad_form(x, np.tri(4) + 3.0)),
    (DCPError, "D08", "must be symmetric", lambda: kr.quad_form(x, np.arange(16.0).reshape(4, 4))),
    (DCPError, "D08", "kr.assume(-np.eye(4) + p, PSD=True)", lambda: kr.quad_form(x, -np.eye(4) + p)),
    (DCPError, "D09", "turn it around, if that is meant: kr.norm1(x) <= 1", lambda: minimize(kr.sum(x), kr.norm1(x) >= 1)),
    (DCPError, "D10", "weight * kr.sum_squares(x)", lambda: minimize(kr.sum(x), kr.sum_squares(x) <= 1)),
    (DCPError, "D10", "weight * kr.sum_squares(x)", lambda: minimize(kr.sum(x), kr.soft(kr.sum_squares(x) <= 1, 2.0))),
    (DCPError, "D11", 'kr.Parameter(4, name="p", nonneg=True)', lambda: kr.huber(x, p)),
    (DCPError, "D12", "make it a Parameter", lambda: kr.huber(x, kr.Variable())),
]


@pytest.mark.parametrize(("kind", "code", "words", "build"), WRONG, ids=[f"{case[1]} {case[2]}" for case in WRONG])
def test_wrong_models_are_refused_with_place_and_reason(
    kind: type[ModelError], code: str, words: str, build: Callable[[], Any]
) -> None:
    with pytest.raises(kind) as caught:
        build()
    message = str(caught.value)
    assert [finding.code for finding in caught.value.diagnostics] == [code]
    assert f"[{code}]" in message
    assert words in " ".join(message.split())
    assert "test_errors.py:" in message
    assert "^" in message
    assert "  why   " in message
    assert "  mend  " in message


def test_the_message_reads_like_the_template() -> None:
    y = kr.Variable(4, name="y")
    with pytest.raises(DCPError) as caught:
        kr.Problem(kr.Minimize(kr.sum(x * y) + kr.sum_squares(x)))
    head, place, source, caret, why, mend, other = str(caught.value).splitlines()
    assert head == "a product of two expressions with variables  [D01]"
    assert place.startswith("  --> test_errors.py:")
    start = source.index("x * y")
    assert caret.index("^") == start
    assert caret.count("^") == len("x * y")
    assert why.startswith("  why   a product is affine only if one of its factors is free of variables")
    assert mend == '  mend  make y a Parameter, if it is data: y = kr.Parameter(4, name="y")'
    assert other.startswith("    or  ")


def test_all_violations_come_at_once() -> None:
    with pytest.raises(DCPError) as caught:
        minimize(p @ kr.abs(x) + kr.square(kr.max(x)), kr.norm1(x) == 1, kr.sum_squares(x) <= 1)
    assert [finding.code for finding in caught.value.diagnostics] == ["D02", "D04", "D06", "D10"]


def test_violations_of_several_families_come_at_once_too() -> None:
    with pytest.raises(ModelError) as caught:
        kr.Problem(kr.Minimize(kr.min(x) + kr.Variable(name="x")), {"a": x >= 0, "b": cast(Any, 3), "c": kr.norm1(x) == 1})
    assert [finding.code for finding in caught.value.diagnostics] == ["N03", "N08", "D05", "D06"]
    assert type(caught.value) is ModelError


def test_a_comparison_with_nan_is_no_reason_to_fall_over() -> None:
    with pytest.raises(DCPError, match="nan"):
        kr.quad_form(x, np.diag([1.0, 2.0, 3.0, np.inf]))


def test_unnamed_leaves_are_called_what_the_user_calls_them() -> None:
    weights, prices = kr.Variable(3), kr.Parameter(3)
    prices_too: kr.Parameter = kr.Parameter(3)
    for coefficient, name in ((prices, "prices"), (prices_too, "prices_too")):
        with pytest.raises(DCPError) as caught:
            minimize(coefficient @ kr.abs(weights))
        assert "the sign of coefficient is unknown" in str(caught.value)
        assert f"{name} = kr.Parameter(3, nonneg=True)" in str(caught.value)
        assert f"{name} is declared without a sign" in str(caught.value)


def test_attributes_of_objects_are_names_too() -> None:
    class Model:
        def __init__(self) -> None:
            self.price = kr.Parameter(
                4,
                # a comment
            )

    model = Model()
    with pytest.raises(DCPError, match=r"self\.price = kr\.Parameter\("):
        minimize(model.price @ kr.abs(x))


def test_a_sign_that_a_declaration_proves_is_asked_there_and_else_assumed() -> None:
    a, b = kr.Parameter(name="a"), kr.Parameter(name="b", nonneg=True)
    with pytest.raises(DCPError, match=r'declare the sign: a = kr\.Parameter\(name="a", nonneg=True\)'):
        minimize((a * b + 1) * kr.norm1(x))
    with pytest.raises(DCPError) as caught:
        minimize((b - a) * kr.norm1(x))
    assert "declare" not in caught.value.diagnostics[0].mend
    assert "kr.assume(b - a, nonneg=True)" in caught.value.diagnostics[0].mend


def test_an_expression_from_elsewhere_is_printed_and_one_from_here_quoted() -> None:
    def made_elsewhere(z: kr.Expression) -> kr.Expression:
        return kr.sum_squares(z)

    far, near = made_elsewhere(x), kr.sum_squares(x)
    with pytest.raises(DCPError, match=r"near is quadratic"):
        minimize(kr.sum(x), near <= 1)
    with pytest.raises(DCPError, match=r"\^ kr.sum(_squares\(x\)|\(x\*\*2\)) is quadratic"):
        minimize(kr.square(far))


def test_errors_and_their_findings_travel() -> None:
    with pytest.raises(DCPError) as caught:
        minimize(p @ kr.abs(x), kr.norm1(x) == 1)
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert type(again) is DCPError
        assert str(again) == str(caught.value)
        assert [finding.code for finding in again.diagnostics] == ["D02", "D06"]


def test_errors_are_found_where_users_import_them() -> None:
    for error in (kr.KarushError, kr.ModelError, kr.ShapeError, kr.UsageError, kr.DefinitionError, kr.DCPError, kr.InputError):
        assert error.__module__ == "karush"
        assert getattr(kr, error.__name__) is error
    assert issubclass(kr.InputError, ValueError)
    assert issubclass(kr.SolveError, RuntimeError)
    assert issubclass(kr.UsageError, TypeError)


def test_a_fault_of_ours_says_so() -> None:
    error = pickle.loads(pickle.dumps(kr.InternalError("extract: a term does not fit\nthe IR")))
    assert str(error).startswith("a fault of karush, not of your model")
    assert "the IR" in str(error)


def test_torch_and_numpy_operators_still_defer_to_us() -> None:
    t: Any = torch.ones(4, dtype=torch.float64)
    row: Any = np.ones(4)
    for left in (t, row):
        for built in (left + x, left - x, left * x, left @ x, left / kr.Parameter(4), left == x, left <= x, left >= x):
            assert isinstance(built, kr.Expression | kr.Constraint)
    assert repr(torch.matmul(t, cast(Any, x))) == repr(t @ x)
    assert (t - x).sign == (row - x).sign
    assert kr.evaluate(t * 3 - x, {x: torch.arange(4.0)}).tolist() == [3, 2, 1, 0]


def test_attributes_that_nobody_has_are_plainly_missing() -> None:
    assert not hasattr(x, "value")
    assert not hasattr(x, "anything")
    with pytest.raises(AttributeError, match="an expression has no attribute 'sums'"):
        cast(Any, x).sums  # noqa: B018  # the mistake under test
    assert pickle.loads(pickle.dumps(x)).name == "x"


def test_valid_neighbours_of_the_wrong_models() -> None:
    minimize(kr.sum(2 * x) + kr.square(kr.pos(kr.max(x))), kr.norm1(x) <= 1, kr.norm1(x) <= 1, kr.sum(x) == 1)
    minimize(kr.sum(kr.multiply(np.ones((2, 4)), x)), -kr.norm1(x) >= -1, [x >= 0, [x <= 1]], {"a": x[0] == 0, "b": [x[1] == 0]})
    kr.Problem(kr.Maximize(kr.min(x) - kr.sum_squares(x)), {"a": kr.abs(p) @ kr.abs(x) <= 1})
