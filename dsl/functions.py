"""The functions of the language: what users call beside operators and methods.

Functions that are not atoms are written here in terms of atoms, so that no later stage needs to know them.
"""

from __future__ import annotations

import operator
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .curvature import Form
from .definite import definiteness, symmetric
from .diagnostics import DCPError, Diagnostic, definition_error, shape_error, usage_error
from .expression import Expression, apply, elementwise, normalized, wrap
from .leaves import checked_shape, declared
from .span import here

Axis = int | tuple[int, ...] | None

# Affine


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of entries over ``axis``; an iterable of expressions is added up."""
    if not isinstance(x, Expression) and isinstance(x, list | tuple) and any(isinstance(part, Expression) for part in x):
        total: Expression = wrap(x[0])
        for part in x[1:]:
            total = total + part
        return total.sum(axis, keepdims)
    return wrap(x).sum(axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Mean of entries over ``axis``."""
    return wrap(x).mean(axis, keepdims)


def reshape(x: Any, shape: int | tuple[int, ...]) -> Expression:
    """The same entries, in C order, in another shape."""
    return wrap(x).reshape(shape)


def transpose(x: Any, axes: tuple[int, ...] | None = None) -> Expression:
    """Axes reversed, or permuted to ``axes``."""
    expression = wrap(x)
    if axes is None:
        return expression.T
    if sorted(a % (expression.ndim or 1) for a in axes) != list(range(expression.ndim)):
        raise shape_error(
            "transpose", f"axes {axes} are no permutation of the {expression.ndim} dimensions of {expression.shape}", "", expression
        )
    return apply("transpose", expression, axes=tuple(a % expression.ndim for a in axes))


