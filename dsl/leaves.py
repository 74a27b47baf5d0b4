"""The leaves that users declare: variables, which the solver chooses, and parameters, which each call brings."""

from __future__ import annotations

import difflib
import keyword
import uuid
from collections.abc import Mapping, Sequence

import numpy as np

from .atoms import Shape
from .curvature import Form
from .diagnostics import definition_error
from .expression import Expression, start
from .sign import Attributes

RESERVED = ("self",)  # cannot be a keyword argument of a method


class _Leaf(Expression):
    """What Variable and Parameter share: a name for people and a key that survives copying, pickling and spawning."""

    __slots__ = ("attributes", "key", "name")

    key: str
    name: str | None
    attributes: Attributes

    def __init__(self, shape: int | Sequence[int] = (), name: str | None = None, **attributes: bool) -> None:
        kind = type(self).__name__
        self.shape = checked_shape(shape, kind)
        self.name = _checked_name(name, kind)
        self.attributes = declared(kind, self.shape, attributes)
        self.key = uuid.uuid4().hex
        start(self, self.shape, self.attributes.sign, Form.AFFINE if kind == "Variable" else Form.CONSTANT)

    def label(self, names: Mapping[str, str]) -> str:
        return names.get(self.key) or self.name or type(self).__name__.lower()

    def __repr__(self) -> str:
        declared = "".join(f", {name}=True" for name in self.attributes.declared)
        return f"{type(self).__name__}({self.shape}{f', name={self.name!r}' if self.name else ''}{declared})"


class Variable(_Leaf):
    """What the solver chooses.

    ``shape``: int or tuple, () for a scalar. ``name``: an identifier, by which solutions can be looked up. ``nonneg``,
    ``nonpos``: every entry is; held exactly in the solution.
    """

    __slots__ = ()


class Parameter(_Leaf):
    """Data given at each call, possibly batched and differentiated.

    ``shape``: of one item; leading batch dimensions are added by what is passed in. ``name``: the keyword of the compiled layer.
    Attributes ``nonneg nonpos PSD NSD symmetric diag`` are what the convexity rules may rely on; values are checked per item.
    """

    __slots__ = ()


def checked_shape(shape: int | Sequence[int], kind: str) -> Shape:
    """A shape as a tuple of nonnegative integers."""
    sizes = (shape,) if isinstance(shape, int | np.integer | float) else tuple(shape)
    if not all(isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 0 for size in sizes):
        raise definition_error("N01", f"the shape of a {kind}", f"expected nonnegative integers, got {shape!r}", f"{kind}((2, 3))")
    return tuple(int(size) for size in sizes)


def _checked_name(name: str | None, kind: str) -> str | None:
    if name is None:
        return None
    good = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and name not in RESERVED
    if not good or len(name) > 64 or name.startswith("_"):
        why = f"expected a Python identifier of at most 64 characters, no keyword and without leading underscore, got {name!r}"
        raise definition_error("N01", f"the name of a {kind}", why, "names become keyword arguments and state_dict keys")
    return name


def declared(kind: str, shape: Shape, given: Mapping[str, bool]) -> Attributes:
    """Checked attributes of something of this shape."""
    allowed = ("nonneg", "nonpos") if kind == "Variable" else tuple(Attributes.__dataclass_fields__)
    for name, value in given.items():
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            mend = f"did you mean {near[0]}?" if near else "boolean, integer and complex quantities make no QP"
            raise definition_error(
                "N01", f"an attribute of a {kind}", f"no attribute {name!r}; there are {', '.join(allowed)}", mend
            )
        if not isinstance(value, bool):
            raise definition_error("N01", f"an attribute of a {kind}", f"{name} is True or False, got {value!r}")
    attributes = Attributes(**given)
    if len(attributes.square) > 1:
        raise definition_error("N01", f"attributes of a {kind}", f"at most one of {', '.join(attributes.square)}", "")
    if attributes.square and (len(shape) != 2 or shape[0] != shape[1]):
        raise definition_error(
            "N01", f"attributes of a {kind}", f"{attributes.square[0]} needs a square matrix, got shape {shape}", ""
        )
    return attributes
