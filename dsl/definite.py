"""Definiteness of matrix expressions without variables, by rule.

    PSD   declared; sums and nonnegative multiples of PSD; M @ M.T and M.T @ M; diag of nonnegative entries;
          a constant whose eigenvalues are nonnegative relative to its size; NSD mirrored.

The answer is a ``Sign``: nonneg means PSD, nonpos NSD.
"""

from __future__ import annotations

import numpy as np

from .expression import Constant, Expression
from .leaves import Parameter
from .sign import UNKNOWN as INDEFINITE
from .sign import Attributes, Sign

# A symmetric eigenvalue computation is exact to a few n * eps |P|; below that a negative eigenvalue is rounding.
ROUNDING = 1e-12


def definiteness(P: Expression) -> Sign:
    """What is known of a square matrix expression: PSD (nonneg), NSD (nonpos), both (zero) or neither."""
    if P.ndim != 2 or P.shape[0] != P.shape[1]:
        return INDEFINITE
    if isinstance(P, Constant):
        return _of_constant(P)
    if isinstance(P, Parameter):
        return _of_attributes(P.attributes)
    name = "" if P.atom is None else P.atom.name
    if name == "add":
        return definiteness(P.args[0]) + definiteness(P.args[1])
    if name == "negate":
        return -definiteness(P.args[0])
    if name == "multiply":
        return _scaled(*P.args) or _scaled(*reversed(P.args)) or INDEFINITE
    if name == "matmul":
        return Sign(nonneg=_transposes(*P.args))
    if name == "diag":
        return P.args[0].sign
    if name == "transpose":
        return definiteness(P.args[0])
    if name == "inv":
        return definiteness(P.args[0])
    if name in ("assume", "function"):
        declared = _of_attributes(P.data["attributes"])
        known = definiteness(P.args[0]) if name == "assume" else INDEFINITE
        return Sign(declared.nonneg or known.nonneg, declared.nonpos or known.nonpos)
    return INDEFINITE


def symmetric(P: Expression) -> bool:
    """Whether the matrix is known to equal its transpose."""
    if isinstance(P, Constant):
        scale = np.abs(P.value).max(initial=0.0)
        return bool(np.abs(P.value - P.value.T).max(initial=0.0) <= ROUNDING * scale)
    if isinstance(P, Parameter):
        return bool(P.attributes.square)
    known = definiteness(P)
    return known.nonneg or known.nonpos


def _of_constant(P: Constant) -> Sign:
    if not np.isfinite(P.value).all():
        return INDEFINITE
    eigenvalues = np.linalg.eigvalsh((P.value + P.value.T) / 2)
    size = np.abs(eigenvalues).max(initial=0.0) * ROUNDING * max(1, P.shape[0])
    return Sign(bool((eigenvalues >= -size).all()), bool((eigenvalues <= size).all()))


def _of_attributes(attributes: Attributes) -> Sign:
    entries = attributes.sign if attributes.diag else INDEFINITE
    return Sign(attributes.PSD or entries.nonneg, attributes.NSD or entries.nonpos)


def _scaled(factor: Expression, P: Expression) -> Sign | None:
    """A scalar, broadcast to the shape of P, times P."""
    scalar = factor.atom is not None and factor.atom.name == "broadcast_to" and factor.args[0].size == 1
    uniform = scalar or (isinstance(factor, Constant) and factor.size > 0 and np.ptp(factor.value) == 0)
    return factor.sign * definiteness(P) if uniform else None


def _transposes(left: Expression, right: Expression) -> bool:
    return _transpose_of(left) is right or _transpose_of(right) is left


def _transpose_of(P: Expression) -> Expression | None:
    return P.args[0] if P.atom is not None and P.atom.name == "transpose" else None
