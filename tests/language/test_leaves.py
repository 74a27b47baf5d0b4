"""Declarations of variables and parameters: what is accepted, what follows from it, what is refused and why."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import karush as kr
from karush.dsl.sign import Sign

p = kr.Parameter(3, name="p", nonneg=True)
free = kr.Parameter(3, name="free")


@pytest.mark.parametrize(
    ("attributes", "sign", "low", "high"),
    [
        ({}, Sign(), -np.inf, np.inf),
        ({"nonneg": True}, Sign(nonneg=True), 0, np.inf),
        ({"pos": True}, Sign(nonneg=True), 0, np.inf),
        ({"neg": True}, Sign(nonpos=True), -np.inf, 0),
        ({"nonneg": True, "nonpos": True}, Sign(True, True), 0, 0),
        ({"bounds": [0, 1]}, Sign(nonneg=True), 0, 1),
        ({"bounds": [None, -1]}, Sign(nonpos=True), -np.inf, -1),
        ({"bounds": [-1, np.inf]}, Sign(), -1, np.inf),
        ({"bounds": (-2, np.array([1.0, 2, 3]))}, Sign(), -2, [1, 2, 3]),
        ({"bounds": [p, None]}, Sign(nonneg=True), 0, np.inf),
        ({"bounds": [-p, p]}, Sign(), -np.inf, np.inf),
        ({"bounds": [None, -kr.exp(free)]}, Sign(nonpos=True), -np.inf, 0),
        ({"bounds": [-1, 1], "nonneg": True}, Sign(nonneg=True), 0, 1),
        ({"bounds": [free, 1], "nonneg": True}, Sign(nonneg=True), 0, 1),
    ],
)
def test_signs_and_known_bounds_of_variables(attributes: dict[str, Any], sign: Sign, low: Any, high: Any) -> None:
    x = kr.Variable(3, name="x", **attributes)
    assert x.sign == sign
    for ours, expected in zip(x.get_bounds(), (low, high), strict=True):
        np.testing.assert_array_equal(ours, np.broadcast_to(expected, 3))
    for copied in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert (copied.key, copied.sign, repr(copied)) == (x.key, x.sign, repr(x))


def test_the_sign_of_bounds_serves_convexity() -> None:
    x = kr.Variable(3, bounds=[0, 1])
    assert kr.Problem(kr.Minimize(kr.sum_squares(x + kr.max(x)))).is_qp()
    with pytest.raises(kr.DCPError):
        kr.Problem(kr.Minimize(kr.sum_squares(kr.Variable(3) + kr.max(kr.Variable(3)))))


@pytest.mark.parametrize(
    ("attributes", "low", "high"),
    [
        ({"bounds": [0, 1]}, 0, 1),
        ({"boolean": True}, 0, 1),
        ({"nonneg": True, "bounds": [-1, 2]}, 0, 2),
        ({"neg": True}, -np.inf, 0),
    ],
)
def test_known_bounds_of_parameters(attributes: dict[str, Any], low: float, high: float) -> None:
    q = kr.Parameter((2, 2), **attributes)
    assert [side.tolist() for side in q.get_bounds()] == [np.full((2, 2), low).tolist(), np.full((2, 2), high).tolist()]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"PSD": True}, "N06", "semidefinite program"),
    ({"NSD": True}, "N06", "semidefinite program"),
    ({"boolean": True}, "N06", r"bounds=\[0, 1\]"),
    ({"integer": True}, "N06", "mixed-integer"),
    ({"complex": True}, "N06", "real"),
    ({"hermitian": True}, "N06", "real"),
    ({"bound": [0, 1]}, "N06", "did you mean bounds"),
    ({"symmetric": True, "diag": True}, "N07", "symmetric and diag"),
    ({"symmetric": True, "sparsity": ([0], [1])}, "N07", "at most one"),
    ({"pos": True, "diag": True}, "N07", "nonneg=True"),
    ({"neg": True, "sparsity": ([0], [1])}, "N07", "nonpos=True"),
    ({"pos": True, "neg": True}, "N07", "no number"),
    ({"pos": True, "nonpos": True}, "N07", "no number"),
    ({"bounds": [1, 0]}, "N13", "at least 1 and at most 0"),
    ({"bounds": [0, [[1, 1], [-1, 1]]]}, "N13", r"\(1, 0\)"),
    ({"bounds": [None, -1], "nonneg": True}, "N13", "exclude every value"),
    ({"bounds": 1}, "N13", "a pair"),
    ({"bounds": [0, 1, 2]}, "N13", "a pair"),
    ({"bounds": [np.inf, None]}, "N13", "lower bound of inf"),
    ({"bounds": [0, np.ones(3)]}, "N13", r"\(3,\)"),
    ({"bounds": [kr.Variable(), None]}, "N13", "constraint"),
    ({"bounds": [1, 2], "diag": True}, "N13", "zero"),
    ({"bounds": [kr.Parameter(), 2], "sparsity": ([0], [1])}, "N13", "zero"),
    ({"sparsity": [0, 1]}, "N14", "np.nonzero"),
    ({"sparsity": ([0], [7])}, "N14", "out of bounds"),
    ({"sparsity": ([0],)}, "N14", "2 index arrays"),
    ({"nonneg": 1}, "N06", "True or False"),
]


@pytest.mark.parametrize(("attributes", "code", "words"), WRONG)
def test_wrong_declarations_of_a_variable(attributes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(kr.DefinitionError, match=words) as caught:
        kr.Variable((2, 2), **attributes)
    assert caught.value.diagnostics[0].code == code


def test_symmetric_needs_a_square_matrix_and_bounds_of_a_parameter_are_numbers() -> None:
    with pytest.raises(kr.DefinitionError, match="square matrix"):
        kr.Variable((2, 3), symmetric=True)
    with pytest.raises(kr.DefinitionError, match="numbers"):
        kr.Parameter(3, bounds=[0, p])
    with pytest.raises(kr.DefinitionError, match="exclude every value"):
        kr.Parameter(3, bounds=[1, 0])


def test_parameters_of_bounds_are_parameters_of_the_problem() -> None:
    x = kr.Variable(3, name="x", bounds=[None, p])
    problem = kr.Problem(kr.Minimize(-kr.sum(x)))
    assert list(problem.parameters) == ["p"]
    with pytest.raises(kr.DefinitionError, match="'p' is taken"):
        kr.Problem(kr.Minimize(-kr.sum(x) + kr.Parameter(3, name="p") @ x))


@pytest.mark.parametrize("shape", [None, "ab", 2.5, (2, None), 2**62, 10**30, (2**20, 2**20), -1])
def test_shapes_that_are_none(shape: Any) -> None:
    for kind in (kr.Variable, kr.Parameter):
        with pytest.raises(kr.DefinitionError):
            kind(shape)
