"""Is the problem a convex quadratic program by the rules of the language? Every violation is found before anyone speaks.

Each node already knows its curvature and form. A violation is reported at the smallest node at fault: one that is invalid
while all of its arguments are valid. Only where every node is valid are the requirements of its place checked: a convex
objective to minimise (concave to maximise), affine == affine, convex <= concave, and no quadratic inside a constraint.
"""

from __future__ import annotations

from collections.abc import Mapping

from .constraint import Constraint
from .curvature import Form
from .diagnostics import DCPError, Diagnostic
from .expression import Expression
from .printing import constraint_text, text
from .span import Span
from .walk import postorder


def check(objective: Expression, sign: int, span: Span | None, constraints: Mapping[str, Constraint]) -> None:
    """Raise one DCPError with everything that is wrong."""
    roots = [objective, *(side for c in constraints.values() for side in (c.left, c.right))]
    findings = [_explain(node) for node in postorder(roots) if _at_fault(node)]
    if _valid(objective):
        findings += _objective(objective, sign, span)
    for name, constraint in constraints.items():
        if _valid(constraint.left) and _valid(constraint.right):
            findings += _constraint(name, constraint)
    if findings:
        raise DCPError(*findings)


def _valid(node: Expression) -> bool:
    return node.curvature.known and node.form is not Form.NONE


def _at_fault(node: Expression) -> bool:
    return not _valid(node) and all(_valid(argument) for argument in node.args)


def _finding(code: str, title: str, node: Expression, label: str, why: str, mend: str) -> Diagnostic:
    return Diagnostic(code, title, node.span, text(node), label, why, mend)


def _explain(node: Expression) -> Diagnostic:
    """Which rule a smallest invalid node breaks."""
    assert node.atom is not None
    name, args = node.atom.name, node.args
    if name in ("multiply", "matmul"):
        if all(argument.form > Form.CONSTANT for argument in args):
            return _finding(
                "D01",
                "a product of two variable expressions",
                node,
                "product of variables",
                "a product is affine only if one factor is free of variables",
                "make one factor a Parameter if it is data; write quad_form(x, P) or square(x) for a quadratic cost",
            )
        factor, other = (args[0], args[1]) if args[0].form is Form.CONSTANT else (args[1], args[0])
        return _finding(
            "D02",
            "a coefficient of unknown sign",
            node,
            f"{other.curvature} expression times a coefficient of {factor.sign} sign",
            f"{text(factor)} may be negative somewhere, which would turn {other.curvature} into its opposite",
            "declare the sign: kr.Parameter(..., nonneg=True), or state it: kr.assume(expression, nonneg=True)",
        )
    if name == "add":
        return _finding(
            "D03",
            "a sum of convex and concave",
            node,
            f"{args[0].curvature} plus {args[1].curvature}",
            "a sum is convex if all terms are, concave if all terms are",
            "check the signs of the terms",
        )
    if node.curvature.known:
        inner = next((a for a in args if a.form is Form.QUADRATIC), args[0])
        why = "quadratic terms may only be added and scaled; their arguments must be affine, or nonnegative and piecewise linear"
        return _finding("D07", f"{name} of this argument is not quadratic", node, f"argument {text(inner)}", why, "")
    worst = next(a for a in args if not a.curvature.affine)
    return _finding(
        "D04",
        f"{name} of a {worst.curvature} expression",
        node,
        f"the argument is {worst.curvature}, of {worst.sign} sign",
        f"{name} keeps convexity only where it is monotone in the fitting direction",
        "make the argument affine, or (for square and abs) convex and nonnegative, as in square(pos(x))",
    )


def _objective(objective: Expression, sign: int, span: Span | None) -> list[Diagnostic]:
    wanted, verb = ("convex", "minimize") if sign > 0 else ("concave", "maximize")
    fits = objective.curvature.convex if sign > 0 else objective.curvature.concave
    if fits:
        return []
    label, mend = f"this is {objective.curvature}", _turn(objective, sign)
    where = objective.span or span
    why = f"to {verb}, the objective must be {wanted}"
    return [Diagnostic("D05", f"the objective is not {wanted}", where, text(objective), label, why, mend)]


def _turn(objective: Expression, sign: int) -> str:
    if not objective.curvature.known:
        return "check the signs of its terms"
    return f"write {'Maximize' if sign > 0 else 'Minimize'} if that is meant; otherwise the problem is not convex"


def _constraint(name: str, constraint: Constraint) -> list[Diagnostic]:
    left, right = constraint.left, constraint.right
    written, where = constraint_text(constraint), constraint.span
    if constraint.op == "==":
        bad = next((side for side in (left, right) if side.form > Form.AFFINE), None)
        if bad is None:
            return []
        why = "an equality describes a convex set only if both sides are affine"
        mend = "relax it to an inequality, if the solution makes it tight"
        return [Diagnostic("D06", f"{name!r} is not affine", where, written, f"{text(bad)} is {bad.curvature}", why, mend)]
    small, large = (left, right) if constraint.op == "<=" else (right, left)
    found = []
    for side, fits, wanted in ((small, small.curvature.convex, "convex"), (large, large.curvature.concave, "concave")):
        if not fits:
            why = "convex <= concave describes a convex set; the other direction does not"
            label = f"{text(side)} is {side.curvature}, not {wanted}"
            found.append(Diagnostic("D09", f"{name!r} is not convex", where, written, label, why, ""))
        elif side.form is Form.QUADRATIC:
            why = "quadratic terms may appear in the objective only: a quadratic constraint makes no QP"
            mend = "move it into the objective as a penalty, or bound it by norm1 or norm_inf"
            found.append(Diagnostic("D10", f"{name!r} is quadratic", where, written, f"{text(side)} is quadratic", why, mend))
    return found
