"""Is a quadratic form, written as a polynomial, convex? Decided by its Hessian H, a matrix of coefficients.

    constant        by its eigenvalues
    parametric      (1) independent parts apart, then for each part
                    (2) H = sum of c_k H_k with constant H_k: every c_k of known sign, every c_k H_k of one definiteness
                    (3) elimination: the pivots of H, which are rational in the parameters, have known signs
    otherwise       only if it is stated

(3) says of which definiteness H is, not how to write it; H stays as it is, and its values are checked per item like any statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray

from .definite import definiteness
from .expression import Constant

sp: Any = sympy  # it carries no types
LARGEST = 6  # rows of a Hessian whose pivots are worked out; they grow fast
SHORT = 60  # operations of a coefficient that is multiplied out; products of sums grow fast too


def parts(H: Any) -> Iterator[list[int]]:
    """Rows that have to do with each other."""
    size, left = H.shape[0], set(range(H.shape[0]))
    while left:
        found, stack = [], [min(left)]
        left.discard(stack[0])
        while stack:
            row = stack.pop()
            found.append(row)
            near = [other for other in range(size) if other in left and H[row, other] != 0]
            left.difference_update(near)
            stack += near
        yield sorted(found)


def constant(H: Any) -> NDArray[np.float64] | None:
    """The matrix of numbers, if it is one."""
    return None if H.free_symbols else np.array(H.tolist(), dtype=np.float64)


def sign_of(H: NDArray[np.float64]) -> int:
    """1 for PSD, -1 for NSD, 0 for neither."""
    found = definiteness(Constant(H))
    return 1 if found.nonneg else -1 if found.nonpos else 0


def written_out(entry: Any) -> Any:
    """Multiplied out, if that is little work; roots and quotients stay closed."""
    short = entry.count_ops() <= SHORT
    return sp.expand_mul(entry) if short else entry


def combination(H: Any) -> list[tuple[Any, NDArray[np.float64]]]:
    """H as a sum of coefficients times constant matrices."""
    found: dict[Any, NDArray[np.float64]] = {}
    for (i, j), entry in zip(np.ndindex(*H.shape), H, strict=True):
        for term in sp.Add.make_args(written_out(entry)):
            number, coefficient = term.as_coeff_Mul()
            if number != 0:
                found.setdefault(coefficient, np.zeros(H.shape))[i, j] += float(number)
    return list(found.items())


def pivots(H: Any, sign: Callable[[Any], int]) -> int:
    """1 if all pivots of symmetric elimination are nonnegative, -1 if all are nonpositive, 0 if that is not known."""
    if H.shape[0] > LARGEST:
        return 0
    signs = set()
    while H.shape[0]:
        pivot = sp.cancel(H[0, 0])
        if pivot.is_zero:
            if not all(sp.cancel(entry).is_zero for entry in H[0, :]):
                return 0
            H = H[1:, 1:]
            continue
        signs.add(sign(pivot))
        rest = H[1:, 1:] - H[1:, 0] * H[0, 1:] / pivot
        H = rest.applyfunc(sp.cancel) if rest.shape[0] else rest
    return signs.pop() if len(signs) == 1 else 0


def downhill(H: NDArray[np.float64], names: list[str]) -> str:
    """A direction in which an indefinite form falls, and one in which it rises, in words."""
    values, vectors = np.linalg.eigh(H)
    told = []
    for value, vector in ((values[0], vectors[:, 0]), (values[-1], vectors[:, -1])):
        scaled = vector / vector[np.abs(vector).argmax()]
        terms = [(factor, name) for factor, name in zip(scaled, names, strict=True) if abs(factor) > 1e-9]
        joined = " ".join(f"{'+' if factor > 0 else '-'} {_times(abs(factor))}{name}" for factor, name in terms[:4])
        told.append(f"{joined.removeprefix('+ ')}{' ...' if len(terms) > 4 else ''} (eigenvalue {value:.3g})")
    return f"its Hessian is indefinite: it falls along {told[0]} and rises along {told[1]}"


def _times(factor: float) -> str:
    return "" if abs(factor - 1) < 1e-9 else f"{factor:.3g} "
