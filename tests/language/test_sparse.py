"""SciPy's sparse matrices as constants: on either side of every operator, with the value and the meaning of the dense array."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

import karush as kr

x = kr.Variable(4, name="x")
X = kr.Variable((4, 3), name="X")
DENSE = np.array([[1.0, 0, 2, 0], [0, 0, 0, 0], [0, -3, 0, 4]])
FORMATS = ("csr", "csc", "coo", "dia")


def blocks(expression: kr.Expression) -> list[torch.Tensor]:
    """The rows of expression <= 0."""
    data = kr.compile(kr.Problem(kr.Minimize(0.0), [expression <= 0])).standard_form().to_standard_form()
    return [data.G, data.h]


def same(ours: kr.Expression, expected: kr.Expression) -> None:
    assert ours.shape == expected.shape
    for one, other in zip(blocks(ours), blocks(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("cls", ["array", "matrix"])
def test_products_are_those_of_the_dense_array(kind: str, cls: str) -> None:
    S = getattr(sparse, f"{kind}_{cls}")(DENSE)
    dense = kr.Constant(DENSE)
    same(S @ x, dense @ x)
    same(S @ X, dense @ X)
    same(X @ S, X @ dense)
    same(x[:3] @ S, x[:3] @ dense)
    same(kr.Constant(S).T @ x[:3], dense.T @ x[:3])
    same(S @ (2 * x - 1), dense @ (2 * x - 1))


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul])
def test_other_operators_know_sparse_matrices_on_either_side(operation: Callable[[Any, Any], Any]) -> None:
    S, Y = sparse.csr_array(DENSE), kr.Variable((3, 4), name="Y")
    same(operation(S, Y), operation(DENSE, Y))
    same(operation(Y, S), operation(Y, DENSE))


@pytest.mark.parametrize("operation", [operator.le, operator.ge, operator.eq])
def test_relations_know_sparse_matrices_on_either_side(operation: Callable[[Any, Any], Any]) -> None:
    S, Y = sparse.csr_array(DENSE), kr.Variable((3, 4), name="Y")
    assert repr(operation(Y, S)) == repr(operation(Y, DENSE))
    assert operation(S, Y).shape == (3, 4)
    if operation is not operator.eq:
        same(operation(S, Y).residual, operation(DENSE, Y).residual)


def test_misfits_are_explained_in_the_users_words() -> None:
    S = sparse.csr_array(DENSE)
    with pytest.raises(kr.ShapeError, match="inner dimensions"):
        S @ X.T
    with pytest.raises(kr.DefinitionError, match="NaN"):
        kr.Constant(sparse.csr_array(DENSE * np.nan))
    with pytest.raises(kr.DefinitionError, match="real numbers"):
        kr.Constant(sparse.csr_array(DENSE * 1j))
    with pytest.raises(kr.UsageError, match="U05"):
        np.sum(np.asarray(x))


def test_a_constant_is_a_copy_and_has_the_dense_value() -> None:
    S = sparse.csr_array(DENSE)
    constant = kr.Constant(S)
    S.data[:] = 7
    np.testing.assert_array_equal(constant.value, DENSE)
    assert not constant.value.flags.writeable
    assert (constant.sign, constant.shape) == (kr.Constant(DENSE).sign, (3, 4))
    assert kr.Constant(abs(sparse.csr_array(DENSE))).is_nonneg()
    for again in (copy.deepcopy(constant), pickle.loads(pickle.dumps(constant))):
        np.testing.assert_array_equal(again.value, DENSE)
    np.testing.assert_array_equal(
        kr.Constant(sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))).value, [[0, 3], [0, 0]]
    )


def test_forms_of_equal_matrices_are_recognised() -> None:
    S, other = sparse.csr_array(DENSE), sparse.csr_array(2 * DENSE)
    assert ((S @ x) @ (S @ x)).is_quadratic()
    assert repr((S @ x) @ (S @ x)) == repr(kr.sum_squares(S @ x))
    with pytest.raises(kr.DCPError):
        kr.Problem(kr.Minimize((S @ x) @ (other @ x[::-1])))


def test_a_sparse_form_is_judged_by_its_discs_and_else_by_its_eigenvalues() -> None:
    n = 3000
    y, ones = kr.Variable(n, name="y"), np.ones(n)
    laplacian = sparse.diags_array([-ones[1:], 2 * ones, -ones[1:]], offsets=[-1, 0, 1], format="csr")
    assert kr.quad_form(y, laplacian).is_convex()
    assert kr.quad_form(y, -laplacian).is_concave()
    weak = np.array([[1.0, 2, 0, 0], [2, 5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert kr.quad_form(x, sparse.csr_array(weak)).is_convex()
    expected, found = (kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, P)))) for P in (weak, sparse.csr_array(weak)))
    torch.testing.assert_close(found.standard_form().Q, expected.standard_form().Q, rtol=0, atol=0)
    with pytest.raises(kr.KarushError):
        kr.quad_form(x, sparse.csr_array(weak + np.eye(4, k=1)))
    with pytest.raises(kr.KarushError, match="definite"):
        kr.Problem(kr.Minimize(kr.quad_form(x, sparse.csr_array(weak - np.eye(4)))))


def test_small_ones_print_their_entries_and_large_ones_their_shape() -> None:
    assert repr(sparse.eye_array(4) @ x) == "<affine (4,): eye(4) @ x>"
    y = kr.Variable(2000, name="y")
    large = sparse.eye_array(2000)
    assert repr(large @ y) == "<affine (2000,): const(2000, 2000) @ y>"
    assert (large @ y).latex() == r"\mathrm{const}_{2000 \times 2000} \, y"
