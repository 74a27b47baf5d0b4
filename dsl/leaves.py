"""The leaves that users declare: variables, which the solver chooses, and parameters, which each call brings."""

from __future__ import annotations

import keyword
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from . import usage
from .atoms import Shape
from .attributes import declared, limits, ordered, structure, zeros_fit
from .constraint import new_key
from .curvature import Form
from .diagnostics import definition_error
from .expression import Constant, Expression, apply, start
from .foreign import as_array
from .sign import Attributes, Sign

RESERVED = ("self",)  # cannot be a keyword argument of a method
LARGEST = 2**31 - 1  # entries of a leaf; an index of them still is an int32
VALUED = ("sparsity", "bounds")  # attributes that are more than a word


class _Leaf(Expression):
    """What Variable and Parameter share: a name for people and a key that survives copying, pickling and spawning."""

    __slots__ = ("attributes", "key", "name")

    key: str
    name: str | None
    attributes: Attributes

    def _begin(self, shape: int | Sequence[int], name: str | None) -> None:
        kind = type(self).__name__
        self.shape, self.name = checked_shape(shape, kind), _checked_name(name, kind)
        self.key = new_key()

    def label(self, names: Mapping[str, str]) -> str:
        return names.get(self.key) or self.name or type(self).__name__.lower()

    def __repr__(self) -> str:
        declared = "".join(f", {name}" if name in VALUED else f", {name}=True" for name in self._declared)
        return f"{type(self).__name__}({self.shape}{f', name={self.name!r}' if self.name else ''}{declared})"

    @property
    def _declared(self) -> tuple[str, ...]:
        return self.attributes.declared


class Variable(_Leaf):
    """What the solver chooses.

    ``shape``: int or tuple, () for a scalar. ``name``: an identifier, by which solutions can be looked up.
    ``nonneg nonpos``: the sign of every entry (``pos neg`` mean the same: a strict inequality has no attained optimum).
    ``bounds=[low, high]``: each None, a number, an array, a parameter or an expression of parameters; infinite entries are absent.
    Sign and bounds hold exactly in the solution, and cost no rows.
    ``symmetric``, ``diag``, or ``sparsity`` (a tuple of index arrays, or a boolean array): only the entries that are free of each
    other are chosen; the solution is the whole matrix. Raises DefinitionError.
    """

    __slots__ = ("lower", "upper")

    lower: Expression | None
    upper: Expression | None

    def __init__(self, shape: int | Sequence[int] = (), name: str | None = None, **attributes: Any) -> None:
        self._begin(shape, name)
        low, high = limits("Variable", self.shape, attributes.pop("bounds", None))
        self.attributes = structure("Variable", self.shape, attributes)
        sign = self.attributes.sign
        self.lower = _stricter(low, self.shape, "maximum") if sign.nonneg else low
        self.upper = _stricter(high, self.shape, "minimum") if sign.nonpos else high
        ordered("Variable", self.lower, self.upper)
        if self.places is not None and not self.attributes.symmetric:
            zeros_fit(self.lower, self.upper, self.places.reshape(self.shape) < 0)
        above = sign.nonneg or (self.lower is not None and self.lower.sign.nonneg)
        below = sign.nonpos or (self.upper is not None and self.upper.sign.nonpos)
        start(self, self.shape, Sign(above, below), Form.AFFINE)

    def get_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Limits of every entry that are known before any parameter is: -inf and inf where there is none."""
        return _known(self.shape, self.lower, -np.inf), _known(self.shape, self.upper, np.inf)

    @property
    def places(self) -> NDArray[np.int64] | None:
        """Where each entry, in C order, stands among those that are chosen; -1 for a zero. None where all are chosen."""
        facts = self.attributes
        if facts.sparsity is not None:
            flat = facts.sparsity.array.reshape(-1)
            return np.where(flat, np.cumsum(flat) - 1, -1)
        if not facts.square:
            return None
        size = self.shape[0]
        places = np.full(self.shape, -1, dtype=np.int64)
        if facts.diag:
            np.fill_diagonal(places, np.arange(size))
        else:
            rows, cols = np.triu_indices(size)
            places[rows, cols] = places[cols, rows] = np.arange(len(rows))
        return places.reshape(-1)

    @property
    def box(self) -> tuple[Expression | None, Expression | None]:
        """The bounds of the entries that are chosen, as vectors."""
        places = self.places
        if places is None:
            whole = (self.lower, self.upper)
            low, high = (side if side is None or side.ndim == 1 else side.reshape(-1) for side in whole)
            return low, high
        _, first = np.unique(places, return_index=True)
        first = first[places[first] >= 0]
        sides = []
        for side, name in ((self.lower, "maximum"), (self.upper, "minimum")):
            if side is not None and self.attributes.symmetric:  # both entries of a pair are the one that is chosen
                side = _between(side, side.T, name)
            sides.append(None if side is None else side.reshape(-1)[first])
        return sides[0], sides[1]

    @property
    def _declared(self) -> tuple[str, ...]:
        bounded = (self.lower is not None and not self.attributes.sign.nonneg) or (
            self.upper is not None and not self.attributes.sign.nonpos
        )
        return (*self.attributes.declared, *(("bounds",) if bounded else ()))


class Parameter(_Leaf):
    """Data given at each call, possibly batched and differentiated.

    ``shape``: of one item; leading batch dimensions are added by what is passed in. ``name``: the keyword of the compiled layer.
    ``value``: what is used where a call passes nothing; fixed when the model is compiled, and not trained.
    Attributes are what the convexity rules may rely on: ``nonneg nonpos pos neg`` (the last two strict), ``boolean`` (0 or 1),
    ``bounds=[low, high]`` of numbers, and one of ``PSD NSD symmetric diag sparsity``. Values are checked per item at every call.
    Raises DefinitionError.
    """

    __slots__ = ("_value",)

    @property
    def value(self) -> NDArray[np.float64] | None:
        """What is used where a call passes nothing; None if every call must."""
        return self._value

    @value.setter
    def value(self, given: Any) -> NoReturn:
        raise usage.stored(self)

    def __init__(self, shape: int | Sequence[int] = (), name: str | None = None, value: Any = None, **attributes: Any) -> None:
        self._begin(shape, name)
        self.attributes = declared("Parameter", self.shape, attributes)
        low, high = self._limits()
        ordered("Parameter", low, high)
        self._value: NDArray[np.float64] | None = None if value is None else as_array(value)
        if self.value is not None and self.value.shape != self.shape:
            why = f"the value has shape {self.value.shape}, the parameter {self.shape}; a value is that of one item"
            raise definition_error(
                "N15", "a value that does not fit the parameter", why, f"give an array of shape {self.shape}", at=("value",)
            )
        if self.value is not None:
            self.value.setflags(write=False)
        start(self, self.shape, self.attributes.sign, Form.CONSTANT)

    def get_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Limits of every entry: -inf and inf where there is none."""
        low, high = self._limits()
        sign = self.attributes.sign
        return (
            np.maximum(_known(self.shape, low, -np.inf), 0 if sign.nonneg else -np.inf),
            np.minimum(_known(self.shape, high, np.inf), (1 if self.attributes.boolean else np.inf) if not sign.nonpos else 0),
        )

    def _limits(self) -> tuple[Constant | None, Constant | None]:
        held = self.attributes.bounds
        low, high = (None, None) if held is None else (held.low, held.high)
        return None if low is None else Constant(low.array), None if high is None else Constant(high.array)


