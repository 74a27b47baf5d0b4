"""What every atom means: its shape, sign, curvature, monotonicity and value for one item.

An atom is one entry of ``ATOMS``. What later stages do with it lives with those stages, one entry in each of their tables:
``expand.EPIGRAPHS`` or ``linear.MATRICES`` in the compiler, ``evaluate.OPERATIONS`` at run time, ``export.CVXPY`` for the
oracle. A test counts the tables.

Elementwise atoms see arguments of equal shape: the expression builder inserts ``broadcast_to``.  C order everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .curvature import AFFINE, CONCAVE, CONVEX, UNKNOWN, Curvature, Form
from .sign import NONNEG, Sign
from .sign import UNKNOWN as ANY_SIGN

HOLDS = 1e-6  # by how much a solution may miss what an indicator asks, and have it

Shape = tuple[int, ...]
Array = NDArray[np.float64]
Data = Mapping[str, Any]


class Fact(Protocol):
    """What an atom may ask about an argument."""

    @property
    def shape(self) -> Shape: ...
    @property
    def sign(self) -> Sign: ...


class MismatchError(Exception):
    """Shapes that do not fit: why, and how to mend it. The expression builder adds the place."""

    def __init__(self, why: str, mend: str = "", *, title: str = "", code: str = "S08") -> None:
        super().__init__(why)
        self.why, self.mend, self.title, self.code = why, mend, title, code


@dataclass(frozen=True)
class Atom:
    """One atom. ``value`` receives one array per argument and the node's data by keyword."""

    name: str
    form: Form
    shape: Callable[[Sequence[Shape], Data], Shape]
    sign: Callable[[Sequence[Fact], Data], Sign]
    value: Callable[..., Array] | None
    curvature: Callable[[Sequence[Fact], Data], Curvature] = lambda arguments, data: AFFINE
    monotone: Callable[[Sequence[Fact], int], int] = lambda arguments, index: 1
    folds: bool = True  # whether it vanishes into a constant where all arguments are constants

    def __reduce__(self) -> tuple[object, ...]:
        return named, (self.name,)  # the rules are functions; the name finds them again


def named(name: str) -> Atom:
    """The atom of that name."""
    return ATOMS[name]


# Shapes


def _same(shapes: Sequence[Shape], data: Data) -> Shape:
    return shapes[0]


def _target(shapes: Sequence[Shape], data: Data) -> Shape:
    shape: Shape = data["shape"]
    return shape


def reduced(shape: Shape, axis: tuple[int, ...] | None, keepdims: bool) -> Shape:
    """The shape after reducing ``axis`` (already normalised; None reduces everything)."""
    axes = range(len(shape)) if axis is None else axis
    if keepdims:
        return tuple(1 if i in axes else size for i, size in enumerate(shape))
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def _scalar(shapes: Sequence[Shape], data: Data) -> Shape:
    return ()


def _reduced(shapes: Sequence[Shape], data: Data) -> Shape:
    return reduced(shapes[0], data["axis"], data["keepdims"])


def _nonempty(shapes: Sequence[Shape], data: Data) -> Shape:
    shape = shapes[0]
    if 0 in (shape if data["axis"] is None else [shape[a] for a in data["axis"]]):
        raise MismatchError(f"the largest of no entries does not exist; got shape {shape}", "check the slice that left nothing")
    return _reduced(shapes, data)


def _concatenated(shapes: Sequence[Shape], data: Data) -> Shape:
    axis, first = data["axis"], shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(a != b for i, (a, b) in enumerate(zip(shape, first, strict=True)) if i != axis):
            why = f"along axis {axis} the other dimensions must be equal; got {', '.join(map(str, shapes))}"
            mend = "reshape them first, or join along another axis"
            raise MismatchError(why, mend, title="parts that cannot be joined", code="S09")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _matmul_shape(shapes: Sequence[Shape], data: Data) -> Shape:
    left, right = shapes
    if not left or not right:
        why = "@ needs at least one dimension on each side"
        raise MismatchError(why, "write * to scale by a scalar", title="@ with a scalar", code="S03")
    a = left if len(left) > 1 else (1, *left)
    b = right if len(right) > 1 else (*right, 1)
    if a[-1] != b[-2]:
        why = f"the inner dimensions must be equal: {left} @ {right} has {a[-1]} against {b[-2]}"
        raise MismatchError(why, _transposing(left, right), title="inner dimensions that differ", code="S03")
    try:
        batch = np.broadcast_shapes(a[:-2], b[:-2]) if len(a) > 2 or len(b) > 2 else ()
    except ValueError:
        why = f"the leading dimensions of {left} and {right} do not broadcast"
        raise MismatchError(why, "reshape one of them", title="stacks of matrices that do not fit", code="S03") from None
    return batch + (() if len(left) == 1 else a[-2:-1]) + (() if len(right) == 1 else b[-1:])


