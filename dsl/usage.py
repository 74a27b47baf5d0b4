"""Python that cannot mean what it seems to mean for a model: what was written, and what to write instead.

Operators that have no meaning arrive here from ``Expression`` and ``Constraint``. The user's own text tells the cases apart: the
truth value of a constraint is asked by ``0 <= x <= 1``, by ``if``, by ``and`` and by ``in``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from .diagnostics import Diagnostic, MissingError, ShapeError, UsageError, shape_error, usage_error
from .elsewhere import FORMULA, STATEMENT, WHY
from .printing import constraint_text
from .source import bracketed, names, operands, spoken, syntax, written
from .span import Span, here

if TYPE_CHECKING:
    from .constraint import Constraint
    from .expression import Expression

SIGNS = {ast.LtE: "<=", ast.GtE: ">=", ast.Eq: "==", ast.Lt: "<=", ast.Gt: ">="}
BUILTINS = {"max": "maximum", "min": "minimum"}

# NumPy's functions that karush has under the same name, and those it has under another.
SAME = """abs broadcast_to cholesky concatenate convolve cos cumsum diag diff einsum exp expand_dims flip hstack inv kron log log1p
    matmul max maximum mean min minimum moveaxis multiply norm outer permute_dims prod ptp repeat reshape roll sigmoid sin softplus
    solve split sqrt square squeeze stack std sum swapaxes tanh tile trace transpose var vdot vstack"""
OF_DATA = "cholesky cos exp inv log log1p log_sum_exp prod sigmoid sin softplus solve sqrt std tanh"
OTHER = {
    "amax": "max",
    "amin": "min",
    "absolute": "abs",
    "fabs": "abs",
    "dot": "matmul",
    "inner": "vdot",
    "block": "bmat",
    "ravel": "vec",
    "logsumexp": "log_sum_exp",
}


def condition(constraint: Constraint) -> UsageError:
    """A constraint was asked whether it is true."""
    span = here()
    tree = syntax(span)
    printed = constraint_text(constraint, names(constraint.left, constraint.right))
    what = "a constraint has no truth value"
    if isinstance(tree, ast.Compare) and len(tree.ops) > 1 and all(type(op) in SIGNS for op in tree.ops):
        own = operands(span)
        signs = [SIGNS[type(op)] for op in tree.ops]
        rows = ", ".join(f"{left} {sign} {right}" for left, sign, right in zip(own, signs, own[1:], strict=False))
        label, why = (
            "two constraints in one",
            f"Python reads it as  ({rows.replace(', ', ') and (', 1)}), and keeps only the second",
        )
        return _usage("U01", "a chained comparison", span, printed, label, why, f"write them as a list: [{rows}]")
    if isinstance(tree, ast.BoolOp):
        rows = ", ".join(written(span, value) for value in tree.values)
        word = "and" if isinstance(tree.op, ast.And) else "or"
        mend = f"write a list, which means all of them: [{rows}]"
        if word == "or":
            mend = "an alternative makes no convex set: solve one problem for each"
        why = "Python asks the first constraint whether it is true, and keeps only one of them"
        return _usage("U01", what, span, printed, f"joined by {word!r}", why, mend)
    if isinstance(tree, ast.Compare) and isinstance(tree.ops[0], ast.In | ast.NotIn):
        item, container = operands(span)
        why = "'in' compares with ==, which builds a constraint between expressions"
        mend = f"compare identities: any({item} is one for one in {container})"
        return _usage("U01", what, span, printed, "searched with ==", why, mend)
    why = "it states what a solution must satisfy: before the problem is solved there is nothing to compare"
    mend = "hand it to a Problem; to test a solution, compare its tensors: solution[...]"
    if constraint.op == "==":
        mend = f"to ask whether two expressions are the same object, write `is`\n{mend}"
    else:
        mend = f"{mend}\nfor a <= x <= b write two constraints: [a <= x, x <= b]"
    return _usage("U01", what, span, printed, "used as a condition", why, mend)


def strict(op: str, expression: Expression) -> UsageError:
    """``<`` or ``>``, written by the user or by Python's max, min and sorted."""
    span = here()
    tree = syntax(span)
    (said,) = spoken(expression)
    called = tree.func.id if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) else ""
    if called in ("max", "min", "sorted"):
        given = ", ".join(operands(span))
        why = f"it asks which of its arguments is larger; {said} has no value before the problem is solved"
        mend = f"write kr.{BUILTINS.get(called)}({given})"
        if called == "sorted":
            mend = "write kr.max, kr.min for what the order is wanted for"
        elif len(operands(span)) == 1:
            mend = f"write kr.{called}({given})"
        return _usage("U14", f"Python's {called} of an expression", span, said, "compares with < and >", why, mend)
    own = operands(span)
    why = "its optimum is not attained: solutions would lie on the border that it excludes"
    mend = f"write {op}="
    if isinstance(tree, ast.Compare) and len(own) == 2:  # Python may have turned it around
        op = "<" if isinstance(tree.ops[0], ast.Lt) else ">"
        line = f"{own[0]} {op}= {own[1]}"
        margin = f"{line} {'-' if op == '<' else '+'} 1e-3"
        if own[1] == "0":
            margin = f"{own[0]} {op}= {'-' if op == '<' else ''}1e-3"
        mend = f"write {line}\nkeep a margin, where the border must not be touched: {margin}"
    return _usage("U02", "a strict inequality", span, said, f"{op} excludes its border", why, mend)


