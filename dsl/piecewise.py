"""Piecewise-linear functions: convex ones, and their concave mirror images -f(-x)."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import cones, remedies
from .affine import diff
from .axes import normalized
from .curvature import Form
from .diagnostics import definition_error, shape_error
from .expression import Constant, Expression, apply, elementwise, multiplied, reciprocal, wrap
from .of_data import assume

Axis = int | tuple[int, ...] | None


def abs(x: Any) -> Expression:
    """Absolute value, elementwise. Convex, nonnegative."""
    return apply("abs", x)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Largest entry over ``axis``. Convex, increasing."""
    return wrap(x).max(axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Smallest entry over ``axis``. Concave, increasing."""
    return wrap(x).min(axis, keepdims)


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Largest minus smallest entry over ``axis``. Convex, nonnegative."""
    return wrap(x).ptp(axis, keepdims)


def maximum(*xs: Any) -> Expression:
    """Elementwise largest of two or more, with broadcasting. Convex, increasing."""
    if not xs:
        raise shape_error("the largest of nothing", "no argument was given", "give at least one: kr.maximum(x, 0)", code="S08")
    return elementwise("maximum", *xs)


def minimum(*xs: Any) -> Expression:
    """Elementwise smallest of two or more, with broadcasting. Concave, increasing."""
    return -maximum(*(-wrap(x) for x in xs))


def pos(x: Any) -> Expression:
    """max(x, 0), elementwise. Convex, increasing, nonnegative."""
    return maximum(x, 0.0)


def neg(x: Any) -> Expression:
    """max(-x, 0), elementwise. Convex, decreasing, nonnegative."""
    return maximum(-wrap(x), 0.0)


def scalene(x: Any, alpha: Any, beta: Any) -> Expression:
    """alpha * pos(x) + beta * neg(x), elementwise; both slopes are data, nonnegative where it is to be convex."""
    slopes = [_data(f"the slope {name} of scalene", slope) for name, slope in (("alpha", alpha), ("beta", beta))]
    return multiplied(slopes[0], pos(x)) + multiplied(slopes[1], neg(x))


def cummax(x: Any, axis: int | None = 0) -> Expression:
    """Largest entry so far along ``axis``, or of all entries in C order if None. Convex, increasing."""
    x = wrap(x)
    if axis is None:
        return apply("cummax", x.flatten(), axis=0)
    (direction,) = normalized(axis, x) or (0,)
    return apply("cummax", x, axis=direction)


def cummin(x: Any, axis: int | None = 0) -> Expression:
    """Smallest entry so far along ``axis``, or of all entries in C order if None. Concave, increasing."""
    return -cummax(-wrap(x), axis)


# Norms


def norm1(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of absolute values (entrywise for a matrix). Convex, nonnegative."""
    return apply("abs", x).sum(axis, keepdims)


def norm_inf(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Largest absolute value (entrywise for a matrix). Convex, nonnegative."""
    return apply("abs", x).max(axis, keepdims)


def norm2(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Root of the sum of squares (entrywise for a matrix). Convex, nonnegative; of variables it is to be squared: norm2(x)**2."""
    x = wrap(x)
    return apply("norm2", x, axis=normalized(axis, x), keepdims=keepdims)


def norm(x: Any, p: Any = 2, axis: Axis = None, keepdims: bool = False) -> Expression:
    """The p-norm of a vector, or along ``axis``; of a matrix without axis, its norm as an operator.

    ``p``: 1, 2 or "inf"; "fro" for the root of the sum of squares of a matrix. Of a matrix, 1 is the largest column sum of absolute
    values and "inf" the largest row sum; 2 is the largest singular value, which no quadratic program holds. A Euclidean norm of
    variables is to be squared: ``norm(x)**2``. Convex, nonnegative. Raises UsageError for other p.
    """
    x = wrap(x)
    if axis is not None or x.ndim < 2 or p == "fro":
        return pnorm(x, 2 if p == "fro" else p, axis, keepdims)
    if x.ndim > 2 or _order(p) not in (1.0, np.inf):
        raise cones.no_norm(x, p)
    inner, outer = (0, 1) if _order(p) == 1 else (1, 0)
    largest = apply("abs", x).sum(inner, keepdims=True).max(outer, keepdims=True)
    return largest if keepdims else largest.reshape(())


def pnorm(x: Any, p: Any = 2, axis: Axis = None, keepdims: bool = False) -> Expression:
    """The p-norm of all entries, or along ``axis``; p is 1, 2 or "inf", and any p >= 1 of data. Convex, nonnegative."""
    x, order = wrap(x), _order(p)
    if order == 1:
        return norm1(x, axis, keepdims)
    if order == np.inf:
        return norm_inf(x, axis, keepdims)
    if order == 2:
        return norm2(x, axis, keepdims)
    if order is None or order < 1 or x.form is not Form.CONSTANT:
        raise cones.no_norm(x, p)
    return (apply("abs", x) ** order).sum(axis, keepdims) ** (1 / order)


def mixed_norm(X: Any, p: Any = 2, q: Any = 1) -> Expression:
    """The q-norm of the p-norms of the rows of a matrix; p and q are 1 or "inf", or both 2. Convex, nonnegative."""
    X = wrap(X)
    if X.ndim != 2:
        raise shape_error("mixed_norm needs a matrix", f"it has rows; got shape {X.shape}", "write kr.norm", X, code="S08")
    inner, outer = _order(p), _order(q)
    if inner == outer == 2:
        return norm2(X)
    if X.form is not Form.CONSTANT and not {inner, outer} <= {1.0, np.inf}:
        raise cones.mixed(X, p, q)
    if inner not in (1.0, np.inf) or outer not in (1.0, np.inf):
        return pnorm(pnorm(X, p, axis=1), q)
    sizes = apply("abs", X)
    rows = sizes.sum(1) if inner == 1 else sizes.max(1)
    return rows.sum() if outer == 1 else rows.max()


def tv(x: Any, isotropic: bool = True) -> Expression:
    """Total variation: absolute differences of neighbours, summed. Convex, nonnegative.

    Of a vector there is one kind. Of a matrix the usual kind, which cvxpy means by ``tv``, sums Euclidean norms of the differences
    down and to the right, and is no quadratic program; ``isotropic=False`` sums their absolute values. Raises UsageError.
    """
    x = wrap(x)
    if x.ndim not in (1, 2):
        raise shape_error("tv needs a vector or a matrix", f"got shape {x.shape}", "index or reshape it first", x, code="S08")
    if x.ndim == 1:
        return norm1(diff(x))
    if not isotropic:
        return norm1(diff(x, axis=0)) + norm1(diff(x, axis=1))
    if x.form is not Form.CONSTANT:
        raise cones.isotropic(x)
    down, right = diff(x, axis=0)[:, :-1], diff(x, axis=1)[:-1]
    return apply("sqrt", down**2 + right**2).sum()


# Sorted sums


def sum_largest(x: Any, k: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of the ``k`` largest entries over ``axis``: of the next one a fraction, where k has one. Convex, increasing.

    ``k``: a number or an expression of parameters, known to be nonnegative; from the number of entries on it is the sum of all.
    """
    x, k = wrap(x), _data("the k of sum_largest", k)
    axes = normalized(axis, x)
    if k.size != 1:
        raise shape_error("k is one number", f"got shape {k.shape}", "call it once for each", k, code="S08")
    if not k.sign.nonneg:
        raise remedies.unsigned("the k of sum_largest", k, "it says how many entries are summed")
    if isinstance(k, Constant):
        number = float(k.value.reshape(()))
        if 1 < number < _count(x, axes):
            return apply("sum_largest", x, number, axis=axes, keepdims=keepdims)
        total: Expression = number * x.max(axis, keepdims) if number <= 1 else x.sum(axis, keepdims)
        return total
    scalar = k if not k.shape else k.reshape(())
    return apply("sum_largest", x, minimum(scalar, float(_count(x, axes))), axis=axes, keepdims=keepdims)


def sum_smallest(x: Any, k: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of the ``k`` smallest entries over ``axis``. Concave, increasing."""
    return -sum_largest(-wrap(x), k, axis, keepdims)


def cvar(x: Any, beta: Any) -> Expression:
    """Mean of the largest share 1 - ``beta`` of a vector's entries: conditional value at risk of losses x. Convex, increasing.

    ``beta``: a number or an expression of parameters, 0 <= beta < 1, checked for each item.
    """
    x, beta = wrap(x), _data("the level of cvar", beta)
    if x.ndim != 1 or beta.size != 1:
        why = f"cvar is of the entries of a vector, at one level; got {x.shape} and {beta.shape}"
        raise shape_error("cvar needs a vector and a number", why, "flatten it first", x, beta, code="S08")
    if isinstance(beta, Constant) and not 0 <= float(beta.value.reshape(())) < 1:
        why = "it is the share of entries that is left out: 0 takes the mean of all, and 1 would leave none"
        raise definition_error(
            "N02", "a level of cvar outside of 0 <= beta < 1", why, "write 0.95 for the worst twentieth", at=(1, "beta")
        )
    share = 1 - (beta if not beta.shape else beta.reshape(()))
    if not isinstance(share, Constant):
        share = assume(share, pos=True, bounds=[None, 1])
    number = x.size * share
    return multiplied(reciprocal(number), sum_largest(x, number))


def dotsort(x: Any, w: Any) -> Expression:
    """The largest of w' x over all orders of the entries of w: sort(x)' sort(w). Convex in x; increasing where w >= 0.

    ``w``: a vector of data no longer than x; missing entries are zeros. Of a matrix all entries count.
    """
    x, w = wrap(x), _data("the weights of dotsort", w)
    return apply("dotsort", x.reshape(-1) if x.ndim > 1 else x, w)


def _count(x: Expression, axes: tuple[int, ...] | None) -> int:
    return int(np.prod(x.shape if axes is None else [x.shape[axis] for axis in axes]))


def _data(role: str, given: Any) -> Expression:
    data = wrap(given)
    if data.form is not Form.CONSTANT:
        raise remedies.not_data(role, data, "it shapes the function, and is data")
    return data


def _order(p: Any) -> float | None:
    """The order of a norm as a number; None if it is none."""
    try:
        return float(p)
    except (TypeError, ValueError):
        return None
