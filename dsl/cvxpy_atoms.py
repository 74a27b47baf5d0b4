"""What each atom of cvxpy is here: one entry from the name of its class to a builder.

    AFFINE_AND_CONVEX   atoms that a quadratic program can represent
    OF_DATA             atoms that only an expression without variables may use: there they are coefficients
    REFUSED             atoms that neither can be, each with the reason

Classes are found by name, so that nothing here imports cvxpy and releases that lack a class do no harm; a test holds the three
tables against every atom of the installed cvxpy. Builders get the cvxpy node, for its static data, and the translated arguments.

Order. cvxpy's ``reshape`` and what is made of it (``vec``, ``flatten``, ``bmat``) reads entries in F order unless told otherwise;
karush knows C order only. Reversing all axes turns one into the other:  reshape_F(x, shape) = reshape_C(x.T, reversed shape).T
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import affine, of_data, piecewise, products, quadratic, sets
from .constraint import Constraint
from .curvature import Form
from .definite import definiteness, symmetric
from .expression import Constant, Expression, reciprocal, wrap

Builder = Callable[..., Any]


@dataclass(frozen=True)
class Reason:
    """Why a node cannot be part of a quadratic program, and what could."""

    why: str
    mend: str = "state it with affine, piecewise-linear and quadratic atoms, or solve it in cvxpy"


# Affine


def _reshape(node: Any, x: Expression) -> Expression:
    if getattr(node, "order", "F") == "C":
        return x.reshape(node.shape)
    return x.T.reshape(tuple(node.shape)[::-1]).T


def _add(node: Any, *xs: Expression) -> Expression:
    total = xs[0]
    for x in xs[1:]:
        total = total + x
    return total


def _sum(node: Any, x: Expression) -> Expression:
    return x.sum(node.axis, bool(node.keepdims))


def _index(node: Any, x: Expression) -> Expression:
    return x[getattr(node, "_orig_key", node.key)]


def _transpose(node: Any, x: Expression) -> Expression:
    return affine.transpose(x, None if node.axes is None else tuple(int(axis) for axis in node.axes))


def _concatenate(node: Any, *xs: Expression) -> Expression:
    return affine.concatenate([x.flatten() for x in xs]) if node.axis is None else affine.concatenate(xs, node.axis)


def _diagonal_of(node: Any, x: Expression) -> Expression:
    return affine.diag(x, int(node.k))


def _column(node: Any, x: Expression) -> Expression:
    return affine.diag(x.flatten(), int(node.k))


def _upper_triangle(node: Any, x: Expression) -> Expression:
    rows, columns = np.triu_indices(x.shape[-1], k=1)
    return x[..., rows, columns].reshape(node.shape)


def _cumsum(node: Any, x: Expression) -> Expression:
    return x.cumsum(node.axis)


def _convolve(node: Any, c: Expression, x: Expression) -> Expression:
    return products.convolve(c.flatten(), x.flatten()).reshape(node.shape)  # a column, if one of them is


def _assumed(**attributes: bool) -> Builder:
    """A declaration: of data it is checked at every call, of variables it has nothing to say in a quadratic program."""
    return lambda node, x: of_data.assume(x, **attributes) if x.form is Form.CONSTANT else x


def _nonneg(node: Any, x: Expression) -> Expression:
    if x.form is Form.CONSTANT:
        return x if x.sign.nonneg else of_data.assume(x, nonneg=True)
    return piecewise.pos(x) if x.curvature.convex and not x.curvature.concave else x  # the same value, and its sign can be seen


def _nonpos(node: Any, x: Expression) -> Expression:
    if x.form is Form.CONSTANT:
        return x if x.sign.nonpos else of_data.assume(x, nonpos=True)
    return piecewise.minimum(x, 0.0) if x.curvature.concave and not x.curvature.convex else x


# Piecewise linear


def _reduction(function: Builder) -> Builder:
    return lambda node, x: function(x, axis=node.axis, keepdims=bool(node.keepdims))


def _sum_largest(node: Any, x: Expression) -> Expression:
    return piecewise.sum_largest(x, node.k, getattr(node, "axis", None), bool(getattr(node, "keepdims", False)))


def _dotsort(node: Any, x: Expression, w: Expression) -> Expression:
    return piecewise.dotsort(x.flatten(), w.flatten())  # sorted anyway: the order of entries does not matter


# Quadratic


def _power(node: Any, x: Expression) -> Expression | Reason:
    if node.p_used is None:
        return Reason("the exponent is a Parameter, and it decides curvature", "write the number")
    exponent = float(node.p_used)
    if exponent == 0:
        return 0.0 * x + 1.0
    if x.form is not Form.CONSTANT and exponent not in (1, 2):
        return Reason("of variables only the powers 0, 1 and 2 are representable")
    return of_data.sqrt(x) if exponent == 0.5 else x**exponent


def _pnorm(node: Any, x: Expression) -> Expression | Reason:
    """Of data any norm; of variables the Euclidean one, which is to be squared. Of single entries it is the absolute value."""
    p, axis, keep = float(node.p), node.axis, bool(node.keepdims)
    if x.size == math.prod(node.shape):
        return piecewise.abs(x).reshape(node.shape)
    if x.form is not Form.CONSTANT and p not in (1, 2, math.inf):
        return Reason(f"the {p:g}-norm of variables is a power cone")
    if p < 1:
        return affine.sum(x**p, axis, keep) ** (1 / p)
    return piecewise.pnorm(x, p, axis, keep)


def _quad_over_lin(node: Any, x: Expression, y: Expression) -> Expression | Reason:
    if y.form is not Form.CONSTANT:
        return Reason("the divisor has variables: that is a second-order cone")
    total = quadratic.sum_squares(x, getattr(node, "axis", None), bool(getattr(node, "keepdims", False)))
    if isinstance(y, Constant) and bool((y.value == 1).all()):
        return total
    return products.multiply(total, reciprocal(y if y.sign.nonneg else of_data.assume(y, nonneg=True)))


def _quad_form(node: Any, x: Expression, P: Expression) -> Any:
    if P.form is not Form.CONSTANT:
        return Reason("the matrix of a quadratic form must be free of variables")
    known = definiteness(P)
    if not (known.nonneg or known.nonpos) or not symmetric(P):
        told = {"PSD": node.args[1].is_psd(), "NSD": node.args[1].is_nsd()}
        P = of_data.assume(P, **{name: True for name, holds in told.items() if holds}) if any(told.values()) else P
    return quadratic.quad_form(x.flatten(), P).reshape(node.shape)


RELATIONS = ("Equality", "Inequality", "Zero", "NonNeg", "NonPos")


def is_relation(constraint: Any) -> bool:
    """Whether this is an equality or inequality between expressions, and no cone."""
    return type(constraint).__name__ in RELATIONS


def related(constraint: Any, sides: list[Expression]) -> Constraint:
    """A relation of cvxpy between its translated sides."""
    relation = type(constraint).__name__
    left, right = sides if len(sides) == 2 else (sides[0], Constant(0.0))
    return left == right if relation in ("Equality", "Zero") else left >= right if relation == "NonNeg" else left <= right


def _indicator(node: Any, *sides: Expression) -> Expression | Reason:
    """Arguments are the sides of its constraints, one after the other."""
    if not all(map(is_relation, node.args)):
        return Reason("its set has constraints that are no equalities or inequalities between expressions")
    waiting, made = list(sides), []
    for constraint in node.args:
        own, waiting = waiting[: len(constraint.args)], waiting[len(constraint.args) :]
        made.append(related(constraint, own))
    return sets.indicator(made)


def _suppfunc(node: Any, y: Expression) -> Expression | Reason:
    """cvxpy has the set as rows A x + b, zero or nonnegative; further columns of A are of variables that come with it."""
    A, b, cones = node._parent.conic_repr_of_set()
    if any(np.size(cones[kind]) if kind == "exp" else len(cones[kind]) for kind in ("soc", "psd", "exp")):
        return Reason("its set is no polyhedron")
    inside = np.isin(np.arange(b.size), cones["nonneg"])
    rows = A.toarray()
    blocks = (Constant(block) for block in (-rows[inside], b[inside], -rows[~inside], b[~inside]))
    return sets.SupportFunction((y.size,), *blocks)(y.T.flatten())


AFFINE_AND_CONVEX: Mapping[str, Builder] = {
    # Affine
    "AddExpression": _add,
    "NegExpression": lambda node, x: -x,
    "Sum": _sum,
    "index": _index,
    "special_index": _index,
    "reshape": _reshape,
    "transpose": _transpose,
    "Promote": lambda node, x: affine.broadcast_to(x.reshape(()), node.shape),
    "broadcast_to": lambda node, x: affine.broadcast_to(x, node.shape),
    "Concatenate": _concatenate,
    "Hstack": lambda node, *xs: affine.hstack(xs),
    "Vstack": lambda node, *xs: affine.vstack(xs),
    "diag_vec": _column,
    "diag_mat": _diagonal_of,
    "Trace": lambda node, x: x.trace(),
    "upper_tri": _upper_triangle,
    "cumsum": _cumsum,
    "kron": lambda node, x, y: products.kron(x, y),
    "conv": _convolve,
    "convolve": _convolve,
    "real": lambda node, x: x,
    "conj": lambda node, x: x,
    "imag": lambda node, x: 0.0 * x,
    "nonneg_wrap": _nonneg,
    "nonpos_wrap": _nonpos,
    "psd_wrap": _assumed(PSD=True),
    "nsd_wrap": _assumed(NSD=True),
    "symmetric_wrap": _assumed(symmetric=True),
    "hermitian_wrap": _assumed(symmetric=True),
    "skew_symmetric_wrap": lambda node, x: x,
    # Products
    "multiply": lambda node, x, y: products.multiply(x, y),
    "MulExpression": lambda node, x, y: x @ y,
    "DivExpression": lambda node, x, y: products.multiply(x, reciprocal(y)),
    # Piecewise linear
    "abs": lambda node, x: piecewise.abs(x),
    "max": _reduction(piecewise.max),
    "min": _reduction(piecewise.min),
    "maximum": lambda node, *xs: piecewise.maximum(*xs),
    "minimum": lambda node, *xs: piecewise.minimum(*xs),
    "norm1": _reduction(piecewise.norm1),
    "norm_inf": _reduction(piecewise.norm_inf),
    "cummax": lambda node, x: piecewise.cummax(x, node.axis),
    "sum_largest": _sum_largest,
    "dotsort": _dotsort,
    # Quadratic
    "Power": _power,
    "Pnorm": _pnorm,
    "quad_over_lin": _quad_over_lin,
    "QuadForm": _quad_form,
    "huber": lambda node, x, M: quadratic.huber(x, M),
    # Of sets
    "indicator": _indicator,
    "SuppFuncAtom": _suppfunc,
}

# Functions of data


def _log_sum_exp(node: Any, x: Expression) -> Expression:
    """Shifted by the largest entry, so that nothing overflows."""
    largest = x.max(node.axis, keepdims=True)
    return of_data.log(affine.sum(of_data.exp(x - largest), node.axis, bool(node.keepdims))) + x.max(node.axis, bool(node.keepdims))


def _geo_mean(node: Any, x: Expression) -> Expression:
    weights = Constant([float(weight) for weight in node.w])
    return of_data.exp(weights @ of_data.log(x.flatten())).reshape(node.shape)


def _product(node: Any, x: Expression) -> Expression | Reason:
    if node.axis is not None:
        return Reason("a product along an axis; write it as a product of slices")
    total: Expression = wrap(1.0)
    for entry in x.flatten():
        total = total * entry
    return affine.broadcast_to(total, node.shape)


def _matrix_fraction(node: Any, X: Expression, P: Expression) -> Expression:
    columns = X if X.ndim == 2 else X.reshape(-1, 1)
    return affine.sum(products.multiply(columns, of_data.inv(P) @ columns))


OF_DATA: Mapping[str, Builder] = {
    "exp": lambda node, x: of_data.exp(x),
    "log": lambda node, x: of_data.log(x),
    "log1p": lambda node, x: of_data.log(1 + x),
    "logistic": lambda node, x: of_data.softplus(x),
    "log_sum_exp": _log_sum_exp,
    "entr": lambda node, x: -products.multiply(x, of_data.log(x)),
    "xexp": lambda node, x: products.multiply(x, of_data.exp(x)),
    "rel_entr": lambda node, x, y: products.multiply(x, of_data.log(products.multiply(x, 1 / y))),
    "kl_div": lambda node, x, y: products.multiply(x, of_data.log(products.multiply(x, 1 / y))) - x + y,
    "GeoMean": _geo_mean,
    "Prod": _product,
    "MatrixFrac": _matrix_fraction,
    "tr_inv": lambda node, X: affine.trace(of_data.inv(X)),
    "one_minus_pos": lambda node, x: 1 - x,
    "eye_minus_inv": lambda node, X: of_data.inv(Constant(np.eye(X.shape[0])) - X),
    "gmatmul": lambda node, x: of_data.exp(Constant(node.A.value) @ of_data.log(x)),
    "sin": lambda node, x: of_data.sin(x),
    "cos": lambda node, x: of_data.cos(x),
    "tan": lambda node, x: of_data.sin(x) / of_data.cos(x),
    "tanh": lambda node, x: of_data.tanh(x),
    "sinh": lambda node, x: (of_data.exp(x) - of_data.exp(-x)) / 2,
    "asinh": lambda node, x: of_data.log(x + of_data.sqrt(quadratic.square(x) + 1)),
    "atanh": lambda node, x: of_data.log((1 + x) / (1 - x)) / 2,
}


# Refusals


NORM = Reason("the Euclidean norm of variables is a second-order cone", "square it, if that is meant: cp.sum_squares(x)")
EXPONENTIAL = Reason("of variables it needs the exponential cone")
POWER_CONE = Reason("a product of variables needs a power cone")
OF_TORCH = "compute it in torch, and give the value as a Parameter"
SPECTRAL = Reason("a function of eigenvalues or singular values needs a semidefinite cone", OF_TORCH)
DISCRETE = Reason("it is not convex: a discrete or quasiconvex function", "relax it, or solve it in cvxpy")

REFUSED: Mapping[str, Reason] = {
    **dict.fromkeys(
        ("lambda_max", "lambda_sum_largest", "gen_lambda_max", "log_det", "sigma_max", "normNuc", "condition_number"), SPECTRAL
    ),
    **dict.fromkeys(("von_neumann_entr", "quantum_rel_entr", "pf_eigenvalue"), SPECTRAL),
    **dict.fromkeys(("ceil", "floor", "sign", "length", "dist_ratio", "Not", "And", "Or", "Xor"), DISCRETE),
    "cumprod": Reason("a running product is affine in none of its factors", OF_TORCH),
    "normcdf": Reason("it is neither convex nor concave", OF_TORCH),
    "perspective": Reason("the perspective of a quadratic is a second-order cone"),
    "SymbolicQuadForm": Reason("it belongs inside cvxpy's own reductions", "write cp.quad_form(x, P)"),
    "PartialProblem": Reason("it is a problem inside a problem", "state its objective and constraints in the outer one"),
    "CallbackParam": Reason("what a Python callback returns cannot be differentiated", OF_TORCH),
}

OF_VARIABLES: Mapping[str, Reason] = {
    **dict.fromkeys(("exp", "log", "log1p", "logistic", "log_sum_exp", "entr", "xexp", "rel_entr", "kl_div"), EXPONENTIAL),
    **dict.fromkeys(("GeoMean", "Prod"), POWER_CONE),
    **dict.fromkeys(("MatrixFrac", "tr_inv", "eye_minus_inv"), SPECTRAL),
}


def kind(node: Any) -> str:
    """The first of a node's classes that a table knows, else its own."""
    names = [cls.__name__ for cls in type(node).__mro__]
    return next((name for name in names if name in AFFINE_AND_CONVEX or name in OF_DATA or name in REFUSED), names[0])


