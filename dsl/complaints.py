"""What can be wrong with a problem before its mathematics is looked at: its parts, and their names."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from .constraint import Constraint
from .diagnostics import DefinitionError, Diagnostic, Note
from .expression import Expression
from .printing import constraint_text
from .source import argument, part, spoken, syntax
from .span import Place, here


def no_objective(given: Any) -> DefinitionError:
    """Something else in the place of Minimize(...) or Maximize(...)."""
    span = here()
    place = argument(span, 0) or argument(span, "objective")
    if isinstance(given, Expression):
        (said,) = spoken(given, at=span)
        label, mend = "neither minimized nor maximized", f"write kr.Minimize({said}) or kr.Maximize({said})"
    else:
        label, mend = f"{_kind(given)}", "write kr.Minimize(...) or kr.Maximize(...) of a scalar expression"
    why = "a problem begins with what is to be done: minimize or maximize"
    return DefinitionError(Diagnostic("N03", "a problem without an objective", place or span, "", label, why, mend))


def no_constraint(given: Any, path: Sequence[int]) -> Diagnostic:
    """Something among the constraints that is none."""
    why = "constraints are relations between expressions: ==, <= or >="
    mend = "write a relation, such as x >= 0"
    if is_decided(given):
        by, told = ("Python", f"it is {given}") if isinstance(given, bool) else ("NumPy or torch", "it holds the outcome")
        why = f"the comparison was decided by {by} before the problem saw it: {told}"
        mend = "check that a variable takes part in it; leave it out, if it is about data only"
    elif isinstance(given, Expression):
        mend = f"say what it must be: {spoken(given)[0]} >= 0, or == 0"
    span = here()
    return Diagnostic("N03", "something that is no constraint", _entry(path) or span, "", _kind(given), why, mend)


def is_decided(given: Any) -> bool:
    """Whether this is a comparison of numbers: True, False, or an array or tensor of them."""
    return isinstance(given, bool) or str(getattr(given, "dtype", "")).endswith("bool")


def twice(name: str, first: Constraint, second: Constraint) -> Diagnostic:
    """Two constraints of one name."""
    why = "names are how solution.dual(...) and errors find a constraint"
    label, mend = f"the second {name!r}", f'give it a name of its own: "{name}2"'
    notes = (Note(first.span, f"the first {name!r}"),)
    return Diagnostic("N09", "a constraint name that is taken", second.span, constraint_text(second), label, why, mend, notes)


def shared_name(first: Expression, second: Expression) -> Diagnostic:
    """Two leaves of one name."""
    name = getattr(second, "name", "")
    kinds = [type(leaf).__name__.lower() for leaf in (first, second)]
    why = "inputs and solutions are found by name: two leaves of one problem must not share it"
    mend = f'give it a name of its own: name="{name}2"'
    if kinds[0] == kinds[1]:
        mend += "\nuse the first one in both places, if one is meant"
    notes = (Note(first.span, f"the {'first' if kinds[0] == kinds[1] else kinds[0]} {name!r}"),)
    label = f"the {'second' if kinds[0] == kinds[1] else kinds[1]} {name!r}"
    return Diagnostic("N08", f"the name {name!r} is taken", second.span, repr(second), label, why, mend, notes)


def _entry(path: Sequence[int]) -> Place | None:
    """The entry of the constraints as they stand in the call, if they are written out there."""
    span = here()
    tree = syntax(span)
    if not isinstance(tree, ast.Call):
        return None
    node: ast.expr | None = tree.args[1] if len(tree.args) > 1 else None
    for keyword in tree.keywords:
        if keyword.arg == "constraints":
            node = keyword.value
    for index in path:
        entries = node.elts if isinstance(node, ast.List | ast.Tuple) else node.values if isinstance(node, ast.Dict) else []
        if index >= len(entries) or any(isinstance(entry, ast.Starred) for entry in entries):
            break
        node = entries[index]
    return None if node is None else part(span, node)


def _kind(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Expression):
        return "an expression, not a relation"
    if value is None or (is_decided(value) and not getattr(value, "shape", ())):
        return f"this is {value}"
    shown = repr(value)
    return f"this is {type(value).__name__} {shown if len(shown) <= 40 else ''}".rstrip()
