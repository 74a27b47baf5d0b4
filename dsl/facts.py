"""Constraints without variables: facts about data, which nothing can be chosen to satisfy.

Among constants a true one says nothing, and a false one is a mistake, told at once. Where parameters take part it is an assumption
about what a call brings: checked for every item, and INVALID_INPUT where it fails, for the input is at fault and not the model.
"""

from __future__ import annotations

import numpy as np

from .constraint import Constraint
from .curvature import Form
from .diagnostics import Diagnostic
from .expression import Constant
from .printing import constraint_text

ROUNDING = 1e-9  # of float64 sums, relative to the sides compared


def is_fact(constraint: Constraint) -> bool:
    """Whether no variable takes part."""
    return constraint.left.form is Form.CONSTANT and constraint.right.form is Form.CONSTANT


def is_settled(constraint: Constraint) -> bool:
    """Whether only constants take part."""
    parts = (constraint.left, constraint.right, constraint.active)
    return is_fact(constraint) and all(isinstance(part, Constant | None) for part in parts)


def false(name: str, constraint: Constraint) -> list[Diagnostic]:
    """What to say of a settled constraint: nothing, if it holds."""
    left, right, active = constraint.left, constraint.right, constraint.active
    if not is_settled(constraint) or not isinstance(left, Constant) or not isinstance(right, Constant):
        return []
    small, large = (right.value, left.value) if constraint.op == ">=" else (left.value, right.value)
    slack = ROUNDING * np.where(np.isfinite(small) & np.isfinite(large), np.maximum(np.abs(small), np.abs(large)), 0)
    wrong = ~(small <= large + slack) | ((constraint.op == "==") & ~(large <= small + slack))
    if isinstance(active, Constant):
        wrong &= active.value != 0
    if not wrong.any():
        return []
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    label = f"{left.value[at]:g} {constraint.op} {right.value[at]:g} is false" + (f", at {at}" if at else "")
    why = "no variable takes part in it, so no solution can make it true"
    mend = "check the numbers\nput a variable in, if something is to be chosen"
    title = f"constraint {name!r} is never satisfied"
    return [Diagnostic("D13", title, constraint.span, constraint_text(constraint), label, why, mend)]
