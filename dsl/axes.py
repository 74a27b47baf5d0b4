"""The axes that an expression has, and those that a function needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .diagnostics import shape_error

if TYPE_CHECKING:  # expressions are built with this module
    from .expression import Expression


def normalized(axis: int | tuple[int, ...] | None, expression: Expression) -> tuple[int, ...] | None:
    """Axes as a sorted tuple of nonnegative integers."""
    if axis is None:
        return None
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    if not all(isinstance(a, int | np.integer) for a in axes) or any(not -expression.ndim <= a < expression.ndim for a in axes):
        last = expression.ndim - 1
        why = "a scalar has no axes" if last < 0 else f"shape {expression.shape} has axis 0{f' to {last}' if last else ' only'}"
        raise shape_error(f"axis {axis} does not exist", why, "leave axis out to take all entries", expression, code="S05")
    return tuple(sorted({a % expression.ndim for a in axes}))


def matrix(expression: Expression, name: str) -> Expression:
    """The expression, if it is a matrix."""
    if expression.ndim != 2:
        why = f"a matrix has two dimensions; got {expression.ndim}"
        raise shape_error(f"{name} needs a matrix", why, "kr.diag makes a matrix of a vector", expression, code="S08")
    return expression
