"""Walking expressions: a directed acyclic graph whose nodes may be shared. No recursion, so depth is free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # expressions answer for their leaves with this module
    from .expression import Expression
    from .leaves import Parameter, Variable


def postorder(roots: Iterable[Expression], above: int = -1) -> list[Expression]:
    """Every node once, arguments before the nodes that use them, in order of first appearance.

    Below the roots only nodes of a ``Form`` above this one are entered.
    """
    entered: set[int] = set()
    order: list[Expression] = []
    stack: list[Expression | None] = [*roots]
    stack.reverse()
    while stack:
        node = stack.pop()
        if node is None:  # the arguments of what stands below are done
            order.append(stack.pop())  # type: ignore[arg-type]  # a node stands below every None
            continue
        if id(node) in entered:
            continue
        entered.add(id(node))
        if not node.args:
            order.append(node)
            continue
        stack += (node, None)
        stack += [a for a in node.args[::-1] if id(a) not in entered and (above < 0 or a.form > above)]
    return order


def leaves(roots: Iterable[Expression]) -> list[Variable | Parameter]:
    """Variables and parameters in order of first appearance."""
    return leaves_among(postorder(roots))


def leaves_among(nodes: Iterable[Expression]) -> list[Variable | Parameter]:
    """Those of the nodes that are variables or parameters."""
    return [node for node in nodes if node.atom is None and hasattr(type(node), "key")]  # type: ignore[misc]  # nothing else has keys


def same(left: Expression, right: Expression) -> bool:
    """Whether two expressions are the same formula: equal atoms of equal leaves, built once or twice."""
    met: set[tuple[int, int]] = set()
    waiting = [(left, right)]
    while waiting:
        a, b = waiting.pop()
        if a is b or (id(a), id(b)) in met:
            continue
        met.add((id(a), id(b)))
        if a.shape != b.shape or a.atom is not b.atom or len(a.args) != len(b.args):
            return False
        if a.atom is None:
            keys = [getattr(leaf, "key", None) for leaf in (a, b)]
            if keys[0] != keys[1] or (keys[0] is None and not _equal(a, b)):
                return False
        elif a.data != b.data:
            return False
        waiting.extend(zip(a.args, b.args, strict=True))
    return True


def _equal(left: Any, right: Any) -> bool:
    """Whether two constants of one shape hold the same numbers."""
    if left.sparse is None or right.sparse is None:
        return bool(left.value.tobytes() == right.value.tobytes())
    return bool((left.sparse != right.sparse).nnz == 0)
