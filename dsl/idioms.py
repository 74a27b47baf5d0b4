"""How a model reads: what users write in one word is built of several atoms, and printing says the word again.

    sum(abs(x))              norm1(x)                 negate(max(negate(x)))      min(x)
    add(x, negate(y))        x - y                    multiply(x, reciprocal(y))  x / y
    maximum(x, 0)            pos(x)                   sum(diagonal(x))            trace(x)

``read`` looks at one node and gives a ``Phrase``; ``compose`` builds a text from those of the parts, for any printer: arguments
first, shared nodes once, without recursion, so that depth is free. What grows beyond a printer's patience is cut at a node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # expressions print themselves with this module
    from .constraint import Constraint
    from .expression import Expression


LARGE = 10_000  # entries of a sparse matrix that is printed by its shape alone


class Part(Protocol):
    """What a phrase is about: an expression, or a number that no node holds."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def ndim(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Literal:
    """A constant that is read otherwise than it is stored: the 1 of minimum(x, 1), which is -maximum(-x, -1)."""

    value: NDArray[np.float64]
    atom: None = None
    args: tuple[()] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def ndim(self) -> int:
        return self.value.ndim


@dataclass(frozen=True, eq=False)
class Phrase:
    """A word and what it is said of. ``data`` is the node's, or that of the inner node which the word swallowed."""

    word: str
    args: tuple[Any, ...]
    node: Any
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.node.shape
        return shape


def is_constant(node: Any) -> bool:
    """Whether this is a number or an array."""
    return node.atom is None and not hasattr(node, "key")


def constant(node: Any) -> NDArray[np.float64] | None:
    """The array of a constant; None for anything else."""
    value: NDArray[np.float64] | None = node.value if is_constant(node) else None
    return value


def shown(node: Any) -> NDArray[np.float64] | None:
    """The array of a constant that printers look into; None for anything else, and for a large sparse matrix."""
    large = getattr(node, "sparse", None) is not None and node.size > LARGE
    return None if large else constant(node)


def read(node: Any) -> Phrase:
    """One node, in the user's words."""
    if node.atom is None:
        return Phrase("constant" if is_constant(node) else "leaf", (), node)
    name, args, data = node.atom.name, unspread(node), node.data
    rule = IDIOMS.get(name)
    found = rule(node, args, data) if rule is not None else None
    return found or Phrase(name, args, node, data)


def unspread(node: Any) -> tuple[Any, ...]:
    """Arguments of an elementwise atom without the broadcasting that the reader does in the head."""
    if len(node.args) < 2:
        return tuple(node.args)
    return without_spreading(node.args, node.shape)


def sides(constraint: Constraint) -> tuple[Any, ...]:
    """Left and right of a constraint, without the broadcasting that made them equal in shape."""
    return without_spreading((constraint.left, constraint.right), constraint.shape)


