"""Functions of the convex-optimisation vocabulary that no quadratic program holds.

Of data they are what their names say. Of variables each says why it cannot be, and what can.
"""

from __future__ import annotations

from typing import Any, NoReturn

from .cones import REASONS, refused
from .curvature import Form
from .diagnostics import definition_error, shape_error
from .expression import Expression, apply, elementwise, multiplied, reciprocal, wrap
from .of_data import cholesky, exp, inv, log, softplus, sqrt
from .quadratic import quad_form

Axis = int | tuple[int, ...] | None


def std(x: Any, axis: Axis = None, keepdims: bool = False, ddof: int = 0) -> Expression:
    """Standard deviation of data; the square, ``kr.var``, is a cost of variables. Raises UsageError."""
    return sqrt(_data("std", x).var(axis, keepdims, ddof))


def log1p(x: Any) -> Expression:
    """log(1 + x) of data. Raises UsageError."""
    return log(1 + _data("log1p", x))


def logistic(x: Any) -> Expression:
    """log(1 + exp(x)) of data: cvxpy's name of ``softplus``. Raises UsageError."""
    return softplus(_data("logistic", x))


def log_sum_exp(x: Any, axis: Axis = None, keepdims: bool = False) -> Expression:
    """log of the sum of exponentials of data, shifted by the largest so that nothing overflows. Raises UsageError."""
    x = _data("log_sum_exp", x)
    total = exp(x - x.max(axis, keepdims=True)).sum(axis, keepdims)
    result: Expression = log(total) + x.max(axis, keepdims)
    return result


def entr(x: Any) -> Expression:
    """Entropy -x log(x) of positive data, elementwise. Raises UsageError."""
    x = _data("entr", x)
    return -multiplied(x, log(x))


def xexp(x: Any) -> Expression:
    """x exp(x) of data, elementwise. Raises UsageError."""
    x = _data("xexp", x)
    return multiplied(x, exp(x))


def rel_entr(x: Any, y: Any) -> Expression:
    """Relative entropy x log(x / y) of positive data, elementwise. Raises UsageError."""
    x, y = _data("rel_entr", x), _data("rel_entr", y)
    return multiplied(x, log(multiplied(x, reciprocal(y))))


def kl_div(x: Any, y: Any) -> Expression:
    """Kullback-Leibler divergence x log(x / y) - x + y of positive data, elementwise. Raises UsageError."""
    x, y = _data("kl_div", x), _data("kl_div", y)
    result: Expression = multiplied(x, log(multiplied(x, reciprocal(y)))) - x + y
    return result


def inv_pos(x: Any) -> Expression:
    """1 / x of positive data, elementwise. Raises UsageError."""
    return reciprocal(_data("inv_pos", x))


def geo_mean(x: Any) -> Expression:
    """Geometric mean of positive data. Raises UsageError."""
    return exp(log(_data("geo_mean", x)).mean())


def harmonic_mean(x: Any) -> Expression:
    """Harmonic mean of positive data. Raises UsageError."""
    return reciprocal(reciprocal(_data("harmonic_mean", x)).mean())


def prod(x: Any, axis: int | None = None, keepdims: bool = False) -> Expression:
    """Product of the entries of data, all or along ``axis``. Raises UsageError."""
    x = _data("prod", x)
    if axis is None:
        flat = _folded(x.flatten(), 0)
        return flat.reshape((1,) * x.ndim) if keepdims else flat.reshape(())
    direction = axis % x.ndim if x.ndim and -x.ndim <= axis < x.ndim else None
    if direction is None:
        raise shape_error(f"axis {axis} does not exist", f"the shape is {x.shape}", "leave axis out", x, code="S05")
    result = _folded(x, direction)
    return result if keepdims else result.reshape((*x.shape[:direction], *x.shape[direction + 1 :]))


def inv_prod(x: Any) -> Expression:
    """1 over the product of positive data. Raises UsageError."""
    return reciprocal(prod(_data("inv_prod", x)))


def log_det(X: Any) -> Expression:
    """log of the determinant of positive definite data. Raises UsageError."""
    X = _data("log_det", X)
    return 2 * log(apply("diagonal", cholesky(X), offset=0)).sum()


def tr_inv(X: Any) -> Expression:
    """Trace of the inverse of data. Raises UsageError."""
    return inv(_data("tr_inv", X)).trace()


def matrix_frac(X: Any, P: Any) -> Expression:
    """x' inv(P) x, for each column of X and summed; P is data, and of variables X makes it quadratic. Raises UsageError."""
    X, P = wrap(X), _data("matrix_frac", P)
    if X.form is Form.CONSTANT:
        return multiplied(X, apply("solve", P, X)).sum()
    return quad_form(X if X.ndim < 2 else X.T, inv(P)).sum()


def lambda_max(X: Any) -> NoReturn:
    """Refused with the reason: the largest eigenvalue. Raises UsageError."""
    raise _spectral("lambda_max", X, "lambda P: torch.linalg.eigvalsh(P)[-1]")


def lambda_min(X: Any) -> NoReturn:
    """Refused with the reason: the smallest eigenvalue. Raises UsageError."""
    raise _spectral("lambda_min", X, "lambda P: torch.linalg.eigvalsh(P)[0]")


def sigma_max(X: Any) -> NoReturn:
    """Refused with the reason: the largest singular value. Raises UsageError."""
    raise _spectral("sigma_max", X, "lambda P: torch.linalg.matrix_norm(P, 2)")


def norm_nuc(X: Any) -> NoReturn:
    """Refused with the reason: the sum of singular values. Raises UsageError."""
    raise _spectral("norm_nuc", X, 'lambda P: torch.linalg.matrix_norm(P, "nuc")')


def perspective(*given: Any) -> NoReturn:
    """Refused with the reason. Raises UsageError."""
    raise refused("perspective", wrap(given[0]))


def _data(name: str, given: Any) -> Expression:
    x = wrap(given)
    if x.form is not Form.CONSTANT:
        raise refused(name, x)
    return x


def _spectral(name: str, given: Any, torch_function: str) -> Exception:
    """Of variables no quadratic program holds it; of data torch has it."""
    x = wrap(given)
    if x.form is not Form.CONSTANT:
        return refused(name, x)
    why = f"{REASONS[name].why}; of data torch has it"
    return definition_error(
        "N12", f"{name} is not among the functions of karush", why, f"write kr.function({torch_function}, ..., shape=())"
    )


def _folded(x: Expression, axis: int) -> Expression:
    """The product along an axis, kept, by halves: entries of the front half times those of the back half."""
    before = (slice(None),) * axis
    while x.shape[axis] > 1:
        size = x.shape[axis]
        half = size // 2
        folded = elementwise("multiply", x[(*before, slice(0, half))], x[(*before, slice(half, 2 * half))])
        if size % 2:
            first = elementwise("multiply", folded[(*before, slice(0, 1))], x[(*before, slice(size - 1, size))])
            rest = folded[(*before, slice(1, None))]
            folded = apply("concatenate", first, rest, axis=axis)
        x = folded
    return x
