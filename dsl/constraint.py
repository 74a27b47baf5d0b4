"""Constraints: two expressions of equal shape and a relation between them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from .atoms import Shape
from .diagnostics import Diagnostic, UsageError
from .printing import constraint_text
from .span import Span

if TYPE_CHECKING:  # relations between expressions build constraints
    from .expression import Expression


@dataclass(frozen=True, eq=False)
class Constraint:
    """``left op right`` elementwise, both of the same shape. ``key`` finds its multiplier in a solution."""

    op: str
    left: Expression
    right: Expression
    span: Span | None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def shape(self) -> Shape:
        """The shape of the constraint and of its multiplier."""
        return self.left.shape

    @property
    def residual(self) -> Expression:
        """left - right for == and <=, right - left for >=: what must be zero or nonpositive."""
        return self.right - self.left if self.op == ">=" else self.left - self.right

    def __repr__(self) -> str:
        return f"<constraint {self.shape}: {constraint_text(self)}>"

    def __bool__(self) -> NoReturn:
        raise UsageError(
            Diagnostic(
                "U01",
                "a constraint has no truth value",
                self.span,
                "",
                "used as a condition",
                "Python reads  a <= x <= b  as  (a <= x) and (x <= b); == between expressions builds a constraint too",
                "write two constraints: [a <= x, x <= b]; compare expressions with `is`",
            )
        )