def build(node: Any, args: list[Any]) -> Expression | Reason:
    """The node in karush's language, or why it has none."""
    name = kind(node)
    made: Expression | Reason
    if name in AFFINE_AND_CONVEX:
        made = AFFINE_AND_CONVEX[name](node, *_signed(node, args))
    elif args and all(isinstance(x, Constant) for x in args):
        made = _evaluated(node, [x.value for x in args])
    elif name in OF_DATA and all(x.form is Form.CONSTANT for x in args):
        made = OF_DATA[name](node, *args)
    else:
        unknown = Reason("karush does not know it as affine, piecewise linear or quadratic")
        made = REFUSED.get(name) or OF_VARIABLES.get(name) or unknown
    return made


def _signed(node: Any, args: list[Any]) -> list[Any]:
    """Beside an argument that is not affine, signs of data decide curvature: what cvxpy proves of them counts, where the rules here
    see less, and is checked at every call. Elsewhere it is not needed, and values that break it do no harm.
    """
    if all(x.form <= Form.AFFINE for x in args) or kind(node) == "indicator":  # which has constraints for arguments
        return args
    return [_known_sign(original, x) for original, x in zip([*node.args, None], args, strict=False)]


def _known_sign(original: Any, x: Any) -> Any:
    if original is None or x.form is not Form.CONSTANT or x.sign.nonneg or x.sign.nonpos:
        return x
    if original.is_nonneg():
        return of_data.assume(x, nonneg=True)
    return of_data.assume(x, nonpos=True) if original.is_nonpos() else x


def _evaluated(node: Any, values: list[Any]) -> Constant | Reason:
    """An atom of constants is a constant, whatever it computes."""
    value = np.asarray(node.numeric(values))
    return Reason("its value is complex") if np.iscomplexobj(value) else Constant(value.reshape(node.shape))
