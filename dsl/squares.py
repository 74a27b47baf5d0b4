"""Quadratics that are written as products: x @ x, x * x, x @ P @ x, (F @ x) @ (F @ x), with scalars anywhere.

A product of two expressions with variables is quadratic if both are the same vector v up to data:

    left' = M v,  right = N v    ->    left @ right = v' (M'N) v

``inner`` takes M and N off one factor at a time and stops at the first v that both sides share, so that (F @ x) @ (F @ x)
is read as the sum of squares of F @ x and not as a form in x. Whether M'N is definite is for others to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .curvature import Form
from .idioms import constant
from .printing import uniform
from .walk import same

if TYPE_CHECKING:  # expressions are built with this module
    from .expression import Expression


@dataclass(frozen=True)
class Quadratic:
    """scales * sum of squares of ``x``, or scales * x' (product of ``matrices``) x where there are any."""

    scales: tuple[Expression | float, ...]
    x: Expression
    matrices: tuple[Expression, ...]

    @property
    def P(self) -> Expression:
        """The product of the matrices."""
        P = self.matrices[0]
        for matrix in self.matrices[1:]:
            P = P @ matrix
        return P


def elementwise(left: Expression, right: Expression) -> Quadratic | None:
    """x * x, or None where the factors differ."""
    (first, x), (second, y) = peeled(left), peeled(right)
    return Quadratic((*first, *second), x, ()) if same(x, y) else None


def inner(left: Expression, right: Expression) -> Quadratic | None:
    """A product with one entry, v @ w or row @ column, as a quadratic; None where the sides share no vector."""
    ones = left.ndim == right.ndim == 2 and left.shape[0] == right.shape[1] == 1
    if not ones and not left.ndim == right.ndim == 1:
        return None
    rows, columns = list(_stripped(left, ones)), list(_stripped(right, False))
    pairs = sorted((i + j, i, j) for i in range(len(rows)) for j in range(len(columns)))
    for _, i, j in pairs:
        (first, x, M), (second, y, N) = rows[i], columns[j]
        if same(x, y):
            turned = tuple(_turned(matrix) for matrix in reversed(M))
            return Quadratic((*first, *second), x, (*turned, *N))
    return None


def peeled(x: Expression) -> tuple[tuple[Expression | float, ...], Expression]:
    """Scalars without variables that multiply an expression, and what is left of it."""
    scales: list[Expression | float] = []
    while True:
        name = "" if x.atom is None else x.atom.name
        if name == "negate":
            scales.append(-1.0)
            x = x.args[0]
            continue
        if name != "multiply":
            break
        found = [(scale, x.args[1 - i]) for i in (0, 1) if (scale := _scalar(x.args[i])) is not None]
        if not found:
            break
        scales.append(found[0][0])
        x = found[0][1]
    return tuple(scales), x


def _scalar(factor: Expression) -> Expression | float | None:
    """The one number that data holds in every entry, if the way it is written shows that."""
    value = constant(factor)
    if value is not None:
        return float(value.flat[0]) if value.size and uniform(value) else None
    if factor.form is not Form.CONSTANT:
        return None
    if factor.atom is not None and factor.atom.name == "broadcast_to":
        factor = factor.args[0]
    return (factor.reshape(()) if factor.shape else factor) if factor.size == 1 else None


Stage = tuple[tuple["Expression | float", ...], "Expression", tuple["Expression", ...]]


def _stripped(node: Expression, row: bool) -> Iterator[Stage]:
    """node, as a column, is scales * M1 @ M2 @ ... @ v: first with no matrix taken off, then with one more each time."""
    scales: tuple[Expression | float, ...] = ()
    matrices: tuple[Expression, ...] = ()
    while True:
        more, node = peeled(node)
        scales += more
        if node.atom is not None and node.atom.name == "transpose" and node.ndim == 2:
            node, row = node.args[0], not row
            continue
        yield scales, node, matrices
        if node.atom is None or node.atom.name != "matmul":
            return
        left, right = node.args
        if left.form is Form.CONSTANT and left.ndim == 2 and not row:
            node, matrices = right, (*matrices, left)
        elif right.form is Form.CONSTANT and right.ndim == 2 and (row or node.ndim == 1):
            node, matrices = left, (*matrices, _turned(right))
        else:
            return


def _turned(matrix: Expression) -> Expression:
    turned = matrix.atom is not None and matrix.atom.name == "transpose"
    return matrix.args[0] if turned else matrix.T