def _transposing(left: Shape, right: Shape) -> str:
    """Which transpose would make ``left @ right`` fit; {0} and {1} stand for the operands."""
    if len(left) == 2 and left[0] == right[max(0, len(right) - 2)]:
        return "write {0}.T @ {1}"
    if len(right) == 2 and left[-1] == right[1]:
        return "write {0} @ {1}.T"
    return "check which of the two has the wrong shape"


def _diag_shape(shapes: Sequence[Shape], data: Data) -> Shape:
    (size,) = shapes[0]
    return (size + abs(data["offset"]),) * 2


def _diagonal_shape(shapes: Sequence[Shape], data: Data) -> Shape:
    return np.diagonal(np.empty(shapes[0], dtype=bool), data["offset"]).shape


def _transposed(shapes: Sequence[Shape], data: Data) -> Shape:
    return tuple(shapes[0][axis] for axis in data["axes"])


def _quad_form_shape(shapes: Sequence[Shape], data: Data) -> Shape:
    x, P = shapes
    size = x[-1:] * 2
    if not x or P not in (size, x[:-1] + size):
        why = f"quad_form(x, P) needs x of shape (n,), or one in each row, and P of shape (n, n); got {x} and {P}"
        mend = "for one vector of all entries, write kr.quad_form(x.flatten(), P)" if len(x) > 1 else f"P must have shape {x * 2}"
        raise MismatchError(why, mend)
    return x[:-1]


def _square_matrix(shapes: Sequence[Shape], data: Data) -> Shape:
    if len(shapes[0]) != 2 or shapes[0][0] != shapes[0][1]:
        raise MismatchError(f"a square matrix is needed; got shape {shapes[0]}", "take a square part of it")
    return shapes[0]


def _solved(shapes: Sequence[Shape], data: Data) -> Shape:
    matrix, right = _square_matrix(shapes, data), shapes[1]
    if len(right) not in (1, 2) or right[0] != matrix[0]:
        raise MismatchError(f"solve(A, b) needs as many rows in b as in A; got {matrix} and {right}", "check b, or transpose it")
    return right


def _sorted_product(shapes: Sequence[Shape], data: Data) -> Shape:
    x, w = shapes
    if len(x) != 1 or len(w) != 1 or w > x:
        why = f"dotsort(x, w) needs vectors, w no longer than x; got {x} and {w}"
        raise MismatchError(why, "flatten them first: the order of entries does not matter")
    return ()


# Signs and directions


def _inherit(arguments: Sequence[Fact], data: Data) -> Sign:
    return arguments[0].sign


def _all_of(arguments: Sequence[Fact], data: Data) -> Sign:
    return Sign(all(a.sign.nonneg for a in arguments), all(a.sign.nonpos for a in arguments))


def _largest(arguments: Sequence[Fact], data: Data) -> Sign:
    return Sign(any(a.sign.nonneg for a in arguments), all(a.sign.nonpos for a in arguments))


def _sum_of(arguments: Sequence[Fact], data: Data) -> Sign:
    return arguments[0].sign + arguments[1].sign


def _product(arguments: Sequence[Fact], data: Data) -> Sign:
    return arguments[0].sign * arguments[1].sign


def _opposite(arguments: Sequence[Fact], data: Data) -> Sign:
    return -arguments[0].sign


def _nonneg(arguments: Sequence[Fact], data: Data) -> Sign:
    return NONNEG


def _unknown(arguments: Sequence[Fact], data: Data) -> Sign:
    return ANY_SIGN


def _declared(arguments: Sequence[Fact], data: Data) -> Sign:
    sign: Sign = data["attributes"].sign
    return sign


