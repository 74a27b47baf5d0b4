"""What can be asked of an expression: sign, curvature and kind as yes or no, and what it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .curvature import Form
from .definite import definiteness
from .dpp import is_dpp
from .walk import leaves, postorder

if TYPE_CHECKING:  # expressions answer with this module
    from .expression import Constant, Expression
    from .leaves import Parameter, Variable

BENT = ("huber", "norm2")  # smooth in part, and no quadratics


class Asked:
    """Questions to an expression. ``Self`` is an Expression everywhere."""

    __slots__ = ()

    # What it is

    def is_constant(self: Any) -> bool:
        """Whether it is free of variables. Parameters count as constants."""
        return bool(self.form is Form.CONSTANT)

    def is_affine(self: Any) -> bool:
        """Whether it is affine in the variables."""
        return bool(self.curvature.affine)

    def is_convex(self: Any) -> bool:
        """Whether the rules prove it convex in the variables."""
        return bool(self.curvature.convex)

    def is_concave(self: Any) -> bool:
        """Whether the rules prove it concave in the variables."""
        return bool(self.curvature.concave)

    def is_pwl(self: Any) -> bool:
        """Whether it is piecewise linear in the variables."""
        return bool(self.form <= Form.PIECEWISE)

    def is_quadratic(self: Any) -> bool:
        """Whether it is a quadratic function of the variables, affine ones included."""
        inside = [node for node in postorder([self]) if node.form is not Form.CONSTANT and node.atom is not None]
        bent = any(node.atom.form is Form.PIECEWISE or node.atom.name in BENT for node in inside if node.atom is not None)
        return bool(self.form <= Form.QUADRATIC and not bent)

    def is_qpwa(self: Any) -> bool:
        """Whether it is a sum of quadratics of piecewise-linear expressions: what an objective may be, up to its sense."""
        return bool(self.form <= Form.QUADRATIC)

    def is_nonneg(self: Any) -> bool:
        """Whether the rules prove every entry nonnegative."""
        return bool(self.sign.nonneg)

    def is_nonpos(self: Any) -> bool:
        """Whether the rules prove every entry nonpositive."""
        return bool(self.sign.nonpos)

    def is_psd(self: Any) -> bool:
        """Whether the rules prove this square matrix positive semidefinite."""
        return bool(definiteness(self).nonneg)

    def is_nsd(self: Any) -> bool:
        """Whether the rules prove this square matrix negative semidefinite."""
        return bool(definiteness(self).nonpos)

    def is_dcp(self: Any) -> bool:
        """Whether the rules prove it convex or concave."""
        return bool(self.curvature.known)

    def is_dpp(self: Any) -> bool:
        """Whether it obeys the narrower rules of disciplined parametrized programming, which nothing here needs."""
        return is_dpp(self)

    # What it is made of

    def variables(self: Any) -> list[Variable]:
        """The variables in it, in order of first appearance."""
        return [leaf for leaf in leaves([self]) if leaf.form is not Form.CONSTANT]  # type: ignore[misc]  # those are variables

    def parameters(self: Any) -> list[Parameter]:
        """The parameters in it, in order of first appearance."""
        return [leaf for leaf in leaves([self]) if leaf.form is Form.CONSTANT]  # type: ignore[misc]  # those are parameters

    def constants(self: Any) -> list[Constant]:
        """The constants in it, in order of first appearance."""
        return [node for node in _tips(self) if not hasattr(node, "key")]  # type: ignore[misc]  # those are constants

    def atoms(self: Any) -> list[str]:
        """The names of the atoms in it, each once, in order of first appearance."""
        return list(dict.fromkeys(node.atom.name for node in postorder([self]) if node.atom is not None))

    def get_bounds(self: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Limits of every entry that follow from its sign: -inf and inf where there is none."""
        low, high = 0.0 if self.sign.nonneg else -np.inf, 0.0 if self.sign.nonpos else np.inf
        return np.full(self.shape, low), np.full(self.shape, high)


def _tips(expression: Expression) -> list[Expression]:
    return [node for node in postorder([expression]) if node.atom is None]