def unequal(expression: Expression) -> UsageError:
    """``!=``."""
    span = here()
    own = operands(span)
    (said,) = spoken(expression)
    mend = f"write {' == '.join(own)} for an equality" if len(own) == 2 else "write == for an equality"
    why = "the points that differ do not form a convex set"
    mend += "\nto ask whether two expressions are the same object, write `is not`"
    return _usage("U03", "!= between expressions", span, said, "no constraint of a convex problem", why, mend)


def truth(expression: Expression) -> UsageError:
    """``if x``, ``x and y``, ``not x``."""
    (said,) = spoken(expression)
    why = f"{said} has no value before the problem is solved"
    mend = f"to branch on a solution, read it first: solution[{said}]\nto ask whether it was given at all, write {said} is None"
    return _usage("U04", "the truth value of an expression", here(), said, "used as a condition", why, mend)


def number(expression: Expression, wanted: str = "float") -> UsageError:
    """``float(x)``, ``int(x)``."""
    (said,) = spoken(expression)
    why = f"{said} has no value before the problem is solved"
    mend = f"read it from a solution: {wanted}(solution[{said}])"
    return _usage("U06", "a number was wanted, an expression came", here(), said, f"{said} is no number yet", why, mend)


def modulo(op: str, expression: Expression) -> UsageError:
    """``%`` and ``//``."""
    (said,) = spoken(expression)
    name = {"%": "a remainder", "//": "a rounded quotient"}.get(op, "a rounded value")
    why = f"{name} jumps, so it is neither convex nor concave"
    mend = "divide with / if that is meant" if op == "//" else "compute it outside the model, and pass it in as a parameter"
    return _usage("U07", f"{op} with an expression", here(), said, f"{name} of {said}", why, mend)


def numpy(name: str, expression: Expression, library: str = "NumPy") -> UsageError:
    """A function of NumPy, SciPy or torch was applied to an expression."""
    span = here()
    (said,) = spoken(expression)
    own = ", ".join(operands(span)) or said
    name = name.removeprefix("linalg_")
    ours = name if name in SAME.split() else OTHER.get(name)
    mend = f"write kr.{ours}({own})" if ours else "compose it of karush's own functions"
    if ours in OF_DATA.split() and expression.form != 0:
        mend = f"kr.{ours} is for data; of variables write a piecewise-linear or quadratic cost instead"
    if name == "norm":
        mend = f"write kr.norm1({own}), kr.norm_inf({own}) or, for its square, kr.sum_squares({own})"
    elif not ours and expression.form == 0:
        f = f"torch.{name}" if library == "torch" else "f"
        mend = f"as a coefficient: kr.function({f}, {said}, shape={said}.shape), where f is written in torch"
        mend = mend.partition(", where")[0] if library == "torch" else mend
    why = f"it computes with numbers; {said} has none before the problem is solved"
    return _usage("U05", f"{library}'s {name} of an expression", span, said, f"{said} is an expression", why, mend)


def first(*several: Iterable[Any]) -> Expression:
    """The first expression among arguments, which may be lists."""
    waiting = [value for values in several for value in values]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, list | tuple):
            waiting = [*value, *waiting]
        elif hasattr(value, "curvature"):
            found: Expression = value
            return found
    raise TypeError("no expression is among the arguments")


def array(expression: Expression) -> UsageError:
    """NumPy or SciPy wanted to turn an expression into an array."""
    (said,) = spoken(expression)
    span = here()
    tree = syntax(span)
    mend = "apply karush's own functions"
    if isinstance(tree, ast.BinOp):
        left = written(span, tree.left)
        whole = written(span, tree)
        mend = f"wrap what stands on the left: kr.Constant({left}){whole[len(left) :]}"
    why = f"it wants numbers; {said} has none before the problem is solved"
    return _usage("U05", "a library was given an expression for numbers", span, said, f"{said} is an expression", why, mend)


def assignment(expression: Expression) -> UsageError:
    """``x[0] = 1``."""
    (said,) = spoken(expression)
    why = "expressions are immutable: they are formulas, not storage"
    mend = f"state it as a constraint: {said}[...] == value\nbuild it from parts: kr.concatenate, kr.stack, kr.hstack"
    return _usage("U15", "an entry of an expression was assigned", here(), said, f"{said} cannot be changed", why, mend)


