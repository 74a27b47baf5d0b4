"""Expressions and problems as text, close to what the user would write. ``latex`` is its sister."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .idioms import Phrase, compose, shown, sides

if TYPE_CHECKING:  # expressions print themselves with this module
    from .constraint import Constraint
    from .expression import Expression
    from .keys import Key
    from .leaves import Variable

Names = Mapping[str, str]
Piece = tuple[str, int]  # the text, and how tightly it binds
Inner = Callable[[Any], Piece]
SUM, SIGNED, PRODUCT, POWER, TIGHT = 1, 2, 3, 4, 5  # SIGNED: a term with a minus in front
LONGEST = 400  # characters of an expression
ROWS = 60  # constraints of a problem
FEW = 4  # entries of an array that are still shown one by one


def text(expression: Expression, names: Names | None = None) -> str:
    """One line; long constants appear by shape, and what grows beyond LONGEST is cut."""

    def say(phrase: Phrase, inner: Inner) -> Piece:
        written, binds = _text(phrase, {} if names is None else names, inner)
        return (written, binds) if len(written) <= LONGEST else _cut(phrase, written, inner)

    return compose(expression, say)[0]


def constraint_text(constraint: Constraint, names: Names | None = None) -> str:
    """left op right, without the broadcasting that made the sides equal in shape; then where it holds, and what it costs."""
    left, right = sides(constraint)
    said = f"{text(left, names)} {constraint.op} {text(right, names)}"
    weight = getattr(constraint, "weight", None)
    if weight is not None:
        said = f"soft({said}, {text(bare(weight), names)}, {getattr(constraint, 'penalty', '')})"
    return said if constraint.active is None else f"{said} where {text(bare(constraint.active), names)}"


def variable_text(variable: Variable, names: Names | None = None) -> str:
    """What is declared of a variable, as far as it narrows what can be chosen; empty where nothing is."""
    facts, written = variable.attributes, text(variable, names)
    low = variable.lower if not facts.sign.nonneg else None
    high = variable.upper if not facts.sign.nonpos else None
    if low is None and high is None and not facts.declared:
        return ""
    below = "" if low is None else f"{text(bare(low), names)} <= "
    above = "" if high is None else f" <= {text(bare(high), names)}"
    return " ".join([f"{below}{written}{above}", *facts.declared])


def bare(data: Expression) -> Expression:
    """Without the broadcasting and the checking that made it fit."""
    while data.atom is not None and data.atom.name in ("broadcast_to", "assume"):
        data = data.args[0]
    return data


def problem_text(sign: int, objective: Expression, constraints: Mapping[str, Constraint], names: Names) -> str:
    """The problem in the usual display."""
    lines = [f"{'minimize' if sign > 0 else 'maximize'}   {text(objective, names)}"]
    shown = list(constraints.items())[:ROWS]
    width = max((len(name) for name, _ in shown), default=0)
    for index, (name, constraint) in enumerate(shown):
        head = "subject to" if index == 0 else ""
        lines.append(f"{head:<10} {name + ':':<{width + 1}} {constraint_text(constraint, names)}")
    if len(constraints) > ROWS:
        lines.append(f"{'':<10} ... and {len(constraints) - ROWS} more constraints")
    return "\n".join(lines)


def constant_text(value: NDArray[Any]) -> str:
    """A scalar, a uniform array by its entry, a short vector in full, anything else by its shape."""
    if uniform(value):
        return f"{value.flat[0]:g}"
    if is_identity(value):
        return f"eye({len(value)})"
    return f"[{', '.join(f'{v:g}' for v in value)}]" if value.ndim == 1 and value.size <= FEW else f"const{value.shape}"


def uniform(value: NDArray[Any]) -> bool:
    """Whether all entries, and there are some, are the same finite number; or it is one number."""
    return value.size == 1 or bool(value.size and np.isfinite(value).all() and np.ptp(value) == 0)


def is_identity(value: NDArray[Any]) -> bool:
    """Whether this is an identity matrix."""
    square = value.ndim == 2 and value.shape[0] == value.shape[1] > 1
    return square and bool((value == np.eye(len(value))).all())


def index_text(key: Key) -> str:
    """What stands between the brackets; long index arrays appear by shape."""
    parts = []
    for part in key.entries:
        array = getattr(part, "array", None)
        listed = array is not None and array.dtype != bool and array.ndim == 1 and array.size <= FEW
        parts.append(str(array.tolist()) if listed and array is not None else str(type(key)((part,))))
    return ", ".join(parts)


def called(phrase: Phrase) -> str:
    """The name of a function that the user brought."""
    function = phrase.data["callable"]
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def _cut(phrase: Phrase, written: str, inner: Inner) -> Piece:
    """A long sum ends in dots; of anything else the arguments are left out."""
    if phrase.word in ("add", "subtract"):
        head = inner(phrase.args[0])[0]
        return head if head.endswith(" + ...") else f"{head} + ...", SUM
    return f"{phrase.word}(...)", TIGHT


def _text(phrase: Phrase, names: Names, inner: Inner) -> Piece:
    """The text and how tightly it binds, from those of the arguments."""

    def arg(index: int, least: int) -> str:
        written, binds = inner(phrase.args[index])
        return written if binds >= least else f"({written})"

    word, data = phrase.word, phrase.data
    if word in ("constant", "leaf"):
        value = shown(phrase.node)
        written = phrase.node.label(names) if value is None else constant_text(value)
        return written, SIGNED if written.startswith("-") else TIGHT
    if word == "add":
        right, binds = inner(phrase.args[1])
        if binds == SIGNED:
            return f"{arg(0, SUM)} - {right[1:]}", SUM
        return f"{arg(0, SUM)} + {right}", SUM
    if word == "subtract":
        return f"{arg(0, SUM)} - {arg(1, PRODUCT)}", SUM
    if word == "negate":
        return f"-{arg(0, PRODUCT)}", SIGNED
    if word in OPERATORS:
        named = [_factor(part) if word == "matmul" else "" for part in phrase.args]
        left, right = named[0] or arg(0, SIGNED), named[1] or arg(1, POWER)
        return f"{left} {OPERATORS[word]} {right}", SIGNED if left.startswith("-") else PRODUCT
    if word == "reciprocal":
        return f"1 / {arg(0, POWER)}", PRODUCT
    if word == "square":
        return f"{arg(0, TIGHT)}**2", POWER
    if word == "power":
        return f"{arg(0, TIGHT)}**{data['exponent']:g}", POWER
    if word == "index":
        return f"{arg(0, TIGHT)}[{index_text(data['key'])}]", TIGHT
    if word == "transpose" and data["axes"] == tuple(range(phrase.node.ndim))[::-1]:
        return f"{arg(0, TIGHT)}.T", TIGHT
    if word == "transpose":
        return f"transpose({inner(phrase.args[0])[0]}, {data['axes']})", TIGHT
    if word == "reshape":
        sizes = ", ".join(map(str, phrase.shape)) or "()"
        return f"{arg(0, TIGHT)}.{'flatten()' if phrase.node.ndim == 1 else f'reshape({sizes})'}", TIGHT
    if word == "indicator":
        rows = [f"{inner(part)[0]} {op} 0" for part, op in zip(phrase.args, ("<=", "=="), strict=True) if part.shape != (0,)]
        return f"indicator({', '.join(rows)})", TIGHT
    told = phrase.args[:1] if word == "suppfunc" else phrase.args  # the matrices of its set say little
    joined = ", ".join(inner(argument)[0] for argument in told)
    if word in ("concatenate", "stack"):
        joined = f"[{joined}]"
    name = called(phrase) if word == "function" else NAMES.get(word, word)
    return f"{name}({joined}{options(phrase)})", TIGHT


def _factor(part: Any) -> str:
    """A uniform array in a matrix product, where it is no scalar."""
    value = shown(part)
    if value is None or not uniform(value):
        return ""
    name = {1.0: "ones", 0.0: "zeros"}.get(value.flat[0], "const")
    return f"{name}{value.shape}".replace(",)", ")") if name != "const" else f"const{value.shape}"


def options(phrase: Phrase) -> str:
    """Static arguments, where they are not the usual ones."""
    axis, told = phrase.data.get("axis"), ""
    if axis is not None:
        axis = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
        told = "" if axis == 0 and phrase.word in FIRST_AXIS else f", axis={axis}"
    return told + (f", {phrase.data['offset']}" if phrase.data.get("offset") else "")


OPERATORS = {"multiply": "*", "matmul": "@", "divide": "/"}
NAMES = {"diagonal": "diag"}  # atoms that users call by another name
FIRST_AXIS = ("concatenate", "stack", "diff", "cumsum")  # axis=0 goes without saying
