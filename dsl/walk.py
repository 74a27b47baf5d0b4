"""Walking expressions: a directed acyclic graph whose nodes may be shared. No recursion, so depth is free."""

from __future__ import annotations

from collections.abc import Iterable

from .expression import Expression
from .leaves import Parameter, Variable


def postorder(roots: Iterable[Expression]) -> list[Expression]:
    """Every node once, arguments before the nodes that use them, in order of first appearance."""
    done: set[int] = set()
    order: list[Expression] = []
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            order.append(node)
        else:
            stack.append((node, True))
            stack.extend((argument, False) for argument in reversed(node.args))
    return order


def leaves(roots: Iterable[Expression]) -> list[Variable | Parameter]:
    """Variables and parameters in order of first appearance."""
    return [node for node in postorder(roots) if isinstance(node, Variable | Parameter)]
