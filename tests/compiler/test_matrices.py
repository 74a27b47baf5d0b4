"""The compiler's sparse matrices beside SciPy's, and texts that are written late."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse

import karush as kr
from karush.canon.canonicalize import REMEMBERED, canonicalize
from karush.canon.factors import Entries, Fixed, merge, scaling, selection
from karush.canon.sparse import SMALL, Matrix, gathered, of_dense, of_scipy, repeated, summed
from karush.dsl.later import Text

RNG = np.random.default_rng(3)
SHAPES = [(0, 0), (0, 4), (4, 0), (1, 6), (6, 1), (5, 5), (40, 30)]


def drawn(rows: int, cols: int, density: float = 0.3) -> np.ndarray:
    return np.round(RNG.standard_normal((rows, cols)), 2) * (RNG.random((rows, cols)) < density)


def in_order(matrix: Matrix) -> bool:
    """Whether rows ascend and no position occurs twice."""
    places = set(zip(matrix.rows.tolist(), matrix.cols.tolist(), strict=True))
    return bool((np.diff(matrix.rows) >= 0).all()) and len(places) == matrix.nnz


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_what_matrices_do(rows: int, cols: int, density: float) -> None:
    A, B = drawn(rows, cols, density), drawn(cols, 7, density)
    a, b = of_dense(A), of_dense(B)
    scipy = sparse.csr_array(A)
    several = [
        a,
        a.T,
        a.scaled(-2.0),
        a @ b,
        summed([a, a.scaled(0.5)]),
        repeated(a, 2, 3),
        of_scipy(sparse.coo_array(A)),
        a.columns(min(1, cols), cols),
    ]
    wanted = [A, A.T, -2 * A, A @ B, 1.5 * A, np.kron(np.eye(2), np.kron(A, np.eye(3))), A, A[:, 1:]]
    for found, dense in zip(several, wanted, strict=True):
        assert found.shape == dense.shape
        assert in_order(found)
        np.testing.assert_allclose(found.toarray(), dense, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.csr.toarray(), dense, rtol=0, atol=1e-12)
    assert a.indptr.tolist() == scipy.indptr.tolist()
    assert a.indices.tolist() == scipy.indices.tolist()
    assert a.single == bool((np.diff(scipy.indptr) <= 1).all())


@pytest.mark.parametrize("density", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("infinite", [False, True])
def test_large_products_go_three_ways(density: float, infinite: bool) -> None:
    """Written out, dense, and by SciPy; what is infinite meets no zero on its way."""
    A, B = drawn(60, 80, density), drawn(80, 50, density)
    if infinite:
        A[A != 0] = np.inf
        B = np.abs(B)
    found = of_dense(A) @ of_dense(B)
    assert in_order(found)
    np.testing.assert_allclose(found.toarray(), (sparse.csr_array(A) @ sparse.csr_array(B)).toarray(), atol=1e-12)
    assert np.count_nonzero(A) * 50 * density > SMALL or density < 1


def test_entries_of_one_position_are_summed_and_zeros_dropped() -> None:
    rows, cols = np.array([2, 0, 2, 1, 1]), np.array([1, 0, 1, 2, 2])
    found = gathered(rows, cols, np.array([1.0, 5, 2, 3, -3]), (3, 3))
    assert (found.rows.tolist(), found.cols.tolist(), found.data.tolist()) == ([0, 2], [0, 1], [5.0, 3.0])


@pytest.mark.parametrize("whole", [False, True])
def test_a_constant_times_entries_of_a_parameter(whole: bool) -> None:
    v = RNG.standard_normal(9)
    rows = np.arange(6) if whole else np.array([5, 0, 0, 3])
    cols, source = RNG.integers(0, 4, len(rows)), RNG.integers(0, 9, len(rows))
    cols[1:3] = 0, 1
    right = Entries(0, rows, cols, source, RNG.standard_normal(len(rows)), (6, 4))
    lefts = [selection(np.array([5, -1, 0, 0]), 6), scaling(np.array([1.0, 0, 2, 3, 0, 1])), Fixed(of_dense(drawn(3, 6, 0.4)))]

    def dense(entries: Entries) -> np.ndarray:
        M = np.zeros(entries.shape)
        np.add.at(M, (entries.rows, entries.cols), entries.weight * v[entries.source])
        return M

    for left in lefts:
        merged = merge(left, right)
        if merged is not None:
            assert isinstance(merged, Entries)
            np.testing.assert_allclose(dense(merged), left.matrix.toarray() @ dense(right))
            assert len(set(zip(merged.rows.tolist(), merged.cols.tolist(), strict=True))) == len(merged.rows)
    assert merge(lefts[0], right) is not None
    assert merge(lefts[1], right) is not None


def test_products_count_in_the_digest() -> None:
    """A product that cannot merge is compared by its numbers."""

    def digest(factor: float) -> str:
        x, a = kr.Variable(4, name="x"), kr.Parameter(3, name="a")
        F = factor * np.arange(12.0).reshape(3, 4)
        REMEMBERED.clear()
        return canonicalize(kr.Problem(kr.Minimize(kr.sum_squares(x)), [(2 * F.T) @ kr.multiply(a, F @ x) <= 1])).qp.digest

    assert digest(1.0) == digest(1.0) != digest(2.0)


def test_a_text_is_written_once_and_lets_go_of_what_it_was_of() -> None:
    class Thing:
        times = 0

        def __call__(self) -> str:
            Thing.times += 1
            return "said"

    thing = Thing()
    alive, text = weakref.ref(thing), Text(thing)
    del thing
    assert alive() is not None
    assert str(text) == str(text) == "said"
    assert Thing.times == 1
    gc.collect()
    assert alive() is None
    assert pickle.loads(pickle.dumps(text)) == text == Text("said") != Text("other")
    assert hash(text) == hash(Text("said"))


def test_compiling_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem and its constraints are printed when somebody looks."""
    x, c = kr.Variable(3, name="x"), kr.Parameter(3, name="c")
    problem = kr.Problem(kr.Minimize(kr.sum_squares(x - c)), {"low": x >= c[0], "sum": kr.sum(x) == 1})
    printed: list[str] = []

    def printing(name: str, text: str) -> Callable[..., str]:
        def printed_now(*_: object) -> str:
            printed.append(name)
            return text

        return printed_now

    monkeypatch.setattr("karush.dsl.problem.problem_text", printing("problem", "minimize it"))
    monkeypatch.setattr("karush.canon.canonicalize.constraint_text", printing("row", "sum(x) == 1"))
    REMEMBERED.clear()
    layer = kr.compile(problem)
    layer(c=[0.1, 0.2, 0.3])
    assert printed == []
    assert "minimize" in str(layer.explain())
    assert layer.rows("sum").text == "sum(x) == 1"
    assert set(printed) == {"problem", "row"}
    REMEMBERED.clear()
