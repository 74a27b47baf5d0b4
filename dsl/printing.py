"""Expressions and problems as text, close to what the user would write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # expressions print themselves with this module
    from .constraint import Constraint
    from .expression import Expression

Names = Mapping[str, str]
SUM, PRODUCT, POWER, TIGHT = 1, 2, 3, 4
LONGEST = 400


def text(expression: Expression, names: Names | None = None) -> str:
    """One line; long constants appear by shape, and what grows beyond LONGEST is cut."""
    done: dict[int, tuple[str, int]] = {}
    stack = [expression]
    while stack:  # arguments first, shared nodes once, depth is free
        node = stack[-1]
        waiting = [argument for argument in node.args if id(argument) not in done]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        written, binds = _text(node, {} if names is None else names, done)
        done[id(node)] = (written, binds) if len(written) <= LONGEST else (f"{written[: LONGEST // 2]} ...", TIGHT)
    return done[id(expression)][0]


def constraint_text(constraint: Constraint, names: Names | None = None) -> str:
    """left op right, without the broadcasting that made the sides equal in shape."""
    return f"{text(_unspread(constraint.left), names)} {constraint.op} {text(_unspread(constraint.right), names)}"


def problem_text(sign: int, objective: Expression, constraints: Mapping[str, Constraint], names: Names) -> str:
    """The problem in the usual display."""
    lines = [f"{'minimize' if sign > 0 else 'maximize'}   {text(objective, names)}"]
    width = max((len(name) for name in constraints), default=0)
    for index, (name, constraint) in enumerate(constraints.items()):
        head = "subject to" if index == 0 else ""
        lines.append(f"{head:<10} {name + ':':<{width + 1}} {constraint_text(constraint, names)}")
    return "\n".join(lines)


def _text(node: Expression, names: Names, done: Mapping[int, tuple[str, int]]) -> tuple[str, int]:
    """The text and how tightly it binds, from those of the arguments."""
    if node.atom is None:
        written = node.label(names)
        return written, SUM if written.startswith("-") else TIGHT
    name, args = node.atom.name, [_unspread(argument) for argument in node.args]

    def inner(index: int, least: int) -> str:
        written, binds = done[id(args[index])]
        return written if binds >= least else f"({written})"

    if name == "add":
        if args[1].atom is not None and args[1].atom.name == "negate":
            subtracted, binds = done[id(_unspread(args[1].args[0]))]
            return f"{inner(0, SUM)} - {subtracted if binds >= PRODUCT else f'({subtracted})'}", SUM
        return f"{inner(0, SUM)} + {inner(1, SUM)}", SUM
    if name == "negate":
        return f"-{inner(0, PRODUCT)}", SUM
    if name in ("multiply", "matmul"):
        return f"{inner(0, PRODUCT)} {'*' if name == 'multiply' else '@'} {inner(1, POWER)}", PRODUCT
    if name == "square":
        return f"{inner(0, TIGHT)}**2", POWER
    if name == "power":
        return f"{inner(0, TIGHT)}**{node.data['exponent']:g}", POWER
    if name == "index":
        return f"{inner(0, TIGHT)}[{node.data['key']}]", TIGHT
    if name == "transpose" and node.data["axes"] == tuple(range(node.ndim))[::-1]:
        return f"{inner(0, TIGHT)}.T", TIGHT
    if name == "reshape":
        return f"{inner(0, TIGHT)}.reshape{node.shape}", TIGHT
    if name == "function":
        name = getattr(node.data["callable"], "__name__", type(node.data["callable"]).__name__)
    axis = node.data.get("axis")
    options = "" if axis is None else f", axis={axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis}"
    return f"{name}({', '.join(done[id(a)][0] for a in args)}{options})", TIGHT


def constant_text(value: NDArray[Any]) -> str:
    """A scalar, a uniform array by its entry, a short vector in full, anything else by its shape."""
    if value.size and np.ptp(value) == 0 if np.isfinite(value).all() else value.size == 1:
        return f"{value.flat[0]:g}"
    return f"[{', '.join(f'{v:g}' for v in value)}]" if value.ndim == 1 and value.size <= 4 else f"const{value.shape}"


def _unspread(node: Expression) -> Expression:
    return node.args[0] if node.atom is not None and node.atom.name == "broadcast_to" else node
