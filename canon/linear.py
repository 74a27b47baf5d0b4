"""The matrix of every affine atom, acting on arguments flattened in C order: one entry per atom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..dsl.expression import Expression
from .factors import Fixed, counted, identity, ones, picked, selection
from .sparse import Index, Matrix, repeated


def positions(node: Expression) -> Index:
    """For an atom that only moves entries: where each entry of the result comes from in its argument, -1 for a zero."""
    assert node.atom is not None
    assert node.atom.value is not None
    places = counted(node.args[0].size).reshape(node.args[0].shape)
    if node.atom.name == "diag":  # writes zeros
        return np.asarray(node.atom.value(places + 1, **node.data), dtype=np.int64).reshape(-1) - 1
    return np.asarray(node.atom.value(places, **node.data), dtype=np.int64).reshape(-1)


def _moved(node: Expression) -> list[Fixed]:
    assert node.atom is not None
    source, size = positions(node), node.args[0].size
    return [selection(source, size) if node.atom.name == "diag" else picked(source, size)]


def _add(node: Expression) -> list[Fixed]:
    return [identity(node.size)] * 2


def _negate(node: Expression) -> list[Fixed]:
    return [identity(node.size).scaled(-1.0)]


def _sum(node: Expression) -> list[Fixed]:
    shape, size = node.args[0].shape, node.args[0].size
    if node.size == 1:
        return [Fixed(Matrix(np.zeros(size, dtype=np.int64), counted(size), ones(size), (1, size)))]
    kept = tuple(1 if node.data["axis"] is None or i in node.data["axis"] else size for i, size in enumerate(shape))
    row = np.broadcast_to(np.arange(node.size).reshape(kept), shape).reshape(-1)
    order = np.argsort(row, kind="stable")
    return [Fixed(Matrix(row[order], order, np.ones(size), (node.size, size)))]


def _concatenate(node: Expression) -> list[Fixed]:
    axis, size, places = node.data["axis"], node.size, counted(node.size).reshape(node.shape)
    found, first = [], 0
    for part in node.args:
        last = first + part.shape[axis]
        into = places[(*(slice(None),) * axis, slice(first, last))].reshape(-1)  # ascending
        found.append(Fixed(Matrix(into, counted(part.size), ones(part.size), (size, part.size), True)))
        first = last
    return found


def _cumsum(node: Expression) -> list[Fixed]:
    axis, shape = node.data["axis"], node.shape
    before, size, after = int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :]))
    rows, cols = np.tril_indices(size)
    return [Fixed(repeated(Matrix(rows, cols, np.ones(len(rows)), (size, size)), before, after))]


MATRICES: dict[str, Callable[[Expression], list[Fixed]]] = {
    "add": _add,
    "negate": _negate,
    "sum": _sum,
    "index": _moved,
    "reshape": _moved,
    "transpose": _moved,
    "broadcast_to": _moved,
    "diag": _moved,
    "diagonal": _moved,
    "concatenate": _concatenate,
    "cumsum": _cumsum,
}

# Atoms whose result only repeats or rearranges entries of one argument.
MOVES = frozenset(name for name, rule in MATRICES.items() if rule is _moved)
