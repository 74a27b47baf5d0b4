"""Definiteness of matrix expressions without variables, by rule.

    PSD   declared; sums and nonnegative multiples of PSD; M @ P @ M.T for a PSD P, and M @ M.T; diag of nonnegative entries;
          elementwise and Kronecker products, inverses and transposes of PSD; S @ S of a symmetric S;
          a constant whose eigenvalues are nonnegative relative to its size, a sparse one also if its diagonal outweighs the rest
          of every row; NSD mirrored.

The answer is a ``Sign``: nonneg means PSD, nonpos NSD. Of a stack of matrices it holds for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .idioms import constant
from .sign import NONNEG, Attributes, Sign, sign_of
from .sign import UNKNOWN as INDEFINITE
from .squares import peeled
from .walk import postorder, same

if TYPE_CHECKING:  # expressions answer for their definiteness with this module
    from .expression import Expression

# A symmetric eigenvalue computation is exact to a few n * eps |P|; below that a negative eigenvalue is rounding.
ROUNDING = 1e-12


def definiteness(P: Expression) -> Sign:
    """What is known of a square matrix expression: PSD (nonneg), NSD (nonpos), both (zero) or neither."""
    known: dict[int, Sign] = {}
    for node in postorder([P]):
        known[id(node)] = _rule(node, known) if _square(node) else INDEFINITE
    return known[id(P)]


def symmetric(P: Expression) -> bool:
    """Whether the matrix is known to equal its transpose."""
    stored, attributes = getattr(P, "sparse", None), getattr(P, "attributes", None)
    if stored is not None:
        return bool(abs(stored - stored.T).max() <= ROUNDING * abs(stored).max()) if P.size else True
    value = constant(P)
    if value is not None:
        scale = np.abs(value).max(initial=0.0)
        return bool(np.abs(value - np.swapaxes(value, -1, -2)).max(initial=0.0) <= ROUNDING * scale)
    if attributes is not None and attributes.square:
        return True
    found = definiteness(P) if _square(P) else INDEFINITE
    if found.nonneg or found.nonpos:
        return True
    name = "" if P.atom is None else P.atom.name
    return name in ("add", "multiply", "negate") and all(_uniform(a) or (_square(a) and symmetric(a)) for a in P.args)


def _square(P: Expression) -> bool:
    return P.ndim > 1 and P.shape[-1] == P.shape[-2]


def _rule(P: Expression, known: Mapping[int, Sign]) -> Sign:
    dominant = _of_sparse(P)
    if dominant.nonneg or dominant.nonpos:
        return dominant
    value = constant(P)
    if value is not None:
        return _of_constant(value)
    if P.atom is None:
        return _of_attributes(getattr(P, "attributes"))  # noqa: B009  # of a leaf
    name, of = P.atom.name, [known[id(argument)] for argument in P.args]
    if name == "add":
        return of[0] + of[1]
    if name == "negate":
        return -of[0]
    if name == "multiply":
        for factor, matrix in ((0, 1), (1, 0)):
            if _uniform(P.args[factor]):
                return P.args[factor].sign * of[matrix]
        return of[0] * of[1]  # Schur: the elementwise product of PSD matrices is PSD
    if name == "matmul":
        return _congruence(P, known)
    if name == "diag" and P.data["offset"] == 0:
        return P.args[0].sign
    if name == "reshape":
        return _kronecker(P)
    if name in ("transpose", "inv"):
        return of[0] if name == "inv" or _turns_matrices(P) else INDEFINITE
    if name == "broadcast_to":
        return of[0]
    if name in ("assume", "function"):
        declared = _of_attributes(P.data["attributes"])
        inner = of[0] if name == "assume" else INDEFINITE
        return Sign(declared.nonneg or inner.nonneg, declared.nonpos or inner.nonpos)
    return INDEFINITE


def _of_constant(value: NDArray[np.float64]) -> Sign:
    if not np.isfinite(value).all():
        return INDEFINITE
    eigenvalues = np.linalg.eigvalsh((value + np.swapaxes(value, -1, -2)) / 2)
    size = np.abs(eigenvalues).max(initial=0.0) * ROUNDING * max(1, value.shape[-1])
    return Sign(bool((eigenvalues >= -size).all()), bool((eigenvalues <= size).all()))


def _of_sparse(P: Expression) -> Sign:
    """What Gershgorin's discs say of a sparse constant: no entry of a row outweighs its diagonal. Eigenvalues cost n³."""
    stored = getattr(P, "sparse", None)
    if stored is None or not np.isfinite(stored.data).all():
        return INDEFINITE
    H = (stored + stored.T) / 2
    diagonal = H.diagonal()
    rest = abs(H).sum(axis=1).reshape(-1) - np.abs(diagonal)
    return Sign(bool((diagonal >= rest).all()), bool((-diagonal >= rest).all()))