def without_spreading(args: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    bare = tuple(argument.args[0] if _is(argument, "broadcast_to") else argument for argument in args)
    try:
        implied = np.broadcast_shapes(*(argument.shape for argument in bare)) == shape
    except ValueError:
        implied = False
    return bare if implied else args


def _is(node: Any, name: str) -> bool:
    return node.atom is not None and node.atom.name == name


def _everything(data: Mapping[str, Any]) -> bool:
    return data["axis"] is None and not data["keepdims"]


def _add(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    first, second = args
    if _difference(first, second):
        return Phrase("diff", (first.args[0],), node, {"axis": (len(first.data["key"].entries) - 1,)})
    if _is(second, "negate") and read(second).word == "negate":
        return Phrase("subtract", (first, second.args[0]), node)
    return None


def _difference(first: Any, second: Any) -> bool:
    """x[1:] - x[:-1] along some axis."""
    if not (_is(first, "index") and _is(second, "negate") and _is(second.args[0], "index")):
        return False
    other = second.args[0]
    if first.args[0] is not other.args[0]:
        return False
    ours, theirs, full = first.data["key"].entries, other.data["key"].entries, slice(None)
    before = (full,) * (len(ours) - 1)
    return bool(ours == (*before, slice(1, None)) and theirs == (*before, slice(None, -1)))


def _negate(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    inner = args[0]
    if _is(inner, "max") and _is(inner.args[0], "negate"):
        return Phrase("min", (inner.args[0].args[0],), node, inner.data)
    if _is(inner, "maximum"):
        parts = [_negated(part) for part in unspread(inner)]
        if all(part is not None for part in parts):
            return Phrase("minimum", tuple(parts), node)
    return None


def _negated(part: Any) -> Any:
    """What this is the negative of, if it is written so."""
    if _is(part, "negate"):
        return part.args[0]
    if _is(part, "broadcast_to"):
        return _negated(part.args[0])
    value = constant(part)
    return Literal(0.0 - value) if value is not None else None


def _sum(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    inner = args[0]
    if inner.ndim == 0:
        return read(inner)
    for atom, word in (("abs", "norm1"), ("square", "sum_squares")):
        if _is(inner, atom):
            return Phrase(word, inner.args, node, data)
    if _is(inner, "diagonal") and inner.data["offset"] == 0 and _everything(data):
        return Phrase("trace", inner.args, node)
    return None


def _max(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    return Phrase("norm_inf", args[0].args, node, data) if _is(args[0], "abs") else None


def _maximum(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    values = [constant(part) for part in args]
    if len(args) == 2 and values[1] is not None and not values[1].any() and args[0].shape == node.shape:
        return Phrase("neg", args[0].args, node) if _is(args[0], "negate") else Phrase("pos", args[:1], node)
    return None


def _multiply(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    first, second = args
    if _is(second, "reciprocal"):
        return Phrase("divide", (first, second.args[0]), node)
    factor = constant(second)
    if factor is not None and factor.size and _is(first, "sum") and read(first).word == "sum":
        total = first.args[0]
        if total.size > first.size > 0 and bool((factor == first.size / total.size).all()):
            return Phrase("mean", (total,), node, first.data)
    return None


def _concatenate(node: Any, args: tuple[Any, ...], data: Mapping[str, Any]) -> Phrase | None:
    """Parts that were given the new axis just for this."""
    axis = data["axis"]
    parts = [part.args[0] if _is(part, "reshape") else _narrowed(part, axis) for part in node.args]
    stacked = all(p is not q and (*p.shape[:axis], 1, *p.shape[axis:]) == q.shape for p, q in zip(parts, node.args, strict=True))
    return Phrase("stack", tuple(parts), node, data) if stacked else None


def _narrowed(part: Any, axis: int) -> Any:
    """A constant without an axis of size one."""
    value = constant(part)
    return Literal(np.squeeze(value, axis)) if value is not None and value.ndim > axis and value.shape[axis] == 1 else part


IDIOMS: dict[str, Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Phrase | None]] = {
    "add": _add,
    "negate": _negate,
    "sum": _sum,
    "max": _max,
    "maximum": _maximum,
    "multiply": _multiply,
    "concatenate": _concatenate,
}

Piece = TypeVar("Piece")


def compose(root: Expression, say: Callable[[Phrase, Callable[[Any], Piece]], Piece]) -> Piece:
    """The text of ``root``: ``say`` gets a phrase and the pieces of its arguments."""
    done: dict[int, Piece] = {}
    phrases: dict[int, Phrase] = {}  # kept: literals live as long as their ids are used
    stack: list[Any] = [root]
    while stack:
        node = stack[-1]
        phrase = phrases.get(id(node)) or phrases.setdefault(id(node), read(node))
        waiting = [argument for argument in phrase.args if id(argument) not in done]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        done[id(node)] = say(phrase, lambda part: done[id(part)])
    return done[id(root)]