def _stricter(side: Expression | None, shape: Shape, name: str) -> Expression:
    """A bound, and the sign that was declared beside it."""
    zero = Constant(np.zeros(shape))
    return zero if side is None else _between(side, zero, name)


def _between(side: Expression, other: Expression, name: str) -> Expression:
    """The larger (maximum) or smaller (minimum) of two bounds, entry by entry."""
    if side is other:
        return side
    return apply("maximum", side, other) if name == "maximum" else -apply("maximum", -side, -other)


def _known(shape: Shape, side: Expression | None, absent: float) -> NDArray[np.float64]:
    known = isinstance(side, Constant) or (side is not None and (side.sign.nonneg if absent < 0 else side.sign.nonpos))
    value = side.value if isinstance(side, Constant) else 0.0 if known else absent
    return np.array(np.broadcast_to(value, shape))


def checked_shape(shape: int | Sequence[int], kind: str) -> Shape:
    """A shape as a tuple of nonnegative integers."""
    if type(shape) is int and 0 <= shape <= LARGEST:
        return (shape,)
    sizes: tuple[object, ...] = tuple(shape) if isinstance(shape, Iterable) else (shape,)
    whole = tuple(int(size) for size in sizes if isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 0)
    if len(whole) < len(sizes):
        why, mend = f"a shape is made of nonnegative integers, got {shape!r}", "write an int for a vector, a tuple for more: (2, 3)"
        raise definition_error("N01", "a shape that is none", why, mend, at=("shape", 0), label=f"{shape!r}"[:40])
    if math.prod(whole) > LARGEST:
        why, mend = f"more than {LARGEST:,} entries fit no machine", "check what made the shape"
        raise definition_error("N01", "a shape that is too large", why, mend, at=("shape", 0), label=f"{shape!r}"[:40])
    return whole


def _checked_name(name: str | None, kind: str) -> str | None:
    if name is None:
        return None
    if not is_name(name):
        why = "names become keyword arguments and state_dict keys: identifiers of at most 64 characters, no keyword, no leading _"
        mend = f"write name={_identifier(name)!r}"
        raise definition_error("N05", "a name that cannot be a keyword", why, mend, at=("name", 1), label="no identifier")
    return name


def is_name(name: object) -> bool:
    """Whether a leaf can be called so."""
    good = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and name not in RESERVED
    return good and len(str(name)) <= 64 and not str(name).startswith("_")


def _identifier(name: object) -> str:
    """A name that would do, close to the one that was tried."""
    made = "".join(character if character.isalnum() else "_" for character in str(name)).strip("_")[:60] or "x"
    made = made if made.isidentifier() else f"x{made}"
    return f"{made}_" if keyword.iskeyword(made) or made in RESERVED else made