def attribute(expression: Expression, name: str, where: str) -> MissingError:
    """``x.value``, and what else users of other libraries look for."""
    span = here()
    tree = syntax(span)
    (said,) = spoken(expression, at=span)
    if isinstance(tree, ast.Attribute):
        said = written(span, tree.value)
    why, mend = WHY.get(name, FORMULA), where.format(said, bracketed(said))
    return MissingError(Diagnostic("U16", f"an expression has no {name}", span, said, f"{said} is a formula", why, mend))


def of_statement(constraint: Constraint, name: str, where: str) -> MissingError:
    """``constraint.dual_value`` and the like."""
    printed = constraint_text(constraint, names(constraint.left, constraint.right))
    why = WHY.get(name, STATEMENT)
    return MissingError(
        Diagnostic("U16", f"a constraint has no {name}", here(), printed, f"{printed} is a statement", why, where.format())
    )


def of_model(kind: str, name: str, where: str, why: str) -> MissingError:
    """``problem.value``, ``solution.value`` and the like."""
    return MissingError(Diagnostic("U16", f"a {kind} has no {name}", here(), f"{kind}.{name}", "", why, where.format()))


def stored(expression: Expression) -> MissingError:
    """``p.value = ...``."""
    (said,) = spoken(expression)
    why = "nothing is stored on a model, which many calls may share: values are given to each call"
    mend = f"give it to the call: problem.solve({said}=...), or layer({said}=...)\ndeclare a default: kr.Parameter(..., value=...)"
    if type(expression).__name__ != "Parameter":
        mend = f"to compute something at a point: kr.evaluate(expression, {{{said}: point}})"
        mend += "\nto start from a point: layer.solve(inputs, warm_start=previous)"
    return MissingError(Diagnostic("U16", "a value cannot be stored", here(), said, f"{said} is a formula", why, mend))


def semidefinite(op: str, expression: Expression) -> UsageError:
    """``X >> 0``."""
    (said,) = spoken(expression)
    why = "a matrix inequality makes a semidefinite program"
    mend = f"compare entry by entry: {said} {'>=' if op == '>>' else '<='} 0\nof data, declare it: kr.Parameter(..., PSD=True)"
    return _usage("U17", "a matrix inequality", here(), said, f"{op} means semidefinite", why, mend)


def joined(constraint: Constraint, op: str) -> UsageError:
    """``(x >= 0) & (x <= 1)``."""
    span = here()
    own = operands(span)
    printed = constraint_text(constraint, names(constraint.left, constraint.right))
    mend = f"write a list, which means all of them: [{', '.join(own)}]" if own else "write a list, which means all of them"
    if op == "|":
        mend = "an alternative makes no convex set: solve one problem for each"
    why = "& and | work bit by bit on numbers; a constraint is a statement"
    return _usage("U13", f"{op} between constraints", span, printed, "constraints are listed, not joined", why, mend)


def inside(constraint: Constraint) -> UsageError:
    """A constraint where a value is wanted: ``(x >= 0) + 1``."""
    printed = constraint_text(constraint, names(constraint.left, constraint.right))
    why = "a constraint is a statement, not a value"
    mend = f"hand it to a Problem; the expression in it is {spoken(constraint.left)[0]}"
    mend += f"\nby how much it is violated, which can be evaluated anywhere: ({printed}).violation()"
    return _usage("U13", "a constraint inside an expression", here(), printed, f"{printed} is a constraint", why, mend)


def star(left: Expression, right: Expression) -> ShapeError:
    """``*`` between shapes of which neither is a scalar."""
    why = f"* is elementwise between equal shapes, or with a scalar; got {left.shape} and {right.shape}"
    mend = ["write kr.multiply({0}, {1}) to broadcast as NumPy does"]
    try:
        np.broadcast_shapes(left.shape, right.shape)
    except ValueError:
        mend = [spreading([left.shape, right.shape])]
    if left.shape[-1] == right.shape[max(0, right.ndim - 2)]:
        mend.insert(0, "write {0} @ {1} for the matrix product")
    return shape_error("* between different shapes", why, "\n".join(mend), left, right, code="S02")


def spreading(shapes: Sequence[tuple[int, ...]]) -> str:
    """How shapes could be made to broadcast; {0} and {1} stand for the parts."""
    if len(shapes) == 2:
        for index, (vector, other) in enumerate((shapes, shapes[::-1])):
            if len(vector) == 1 and len(other) == 2 and vector[0] == other[0]:
                return f"write {{{index}}}[:, None], if it has an entry for every row"
    return "give both the same shape, or reshape one of them"


