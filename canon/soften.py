"""Soft constraints as slack variables and a price, with as few columns and rows as will do.

r is the residual, w >= 0 the weight of each row, s a fresh variable:

    l1, inequality    w's             r - s <= 0,  s >= 0
    l1, equality      w'(2 s - r)     r - s <= 0,  s >= 0         |r| = 2 max(r, 0) - r: half the rows of s >= r, s >= -r
    l2, inequality    w's²            r - s <= 0                  s is free: where r < 0, s = 0 is best
    l2, equality      w'r²            nothing

The way home: the multiplier of the user's constraint is the derivative of its price in r. For s >= r that is the multiplier of the
row; what else the price holds of r is added by ``shift``: nothing, -w, nothing, 2 w r.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dsl.constraint import Constraint
from ..dsl.expression import Expression, apply
from ..dsl.leaves import Variable
from ..dsl.soft import Soft


def soften(soft: Soft, fresh: Callable[..., Variable]) -> tuple[Expression, tuple[Expression, Expression] | None]:
    """The price, and what is to be <= what, if anything is. ``fresh(stem, shape, nonneg)`` makes a variable."""
    r, w, squared = soft.residual, soft.gated, soft.penalty == "l2"
    if squared and soft.op == "==":
        return _dot(w, apply("square", r)), None
    s = fresh("slack", soft.shape, nonneg=not squared)
    amount = apply("square", s) if squared else s
    return _dot(w, 2 * s - r if soft.op == "==" else amount), (r, s)


def shift(constraint: Constraint) -> Expression | None:
    """What is to be added to the multiplier of the row."""
    if not isinstance(constraint, Soft) or constraint.op != "==":
        return None
    w = constraint.gated
    return 2 * apply("multiply", w, constraint.residual) if constraint.penalty == "l2" else -w


def _dot(weight: Expression, amount: Expression) -> Expression:
    return apply("multiply", weight, amount).sum()
