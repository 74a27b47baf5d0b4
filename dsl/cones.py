"""Why a function of variables is no part of a quadratic program, and what to write instead: one entry for each."""

from __future__ import annotations

from typing import NamedTuple

from .diagnostics import UsageError, usage_error
from .expression import Expression
from .source import spoken


class Reason(NamedTuple):
    """What it would need, and rewrites, likeliest first; ``{0}`` stands for the argument in the user's words."""

    why: str
    mend: str


EXPONENTIAL = "of a variable it would need the exponential cone"
SECOND_ORDER = "of variables it would need a second-order cone"
POWERS = "of variables it would need a power cone"
SPECTRAL = "a function of eigenvalues or singular values of variables would need semidefinite matrices"
TANGENT = "apply it to data: a tangent at a Parameter is affine"
QUADRATIC = "replace it by a piecewise-linear or quadratic cost"
BLOCKS = 'bound its entries: kr.norm({0}, 1), kr.norm({0}, "inf"), or price kr.norm({0}, "fro")**2'

REASONS = {
    "std": Reason(SECOND_ORDER, "square it, which is quadratic: kr.var({0})\nwrite kr.norm1 of the deviations from the mean"),
    "geo_mean": Reason(POWERS, "apply it to data\nwrite kr.min({0}), which is concave and no larger"),
    "harmonic_mean": Reason(SECOND_ORDER, "apply it to data\nwrite kr.min({0}), which is concave and no larger"),
    "inv_pos": Reason(SECOND_ORDER, TANGENT),
    "prod": Reason("a product of variables is neither convex nor concave", "apply it to data\nmake all factors but one Parameters"),
    "inv_prod": Reason(POWERS, "apply it to data"),
    "log1p": Reason(EXPONENTIAL, TANGENT),
    "entr": Reason(EXPONENTIAL, f"price what is far from uniform: kr.sum_squares({{0}} - 1 / {{0}}.size)\n{TANGENT}"),
    "kl_div": Reason(EXPONENTIAL, "measure the distance otherwise: kr.sum_squares, kr.norm1"),
    "rel_entr": Reason(EXPONENTIAL, "measure the distance otherwise: kr.sum_squares, kr.norm1"),
    "logistic": Reason(EXPONENTIAL, "write kr.pos({0}), which it is close to, or kr.square(kr.pos({0}))\napply it to data"),
    "log_sum_exp": Reason(EXPONENTIAL, "write kr.max({0}), which is at most log(n) smaller\napply it to data"),
    "xexp": Reason(EXPONENTIAL, f"{TANGENT}\n{QUADRATIC}"),
    "lambda_max": Reason(SPECTRAL, BLOCKS),
    "lambda_min": Reason(SPECTRAL, BLOCKS),
    "sigma_max": Reason(SPECTRAL, BLOCKS),
    "norm_nuc": Reason(SPECTRAL, BLOCKS),
    "log_det": Reason(SPECTRAL, "apply it to data"),
    "tr_inv": Reason(SPECTRAL, "apply it to data"),
    "matrix_frac": Reason(
        "with variables in the matrix it would need semidefinite matrices", "hold the matrix fixed: kr.quad_form(x, kr.inv(P))"
    ),
    "perspective": Reason("the perspective of a quadratic is a second-order cone", "hold its scale fixed: kr.quad_over_lin(x, c)"),
}


def refused(name: str, x: Expression) -> UsageError:
    """A function of variables that no quadratic program holds."""
    reason = REASONS[name]
    return usage_error(f"{name} of an expression with variables", x, reason.why, _filled(reason.mend, x), code="U10")


def no_norm(x: Expression, p: object) -> UsageError:
    """A norm of another order."""
    if isinstance(p, str):
        p = {"nuc": "nuclear"}.get(p, p)
    why = f"of variables the {p}-norm would need a power cone; norms here are of order 1, 2 (to be squared) and inf"
    mend = 'write kr.norm({0}, 1) or kr.norm({0}, "inf"), which bound it from both sides'
    if p in ("nuclear", "nuc") or (p == 2 and x.ndim > 1):
        why = "the norm of a matrix as an operator is a function of its singular values"
        mend = 'for the root of the sum of squares, to be squared: kr.norm({0}, "fro")**2\nalong rows: kr.norm({0}, axis=1)**2'
    return usage_error(f"a norm of order {p}", x, why, _filled(mend, x), code="U10")


def mixed(x: Expression, p: object, q: object) -> UsageError:
    """A norm of norms of rows."""
    why = "norms of rows are second-order cones unless p is 1 or inf; with p = q = 2 they are one norm, to be squared"
    mend = 'write kr.mixed_norm({0}, "inf", 1), which drives whole rows to zero as well\nprice kr.norm({0}, "fro")**2'
    return usage_error(f"mixed_norm of orders {p} and {q}", x, why, _filled(mend, x), code="U10")


def isotropic(x: Expression) -> UsageError:
    """The usual total variation of an image."""
    why = "the usual total variation of a matrix sums Euclidean norms of its gradients, which are second-order cones"
    mend = "sum absolute differences along rows and columns: kr.tv({0}, isotropic=False)"
    return usage_error("tv of a matrix of variables", x, why, _filled(mend, x), code="U10")


def _filled(mend: str, x: Expression) -> str:
    return mend.replace("{0}", spoken(x)[0])