def _of_attributes(attributes: Attributes) -> Sign:
    entries = attributes.sign if attributes.diag else INDEFINITE
    return Sign(attributes.PSD or entries.nonneg, attributes.NSD or entries.nonpos)


def _uniform(factor: Expression) -> bool:
    """A scalar, broadcast to a matrix; or one for each matrix of a stack."""
    if factor.atom is not None and factor.atom.name == "broadcast_to":
        inner = factor.args[0]
        return (inner.ndim < 2 and inner.size == 1) or inner.shape[-2:] == (1, 1)
    value = constant(factor)
    return value is not None and value.size > 0 and bool(np.ptp(value) == 0)


def _congruence(P: Expression, known: Mapping[int, Sign]) -> Sign:
    """M @ ... @ C @ ... @ M.T: as definite as C; PSD where nothing stands between. A symmetric M is its own transpose."""
    chain, scales = _chain(P)
    sign = _of_scales(scales)
    while len(chain) > 1 and _transposes(*chain[0], *chain[-1]):
        chain = chain[1:-1]
    if len(chain) > 1:
        return INDEFINITE
    return sign if not chain else sign * known.get(id(chain[0][0]), INDEFINITE)


def _chain(P: Expression) -> tuple[list[tuple[Expression, bool]], list[Expression | float]]:
    """The factors of a product of matrices, however it is bracketed: each with whether it is transposed; and numbers, which may
    stand anywhere: 0.5 * L @ L.T is (0.5 * L) @ L.T, and (A @ B).T is B.T @ A.T.
    """
    found: list[tuple[Expression, bool]] = []
    numbers: list[Expression | float] = []
    waiting = [(P, False)]
    while waiting:
        node, turned = waiting.pop()
        scales, node = peeled(node)
        numbers += scales
        if node.atom is not None and node.atom.name == "matmul" and all(argument.ndim > 1 for argument in node.args):
            waiting += [(argument, turned) for argument in (node.args if turned else node.args[::-1])]
        elif _turns_matrices(node):
            waiting.append((node.args[0], not turned))
        else:
            found.append((node, turned))
    return found, numbers


def _of_scales(scales: list[Expression | float]) -> Sign:
    """The sign of a product of numbers; what stands there twice is a square."""
    sign, waiting = NONNEG, list(scales)
    while waiting:
        scale = waiting.pop()
        twin = next((i for i, other in enumerate(waiting) if _same_number(scale, other)), None)
        if twin is not None:
            waiting.pop(twin)
        else:
            sign = sign * (sign_of(np.asarray(scale)) if isinstance(scale, float) else scale.sign)
    return sign


def _same_number(first: Expression | float, second: Expression | float) -> bool:
    if isinstance(first, float) or isinstance(second, float):
        return isinstance(first, float) and first == second
    return same(first, second)


def _transposes(left: Expression, left_turned: bool, right: Expression, right_turned: bool) -> bool:
    """Whether the outer factors of a chain are each other's transpose."""
    first, second = constant(left), constant(right)
    if first is not None and second is not None:
        second = second if left_turned != right_turned else np.swapaxes(second, -1, -2)
        return first.shape == second.shape and bool((first == second).all())
    return same(left, right) and (left_turned != right_turned or symmetric(left))


def _turns_matrices(P: Expression) -> bool:
    """Whether this is the transpose of a matrix, or of each matrix of a stack."""
    if P.atom is None or P.atom.name != "transpose":
        return False
    last = P.ndim - 1
    return bool(P.data["axes"] == (*range(last - 1), last, last - 1))


def _kronecker(P: Expression) -> Sign:
    """The Kronecker product of square matrices, (a, 1, a, 1) * (1, c, 1, c) reshaped: PSD of PSD factors."""
    inner = P.args[0]
    if P.ndim != 2 or inner.ndim != 4 or inner.atom is None or inner.atom.name != "multiply":
        return INDEFINITE
    if inner.shape[:2] != inner.shape[2:]:
        return INDEFINITE
    signs = [_factor(argument, place) for argument, place in zip(inner.args, ((0, 2), (1, 3)), strict=True)]
    return signs[0] * signs[1]


def _factor(spread: Expression, place: tuple[int, int]) -> Sign:
    """The definiteness of a matrix that fills two of four dimensions and is repeated along the others."""
    value = constant(spread)
    others = tuple(axis for axis in range(4) if axis not in place)
    if value is not None:
        repeated = bool((np.ptp(value, axis=others) == 0).all()) if value.size else False
        return _of_constant(np.asarray(value.take(0, others[1]).take(0, others[0]))) if repeated else INDEFINITE
    if spread.atom is not None and spread.atom.name == "broadcast_to":
        spread = spread.args[0]
    shape = tuple(size if axis in place else 1 for axis, size in enumerate(spread.shape))
    if spread.shape != shape or spread.atom is None or spread.atom.name != "reshape":
        return INDEFINITE
    matrix = spread.args[0]
    return definiteness(matrix) if matrix.shape == (shape[place[0]], shape[place[1]]) else INDEFINITE
