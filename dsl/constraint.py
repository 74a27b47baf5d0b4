"""Constraints: two expressions of equal shape and a relation between them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .atoms import Shape
from .curvature import Form
from .diagnostics import definition_error, shape_error
from .display import Shown, constraint_latex
from .printing import constraint_text
from .refused import Statement
from .sign import Attributes
from .span import Span

if TYPE_CHECKING:  # relations between expressions build constraints
    from .expression import Expression

BOOLEAN = Attributes(boolean=True)


def new_key() -> str:
    """A key that survives copying, pickling and spawning."""
    return os.urandom(16).hex()


@dataclass(frozen=True, eq=False)
class Constraint(Shown, Statement):
    """``left op right`` elementwise, both of the same shape. ``key`` finds its multiplier in a solution.

    ``active``: None, or an expression without variables of the constraint's shape, 0 where a row does not exist.
    """

    op: str
    left: Expression
    right: Expression
    span: Span | None
    key: str = field(default_factory=new_key)
    active: Expression | None = None

    @property
    def shape(self) -> Shape:
        """The shape of the constraint and of its multiplier."""
        return self.left.shape

    @property
    def size(self) -> int:
        """Number of rows."""
        return self.left.size

    @property
    def residual(self) -> Expression:
        """left - right for == and <=, right - left for >=: what must be zero or nonpositive."""
        return self.right - self.left if self.op == ">=" else self.left - self.right

    def violation(self) -> Expression:
        """By how much each row is violated, >= 0; 0 for rows that are not active. ``kr.evaluate`` gives its value anywhere."""
        residual = self.residual
        amount = abs(residual) if self.op == "==" else residual.elementwise("maximum", residual, 0.0)
        return amount if self.active is None else amount.elementwise("multiply", self.active, amount)

    def where(self, active: Any) -> Self:
        """The same constraint, in force only where ``active`` says so.

        ``active``: data of the constraint's shape, or that broadcasts to it: a parameter, an expression of parameters or an array,
        with entries 0 and 1, or False and True; checked per item, INVALID_INPUT otherwise. A row that is not active does not exist
        for that item: whatever its coefficients are, it binds nothing, sends no gradient, and its multiplier is zero.
        Raises ShapeError, DefinitionError.
        """
        condition = self.left.elementwise("assume", active, attributes=BOOLEAN)
        (data,) = condition.args
        if data.form is not Form.CONSTANT:
            why = "which rows exist is decided before the problem is solved, so it is data"
            raise definition_error("N16", "a condition with variables", why, "make it a Parameter", at=(0, "active"))
        attributes = getattr(_moved(data), "attributes", None)  # of a parameter
        if data.atom is None and attributes is None:
            value = np.asarray(getattr(data, "value", 0))
            if not bool(((value == 0) | (value == 1)).all()):
                title, why = "a condition that is neither true nor false", "a row is there or not: entries are 0 and 1"
                raise definition_error("N16", title, why, "compare: values > 0", at=(0, "active"))
            condition = data
        elif attributes is not None and attributes.boolean:
            condition = data
        if condition.shape != self.shape:
            if not _fits(condition.shape, self.shape):
                why = f"the condition has shape {condition.shape}, the constraint {self.shape}"
                raise shape_error("a condition that does not fit", why, "give one entry for each row", condition, code="S08")
            condition = condition.elementwise("broadcast_to", condition, shape=self.shape)
        both = condition if self.active is None else condition.elementwise("multiply", self.active, condition)
        return replace(self, active=both, key=new_key())

    def __repr__(self) -> str:
        return f"<constraint {self.shape}: {constraint_text(self)}>"

    def latex(self) -> str:
        """In LaTeX, without delimiters."""
        return constraint_latex(self)


def _fits(shape: Shape, target: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _moved(data: Expression) -> Expression:
    """What the entries are, wherever they were moved."""
    while data.atom is not None and data.atom.name in ("index", "reshape", "transpose", "broadcast_to"):
        data = data.args[0]
    return data
