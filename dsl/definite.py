"""Definiteness of matrix expressions without variables, by rule.

    PSD   declared; sums and nonnegative multiples of PSD; M @ M.T and M.T @ M; diag of nonnegative entries;
          a constant whose eigenvalues are nonnegative relative to its size; NSD mirrored.

The answer is a ``Sign``: nonneg means PSD, nonpos NSD.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .expression import Constant, Expression
from .leaves import Parameter
from .sign import UNKNOWN as INDEFINITE
from .sign import Attributes, Sign
from .walk import postorder

# A symmetric eigenvalue computation is exact to a few n * eps |P|; below that a negative eigenvalue is rounding.
ROUNDING = 1e-12


def definiteness(P: Expression) -> Sign:
    """What is known of a square matrix expression: PSD (nonneg), NSD (nonpos), both (zero) or neither."""
    known: dict[int, Sign] = {}
    for node in postorder([P]):
        known[id(node)] = _rule(node, known) if node.ndim == 2 and node.shape[0] == node.shape[1] else INDEFINITE
    return known[id(P)]


def _rule(P: Expression, known: Mapping[int, Sign]) -> Sign:
    if isinstance(P, Constant):
        return _of_constant(P)
    if isinstance(P, Parameter):
        return _of_attributes(P.attributes)
    name = "" if P.atom is None else P.atom.name
    of = [known[id(argument)] for argument in P.args]
    if name == "add":
        return of[0] + of[1]
    if name == "negate":
        return -of[0]
    if name == "multiply":
        for factor, matrix in ((0, 1), (1, 0)):
            if _uniform(P.args[factor]):
                return P.args[factor].sign * of[matrix]
    if name == "matmul":
        return Sign(nonneg=_transposes(*P.args))
    if name == "diag" and P.data["offset"] == 0:
        return P.args[0].sign
    if name in ("transpose", "inv"):
        return of[0]
    if name in ("assume", "function"):
        declared = _of_attributes(P.data["attributes"])
        inner = of[0] if name == "assume" else INDEFINITE
        return Sign(declared.nonneg or inner.nonneg, declared.nonpos or inner.nonpos)
    return INDEFINITE


def symmetric(P: Expression) -> bool:
    """Whether the matrix is known to equal its transpose."""
    if isinstance(P, Constant):
        scale = np.abs(P.value).max(initial=0.0)
        return bool(np.abs(P.value - P.value.T).max(initial=0.0) <= ROUNDING * scale)
    if isinstance(P, Parameter):
        return bool(P.attributes.square)
    found = definiteness(P)
    return found.nonneg or found.nonpos


def _of_constant(P: Constant) -> Sign:
    if not np.isfinite(P.value).all():
        return INDEFINITE
    eigenvalues = np.linalg.eigvalsh((P.value + P.value.T) / 2)
    size = np.abs(eigenvalues).max(initial=0.0) * ROUNDING * max(1, P.shape[0])
    return Sign(bool((eigenvalues >= -size).all()), bool((eigenvalues <= size).all()))


def _of_attributes(attributes: Attributes) -> Sign:
    entries = attributes.sign if attributes.diag else INDEFINITE
    return Sign(attributes.PSD or entries.nonneg, attributes.NSD or entries.nonpos)


def _uniform(factor: Expression) -> bool:
    """A scalar, broadcast to a matrix."""
    scalar = factor.atom is not None and factor.atom.name == "broadcast_to" and factor.args[0].size == 1
    return scalar or (isinstance(factor, Constant) and factor.size > 0 and bool(np.ptp(factor.value) == 0))


def _transposes(left: Expression, right: Expression) -> bool:
    return _transpose_of(left) is right or _transpose_of(right) is left


def _transpose_of(P: Expression) -> Expression | None:
    turned = P.atom is not None and P.atom.name == "transpose" and P.data["axes"] == (1, 0)
    return P.args[0] if turned else None
