"""Soft constraints: what may be violated, at a price.

    penalty   inequality, r <= 0            equality, r == 0           slack
    "l1"      weight' max(r, 0)             weight' |r|                max(r, 0), or r itself
    "l2"      weight' max(r, 0)²            weight' r²

r is the residual of the constraint. The price is added to what is minimised, and taken from what is maximised. With a weight above
the multiplier that the hard constraint would have, "l1" leaves a constraint that can hold exactly as it is; "l2" always gives way a
little. The multiplier of a soft constraint is the derivative of its price: at most ``weight`` in absolute value for "l1", and
2 weight * slack for "l2".
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from .constraint import Constraint, new_key
from .curvature import Form
from .diagnostics import DefinitionError, definition_error
from .expression import Expression, apply, broadcast, wrap
from .remedies import not_data, unsigned
from .span import here

PENALTIES = ("l1", "l2")


@dataclass(frozen=True, eq=False, repr=False)
class Soft(Constraint):
    """A constraint that may be violated at a price. Made by ``kr.soft``; stands wherever a constraint can."""

    weight: Expression = wrap(1.0)  # noqa: RUF009 - expressions are immutable
    penalty: Literal["l1", "l2"] = "l1"

    @property
    def slack(self) -> Expression:
        """By how much the constraint gives way: max(residual, 0) of an inequality, the signed residual of an equality."""
        residual = self.residual
        amount = residual if self.op == "==" else apply("maximum", *broadcast(residual, 0.0))
        return amount if self.active is None else apply("multiply", self.active, amount)

    @property
    def price(self) -> Expression:
        """What the violation costs, a scalar >= 0."""
        slack = self.slack
        amount = apply("square", slack) if self.penalty == "l2" else apply("abs", slack) if self.op == "==" else slack
        return apply("multiply", self.weight, amount).sum()

    @property
    def gated(self) -> Expression:
        """The weight of each row, 0 where it is not active."""
        return self.weight if self.active is None else apply("multiply", self.active, self.weight)


def soft(constraint: Constraint, weight: Any, penalty: Literal["l1", "l2"] = "l1") -> Soft:
    """A constraint that may be violated: the violation is priced instead.

    ``weight``: the price, >= 0: a number, an array with one entry for each row, or an expression of parameters known to be
    nonnegative. ``penalty``: "l1" for weight' max(residual, 0), "l2" for weight' max(residual, 0)²; for an equality |residual| and
    residual². ``solution[it.slack]`` is how far each row gives way, ``solution.dual(it)`` the multiplier. Raises DefinitionError,
    DCPError.
    """
    if not isinstance(constraint, Constraint):
        raise _refused(
            "something that is no constraint", f"relations can be softened; got {constraint!r}", "write kr.soft(x >= 0, weight)"
        )
    if isinstance(constraint, Soft):
        raise _refused("a constraint that is soft already", "it has a weight of its own", "soften it once")
    if constraint.residual.form is Form.CONSTANT:
        why = "nothing can be chosen in it, so it cannot be traded against the objective"
        raise _refused("a soft constraint without variables", why, "leave it hard, or drop it")
    if penalty not in PENALTIES:
        raise _refused(
            "an unknown penalty", f"a violation is priced by size or square; got {penalty!r}", 'write "l1" or "l2"', "penalty", 2
        )
    price = wrap(weight)
    if price.form is not Form.CONSTANT:
        raise not_data("the weight of a soft constraint", price, "a price is fixed before anything is chosen")
    if not price.sign.nonneg:
        raise unsigned("the weight of a soft constraint", price, "a negative price would reward violation")
    spread, _ = broadcast(price, constraint.left)
    if spread.shape != constraint.shape:
        why = f"the weight has shape {price.shape}, the constraint {constraint.shape}"
        raise _refused("a weight that does not fit", why, "give a scalar, or one entry for each row", "weight", 1)
    held = {field.name: getattr(constraint, field.name) for field in fields(Constraint)}
    return Soft(**{**held, "key": new_key(), "span": here()}, weight=spread, penalty=penalty)


def _refused(title: str, why: str, mend: str, name: str = "constraint", place: int = 0) -> DefinitionError:
    return definition_error("N17", title, why, mend, at=(name, place))
