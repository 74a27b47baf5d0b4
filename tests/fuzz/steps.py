"""Steps from an expression of variables to another. Which of them the rules allow is not asked here: they are tried."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import karush as kr
from fuzz.coefficients import coefficient, definite, positive, regular
from fuzz.drawing import SHAPES, Drawing, judged

Step = Callable[[Drawing, kr.Expression], kr.Expression]
LARGEST = 16  # entries, beyond which nothing may grow
REACH = 20.0  # values larger than that are scaled down: beyond it an oracle's digits go, and nothing else is learned


def affine(d: Drawing) -> kr.Expression:
    """Where a nest begins: a variable, moved or mixed with data or with another."""
    x: kr.Expression = d.one(d.variables())
    for _ in range(int(d.rng.integers(3))):
        x = step(d, x, AFFINE)
    return x


def nest(d: Drawing, depth: int) -> kr.Expression:
    """Atoms on top of each other, as the rules allow."""
    x = affine(d)
    for _ in range(depth):
        x = step(d, x, ANY)
    return x


def scalar(d: Drawing, x: kr.Expression) -> kr.Expression:
    """The expression, or one number made of it."""
    if x.size == 1:
        return x.reshape(())
    return d.accepted(lambda: judged(d.one(ENDS)(d, x)))


def step(d: Drawing, x: kr.Expression, kind: Callable[[kr.Expression], list[Step]]) -> kr.Expression:
    """One more step of a kind, drawn until the rules accept."""
    steps = kind(x)
    made = d.accepted(lambda: judged(d.one(steps)(d, x)))
    largest = float(np.abs(d.at(made)).max(initial=0.0))
    return made if largest <= REACH else made * round(REACH / largest / 4, 4)


def _other(d: Drawing, x: kr.Expression) -> kr.Expression:
    """Another expression that broadcasts to the shape of x: of data, or of variables."""
    fitting = [v for v in d.variables() if _broadcasts(v.shape, x.shape)]
    if fitting and d.chance(0.5):
        return d.one(fitting)
    return coefficient(d, d.one([s for s in SHAPES if _broadcasts(s, x.shape)] + [x.shape]))


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, target) == target
    except ValueError:
        return False


def _axis(d: Drawing, x: kr.Expression) -> int | tuple[int, ...] | None:
    """One axis, all of them, or a pair."""
    options: list[int | tuple[int, ...] | None] = [None, *range(-x.ndim, x.ndim), *([(0, x.ndim - 1)] if x.ndim > 1 else [])]
    return d.one(options)


def _along(d: Drawing, x: kr.Expression) -> int:
    return int(d.rng.integers(x.ndim))


def _keep(d: Drawing) -> bool:
    return d.chance(0.3)


def _support(d: Drawing, x: kr.Expression) -> kr.Expression:
    """The support function of a bounded set: a box, or what is left of one."""
    y = kr.Variable(x.size)
    rows = [y <= positive(d, (x.size,)), y >= -positive(d, ())]
    rows += [d.one((kr.sum(y) <= positive(d, ()), kr.sum(y) == 0))] if d.chance(0.5) else []
    return kr.suppfunc(y, rows)(x.reshape(-1))


# Affine

MOVES: tuple[Step, ...] = (
    lambda d, x: -x,
    lambda d, x: x + _other(d, x),
    lambda d, x: _other(d, x) - x,
    lambda d, x: d.number(0.3, 1.5) * x,
    lambda d, x: kr.multiply(coefficient(d, x.shape), x),
    lambda d, x: kr.multiply(positive(d, x.shape), x),
    lambda d, x: coefficient(d, ()) * x,
    lambda d, x: x / (0.4 + positive(d, ())),
    lambda d, x: kr.expand_dims(x, 0) if x.ndim < 2 else kr.squeeze(x),
    lambda d, x: kr.symmetric_wrap(x) if x.ndim == 2 and x.shape[0] == x.shape[1] else +x,
)
ALONG: tuple[Step, ...] = (
    lambda d, x: kr.sum(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.mean(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.cumsum(x, d.one((None, _along(d, x)))),
    lambda d, x: kr.diff(x, 1, _along(d, x)) if min(x.shape) > 1 else x,
    lambda d, x: kr.flip(x, d.one((None, _along(d, x)))),
    lambda d, x: kr.roll(x, 1, d.one((None, _along(d, x)))),
    lambda d, x: x[::-1],
    lambda d, x: x[-1],
    lambda d, x: x[..., None],
    lambda d, x: x[..., :-1] if x.shape[-1] > 1 else x[..., 0],
    lambda d, x: x[d.rng.integers(0, x.shape[0], 2)],
    lambda d, x: x[np.arange(x.shape[0]) % 2 == 0],
    lambda d, x: x.reshape(-1),
    lambda d, x: kr.vec(x),
    lambda d, x: kr.flatten(x),
    lambda d, x: x.reshape(x.shape[::-1]),
    lambda d, x: x.T,
    lambda d, x: kr.moveaxis(x, 0, -1),
    lambda d, x: coefficient(d, (2, x.shape[0])) @ x if x.ndim < 3 else coefficient(d, (2, x.shape[-2])) @ x,
    lambda d, x: positive(d, (x.shape[0],)) @ x if x.ndim < 3 else x @ positive(d, (x.shape[-1],)),
    lambda d, x: x @ coefficient(d, (x.shape[-1],)),
    lambda d, x: x @ coefficient(d, (x.shape[-1], 2)),
    lambda d, x: kr.matmul(regular(d, x.shape[0]), x) if x.ndim < 3 else x,
    lambda d, x: kr.vdot(coefficient(d, x.shape), x),
    lambda d, x: kr.scalar_product(x, positive(d, x.shape)),
    lambda d, x: kr.split(x, 1 if x.shape[0] % 2 else 2)[0],
    lambda d, x: kr.deep_flatten([x[0], [x[-1], 0.5]]),
)
GROWING: tuple[Step, ...] = (
    lambda d, x: kr.repeat(x, 2, d.one((None, 0))) if x.ndim else kr.promote(x, (2,)),
    lambda d, x: kr.tile(x, 2),
    lambda d, x: kr.stack([x, _other(d, x) + 0.0 * x]),
    lambda d, x: kr.concatenate([x.reshape(-1), coefficient(d, (2,))]),
    lambda d, x: kr.hstack([x, x]),
    lambda d, x: kr.vstack([x, kr.flip(x)]),
    lambda d, x: kr.outer(coefficient(d, (2,)), x),
    lambda d, x: kr.kron(coefficient(d, d.one(((2,), (2, 2)))), x),
    lambda d, x: kr.broadcast_to(x, (2, *x.shape)),
    lambda d, x: kr.bmat([[x, 1.0], [0.0, x]]) if x.ndim == 0 else kr.swapaxes(kr.stack([x, -x]), 0, 1),
)
VECTORS: tuple[Step, ...] = (
    lambda d, x: kr.convolve(coefficient(d, (2,)), x),
    lambda d, x: kr.conv(x, positive(d, (2,))),
    lambda d, x: kr.diag(x[:4], d.one((0, 1, -1))),
    lambda d, x: kr.vec_to_upper_tri(x[:1], strict=d.chance(0.5)),
    lambda d, x: kr.einsum("i,ij->j", x, coefficient(d, (x.size, 2))),
)
MATRICES: tuple[Step, ...] = (
    lambda d, x: kr.diag(x, d.one((0, 0, 1))) if min(x.shape) > 1 else x,
    lambda d, x: kr.einsum("ij,kj->ki", x, coefficient(d, (2, x.shape[1]))),
    lambda d, x: kr.permute_dims(x, (1, 0)),
    lambda d, x: kr.einsum("ij,ij->i", positive(d, x.shape), x),
)
SQUARES: tuple[Step, ...] = (
    lambda d, x: kr.trace(x).reshape(1),
    lambda d, x: kr.upper_tri(x),
    lambda d, x: kr.partial_trace(x, (x.shape[0], 1), d.one((0, 1))),
    lambda d, x: kr.partial_transpose(kr.kron(d.normal((2, 2)), x), (2, x.shape[0]), 0) if x.size < 9 else x,
)

# Piecewise linear

BENDS: tuple[Step, ...] = (
    lambda d, x: kr.abs(x),
    lambda d, x: kr.pos(x),
    lambda d, x: kr.neg(x),
    lambda d, x: kr.maximum(x, _other(d, x)),
    lambda d, x: kr.maximum(x, coefficient(d, x.shape), d.number(-1, 1)),
    lambda d, x: kr.minimum(x, _other(d, x)),
    lambda d, x: kr.scalene(x, positive(d, x.shape), positive(d, ())),
)
BENDS_ALONG: tuple[Step, ...] = (
    _support,
    lambda d, x: kr.max(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.min(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.ptp(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.norm1(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.norm_inf(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.norm(x, d.one((1, "inf"))) if x.ndim < 3 else kr.norm(x, d.one((1, "inf")), axis=1),
    lambda d, x: kr.pnorm(x, 1, _axis(d, x)),
    lambda d, x: kr.cummax(x, d.one((None, _along(d, x)))),
    lambda d, x: kr.cummin(x, d.one((None, _along(d, x)))),
    lambda d, x: kr.sum_largest(x, d.one((1.5, 2, 2.3)), _axis(d, x), _keep(d)),
    lambda d, x: kr.sum_largest(x, 0.5 + positive(d, ()), _axis(d, x)),
    lambda d, x: kr.sum_smallest(x, 1.7, _axis(d, x), _keep(d)),
    lambda d, x: kr.dotsort(x.reshape(-1), coefficient(d, (min(x.size, 3),))),
    lambda d, x: kr.dotsort(x.reshape(-1)[:8], positive(d, (min(x.size, 8),))),
    lambda d, x: kr.dotsort(x.reshape(-1), np.array([1.0, 0.5, 1.0, 0.0])[: x.size]),
    lambda d, x: kr.cvar(x.reshape(-1), d.one((0.0, 0.3, 0.9))),
    lambda d, x: kr.cvar(x.reshape(-1), kr.sigmoid(coefficient(d, ()))),
    lambda d, x: kr.tv(x, isotropic=x.ndim == 1) if x.ndim < 3 else kr.tv(x.reshape(-1)),
    lambda d, x: kr.mixed_norm(x, d.one((1, "inf")), d.one((1, "inf"))) if x.ndim == 2 else kr.norm1(x),
)

# Quadratic

QUADRATICS: tuple[Step, ...] = (
    lambda d, x: kr.square(x),
    lambda d, x: kr.multiply(x, x),
    lambda d, x: kr.power(x, 2),
    lambda d, x: kr.huber(x, d.number(0.2, 1)),
    lambda d, x: kr.huber(x, positive(d, d.one(((), x.shape)))),
    lambda d, x: kr.multiply(x, d.one(d.variables())),
)
QUADRATIC_ENDS: tuple[Step, ...] = (
    lambda d, x: kr.sum_squares(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.norm(x.reshape(-1)) ** 2,
    lambda d, x: kr.norm2(x),
    lambda d, x: kr.norm(x.reshape(-1, x.shape[-1]), "fro") ** 2,
    lambda d, x: kr.var(x, _axis(d, x), _keep(d)),
    lambda d, x: kr.quad_over_lin(x, positive(d, ()) + 0.3),
    lambda d, x: kr.quad_form(x, definite(d, x.shape[-1])) if x.ndim < 3 else kr.sum_squares(x, 2),
    lambda d, x: kr.quad_form(x.reshape(-1), -regular(d, x.size)) if x.size < 5 else kr.sum_squares(x),
    lambda d, x: kr.quad_form(x.reshape(-1), coefficient(d, (x.size, x.size))) if x.size < 5 else kr.sum_squares(x),
    lambda d, x: (lambda v: v @ definite(d, v.size) @ v)(x.reshape(-1)) if x.size < 5 else kr.sum_squares(x),
    lambda d, x: (lambda v: v @ v)(coefficient(d, (3, x.size)) @ x.reshape(-1)),
    lambda d, x: kr.matrix_frac(x, regular(d, x.shape[0])) if x.ndim < 3 else kr.sum_squares(x, 0),
    lambda d, x: kr.sum_squares(kr.cholesky(regular(d, x.shape[0])) @ x) if x.ndim < 3 else kr.sum_squares(x, 1),
)

ENDS: tuple[Step, ...] = (
    lambda d, x: kr.sum(x),
    lambda d, x: kr.sum(kr.multiply(positive(d, x.shape), x)),
    lambda d, x: kr.vdot(coefficient(d, x.shape), x),
    lambda d, x: kr.max(x),
    lambda d, x: kr.mean(x),
)


def AFFINE(x: kr.Expression) -> list[Step]:
    """What keeps an affine expression affine."""
    groups = [MOVES, *([ALONG] if x.ndim else []), *([GROWING] if x.size <= LARGEST else [])]
    if x.ndim == 1:
        groups.append(VECTORS)
    if x.ndim == 2:
        groups += [MATRICES, *([SQUARES] if x.shape[0] == x.shape[1] else [])]
    return [step for group in groups for step in group]


def ANY(x: kr.Expression) -> list[Step]:
    """All steps; those that bend as often as those that do not."""
    bends = [*BENDS, *(BENDS_ALONG if x.ndim else ()), *QUADRATICS, *(QUADRATIC_ENDS if x.ndim else ())]
    return AFFINE(x) + bends