def index(expression: Expression, error: Exception) -> ShapeError:
    """``x[4]``, ``x["a"]``, ``x[p]``."""
    why, mend = str(error), "indices follow NumPy: integers, slices, masks, integer arrays, ... and None"
    if "out of bounds" in why:
        mend = "the last entry is {0}[-1]"
    if isinstance(error, UsageError):
        why = "which entries are taken is part of the model, and an expression has no value yet"
        mend = "pick by data with a product: rows of zeros and ones, a Parameter, times {0}"
    return shape_error("an index that does not fit", why, mend, expression, code="S04")


def reshaped(expression: Expression, target: Any, error: Exception) -> ShapeError:
    """``x.reshape(3, 2)`` of four entries."""
    why = f"a reshape keeps the number of entries, here {expression.size}: {error}"
    if isinstance(target, tuple) and all(isinstance(size, int) and size >= 0 for size in target):
        why = f"a reshape keeps the number of entries: {expression.size} do not fill {math.prod(target)}"
    mend = "give one dimension as -1 to have it computed"
    return shape_error(f"shape {expression.shape} cannot become {target}", why, mend, expression, code="S06")


def no_order(expression: Expression, order: object) -> ShapeError:
    """``x.reshape(3, 2, order="A")``."""
    why = f"entries are read row by row or column by column; got {order!r}"
    return shape_error("an order that does not exist", why, 'write order="C" for rows, "F" for columns', expression, code="S06")


CONES = {
    "exp": "the exponential cone",
    "log": "the exponential cone",
    "softplus": "the exponential cone",
    "sqrt": "a second-order cone",
    "inv": "semidefinite matrices",
}


def smooth(name: str, given: Expression) -> UsageError:
    """A function of data was applied to variables."""
    said = spoken(given)[0]
    why = (
        f"of a variable it would need {CONES[name]}"
        if name in CONES
        else f"kr.{name} makes coefficients, which are free of variables"
    )
    mend = "apply it to parameters or constants"
    if name in ("assume", "function"):
        mend = "state facts about variables as constraints" if name == "assume" else "apply it to parameters only"
    elif name in CONES:
        mend += f"\nreplace kr.{name}({said}) by a piecewise-linear or quadratic cost"
    return usage_error(f"{name} of an expression with variables", given, why, mend, code="U10")


def length(expression: Expression) -> UsageError:
    """``len`` of a scalar, asked by the user, or by a library that wants to copy what it takes for a sequence."""
    tree = syntax(here())
    if isinstance(tree, ast.Call) and getattr(tree.func, "id", "") != "len":
        return array(expression)
    (said,) = spoken(expression)
    mend = f"write {said}.size for the number of entries"
    return usage_error("len() of a scalar", expression, "a scalar has no length", mend, code="U12", label="a scalar")


def divided(value: Expression) -> UsageError:
    """Division by something with variables."""
    (said,) = spoken(value)
    why = "a quotient is affine only if the divisor is free of variables"
    mend = f"multiply the relation by {said}, if its sign is known\nmake {said} a Parameter, if it is data"
    return usage_error("division by an expression with variables", value, why, mend, code="U09")


def raised(expression: Expression, exponent: object) -> UsageError:
    """A power that a quadratic program cannot hold."""
    (said,) = spoken(expression)
    why = "of a variable, only the powers 1 and 2 are representable in a quadratic program"
    mend = f"write {bracketed(said)}**2 for a quadratic cost, or kr.huber, kr.abs\napply the power to data"
    return usage_error(f"a variable to the power {exponent}", expression, why, mend, code="U08")


def no_number(expression: Expression, power: object) -> UsageError:
    """``x**p``: the exponent is no number."""
    span = here()
    own = operands(span)
    why = f"the exponent decides the curvature, so it must be a number; got {type(power).__name__}"
    mend = "write x**2 for a quadratic cost"
    if expression.form == 0 and getattr(power, "form", 0) == 0 and len(own) == 2:
        mend = f"write kr.exp({bracketed(own[1])} * kr.log({own[0]}))"
    return usage_error("an exponent that is no number", expression, why, mend, code="U08")


def exponent(expression: Expression, base: object) -> UsageError:
    """``2**x``."""
    (said,) = spoken(expression)
    why = "a power with the unknown in the exponent is no quadratic program"
    mend = "write kr.exp, and only of data"
    if expression.form == 0:
        why = "a power is written for a number as the exponent"
        tight = bracketed(said)
        mend = f"write kr.exp({math.log(base):.6g} * {tight})" if _positive(base) else f"write kr.exp({tight} * kr.log(...))"
    return usage_error(f"{said} as an exponent", expression, why, mend, code="U08")


def _positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and value > 0


def _usage(code: str, title: str, span: Span | None, printed: str, label: str, why: str, mend: str) -> UsageError:
    return UsageError(Diagnostic(code, title, span, printed, label, why, mend))
