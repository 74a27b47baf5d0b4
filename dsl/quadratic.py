"""Quadratic functions. They stand in the objective, of affine arguments or of piecewise-linear ones on one side of zero."""

from __future__ import annotations

from typing import Any

from . import remedies
from .curvature import Form
from .definite import definiteness, symmetric
from .expression import Expression, apply, elementwise, multiplied, reciprocal, squared, wrap
from .of_data import assume
from .sign import Sign

Axis = int | tuple[int, ...] | None


def square(x: Any) -> Expression:
    """x², elementwise. Convex, nonnegative; of affine expressions, or of piecewise-linear ones, convex >= 0 or concave <= 0."""
    return squared(wrap(x))


def power(x: Any, p: Any) -> Expression:
    """x to the power p, elementwise: of variables 0, 1 or 2, of data any number."""
    result: Expression = wrap(x) ** p
    return result


def sum_squares(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of squares. Convex, nonnegative."""
    return square(x).sum(axis, keepdims)


def quad_over_lin(x: Any, y: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of squares of x, divided by ``y``: data known to be nonnegative. Convex, nonnegative."""
    divisor = wrap(y)
    if divisor.form is not Form.CONSTANT:
        raise remedies.not_data("the divisor of quad_over_lin", divisor, "with variables below the line it is a second-order cone")
    if not divisor.sign.nonneg:
        raise remedies.unsigned("the divisor of quad_over_lin", divisor, "a negative divisor would turn convex into concave")
    return multiplied(sum_squares(x, axis, keepdims), reciprocal(divisor))


def var(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Expression:
    """Variance over ``axis``: the sum of squares around the mean, divided by their number - ``ddof``. Convex, nonnegative."""
    return wrap(x).var(axis, keepdims, ddof)


def quad_form(x: Any, P: Any, assume_PSD: bool = False) -> Expression:
    """x' P x for a vector x and a symmetric matrix P known to be PSD (convex) or NSD (concave).

    Of a matrix x of shape (T, n) one value for each row; P of shape (n, n) serves all rows, or (T, n, n) holds one for each.
    ``x @ P @ x`` means the same. With ``assume_PSD`` definiteness is stated, and checked for each item. Of data x, P may have
    variables: the form is affine in them. Raises DCPError, ShapeError.
    """
    x, P = wrap(x), wrap(P)
    if assume_PSD and P.form is Form.CONSTANT and not (definiteness(P).nonneg and symmetric(P)):
        P = assume(P, PSD=True)
    if x.form is Form.CONSTANT and P.form is Form.CONSTANT:
        return apply("quad_form", x, P, definite=definiteness(P))
    if x.form is Form.CONSTANT and P.shape == x.shape * 2:
        return multiplied(x, P @ x).sum()
    if P.form is not Form.CONSTANT:
        raise remedies.not_data("the matrix of quad_form", P, "x' P x is quadratic only if P is free of variables")
    if x.ndim < 1 or P.shape not in (x.shape[-1:] * 2, (*x.shape, x.shape[-1])):
        return apply("quad_form", x, P, definite=Sign())  # refused, for its shape
    known = definiteness(P)
    if not (known.nonneg or known.nonpos) or not symmetric(P):
        raise remedies.indefinite(x, P)
    return apply("quad_form", x, P, definite=known)


def huber(x: Any, M: Any = 1.0) -> Expression:
    """x² where |x| <= M, 2 M |x| - M² outside; elementwise. M >= 0 is free of variables. Convex, nonnegative."""
    M = wrap(M)
    if M.form is not Form.CONSTANT:
        raise remedies.not_data("the threshold of huber", M, "huber(x, M) is convex in x for a fixed M")
    if not M.sign.nonneg:
        why = "huber is x² up to the threshold and linear beyond it: a negative threshold means nothing"
        raise remedies.unsigned("the threshold of huber", M, why)
    return elementwise("huber", x, M)
