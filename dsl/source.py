"""What the user wrote at a place: operands, arguments, and the name that a value was given.

Errors quote the user's own text where it can be read: ``A``, not "an array of shape (2, 4)". Everything here is asked only when an
error is shown, and answers None where the source cannot be read.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .atoms import ATOMS
from .printing import text
from .span import Place, Span

if TYPE_CHECKING:
    from .expression import Expression

CALL = re.compile(r"(?<![\w.])(\w+)\(")
PHRASES = ("norm1", "norm_inf", "sum_squares", "trace", "mean", "min", "minimum", "pos", "neg", "diff", "stack")
OURS = frozenset({*ATOMS, *PHRASES})  # functions of karush that printed text names
QUOTED = 40  # characters; longer text says less than "the left side"


def syntax(span: Span | None) -> ast.expr | None:
    """The syntax tree of the expression at a place."""
    place = None if span is None else span.resolve()
    return None if place is None or not place.text else ast.parse(f"({place.text}\n)", mode="eval").body


def part(span: Span | None, node: ast.AST) -> Place | None:
    """The place of a node of ``syntax(span)``."""
    place = None if span is None else span.resolve()
    if place is None or not place.lines or not isinstance(node, ast.expr | ast.keyword):
        return None
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    source = f"({place.text}\n)".splitlines()

    def column(line: int, offset: int) -> int:
        characters = len(source[line - 1].encode()[:offset].decode(errors="replace"))
        return characters + (place.column - 1 if line == 1 else 0)

    first, last = place.line + node.lineno - 1, place.line + node.end_lineno - 1
    return place.inside(first, last, column(node.lineno, node.col_offset), column(node.end_lineno, node.end_col_offset))


def written(span: Span | None, node: ast.AST) -> str:
    """A node of ``syntax(span)`` as the user wrote it, on one line."""
    place = part(span, node)
    return "" if place is None else " ".join(place.text.split())


def operands(span: Span | None) -> list[str]:
    """The operands of an operator, or the arguments of a call, as written."""
    tree = syntax(span)
    nodes: Sequence[ast.AST] = ()
    if isinstance(tree, ast.BinOp):
        nodes = (tree.left, tree.right)
    elif isinstance(tree, ast.Compare):
        nodes = (tree.left, *tree.comparators)
    elif isinstance(tree, ast.Call):
        nodes = (*tree.args, *(keyword.value for keyword in tree.keywords))
        if len(nodes) == 1 and isinstance(nodes[0], ast.List | ast.Tuple):
            nodes = nodes[0].elts
    elif isinstance(tree, ast.UnaryOp):
        nodes = (tree.operand,)
    return [written(span, node) for node in nodes]


def argument(span: Span | None, which: str | int) -> Place | None:
    """The place of one argument of a call, by keyword or position; a key of a dict display counts as a keyword."""
    tree = syntax(span)
    if not isinstance(tree, ast.Call):
        return None
    if isinstance(which, int):
        return part(span, tree.args[which]) if which < len(tree.args) else None
    for keyword in tree.keywords:
        if keyword.arg == which:
            return part(span, keyword)
    for display in tree.args:
        if isinstance(display, ast.Dict):
            for key, value in zip(display.keys, display.values, strict=True):
                names = (getattr(key, "value", None), getattr(key, "id", None), getattr(key, "attr", None))
                if key is not None and which in names:
                    start, end = part(span, key), part(span, value)
                    if start is not None and end is not None and (place := span and span.resolve()):
                        return place.inside(start.line, end.end_line, start.column, end.end_column)
    return None


def target(span: Span | None) -> str | None:
    """The name that an assignment gives to the value made at a place: ``x`` in ``x = kr.Variable(3)``."""
    place = None if span is None else span.resolve()
    if place is None or not place.lines:
        return None
    indent = len(place.lines[0]) - len(place.lines[0].lstrip())
    try:
        tree = ast.parse(textwrap.dedent("\n".join(place.lines)))
    except SyntaxError:
        return None
    start = len(place.lines[0][indent : place.column].encode())
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr, ast.expr | None]] = []
        if isinstance(node, ast.Assign):
            first = node.targets[0]
            if isinstance(first, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(first.elts, node.value.elts, strict=False))
            else:
                pairs = [(first, node.value)]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            pairs = [(node.target, node.value)]
        for name, value in pairs:
            if value is not None and (value.lineno, value.col_offset) == (1, start) and isinstance(name, ast.Name | ast.Attribute):
                return ast.unparse(name)
    return None


def names(*expressions: Expression) -> Mapping[str, str]:
    """Names for leaves without one, by key: what the user assigned them to."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    stack = list(expressions)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.extend(node.args)
        key = getattr(node, "key", None)
        if key is not None and getattr(node, "name", None) is None and (name := target(node.span)):
            found[key] = name
    return found


def spoken(*expressions: Expression, at: Span | None = None) -> list[str]:
    """Expressions as the user wrote them, if that was near ``at``; printed otherwise, with the names that the user gave."""
    known = names(*expressions)
    return [_quoted(expression, at) or pasted(text(expression, known)) for expression in expressions]


def pasted(printed: str) -> str:
    """Printed text so that it can be pasted: ``norm1(x)`` is ``kr.norm1(x)``."""
    return CALL.sub(lambda call: f"kr.{call[0]}" if call[1] in OURS else call[0], printed)


def _quoted(expression: Expression, at: Span | None) -> str:
    """The source of an expression that was built in the same function as ``at``: its names mean something there."""
    near, own = (None if span is None else span.resolve() for span in (at, expression.span))
    if near is None or own is None or not expression.args or not own.text:
        return ""
    same = (near.file, near.scope) == (own.file, own.scope)
    whole = (near.line, near.column, near.end_line, near.end_column) == (own.line, own.column, own.end_line, own.end_column)
    said = " ".join(own.text.split())
    return said if same and not whole and len(said) <= QUOTED else ""


def bracketed(said: str) -> str:
    """Said so that it may stand beside an operator: ``A + B`` in brackets, ``A`` as it is."""
    try:
        tree = ast.parse(said, mode="eval").body
    except SyntaxError:
        return said
    return f"({said})" if isinstance(tree, ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.IfExp | ast.Lambda) else said


def sides(span: Span | None, *expressions: Expression) -> list[str]:
    """Operands in the user's words, in the order of ``expressions``; printed by us where the source does not tell."""
    printed = spoken(*expressions, at=span)
    own = operands(span)
    if len(own) != len(expressions):
        return printed
    if len(own) == 2 and (printed[0] == own[1] or printed[1] == own[0]):
        own.reverse()  # Python turned the operator around
    fits = [bool(said) and len(said) <= QUOTED and "Variable(" not in said and "Parameter(" not in said for said in own]
    return [said if good else ours for said, ours, good in zip(own, printed, fits, strict=True)]