def _assumed(arguments: Sequence[Fact], data: Data) -> Sign:
    known, declared = arguments[0].sign, data["attributes"].sign
    return Sign(known.nonneg or declared.nonneg, known.nonpos or declared.nonpos)


def _power_sign(arguments: Sequence[Fact], data: Data) -> Sign:
    even = data["exponent"] % 2 == 0
    return Sign(even or arguments[0].sign.nonneg, data["exponent"] % 2 == 1 and arguments[0].sign.nonpos)


def _support_sign(arguments: Sequence[Fact], data: Data) -> Sign:
    """Nonnegative where zero is known to be in the set."""
    _, _, h, _, b = arguments
    return Sign(nonneg=h.sign.nonneg and b.sign.nonneg and b.sign.nonpos)


def _quad_form_sign(arguments: Sequence[Fact], data: Data) -> Sign:
    definite: Sign = data["definite"]
    return definite


def _coefficient(arguments: Sequence[Fact], index: int) -> int:
    """The direction of a product in one factor is the sign of the other."""
    sign = arguments[1 - index].sign
    return 1 if sign.nonneg else -1 if sign.nonpos else 0


def _even(arguments: Sequence[Fact], index: int) -> int:
    sign = arguments[0].sign
    return 1 if sign.nonneg else -1 if sign.nonpos else 0


def _in_the_first(arguments: Sequence[Fact], index: int) -> int:
    return 1 if index == 0 else 0


def _in_none(arguments: Sequence[Fact], index: int) -> int:
    return 0


def _convex(arguments: Sequence[Fact], data: Data) -> Curvature:
    return CONVEX


def _quad_form_curvature(arguments: Sequence[Fact], data: Data) -> Curvature:
    definite: Sign = data["definite"]
    return CONVEX if definite.nonneg else CONCAVE if definite.nonpos else UNKNOWN


# Values


def _diag_value(x: Array, offset: int) -> Array:
    return np.diag(x, offset)


def _huber_value(x: Array, M: Array) -> Array:
    size = np.abs(x)
    return np.where(size <= M, x * x, 2 * M * size - M * M)


def _norm2_value(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)))


