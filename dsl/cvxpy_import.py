"""A problem written in cvxpy, in karush's language: ``from_cvxpy``.

The cvxpy problem is read, never written to; values of its parameters are not needed. What cvxpy calls DCP and a quadratic program
can represent comes over, DPP or not. Everything that cannot is told at once: which atom, where, and why.

    leaf of cvxpy       -> Variable or Parameter with the same attributes
    atom of cvxpy       -> its entry in ``cvxpy_atoms``
    constraint of cvxpy -> one constraint of the same shape, with the same multipliers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np

from .constraint import Constraint
from .curvature import Form
from .cvxpy_atoms import NORM, REFUSED, Reason, build, is_relation, kind, related
from .diagnostics import DCPError, Diagnostic, ModelError, definition_error
from .expression import Constant, Expression
from .leaves import Parameter, Variable, is_name
from .problem import Maximize, Minimize
from .source import argument
from .span import Place, Span, here
from .walk import postorder

P = TypeVar("P")
LONGEST = 48  # characters of a cvxpy expression in a message

MEND = "write kr.from_cvxpy(cp.Problem(cp.Minimize(...), [...]))"
COMPLEX = Reason("it is complex, and a quadratic program is over the real numbers", "split it into real and imaginary part")
FLAGS = (
    "nonneg", "nonpos", "pos", "neg", "symmetric", "diag", "PSD", "NSD", "boolean", "integer", "complex", "imag", "hermitian",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CvxpyImport(Generic[P]):
    """A problem brought from cvxpy, and what became of everything in it.

    ``problem``: the karush problem. ``imported[x]`` is what stands for a cvxpy variable, parameter, constraint, dual variable (its
    constraint) or any expression of the problem's leaves. So ``solution[imported[x]]`` has the shape and order of ``x.value``,
    and ``solution.dual(imported[constraint])`` those of ``constraint.dual_value``. Raises DefinitionError for what the problem
    does not have.
    """

    problem: P
    reader: Reader

    def __getitem__(self, what: Any) -> Any:
        found = self.reader.constraints.get(getattr(what, "id", -1))
        if found is not None:
            return found
        if not _is(what, "Expression"):
            why = f"expected an expression or a constraint of the cvxpy problem, got {_brief(what)}"
            raise definition_error("X04", "nothing of the imported problem", why, "look up what the cvxpy problem was built of")
        strange = [leaf.name() for leaf in [*what.variables(), *what.parameters()] if leaf.id not in self.reader.leaves]
        if strange:
            why = f"the problem that was imported does not have {', '.join(strange)}"
            mend = "use the objects that the problem was built of; cvxpy tells leaves apart by identity, not by name"
            raise definition_error("X04", "an expression of another problem", why, mend)
        reader = Reader(self.reader.leaves)  # its own, so that lookups leave no trace
        expression = reader.expression(what, "the expression asked for")
        reader.tell()
        return expression

    def __repr__(self) -> str:
        return f"CvxpyImport({self.problem!r})"


def imported(problem: Any, build_problem: Callable[[Any, dict[str, Constraint]], P]) -> CvxpyImport[P]:
    """Translate a cvxpy problem; ``build_problem(objective, constraints)`` makes the problem of what was found."""
    if not _is(problem, "Problem"):
        raise definition_error(
            "X04", "from_cvxpy of something else", f"expected a cvxpy.Problem, got {_brief(problem)}", MEND, at=(0,)
        )
    reader = Reader()
    cost = reader.expression(problem.objective.args[0], "the objective")
    constraints: dict[str, Constraint] = {}
    labels = {constraint.label for constraint in problem.constraints if getattr(constraint, "label", None)}
    for index, constraint in enumerate(problem.constraints):
        label = getattr(constraint, "label", None)
        made = reader.constraint(constraint, f"constraint {index}" if label is None else f"constraint {label!r}")
        if made is not None:
            free = (name for i in count(index) if (name := f"constraint{i}") not in labels and name not in constraints)
            constraints[label if label and label not in constraints else next(free)] = made
    reachable = postorder([cost, *(side for c in constraints.values() for side in (c.left, c.right))])
    reader.refuse_norms(postorder([*reachable, *reader.orphans]))
    reader.tell()
    objective = Maximize(cost) if _is(problem.objective, "Maximize") else Minimize(cost)
    objective.span = None
    # What is wrong with the model is in the cvxpy source, not on the line that imports it: messages show expressions instead.
    for node in (*reachable, objective.expression):
        node.span = None
    return CvxpyImport(build_problem(objective, constraints), reader)


class Reader:
    """Reads expressions and constraints of one cvxpy problem; each leaf and each node is translated once."""

    def __init__(self, leaves: dict[int, Expression] | None = None) -> None:
        self.leaves: dict[int, Expression] = {} if leaves is None else leaves  # by cvxpy's id
        self.constraints: dict[int, Constraint] = {}  # by cvxpy's ids of the constraint and of its dual variable
        self._made: dict[int, tuple[Any, str, Any]] = {}  # by identity, with the node, so that its identity stays taken
        self._findings: list[Diagnostic] = []
        self.orphans: list[Expression] = []  # arguments of what was refused
        self._names: set[str] = set()

    def expression(self, root: Any, place: str) -> Expression:
        """``root`` in karush's language; zeros stand for what was refused, which ``tell`` reports."""
        for node in self._unread(root):
            args = [self._made[id(child)][-1] for child in _children(node)]
            made = self._node(node, args, place)
            self._made[id(node)] = node, place, made
            if isinstance(made, Reason):
                self.orphans += [x for x in args if isinstance(x, Expression)]
        result = self._made[id(root)][-1]
        return result if isinstance(result, Expression) else Constant(np.zeros(root.shape))

    def constraint(self, constraint: Any, place: str) -> Constraint | None:
        """The constraint in karush's language, with the same sides and so the same multiplier."""
        if not is_relation(constraint):
            self._refuse(constraint, Reason("constraints are equalities and inequalities between expressions"), place)
            return None
        made = replace(related(constraint, [self.expression(side, place) for side in constraint.args]), span=None)
        self.constraints.update((each.id, made) for each in (constraint, *constraint.dual_variables))
        return made

    def refuse_norms(self, reachable: Iterable[Expression]) -> None:
        """Euclidean norms of variables that nothing has squared: squared, they are gone from what is reachable."""
        origins = {id(made): (node, place) for node, place, made in self._made.values()}
        for expression in reachable:
            if expression.atom is not None and expression.atom.name == "norm2" and expression.form is not Form.CONSTANT:
                node, place = origins[id(expression)]
                self._refuse(node, NORM, place)

    def tell(self) -> None:
        """Raise what was refused, all of it."""
        if self._findings:
            raise DCPError(*self._findings)

    def _unread(self, root: Any) -> list[Any]:
        """Nodes that have not been translated yet, arguments first. No recursion, so depth is free."""
        order: list[Any] = []
        seen: set[int] = set()
        stack = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if id(node) in self._made or (id(node) in seen and not ready):
                continue
            if ready:
                order.append(node)
            else:
                seen.add(id(node))
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(_children(node)))
        return order

    def _node(self, node: Any, args: list[Any], place: str) -> Any:
        if any(isinstance(x, Reason) for x in args):
            return Reason("an argument was refused")
        try:
            made = self._leaf(node) if hasattr(node, "attributes") else build(node, args)
        except ModelError as error:
            label = f"{_brief(node)} in {place}"
            self._findings += [replace(finding, span=_call(), text="", label=label, notes=()) for finding in error.diagnostics]
            return Reason("refused by the rules of the language")
        if isinstance(made, Expression) and made.shape != tuple(node.shape):
            made = Reason(f"cvxpy gives it shape {tuple(node.shape)}, NumPy's rules {made.shape}")
        if isinstance(made, Reason):
            self._refuse(node, made, place)
        return made

    def _refuse(self, node: Any, reason: Reason, place: str) -> None:
        title, label = f"{kind(node)} is not representable in a quadratic program", f"{_brief(node)} in {place}"
        self._findings.append(Diagnostic("X03", title, _call(), "", label, reason.why, reason.mend))

    def _leaf(self, node: Any) -> Expression | Reason:
        if type(node).__name__ == "Constant":
            whole = node.value.shape == node.shape or not hasattr(node.value, "toarray")
            value = node.value if whole else node.value.toarray().reshape(node.shape)
            return COMPLEX if np.iscomplexobj(value) else Constant(value)
        if _is(node, "CallbackParam"):
            return REFUSED["CallbackParam"]
        if node.id not in self.leaves:
            self.leaves[node.id] = self._declared(node)
        return self.leaves[node.id]

    def _declared(self, node: Any) -> Expression:
        """The variable or parameter with its attributes; what cannot be one here, the declaration itself refuses."""
        variable, given = _is(node, "Variable"), node.attributes
        attributes: dict[str, Any] = {name: True for name in FLAGS if given.get(name)}
        if variable:  # a strict inequality has no attained optimum, so cvxpy reads it as a weak one, too
            attributes.update(
                {weak: True for strict, weak in (("pos", "nonneg"), ("neg", "nonpos")) if attributes.pop(strict, False)}
            )
        else:
            attributes.pop("integer", None)  # whole numbers given are numbers given
        if given.get("sparsity"):
            attributes["sparsity"] = tuple(np.asarray(at) for at in given["sparsity"])
        sides = given.get("bounds") or ()
        limits = [self.expression(side, f"the bounds of {node.name()}") if _is(side, "Expression") else side for side in sides]
        if sides and (variable or not any(isinstance(limit, Expression) for limit in limits)):
            attributes["bounds"] = limits
        return (Variable if variable else Parameter)(tuple(node.shape), name=self._free_name(node, variable), **attributes)

    def _free_name(self, node: Any, variable: bool) -> str | None:
        """The name the user gave, where it can be a name here and is not taken; cvxpy accepts any text, twice."""
        name = node.name()
        if name == f"{'var' if variable else 'param'}{node.id}" or name in self._names or not is_name(name):
            return None
        self._names.add(name)
        return str(name)


def _call() -> Span | Place | None:
    """Where the user hands the problem over."""
    span = here()
    return argument(span, "problem") or argument(span, 0) or span


def _children(node: Any) -> list[Any]:
    """Arguments of a node. The threshold of huber is data to cvxpy, an argument here; what an indicator holds are constraints."""
    if type(node).__name__ == "indicator":
        return [side for constraint in node.args if is_relation(constraint) for side in constraint.args]
    args = [argument for argument in node.args if _is(argument, "Expression")]
    return [*args, node.M] if type(node).__name__ == "huber" else args


def _is(value: Any, name: str) -> bool:
    """Whether the value is of cvxpy's class of this name, without importing cvxpy."""
    return any(cls.__name__ == name and cls.__module__.partition(".")[0] == "cvxpy" for cls in type(value).__mro__)


def _brief(value: Any) -> str:
    said = " ".join(str(value).split())
    return said if len(said) <= LONGEST else f"{said[: LONGEST - 4]} ..."
