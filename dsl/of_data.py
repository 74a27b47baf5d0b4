"""Functions of data: coefficients may be anything that parameters and constants give.

Signs that hold for every argument are known to the rules (``exp`` is nonnegative); others are stated with ``assume``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import remedies, usage
from .attributes import declared
from .constraint import new_key
from .curvature import Form
from .diagnostics import definition_error
from .expression import Expression, apply, wrap
from .leaves import checked_shape


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
    """Inverse of a square matrix of data; PSD if that is. An item whose matrix is singular is INVALID_INPUT."""
    return _of_data("inv", x)


def cholesky(x: Any) -> Expression:
    """The lower triangular L with L @ L.T = x, of positive definite data. An item that has none is INVALID_INPUT."""
    return _of_data("cholesky", x)


def solve(A: Any, b: Any) -> Expression:
    """inv(A) @ b of data, for a vector or a matrix b. An item whose A is singular is INVALID_INPUT.

    (A problem is solved by its method: ``problem.solve(...)``.)
    """
    if hasattr(A, "constraints"):
        raise definition_error(
            "N02", "kr.solve of a problem", "it solves linear systems of data", "write problem.solve(...)", at=(0,)
        )
    return apply("solve", need_data("solve", wrap(A)), need_data("solve", wrap(b)))


def function(
    f: Callable[..., Any], *arguments: Any, shape: int | tuple[int, ...], batched: bool = False, **attributes: Any
) -> Expression:
    """An arbitrary torch function of parameters, as a coefficient.

    ``f`` is written for one item and vectorised over batched arguments; with ``batched=True`` it maps tensors with one leading
    batch axis to a tensor of shape ``batch + shape``. An ``nn.Module`` becomes a submodule of the layer. ``attributes`` declare
    what convexity may rely on (``nonneg nonpos PSD NSD symmetric diag``); they are checked per item at run time.
    """
    for argument in map(wrap, arguments):
        need_data("function", argument)
    if not callable(f):
        raise remedies.no_function(f)
    target = checked_shape(shape, "function")
    facts = declared("function", target, attributes)
    return apply("function", *arguments, callable=f, batched=batched, shape=target, attributes=facts, key=new_key())


def assume(x: Any, **attributes: Any) -> Expression:
    """``x`` with a stated sign or definiteness, checked per item at run time."""
    x = need_data("assume", wrap(x))
    return apply("assume", x, attributes=declared("assumption", x.shape, attributes))


def need_data(name: str, x: Expression) -> Expression:
    """x, if it is free of variables."""
    if x.form is not Form.CONSTANT:
        raise usage.smooth(name, x)
    return x


def _of_data(name: str, x: Any) -> Expression:
    return apply(name, need_data(name, wrap(x)))
