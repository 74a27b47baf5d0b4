"""What may be declared of a leaf, checked: names, values, and which of them go together.

Structure (``symmetric diag sparsity``) says which entries exist of their own; sign and ``bounds`` say where their values may be.
Both compare by value. Bounds of a variable may hold parameters: they are expressions, and stand beside the attributes.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .atoms import Shape
from .curvature import Form
from .diagnostics import DefinitionError, definition_error
from .expression import Constant, Expression, apply, wrap
from .keys import Frozen
from .sign import NOTHING, Attributes, Range

Flags = NDArray[np.bool_]

NO_QP = {
    "PSD": "a semidefinite matrix to be chosen makes a semidefinite program",
    "NSD": "a semidefinite matrix to be chosen makes a semidefinite program",
    "boolean": "whole numbers make a mixed-integer program, which has no derivative",
    "integer": "whole numbers make a mixed-integer program, which has no derivative",
    "complex": "a quadratic program is over the real numbers",
    "imag": "a quadratic program is over the real numbers",
    "hermitian": "a quadratic program is over the real numbers",
}
MENDS = {
    "PSD": "declare it symmetric, and constrain what must hold of it linearly",
    "NSD": "declare it symmetric, and constrain what must hold of it linearly",
    "boolean": "relax it: bounds=[0, 1]",
    "integer": "relax it, and round the solution",
    "complex": "declare its real and imaginary part",
    "imag": "declare its imaginary part",
    "hermitian": "declare its real and imaginary part",
}
OF_VARIABLES = ("nonneg", "nonpos", "pos", "neg", "symmetric", "diag", "sparsity", "bounds")
OF_DATA = ("nonneg", "nonpos", "pos", "neg", "PSD", "NSD", "symmetric", "diag", "boolean", "sparsity", "bounds")
WEAK = {"pos": "nonneg", "neg": "nonpos"}
SHAPING = ("PSD", "NSD", "symmetric", "diag", "sparsity")


def declared(kind: str, shape: Shape, given: Mapping[str, Any]) -> Attributes:
    """Checked attributes of something of this shape; bounds are constants here."""
    if not given:
        return NOTHING
    held = []
    for side in limits(kind, shape, given.get("bounds")):
        if not isinstance(side, Constant | None):
            why = f"the bounds of a {kind.lower()} are checked at every call, so they are numbers; got an expression"
            raise definition_error("N13", "bounds that are no numbers", why, "state the relation as a constraint", at=("bounds",))
        held.append(None if side is None else Frozen(np.array(side.value)))
    attributes = structure(kind, shape, {name: value for name, value in given.items() if name != "bounds"})
    return attributes if held == [None, None] else replace(attributes, bounds=Range(*held))


def structure(kind: str, shape: Shape, given: Mapping[str, Any]) -> Attributes:
    """Checked attributes, bounds aside."""
    if not given:
        return NOTHING
    allowed = OF_VARIABLES if kind == "Variable" else OF_DATA
    for name, value in given.items():
        if name not in allowed:
            raise _unknown(name, kind, allowed)
        if name != "sparsity" and not isinstance(value, bool):
            why = f"an attribute is True or False, got {value!r}"
            raise definition_error("N06", f"the value of an attribute of a {kind.lower()}", why, f"write {name}=True", at=(name,))
    mask = _pattern(kind, shape, given.get("sparsity"))
    attributes = Attributes(**{**given, "sparsity": None if mask is None else Frozen(mask)})
    shaping = tuple(name for name in attributes.declared if name in SHAPING)
    if len(shaping) > 1:
        why = f"{' and '.join(shaping)} each describe the whole matrix; at most one of them can be declared"
        raise definition_error("N07", "attributes that exclude each other", why, f"keep {shaping[0]}", at=shaping[1:])
    if attributes.square and (len(shape) != 2 or shape[0] != shape[1]):
        size = shape[0] if shape else 2
        why, mend = f"{attributes.square[0]} describes a square matrix, the shape is {shape}", f"declare a matrix: ({size}, {size})"
        raise definition_error(
            "N07", "an attribute that does not fit the shape", why, mend, at=attributes.square, label="no square matrix"
        )
    strict = tuple(name for name in attributes.declared if name in ("pos", "neg"))
    if strict and (attributes.diag or mask is not None):
        why = f"{shaping[0]} says that entries are zero, {strict[0]} that none is"
        raise definition_error("N07", "attributes that exclude each other", why, f"write {WEAK[strict[0]]}=True", at=strict)
    if len(strict) == 2 or (strict and getattr(attributes, WEAK["neg" if strict[0] == "pos" else "pos"])):
        why = "no number is both positive and nonpositive, or negative and nonnegative"
        raise definition_error("N07", "attributes that exclude each other", why, f"keep {strict[0]}", at=strict)
    return attributes


def limits(kind: str, shape: Shape, bounds: Any) -> tuple[Expression | None, Expression | None]:
    """Both sides of ``bounds=[low, high]``, each None or an expression without variables of this very shape."""
    if bounds is None:
        return None, None
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        why = f"bounds are a pair [low, high], each a number, an array, a parameter or None; got {bounds!r}"[:200]
        raise definition_error("N13", f"the bounds of a {kind.lower()}", why, "write bounds=[0, None]", at=("bounds",))
    low, high = (None if side is None else _limit(kind, shape, side) for side in bounds)
    for side, infinity, word in ((low, np.inf, "lower"), (high, -np.inf, "upper")):
        if isinstance(side, Constant) and bool((side.value == infinity).any()):
            why = f"nothing is beyond a {word} bound of {infinity}"
            mend = f"an absent {word} bound is {-infinity} or None"
            raise definition_error("N13", f"the bounds of a {kind.lower()}", why, mend, at=("bounds",))
    return low, high


def ordered(kind: str, low: Expression | None, high: Expression | None) -> None:
    """Refuse constant bounds that exclude every value."""
    if isinstance(low, Constant) and isinstance(high, Constant) and bool((low.value > high.value).any()):
        at = tuple(int(i) for i in np.argwhere(low.value > high.value)[0])
        why = f"no value is at least {low.value[at]:g} and at most {high.value[at]:g}" + (f", which is asked at {at}" if at else "")
        raise definition_error("N13", f"the bounds of a {kind.lower()} exclude every value", why, "exchange them", at=("bounds",))


def zeros_fit(low: Expression | None, high: Expression | None, zero: Flags) -> None:
    """Entries that are zero by structure must be within the bounds; of bounds with parameters the signs must say so."""
    for side, sign in ((low, 1), (high, -1)):
        if side is None:
            continue
        known = side.sign.nonpos if sign > 0 else side.sign.nonneg
        fits = bool((sign * side.value[zero] <= 0).all()) if isinstance(side, Constant) else known
        if not fits:
            word = "lower" if sign > 0 else "upper"
            why = f"entries outside the pattern are zero, and the {word} bound does not allow zero there"
            limit = "at most" if sign > 0 else "at least"
            mend = f"choose a {word} bound that is {limit} zero there\nbound the entries of the pattern by a constraint"
            raise definition_error("N13", "bounds that exclude the zeros of the pattern", why, mend, at=("bounds",))


def _limit(kind: str, shape: Shape, side: Any) -> Expression:
    expression = wrap(side)
    if expression.form is not Form.CONSTANT:
        why = "a bound is data: a number, an array or an expression of parameters"
        raise definition_error("N13", f"the bounds of a {kind.lower()}", why, "write the relation as a constraint", at=("bounds",))
    try:
        fits = np.broadcast_shapes(expression.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        why = f"a bound of shape {expression.shape} does not broadcast to {shape}"
        raise definition_error(
            "N13", f"the bounds of a {kind.lower()}", why, "give a scalar, or one entry for each", at=("bounds",)
        )
    return expression if expression.shape == shape else apply("broadcast_to", expression, shape=shape)


def _pattern(kind: str, shape: Shape, given: Any) -> Flags | None:
    """Where entries may differ from zero, from an index tuple or a boolean array of the shape."""
    if given is None:
        return None
    mask = np.zeros(shape, dtype=bool)
    try:
        whole = np.asarray(given) if not isinstance(given, tuple) else None
        if whole is not None and whole.dtype == bool and whole.shape == shape:
            return whole.copy()
        if not isinstance(given, tuple) or len(given) != len(shape):
            raise IndexError(f"got {type(given).__name__} of length {len(given)}")
        mask[tuple(np.asarray(part, dtype=np.int64) for part in given)] = True
    except (IndexError, TypeError, ValueError) as error:
        why = (
            f"a pattern is a tuple of {len(shape)} index arrays, as np.nonzero gives, or a boolean array of shape {shape}: {error}"
        )
        title, mend = "a pattern of sparsity that cannot be read", "write sparsity=np.nonzero(mask)"
        raise definition_error("N14", title, why, mend, at=("sparsity",)) from None
    return mask


def _unknown(name: str, kind: str, allowed: tuple[str, ...]) -> DefinitionError:
    if name in NO_QP:
        title = f"{_a(name)} {kind.lower()} makes no quadratic program"
        return definition_error("N06", title, NO_QP[name], MENDS[name], at=(name,), label=f"{name} cannot be declared")
    near = difflib.get_close_matches(name, allowed, 1)
    mend = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(allowed)}"
    why = f"the attributes of {_a(kind.lower())} are {', '.join(allowed)}"
    return definition_error("N06", f"an unknown attribute {name!r}", why, mend, at=(name,), label=f"there is no {name}")


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