def broadcast_to(x: Any, shape: int | tuple[int, ...]) -> Expression:
    """``x`` repeated to ``shape`` by NumPy's rules."""
    x, target = wrap(x), (shape,) if isinstance(shape, int) else tuple(shape)
    try:
        fits = np.broadcast_shapes(x.shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        raise shape_error(f"shape {x.shape} does not broadcast to {target}", "", "", x)
    return apply("broadcast_to", x, shape=target)


def multiply(x: Any, y: Any) -> Expression:
    """Elementwise product with NumPy broadcasting; one factor must be free of variables."""
    return elementwise("multiply", x, y)


def matmul(x: Any, y: Any) -> Expression:
    """Matrix product ``x @ y``; one factor must be free of variables."""
    return apply("matmul", x, y)


def concatenate(parts: Sequence[Any], axis: int = 0) -> Expression:
    """Join along an existing axis."""
    expressions = _parts(parts)
    (direction,) = normalized(operator.index(axis), expressions[0]) or (0,)
    return apply("concatenate", *expressions, axis=direction)


def stack(parts: Sequence[Any], axis: int = 0) -> Expression:
    """Join equal shapes along a new axis."""
    expressions = _parts(parts)
    shape = expressions[0].shape
    if any(part.shape != shape for part in expressions):
        raise shape_error("stack needs equal shapes", "", "use concatenate for an existing axis", *expressions)
    if not -len(shape) - 1 <= axis <= len(shape):
        raise shape_error(f"axis {axis} does not exist", f"the result has {len(shape) + 1} dimensions", "", *expressions)
    at = axis % (len(shape) + 1)
    return concatenate([part.reshape((*shape[:at], 1, *shape[at:])) for part in expressions], at)


def hstack(parts: Sequence[Any]) -> Expression:
    """Join vectors end to end, matrices side by side."""
    expressions = [part.reshape(-1) if part.ndim == 0 else part for part in _parts(parts)]
    return concatenate(expressions, 0 if expressions[0].ndim == 1 else 1)


def vstack(parts: Sequence[Any]) -> Expression:
    """Join row by row; vectors become rows."""
    return concatenate([part.reshape((1, -1)) if part.ndim < 2 else part for part in _parts(parts)], 0)


def diag(x: Any, k: int = 0) -> Expression:
    """The matrix with a vector on its ``k``-th diagonal, or the ``k``-th diagonal of a matrix."""
    x = wrap(x)
    if x.ndim not in (1, 2):
        raise shape_error("diag needs a vector or a matrix", f"got shape {x.shape}", "", x)
    return apply("diag" if x.ndim == 1 else "diagonal", x, offset=operator.index(k))


def trace(x: Any) -> Expression:
    """Sum of the diagonal of a matrix."""
    return wrap(x).trace()


def cumsum(x: Any, axis: int | None = 0) -> Expression:
    """Cumulative sum along ``axis``, or of all entries in C order if None."""
    return wrap(x).cumsum(axis)


def diff(x: Any, k: int = 1, axis: int = 0) -> Expression:
    """Differences of neighbours along ``axis``, ``k`` times."""
    x = wrap(x)
    (direction,) = normalized(operator.index(axis), x) or (0,)
    if k < 0:
        raise shape_error("diff", f"the order must be 0 or more, got {k}", "", x)
    before = (slice(None),) * direction
    result: Expression = x
    for _ in range(k):
        result = result[(*before, slice(1, None))] - result[(*before, slice(None, -1))]
    return result


# Piecewise linear


def abs(x: Any) -> Expression:
    """Absolute value, elementwise. Convex, nonnegative."""
    return apply("abs", x)


def norm1(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of absolute values (entrywise for a matrix). Convex, nonnegative."""
    return apply("abs", x).sum(axis, keepdims)


def norm_inf(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Largest absolute value (entrywise for a matrix). Convex, nonnegative."""
    return apply("abs", x).max(axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Largest entry over ``axis``. Convex, increasing."""
    return wrap(x).max(axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Smallest entry over ``axis``. Concave, increasing."""
    return wrap(x).min(axis, keepdims)


def maximum(*xs: Any) -> Expression:
    """Elementwise largest of two or more, with broadcasting. Convex, increasing."""
    return elementwise("maximum", *xs)


def minimum(*xs: Any) -> Expression:
    """Elementwise smallest of two or more, with broadcasting. Concave, increasing."""
    return -elementwise("maximum", *(-wrap(x) for x in xs))


def pos(x: Any) -> Expression:
    """max(x, 0), elementwise. Convex, increasing, nonnegative."""
    return maximum(x, 0.0)


def neg(x: Any) -> Expression:
    """max(-x, 0), elementwise. Convex, decreasing, nonnegative."""
    return maximum(-wrap(x), 0.0)


# Quadratic


def square(x: Any) -> Expression:
    """x², elementwise. Convex, nonnegative; of affine or nonnegative piecewise-linear expressions."""
    return apply("square", x)


def sum_squares(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """Sum of squares. Convex, nonnegative."""
    return square(x).sum(axis, keepdims)


def quad_form(x: Any, P: Any) -> Expression:
    """x' P x for a vector x and a symmetric matrix P known to be PSD (convex) or NSD (concave)."""
    x, P = wrap(x), wrap(P)
    if x.form is Form.CONSTANT:
        return (x * (P @ x)).sum() if P.shape == x.shape * 2 else apply("quad_form", x, P, definite=definiteness(P))
    if P.form is not Form.CONSTANT:
        raise usage_error("quad_form with variables in P", P, "P must be data", "make P a Parameter")
    known = definiteness(P)
    if not (known.nonneg or known.nonpos) or not symmetric(P):
        why = "P must be symmetric and known to be positive or negative semidefinite"
        mend = "declare it: kr.Parameter((n, n), PSD=True); build it as L @ L.T; or state it: kr.assume(P, PSD=True)"
        raise DCPError(Diagnostic("D08", "quad_form of unknown curvature", here(), "", f"P has shape {P.shape}", why, mend))
    return apply("quad_form", x, P, definite=known)


def huber(x: Any, M: Any = 1.0) -> Expression:
    """x² where |x| <= M, 2 M |x| - M² outside; elementwise. M >= 0 is free of variables. Convex, nonnegative."""
    M = wrap(M)
    if M.form is not Form.CONSTANT or not M.sign.nonneg:
        raise usage_error("the threshold of huber", M, "M must be data known to be nonnegative", "declare it nonneg=True")
    return elementwise("huber", x, M)


# Functions of parameters


def exp(x: Any) -> Expression:
    """Exponential of data."""
    return _of_data("exp", x)


def log(x: Any) -> Expression:
    """Natural logarithm of data."""
    return _of_data("log", x)


def sqrt(x: Any) -> Expression:
    """Square root of data."""
    return _of_data("sqrt", x)


def tanh(x: Any) -> Expression:
    """Hyperbolic tangent of data."""
    return _of_data("tanh", x)


def sin(x: Any) -> Expression:
    """Sine of data."""
    return _of_data("sin", x)


def cos(x: Any) -> Expression:
    """Cosine of data."""
    return _of_data("cos", x)


def sigmoid(x: Any) -> Expression:
    """1 / (1 + exp(-x)) of data."""
    return _of_data("sigmoid", x)


def softplus(x: Any) -> Expression:
    """log(1 + exp(x)) of data."""
    return _of_data("softplus", x)


def inv(x: Any) -> Expression:
    """Inverse of a square matrix of data."""
    return _of_data("inv", x)


def function(
    f: Callable[..., Any], *arguments: Any, shape: int | tuple[int, ...], batched: bool = False, **attributes: bool
) -> Expression:
    """An arbitrary torch function of parameters, as a coefficient.

    ``f`` is written for one item and vectorised over batched arguments; with ``batched=True`` it maps tensors with one leading
    batch axis to a tensor of shape ``batch + shape``. An ``nn.Module`` becomes a submodule of the layer. ``attributes`` declare
    what convexity may rely on (``nonneg nonpos PSD NSD symmetric diag``); they are checked per item at run time.
    """
    for argument in map(wrap, arguments):
        _need_data("function", argument)
    if not callable(f):
        raise definition_error("N01", "the first argument of function", f"expected a callable, got {f!r}")
    target = checked_shape(shape, "function")
    facts = declared("function", target, attributes)
    return apply("function", *arguments, callable=f, batched=batched, shape=target, attributes=facts, key=uuid.uuid4().hex)


def assume(x: Any, **attributes: bool) -> Expression:
    """``x`` with a stated sign or definiteness, checked per item at run time."""
    x = _need_data("assume", wrap(x))
    return apply("assume", x, attributes=declared("assumption", x.shape, attributes))


def _of_data(name: str, x: Any) -> Expression:
    return apply(name, _need_data(name, wrap(x)))


def _need_data(name: str, x: Expression) -> Expression:
    if x.form is not Form.CONSTANT:
        why = f"{name} of a variable is not representable in a quadratic program"
        raise usage_error(f"{name} of an expression with variables", x, why, "apply it to parameters or constants")
    return x


def _parts(parts: Sequence[Any]) -> list[Expression]:
    expressions = [wrap(part) for part in parts]
    if not expressions:
        raise shape_error("nothing to join", "the sequence is empty", "")
    return expressions
