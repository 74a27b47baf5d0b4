"""Curvature and form: the rules of disciplined convex programming, and the QP rule on top.

Composition.  f(g_1, ..., g_r) with f convex is convex if every g_i is affine, or convex where f increases, or concave where f
decreases; mirrored for concave.  "Affine" is both convex and concave; anything without variables is affine.

The QP rule.  Piecewise-linear atoms nest at will.  Quadratic atoms take affine arguments or nonnegative piecewise-linear
ones, and nothing but sums and nonnegative multiples may be built on top of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # atoms and expressions know their curvature
    from .atoms import Atom
    from .expression import Expression


@dataclass(frozen=True)
class Curvature:
    """What is proved: convex, concave, both (affine) or neither (unknown)."""

    convex: bool
    concave: bool

    def __neg__(self) -> Curvature:
        return CURVATURES[self.concave, self.convex]

    def __and__(self, other: Curvature) -> Curvature:
        return CURVATURES[self.convex and other.convex, self.concave and other.concave]

    @property
    def affine(self) -> bool:
        return self.convex and self.concave

    @property
    def known(self) -> bool:
        return self.convex or self.concave

    def __str__(self) -> str:
        return {(1, 1): "affine", (1, 0): "convex", (0, 1): "concave", (0, 0): "unknown"}[self.convex, self.concave]


CURVATURES = {(convex, concave): Curvature(convex, concave) for convex in (False, True) for concave in (False, True)}
AFFINE, CONVEX, CONCAVE, UNKNOWN = (CURVATURES[two] for two in ((True, True), (True, False), (False, True), (False, False)))


class Form(IntEnum):
    """What an expression is built of, in the order of what may contain what."""

    CONSTANT = 0  # no variables; parameters in any way
    AFFINE = 1
    PIECEWISE = 2  # piecewise linear
    QUADRATIC = 3  # a sum of quadratics of affine or nonnegative piecewise-linear arguments, plus piecewise-linear terms
    NONE = 4  # not representable in a QP


def compose(atom: Curvature, arguments: list[tuple[Curvature, int]]) -> Curvature:
    """The composition rule; each argument comes with the direction (+1, -1, 0) in which the atom is monotone in it."""
    result = atom
    for argument, direction in arguments:
        if argument.affine:
            continue
        if direction == 0:
            return UNKNOWN
        result = result & (argument if direction > 0 else -argument)
    return result


def judged(atom: Atom, args: tuple[Expression, ...], data: Mapping[str, Any]) -> tuple[Form, Curvature]:
    """The form and the curvature of an atom of these arguments."""
    forms = [argument.form for argument in args]
    inner = max(forms, default=Form.CONSTANT)
    if inner is Form.CONSTANT:
        return Form.CONSTANT, AFFINE
    product_of_variables = atom.name in ("multiply", "matmul") and min(forms) is not Form.CONSTANT
    if inner is Form.AFFINE is atom.form and not product_of_variables:
        return Form.AFFINE, AFFINE
    if atom.form is Form.CONSTANT or product_of_variables or inner is Form.NONE:
        return Form.NONE, UNKNOWN
    directions = [(a.curvature, atom.monotone(args, i)) for i, a in enumerate(args) if not a.curvature.affine]
    curvature = compose(atom.curvature(args, data), directions)
    if atom.form is Form.NONE:
        return Form.NONE, curvature
    if atom.form is Form.AFFINE:
        return inner, curvature
    if atom.form is Form.PIECEWISE:
        return (Form.PIECEWISE if inner <= Form.PIECEWISE else Form.NONE), curvature
    return (Form.QUADRATIC if all(map(_one_sided, args)) else Form.NONE), curvature


def _one_sided(argument: Expression) -> bool:
    """Whether its square is within quadratic programs: affine, or piecewise linear and bent away from zero on one side of it."""
    convex, concave = argument.curvature.convex, argument.curvature.concave
    bent = (convex and argument.sign.nonneg) or (concave and argument.sign.nonpos)
    return argument.form <= Form.AFFINE or (argument.form is Form.PIECEWISE and bent)
