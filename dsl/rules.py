"""Is the problem a convex quadratic program by the rules of the language? Every violation is found before anyone speaks.

Each node already knows its curvature and form. A violation is reported at the smallest node at fault: one that is invalid
while all of its arguments are valid. Only where every node is valid are the requirements of its place checked: a convex
objective to minimise (concave to maximise), affine == affine, convex <= concave, and no quadratic inside a constraint.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

from . import squares
from .constraint import Constraint
from .curvature import Curvature, Form
from .diagnostics import Diagnostic
from .expression import Expression
from .leaves import Variable
from .printing import constraint_text
from .remedies import as_parameter, definiteness_remedy, sign_remedy
from .source import bracketed, names, sides, spoken, syntax
from .span import Span
from .walk import leaves

MIRRORED = {"min": "max", "minimum": "maximum", "sum_smallest": "sum_largest"}  # written with a minus on either side


def violations(
    nodes: Sequence[Expression], objective: Expression, sign: int, span: Span | None, constraints: Mapping[str, Constraint]
) -> list[Diagnostic]:
    """Everything that is wrong with a problem. ``nodes``: all that occur in it, arguments first."""
    wrong = [node for node in nodes if node.form is Form.NONE or not node.curvature.known]
    findings = [_explain(node) for node in wrong if all(_valid(argument) for argument in node.args)]
    if _valid(objective):
        findings += _objective(objective, sign, span)
    for name, constraint in constraints.items():
        if _valid(constraint.left) and _valid(constraint.right):
            findings += _constraint(name, constraint)
    return findings


def _valid(node: Expression) -> bool:
    return node.curvature.known and node.form is not Form.NONE


# The smallest node at fault: which rule of composition it breaks


def _explain(node: Expression) -> Diagnostic:
    assert node.atom is not None
    if node.atom.name in ("multiply", "matmul"):
        if all(argument.form > Form.CONSTANT for argument in node.args):
            form = squares.inner(*node.args) if node.atom.name == "matmul" else None
            return _product_of_variables(node) if form is None else _form_of_unknown_curvature(node, form)
        return _unknown_coefficient(node)
    if node.atom.name == "add":
        return _sum(node)
    if node.atom.name == "norm2" and node.curvature.known:
        return _norm(node)
    return _not_quadratic(node) if node.curvature.known else _composition(node)


def _form_of_unknown_curvature(node: Expression, form: squares.Quadratic) -> Diagnostic:
    """x @ P @ x, where nothing is known of P."""
    said = " @ ".join(spoken(*form.matrices, at=node.span))
    remedy = definiteness_remedy(form.P, said)
    why = "x' P x is convex only if P is symmetric and positive semidefinite, concave only if negative"
    label = f"{said} is of unknown definiteness"
    return Diagnostic("D08", "a quadratic of unknown curvature", node.span, spoken(node)[0], label, why, remedy.mend, remedy.notes)


def _norm(node: Expression) -> Diagnostic:
    """A Euclidean norm as it stands."""
    (inside,) = spoken(unspread(node.args[0]), at=node.span)
    why = "on its own it needs a second-order cone; its square is quadratic, and minimal at the same point if nothing is added"
    mend = f"square it: kr.norm2({inside})**2, which is kr.sum_squares({inside})\ntake kr.norm1({inside}) or kr.norm_inf({inside})"
    label = "the root of a sum of squares"
    return Diagnostic("D14", "a Euclidean norm that is not squared", node.span, spoken(node)[0], label, why, mend)


def _product_of_variables(node: Expression) -> Diagnostic:
    left, right = sides(node.span, *(unspread(argument) for argument in node.args))
    label = f"{left} and {right} both contain variables" if left != right else f"{left} times itself"
    why = "a product is affine only if one of its factors is free of variables"
    inner = [argument for argument in node.args if isinstance(unspread(argument), Variable)]
    data = f": {as_parameter(unspread(inner[-1]))}" if inner else ""
    which = spoken(unspread(inner[-1]))[0] if inner else "one factor"
    square = "write kr.quad_form(x, P), kr.square(x) or kr.sum_squares(x) for a quadratic cost"
    if _variables(node.args[0]) & _variables(node.args[1]):
        mend = f"{square}\nhold one of the factors fixed, as a Parameter, and solve again"
    else:
        mend = f"make {which} a Parameter, if it is data{data}\n{square}"
    return Diagnostic("D01", "a product of two expressions with variables", node.span, spoken(node)[0], label, why, mend)


def _unknown_coefficient(node: Expression) -> Diagnostic:
    first, second = (unspread(argument) for argument in node.args)
    said = sides(node.span, first, second)
    swapped = first.form is not Form.CONSTANT
    coefficient, other = (second, first) if swapped else (first, second)
    factor, scaled = reversed(said) if swapped else said
    remedy = sign_remedy(coefficient, factor)
    label = f"{scaled} is {other.curvature}, the sign of {factor} is unknown"
    why = f"where {factor} is negative, {_a(other.curvature)} term becomes {-other.curvature}"
    return Diagnostic("D02", "a coefficient of unknown sign", node.span, spoken(node)[0], label, why, remedy.mend, remedy.notes)


def _sum(node: Expression) -> Diagnostic:
    first, second = (unspread(argument) for argument in node.args)
    tree = syntax(node.span)
    minus = (
        isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Sub) and second.atom is not None and second.atom.name == "negate"
    )
    left, right = sides(node.span, first, second.args[0] if minus else second)
    turned = f"write {left} {'+' if minus else '-'} {right if minus else bracketed(right)}, if that is meant"
    if minus:
        right = f"-({right})" if " + " in right or " - " in right else f"-{right}"
    terms = {str(first.curvature): left, str(second.curvature): right}
    label = f"{left} is {first.curvature}, {right} is {second.curvature}"
    why = "a sum is convex if all of its terms are, concave if all of them are"
    concave = terms.get("concave", right)
    mend = f"{turned}\nreplace {concave} by an affine expression: its tangent at a Parameter"
    if isinstance(tree, ast.Call):  # a sum of many terms
        mend = "make all terms convex, to minimize, or all of them concave, to maximize"
    return Diagnostic("D03", "a sum of convex and concave", node.span, spoken(node)[0], label, why, mend)


def _composition(node: Expression) -> Diagnostic:
    assert node.atom is not None
    name = _called(node)
    worst = next((a for a in node.args if not a.curvature.affine), node.args[0])
    curvature, sign, inner = worst.curvature, worst.sign, worst
    if name in MIRRORED:  # min(x) is -max(-x): speak of x
        curvature, sign = -curvature, -sign
        if worst.atom is not None and worst.atom.name == "negate":
            inner = worst.args[0]
    (said,) = spoken(unspread(inner), at=node.span)
    label = f"{said} is {curvature}"
    if name in MIRRORED or node.atom.name in ("max", "maximum"):
        wanted = "concave" if name in MIRRORED else "convex"
        why = f"{name} increases with its arguments, so it is {wanted} only of {wanted} ones"
        opposite = {v: k for k, v in MIRRORED.items()} | MIRRORED
        mend = f"write kr.{opposite.get(name, name)}, if that is meant\nmake {said} affine"
        return Diagnostic("D04", f"{name} of {_a(curvature)} expression", node.span, spoken(node)[0], label, why, mend)
    why = f"{name} falls before zero and rises after it, so it is convex only of affine, or of convex and nonnegative arguments"
    if node.atom.name not in ("square", "abs", "huber"):
        why = f"{name} keeps curvature only of affine arguments, or where it is monotone in the fitting direction"
    mend = f"make {said} affine"
    label = f"{said} is {curvature}, of {sign} sign"
    if node.atom.name in ("square", "abs", "huber") and curvature.convex:
        mend = f"clip it at zero: kr.pos({said}) is convex and nonnegative\n{mend}"
    return Diagnostic("D04", f"{name} of {_a(curvature)} expression", node.span, spoken(node)[0], label, why, mend)


def _not_quadratic(node: Expression) -> Diagnostic:
    name = _called(node)
    inner = next((a for a in node.args if a.form is Form.QUADRATIC), node.args[0])
    (said,) = spoken(unspread(inner), at=node.span)
    why = "quadratic terms can only be added and scaled; inside them stands what is affine, or piecewise linear and nonnegative"
    title, label = f"{name} of a quadratic expression", f"{said} is quadratic"
    mend = f"put {said} into the objective as a term of its own\ntake kr.abs, kr.norm1 or kr.norm_inf in place of the inner square"
    if inner.form is not Form.QUADRATIC:
        title, label = f"{name} of an expression that may be negative", f"{said} is {inner.curvature}, of {inner.sign} sign"
        mend = f"clip it at zero: kr.pos({said})"
    elif name == "max" and inner.atom is not None and inner.atom.name == "square":
        (inside,) = spoken(inner.args[0], at=node.span)
        mend = f"write kr.square(kr.norm_inf({inside})), which is the same"
    return Diagnostic("D07", title, node.span, spoken(node)[0], label, why, mend)


# What the place of a valid expression asks of it


def _objective(objective: Expression, sign: int, span: Span | None) -> list[Diagnostic]:
    if objective.curvature.convex if sign > 0 else objective.curvature.concave:
        return []
    wanted, verb, other = ("convex", "minimize", "Maximize") if sign > 0 else ("concave", "maximize", "Minimize")
    (said,) = spoken(objective, at=span)
    why = f"to {verb}, the objective must be {wanted}: only then is a local optimum the global one"
    mend = f"write kr.{other}({said}), if that is meant"
    where = objective.span or span
    return [Diagnostic("D05", f"the objective is not {wanted}", where, said, f"this is {objective.curvature}", why, mend)]


def _constraint(name: str, constraint: Constraint) -> list[Diagnostic]:
    left, right = (unspread(side) for side in (constraint.left, constraint.right))
    if constraint.op == "==":
        bad = [side for side in (left, right) if side.form > Form.AFFINE]
        return [_not_affine(name, constraint, bad[0], right if bad[0] is left else left)] if bad else []
    small, large = (left, right) if constraint.op == "<=" else (right, left)
    found = []
    for side, other, fits in ((small, large, small.curvature.convex), (large, small, large.curvature.concave)):
        if not fits:
            found.append(_not_convex(name, constraint, side, other, side is small))
        elif side.form is Form.QUADRATIC:
            found.append(_quadratic(name, constraint, side))
    return found


def _not_affine(name: str, constraint: Constraint, side: Expression, other: Expression) -> Diagnostic:
    own, rest = _sides(constraint, side, other)
    why = "an equality describes a convex set only if both of its sides are affine"
    relaxed = f"{own} {'<=' if side.curvature.convex else '>='} {rest}"
    mend = f"relax it: {relaxed}, which is enough where the objective presses against it"
    if side.form is Form.QUADRATIC:  # relaxed it would be no quadratic program either
        mend = _priced(own)
    return _of_constraint("D06", name, "not affine", constraint, f"{own} is {side.curvature}", why, mend)


def _not_convex(name: str, constraint: Constraint, side: Expression, other: Expression, small: bool) -> Diagnostic:
    own, rest = _sides(constraint, side, other)
    wanted = "convex" if small else "concave"
    why = f"convex <= concave describes a convex set; the {'small' if small else 'large'} side must be {wanted}"
    mend = f"turn it around, if that is meant: {own} {'>=' if small else '<='} {rest}"
    if side.form is Form.QUADRATIC:
        mend = _priced(own)
    elif other.form <= Form.AFFINE:
        mend += "\nbound an affine expression instead: what lies outside of a convex set is not convex"
    return _of_constraint("D09", name, "not convex", constraint, f"{own} is {side.curvature}, not {wanted}", why, mend)


def _quadratic(name: str, constraint: Constraint, side: Expression) -> Diagnostic:
    (own,) = _sides(constraint, side)
    why = "quadratic terms stand in the objective only: a quadratic constraint makes no quadratic program"
    return _of_constraint("D10", name, "quadratic", constraint, f"{own} is quadratic", why, _priced(own))


def _priced(own: str) -> str:
    """What to do with a quadratic expression that stands in a constraint."""
    penalty = f"move it into the objective as a penalty: weight * {bracketed(own)}"
    return f"{penalty}\nbound kr.norm1 or kr.norm_inf of its argument instead"


def _of_constraint(code: str, name: str, what: str, constraint: Constraint, label: str, why: str, mend: str) -> Diagnostic:
    subject = "a constraint" if re.fullmatch(r"constraint\d+", name) else f"constraint {name!r}"
    printed = constraint_text(constraint, names(constraint.left, constraint.right))
    return Diagnostic(code, f"{subject} is {what}", constraint.span, printed, label, why, mend)


def _sides(constraint: Constraint, *wanted: Expression) -> list[str]:
    """Sides of a constraint in the user's words."""
    both = [unspread(side) for side in (constraint.left, constraint.right)]
    span = constraint.span if isinstance(syntax(constraint.span), ast.Compare) else None  # kr.soft(...) has no sides
    said = dict(zip(map(id, both), sides(span, *both), strict=True))
    return [said[id(side)] for side in wanted]


def unspread(node: Expression) -> Expression:
    """Without the broadcasting that made two sides equal in shape."""
    return node.args[0] if node.atom is not None and node.atom.name == "broadcast_to" else node


def _variables(node: Expression) -> set[str]:
    return {leaf.key for leaf in leaves([node]) if isinstance(leaf, Variable)}


def _called(node: Expression) -> str:
    """The function that the user called; the atom's own name where an operator or nothing readable stands there."""
    assert node.atom is not None
    tree = syntax(node.span)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Attribute | ast.Name):
        return tree.func.attr if isinstance(tree.func, ast.Attribute) else tree.func.id
    return node.atom.name


def _a(curvature: Curvature) -> str:
    return f"{'an' if curvature.affine else 'a'} {curvature}"