def _sum_largest_value(x: Array, k: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    axes = tuple(range(x.ndim)) if axis is None else axis
    last = np.moveaxis(x, axes, range(x.ndim - len(axes), x.ndim))
    rows = -np.sort(-last.reshape(*last.shape[: x.ndim - len(axes)], -1), axis=-1)
    total = (rows * np.clip(k - np.arange(rows.shape[-1]), 0, 1)).sum(-1)  # the last of them by the fraction of k
    return np.asarray(total).reshape(reduced(x.shape, axis, keepdims))


def _dotsort_value(x: Array, w: Array) -> Array:
    return np.asarray(np.sort(x) @ np.sort(np.pad(w, (0, x.size - w.size))))


def _indicator_value(r: Array, e: Array) -> Array:
    return np.asarray(0.0 if (r <= HOLDS).all() and (np.abs(e) <= HOLDS).all() else np.inf)


def _cumsum_value(x: Array, axis: int) -> Array:
    return np.asarray(np.cumsum(x, axis=axis))


def _sum_value(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.sum(x, axis=axis, keepdims=keepdims))


def _max_value(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.max(x, axis=axis, keepdims=keepdims))


def _ptp_value(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Array:
    return np.asarray(np.ptp(x, axis=axis, keepdims=keepdims))


def _or_nan(value: Callable[..., Array]) -> Callable[..., Array]:
    """NaN where a matrix has no inverse or no factor."""

    def compute(*args: Array) -> Array:
        try:
            return np.asarray(value(*args))
        except np.linalg.LinAlgError:
            return np.full(args[-1].shape, np.nan)

    return compute


def _function(name: str, value: Callable[..., Array] | None, sign: Callable[[Sequence[Fact], Data], Sign], **more: Any) -> Atom:
    """An atom that exists for arguments without variables only."""
    return Atom(name, Form.CONSTANT, more.pop("shape", _same), sign, value, **more)


_TABLE = (
    # Affine
    Atom("add", Form.AFFINE, _same, _sum_of, np.add),
    Atom("negate", Form.AFFINE, _same, _opposite, np.negative, monotone=lambda arguments, index: -1),
    Atom("sum", Form.AFFINE, _reduced, _inherit, _sum_value),
    Atom("index", Form.AFFINE, _target, _inherit, lambda x, key, shape: np.asarray(x[key.value])),
    Atom("reshape", Form.AFFINE, _target, _inherit, lambda x, shape: x.reshape(shape)),
    Atom("transpose", Form.AFFINE, _transposed, _inherit, lambda x, axes: x.transpose(axes)),
    Atom("broadcast_to", Form.AFFINE, _target, _inherit, lambda x, shape: np.broadcast_to(x, shape)),
    Atom("concatenate", Form.AFFINE, _concatenated, _all_of, lambda *xs, axis: np.concatenate(xs, axis=axis)),
    Atom("diag", Form.AFFINE, _diag_shape, _inherit, _diag_value),
    Atom("diagonal", Form.AFFINE, _diagonal_shape, _inherit, _diag_value),
    Atom("cumsum", Form.AFFINE, _same, _inherit, _cumsum_value),
    # Products: affine where one factor is free of variables
    Atom("multiply", Form.AFFINE, _same, _product, np.multiply, monotone=_coefficient),
    Atom("matmul", Form.AFFINE, _matmul_shape, _product, np.matmul, monotone=_coefficient),
    # Piecewise linear
    Atom("abs", Form.PIECEWISE, _same, _nonneg, np.abs, _convex, _even),
    Atom("max", Form.PIECEWISE, _nonempty, _inherit, _max_value, _convex),
    Atom("maximum", Form.PIECEWISE, _same, _largest, lambda *xs: np.maximum.reduce(xs), _convex),
    Atom("ptp", Form.PIECEWISE, _nonempty, _nonneg, _ptp_value, _convex, _in_none),
    Atom("cummax", Form.PIECEWISE, _same, _inherit, lambda x, axis: np.maximum.accumulate(x, axis), _convex),
    Atom("sum_largest", Form.PIECEWISE, _nonempty, _inherit, _sum_largest_value, _convex, _in_the_first),
    Atom("dotsort", Form.PIECEWISE, _sorted_product, _product, _dotsort_value, _convex, _coefficient),
    # Of polyhedra: indicator(r, e) of r <= 0 and e == 0, suppfunc(y, G, h, A, b) of Gx <= h and Ax = b
    Atom("indicator", Form.PIECEWISE, _scalar, _nonneg, _indicator_value, _convex, _in_the_first),
    Atom("suppfunc", Form.PIECEWISE, _scalar, _support_sign, None, _convex, _in_none),  # a linear program: see backends
    # Quadratic
    Atom("square", Form.QUADRATIC, _same, _nonneg, np.square, _convex, _even),
    Atom("huber", Form.QUADRATIC, _same, _nonneg, _huber_value, _convex, _even),
    Atom(
        "quad_form",
        Form.QUADRATIC,
        _quad_form_shape,
        _quad_form_sign,
        lambda x, P, definite: np.asarray(np.einsum("...i,...ij,...j->...", x, P, x)),
        _quad_form_curvature,
        _in_none,
    ),
    # Convex, and no part of a quadratic program before it is squared
    Atom("norm2", Form.NONE, _reduced, _nonneg, _norm2_value, _convex, _even),
    # Functions of parameters
    _function("reciprocal", np.reciprocal, _inherit),
    _function("exp", np.exp, _nonneg),
    _function("log", np.log, _unknown),
    _function("sqrt", np.sqrt, _nonneg),
    _function("tanh", np.tanh, _inherit),
    _function("sin", np.sin, _unknown),
    _function("cos", np.cos, _unknown),
    _function("sigmoid", lambda x: 0.5 * (1 + np.tanh(0.5 * x)), _nonneg),
    _function("softplus", lambda x: np.logaddexp(0.0, x), _nonneg),
    _function("power", lambda x, exponent: x**exponent, _power_sign),
    _function("inv", _or_nan(np.linalg.inv), _unknown, shape=_square_matrix),
    _function("cholesky", _or_nan(np.linalg.cholesky), _unknown, shape=_square_matrix),
    _function("solve", _or_nan(np.linalg.solve), _unknown, shape=_solved),
    _function("assume", lambda x, attributes: x, _assumed, folds=False),
    _function("function", None, _declared, shape=_target, folds=False),
)

ATOMS: dict[str, Atom] = {atom.name: atom for atom in _TABLE}
