"""Relations by the names that cvxpy gives them."""

from __future__ import annotations

from typing import Any

from .constraint import Constraint
from .expression import wrap


def Zero(expression: Any) -> Constraint:
    """``expression == 0``."""
    return wrap(expression) == 0.0


def NonNeg(expression: Any) -> Constraint:
    """``expression >= 0``."""
    return wrap(expression) >= 0.0


def NonPos(expression: Any) -> Constraint:
    """``expression <= 0``."""
    return wrap(expression) <= 0.0
