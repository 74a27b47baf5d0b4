"""Affine functions of one argument: sums, and what only moves entries.

Everything here is composed of a few atoms. Where entries only move, the new arrangement is an index, a reshape or a transpose: the
compiler looks through those, so they cost nothing when a model is solved.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .axes import matrix, normalized
from .curvature import Form
from .diagnostics import shape_error
from .expression import Expression, Order, apply, wrap
from .of_data import assume

Axis = int | tuple[int, ...] | None


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of entries over ``axis``; an iterable of expressions is added up."""
    x = list(x) if isinstance(x, Iterator) else x
    if isinstance(x, list | tuple) and any(isinstance(part, Expression) for part in x):
        total: Expression = wrap(x[0])
        for part in x[1:]:
            total = total + part
        return total.sum(axis, keepdims)
    return wrap(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Mean of entries over ``axis``."""
    return wrap(x).mean(axis, keepdims)


def cumsum(x: Any, axis: int | None = 0) -> Expression:
    """Cumulative sum along ``axis``, or of all entries in C order if None."""
    return wrap(x).cumsum(axis)


def diff(x: Any, k: int = 1, axis: int = 0) -> Expression:
    """Differences of neighbours along ``axis``, ``k`` times."""
    x = wrap(x)
    direction = _axis(axis, x)
    if k < 0:
        why = f"k says how often neighbours are subtracted, so it is 0 or more; got {k}"
        raise shape_error("diff of a negative order", why, "write kr.cumsum for the opposite", x, code="S08")
    before = (slice(None),) * direction
    result: Expression = x
    for _ in range(k):
        result = result[(*before, slice(1, None))] - result[(*before, slice(None, -1))]
    return result


# Matrices


def trace(x: Any) -> Expression:
    """Sum of the diagonal of a matrix."""
    return wrap(x).trace()


def diag(x: Any, k: int = 0) -> Expression:
    """The matrix with a vector on its ``k``-th diagonal, or the ``k``-th diagonal of a matrix."""
    x = wrap(x)
    if x.ndim not in (1, 2):
        why = f"diag makes a matrix of a vector and a vector of a matrix, got {x.ndim} dimensions"
        raise shape_error("diag needs a vector or a matrix", why, "index or reshape it first", x, code="S08")
    return apply("diag" if x.ndim == 1 else "diagonal", x, offset=operator.index(k))


def upper_tri(x: Any) -> Expression:
    """The entries strictly above the diagonal of a square matrix, row by row, as a vector of n (n - 1) / 2."""
    x = _square(x, "upper_tri")
    result: Expression = x[np.triu_indices(x.shape[0], 1)]
    return result


def vec_to_upper_tri(x: Any, strict: bool = False) -> Expression:
    """The square matrix whose upper triangle holds a vector, row by row, and zeros below; ``strict``: zeros on the diagonal too."""
    x = wrap(x).flatten()
    size = (math.isqrt(8 * x.size + 1) + (1 if strict else -1)) // 2
    rows, columns = np.triu_indices(size, 1 if strict else 0)
    if len(rows) != x.size:
        why = f"a triangle has {'n (n - 1) / 2' if strict else 'n (n + 1) / 2'} entries, and {x.size} is none of these numbers"
        raise shape_error("a vector that fills no triangle", why, "check strict, and the length", x, code="S08")
    places = np.zeros((size, size), dtype=np.int64)
    places[rows, columns] = 1 + np.arange(x.size)
    return concatenate([np.zeros(1), x])[places]


def partial_trace(x: Any, dims: Sequence[int], axis: int = 0) -> Expression:
    """The trace over one factor of a matrix of blocks: of kron(A0, A1, ...), with sizes ``dims``, A_axis becomes its trace."""
    blocks, at = _blocks(x, dims, axis, "partial_trace")
    number, rest = len(dims), math.prod(dims) // dims[at] if dims[at] else 0
    turned = transpose(blocks, (at, number + at, *(i for i in range(2 * number) if i not in (at, number + at))))
    every = np.arange(dims[at])
    return turned[every, every].sum(0).reshape(rest, rest)


def partial_transpose(x: Any, dims: Sequence[int], axis: int = 0) -> Expression:
    """The transpose of one factor of a matrix of blocks: of kron(A0, A1, ...), with sizes ``dims``, A_axis is transposed."""
    blocks, at = _blocks(x, dims, axis, "partial_transpose")
    return swapaxes(blocks, at, len(dims) + at).reshape(wrap(x).shape)


def symmetric_wrap(x: Any) -> Expression:
    """``x``, stated to be symmetric. Of data it is checked per item; of variables nothing here needs it, and nothing is stated."""
    x = _square(x, "symmetric_wrap")
    return assume(x, symmetric=True) if x.form is Form.CONSTANT else x


def psd_wrap(x: Any) -> Expression:
    """``x``, stated to be PSD. Of data it is checked per item; of variables nothing here needs it, and nothing is stated."""
    x = _square(x, "psd_wrap")
    return assume(x, PSD=True) if x.form is Form.CONSTANT else x


# Shapes


def reshape(x: Any, shape: int | tuple[int, ...], order: Order = "C") -> Expression:
    """The same entries in another shape; one dimension may be -1. In C order: rows one after the other; "F": columns."""
    return wrap(x).reshape(shape, order=order)


def flatten(x: Any, order: Order = "C") -> Expression:
    """All entries as a vector: rows one after the other; with order "F" columns."""
    return wrap(x).flatten(order)


def vec(x: Any, order: Order = "C") -> Expression:
    """All entries as a vector: rows one after the other; with order "F" columns."""
    return wrap(x).flatten(order)


def deep_flatten(x: Any) -> Expression:
    """All entries of nested lists of expressions, each in C order, as one vector."""
    if not isinstance(x, list | tuple) or not _holds_expressions(x):
        return wrap(x).flatten()
    return concatenate([deep_flatten(part) for part in x])


def squeeze(x: Any, axis: Axis = None) -> Expression:
    """Without the given axes of size 1; without all of them if None."""
    x = wrap(x)
    axes = tuple(i for i, size in enumerate(x.shape) if size == 1) if axis is None else normalized(axis, x) or ()
    if any(x.shape[i] != 1 for i in axes):
        why = f"only an axis of size 1 can be left out; the shape is {x.shape}"
        raise shape_error("squeeze of an axis that is longer", why, "index it, to take one entry", x, code="S05")
    result: Expression = x.reshape(tuple(size for i, size in enumerate(x.shape) if i not in axes))
    return result


def expand_dims(x: Any, axis: int | tuple[int, ...]) -> Expression:
    """New axes of size 1, at these places of the result."""
    x = wrap(x)
    try:
        shape = np.expand_dims(np.empty(x.shape, dtype=bool), axis).shape
    except (ValueError, TypeError) as error:
        raise shape_error(f"axis {axis} cannot be added", str(error), "write axis=0 for a new first one", x, code="S05") from None
    result: Expression = x.reshape(shape)
    return result


def promote(x: Any, shape: int | tuple[int, ...]) -> Expression:
    """A scalar in every entry of ``shape``."""
    x = wrap(x)
    if x.size != 1:
        why = f"promote repeats one number, and this has {x.size}"
        raise shape_error("promote of more than a scalar", why, "write kr.broadcast_to", x, code="S08")
    return broadcast_to(x.reshape(()), shape)


def broadcast_to(x: Any, shape: int | tuple[int, ...]) -> Expression:
    """``x`` repeated to ``shape`` by NumPy's rules."""
    x, target = wrap(x), (shape,) if isinstance(shape, int) else tuple(shape)
    try:
        fits = np.broadcast_shapes(x.shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        why = "aligned from the right, each dimension must be equal to that of the target, or 1"
        raise shape_error(f"shape {x.shape} does not broadcast to {target}", why, "reshape it first, or check the target", x)
    return apply("broadcast_to", x, shape=target)


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Expression:
    """Axes reversed, or permuted to ``axes``."""
    expression = wrap(x)
    if axes is None:
        return expression.T
    if sorted(a % (expression.ndim or 1) for a in axes) != list(range(expression.ndim)):
        why = f"every axis from 0 to {expression.ndim - 1} must be named once; got {tuple(axes)}"
        raise shape_error("axes that are no permutation", why, "leave axes out to reverse them all", expression, code="S05")
    return apply("transpose", expression, axes=tuple(a % expression.ndim for a in axes))


def permute_dims(x: Any, axes: tuple[int, ...]) -> Expression:
    """Axes permuted to ``axes``."""
    return transpose(x, tuple(axes))


def swapaxes(x: Any, axis1: int, axis2: int) -> Expression:
    """Two axes exchanged."""
    x = wrap(x)
    axes = list(range(x.ndim))
    first, second = _axis(axis1, x), _axis(axis2, x)
    axes[first], axes[second] = axes[second], axes[first]
    return transpose(x, tuple(axes))


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Expression:
    """Axes moved to other places; the rest keep their order."""
    x = wrap(x)
    sources, places = (tuple(_axis(a, x) for a in _several(given)) for given in (source, destination))
    if len(sources) != len(places) or len(set(sources)) != len(sources) or len(set(places)) != len(places):
        why = f"each axis of source goes to one place of destination; got {source} and {destination}"
        raise shape_error("axes that cannot be moved", why, "name as many places as axes, each once", x, code="S05")
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for place, moved in sorted(zip(places, sources, strict=True)):
        order.insert(place, moved)
    return transpose(x, tuple(order))


# Repeating, turning round, cutting


def flip(x: Any, axis: Axis = None) -> Expression:
    """The order of entries reversed along ``axis``, or along all axes."""
    x = wrap(x)
    axes = normalized(axis, x)
    result: Expression = x[tuple(slice(None, None, -1 if axes is None or i in axes else 1) for i in range(x.ndim))] if x.ndim else x
    return result


def roll(x: Any, shift: int, axis: int | None = None) -> Expression:
    """Entries moved on by ``shift`` along ``axis``, the last ones back to the front; in C order through all axes if None."""
    x = wrap(x)
    if axis is None:
        return _taken(x.flatten(), 0, np.roll(np.arange(x.size), shift)).reshape(x.shape)
    direction = _axis(axis, x)
    return _taken(x, direction, np.roll(np.arange(x.shape[direction]), shift))


def repeat(x: Any, repeats: int, axis: int | None = None) -> Expression:
    """Every entry ``repeats`` times along ``axis``; of all entries in C order, as a vector, if None."""
    x = wrap(x)
    if axis is None:
        return _taken(x.flatten(), 0, np.repeat(np.arange(x.size), repeats))
    direction = _axis(axis, x)
    return _taken(x, direction, np.repeat(np.arange(x.shape[direction]), repeats))


def tile(x: Any, reps: int | Sequence[int]) -> Expression:
    """The whole of ``x`` several times along each axis, as in NumPy: missing axes stand in front."""
    x, counts = wrap(x), _several(reps)
    ndim = x.ndim if x.ndim > len(counts) else len(counts)
    result: Expression = x.reshape((1,) * (ndim - x.ndim) + x.shape)
    for axis, count in enumerate((1,) * (ndim - len(counts)) + counts):
        if count != 1:
            result = _taken(result, axis, np.tile(np.arange(result.shape[axis]), count))
    return result


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Expression]:
    """Parts along ``axis``: so many of equal length, or cut before these indices."""
    x = wrap(x)
    direction = _axis(axis, x)
    size = x.shape[direction]
    if isinstance(sections, int) and (sections < 1 or size % sections):
        why = f"{size} entries do not make {sections} parts of equal length"
        raise shape_error("parts that are not equal", why, "give the indices before which to cut: [2, 5]", x, code="S08")
    cuts = [i * size // sections for i in range(1, sections)] if isinstance(sections, int) else sections
    ends = [0, *cuts, size]
    before = (slice(None),) * direction
    return [x[(*before, slice(start, end))] for start, end in pairwise(ends)]


# Joining


def concatenate(parts: Sequence[Any], axis: int | None = 0) -> Expression:
    """Join along an existing axis; all entries in C order, as a vector, if None."""
    expressions = _parts(parts)
    if axis is None:
        expressions, axis = [part.flatten() for part in expressions], 0
    (direction,) = normalized(axis, expressions[0]) or (0,)
    return apply("concatenate", *expressions, axis=direction)


def stack(parts: Sequence[Any], axis: int = 0) -> Expression:
    """Join equal shapes along a new axis."""
    expressions = _parts(parts)
    shape = expressions[0].shape
    if any(part.shape != shape for part in expressions):
        why = "stack makes a new axis, so all parts have the same shape"
        mend = "write kr.concatenate to join along an existing axis"
        raise shape_error("parts that cannot be joined", why, mend, *expressions, code="S09")
    if not -len(shape) - 1 <= axis <= len(shape):
        why = f"the result has {len(shape) + 1} dimensions, so the new axis is one of 0 to {len(shape)}"
        raise shape_error(f"axis {axis} does not exist", why, "write axis=0 to stack row by row", *expressions, code="S05")
    at = axis % (len(shape) + 1)
    return concatenate([part.reshape((*shape[:at], 1, *shape[at:])) for part in expressions], at)


def hstack(parts: Sequence[Any]) -> Expression:
    """Join vectors end to end, matrices side by side."""
    expressions = [part.reshape(-1) if part.ndim == 0 else part for part in _parts(parts)]
    return concatenate(expressions, 0 if expressions[0].ndim == 1 else 1)


def vstack(parts: Sequence[Any]) -> Expression:
    """Join row by row; vectors become rows."""
    return concatenate([part.reshape((1, -1)) if part.ndim < 2 else part for part in _parts(parts)], 0)


def bmat(rows: Sequence[Sequence[Any]]) -> Expression:
    """A matrix of blocks, given row by row; vectors are rows, and scalars are 1 by 1."""
    wide = [[wrap(part) for part in row] for row in _listed(rows)]
    return vstack([hstack([part.reshape((1, -1)) if part.ndim < 2 else part for part in row]) for row in wide])


# Helpers


def _parts(parts: Sequence[Any]) -> list[Expression]:
    expressions = [wrap(part) for part in parts]
    if not expressions:
        why = "the sequence is empty, so the result has no shape"
        raise shape_error("nothing to join", why, "give at least one part", code="S09")
    return expressions


def _listed(rows: Any) -> Any:
    return [rows] if rows and not isinstance(rows[0], list | tuple) else rows


def _holds_expressions(x: Any) -> bool:
    return isinstance(x, Expression) or (isinstance(x, list | tuple) and any(map(_holds_expressions, x)))


def _several(given: int | Sequence[int]) -> tuple[int, ...]:
    return (operator.index(given),) if isinstance(given, int | np.integer) else tuple(operator.index(one) for one in given)


def _axis(axis: int, x: Expression) -> int:
    (direction,) = normalized(axis, x) or (0,)
    return direction


def _taken(x: Expression, axis: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Expression:
    """The entries at ``indices`` along an axis."""
    return x[(*(slice(None),) * axis, indices)]


def _square(x: Any, name: str) -> Expression:
    x = matrix(wrap(x), name)
    if x.shape[0] != x.shape[1]:
        raise shape_error(f"{name} needs a square matrix", f"got shape {x.shape}", "take a square part of it", x, code="S08")
    result: Expression = x
    return result


def _blocks(x: Any, dims: Sequence[int], axis: int, name: str) -> tuple[Expression, int]:
    """A matrix on a product of spaces with one axis for the row and one for the column of each factor."""
    x = _square(x, name)
    if math.prod(dims) != x.shape[0]:
        why = f"the sizes {tuple(dims)} multiply to {math.prod(dims)}, the matrix has {x.shape[0]} rows"
        raise shape_error("factors that do not fit the matrix", why, "check dims", x, code="S08")
    if not -len(dims) <= axis < len(dims):
        why = f"dims names {len(dims)} factors, counted from 0"
        raise shape_error(f"factor {axis} does not exist", why, "write axis=0 for the first", x, code="S05")
    return x.reshape((*dims, *dims)), axis % len(dims)
