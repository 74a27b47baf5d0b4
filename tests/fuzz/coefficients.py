"""Coefficients: expressions without variables, of any shape, by what convexity may ask of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import karush as kr
from fuzz.drawing import Drawing, RoundingError, Shape
from fuzz.leaves import of_any_sign, parameter

ROUNDING = 1e-13


def coefficient(d: Drawing, shape: Shape) -> kr.Expression:
    """Of any sign."""
    return _certain(d, _coefficient(d, shape, 2))


def positive(d: Drawing, shape: Shape) -> kr.Expression:
    """Known to be nonnegative, and seldom small."""
    return _certain(d, _positive(d, shape, 2))


def _certain(d: Drawing, c: kr.Expression) -> kr.Expression:
    """The coefficient, if none of its values is the rounding of a zero."""
    value = np.abs(d.at(c))
    if ((value > 0) & (value < ROUNDING)).any():
        raise RoundingError
    return c


def _coefficient(d: Drawing, shape: Shape, depth: int) -> kr.Expression:
    if depth == 0 or d.chance(0.3):
        return kr.Constant(d.normal(shape)) if d.chance(0.35) else of_any_sign(d, shape)
    options = list(FREE)
    if shape:
        options += MADE_OF_PARTS
    if len(shape) == 2 and shape[0] == shape[1]:
        options += SQUARE_ONES
    return d.one(options)(d, shape, depth - 1)


def _positive(d: Drawing, shape: Shape, depth: int) -> kr.Expression:
    if depth == 0 or d.chance(0.3):
        if d.chance(0.4):
            return kr.Constant(np.round(d.rng.uniform(0.2, 1.5, shape), 2))
        return parameter(d, shape, **d.one(({"pos": True}, {"nonneg": True})))
    return d.one(POSITIVE)(d, shape, depth - 1)


def definite(d: Drawing, n: int) -> kr.Expression:
    """A positive semidefinite n x n matrix."""
    return d.one(DEFINITE)(d, n)


def regular(d: Drawing, n: int) -> kr.Expression:
    """A positive definite n x n matrix, far from singular."""
    return definite(d, n) + np.eye(n)


Deep = Callable[[Drawing, Shape, int], kr.Expression]

FREE: tuple[Deep, ...] = (
    lambda d, s, k: _coefficient(d, s, k) + _coefficient(d, s, k),
    lambda d, s, k: _coefficient(d, s, k) - d.normal(s),
    lambda d, s, k: kr.multiply(_coefficient(d, s, k), _coefficient(d, s, k)),
    lambda d, s, k: -_positive(d, s, k),
    lambda d, s, k: kr.tanh(_coefficient(d, s, k)),
    lambda d, s, k: kr.sin(_coefficient(d, s, k)),
    lambda d, s, k: kr.cos(_coefficient(d, s, k)),
    lambda d, s, k: kr.log(_positive(d, s, k) + 0.3),
    lambda d, s, k: _coefficient(d, s, k) / (_positive(d, s, k) + 0.5),
    lambda d, s, k: kr.broadcast_to(_coefficient(d, (), k), s),
    lambda d, s, k: parameter(d, s) ** 3,
    lambda d, s, k: kr.function(torch.sin, parameter(d, s), shape=s),
    lambda d, s, k: kr.maximum(_coefficient(d, s, k), _coefficient(d, s, k)),
    lambda d, s, k: kr.minimum(_coefficient(d, s, k), d.number(0, 1)),
    lambda d, s, k: kr.reshape(_coefficient(d, (int(np.prod(s)),), k), s),
    lambda d, s, k: kr.log1p(_positive(d, s, k)) - kr.entr(_positive(d, s, k) + 0.2),
    lambda d, s, k: kr.log_sum_exp(_coefficient(d, (3, *s), k), axis=0),
    lambda d, s, k: kr.multiply(kr.xexp(_coefficient(d, s, k)), 0.2),
    lambda d, s, k: kr.rel_entr(_positive(d, s, k) + 0.2, _positive(d, (), k) + 0.2),
    lambda d, s, k: kr.geo_mean(_positive(d, (3,), k) + 0.2) - _coefficient(d, s, k),
    lambda d, s, k: kr.prod(_coefficient(d, (3, *s), k), axis=0),
    lambda d, s, k: kr.log_det(regular(d, 2)) + _coefficient(d, s, k),
)

MADE_OF_PARTS: tuple[Deep, ...] = (
    lambda d, s, k: _coefficient(d, (s[0] + 2, *s[1:]), k)[1:-1],
    lambda d, s, k: _coefficient(d, (3, *s), k)[1],
    lambda d, s, k: _coefficient(d, s, k)[::-1],
    lambda d, s, k: kr.transpose(_coefficient(d, s[::-1], k)),
    lambda d, s, k: kr.cumsum(_coefficient(d, s, k), axis=len(s) - 1),
    lambda d, s, k: kr.cummax(_coefficient(d, s, k), axis=0),
    lambda d, s, k: kr.sum(_coefficient(d, (2, *s), k), axis=0),
    lambda d, s, k: kr.max(_coefficient(d, (2, *s), k), axis=0),
    lambda d, s, k: _coefficient(d, (*s[:-1], 2), k) @ _coefficient(d, (2, s[-1]), k),
    lambda d, s, k: _coefficient(d, (2,), k) @ _coefficient(d, (2, s[-1]), k) + np.zeros(s),
    lambda d, s, k: kr.concatenate([_coefficient(d, s, k), _coefficient(d, s, k)], axis=0)[s[0] // 2 : s[0] // 2 + s[0]],
    lambda d, s, k: kr.stack([_coefficient(d, s[1:], k)] * s[0]),
    lambda d, s, k: kr.solve(regular(d, s[0]), _coefficient(d, (s[0],), k)).reshape(-1, *(1,) * (len(s) - 1)) + np.zeros(s),
)

SQUARE_ONES: tuple[Deep, ...] = (
    lambda d, s, k: kr.inv(regular(d, s[0])),
    lambda d, s, k: kr.cholesky(regular(d, s[0])),
    lambda d, s, k: kr.solve(regular(d, s[0]), _coefficient(d, s, k)),
    lambda d, s, k: kr.diag(_coefficient(d, (s[0] - 1,), k), 1),
    lambda d, s, k: kr.diag(kr.diag(_coefficient(d, s, k))),
    lambda d, s, k: definite(d, s[0]),
)

POSITIVE: tuple[Deep, ...] = (
    lambda d, s, k: kr.exp(_coefficient(d, s, k)),
    lambda d, s, k: kr.softplus(_coefficient(d, s, k)),
    lambda d, s, k: kr.sigmoid(_coefficient(d, s, k)),
    lambda d, s, k: kr.abs(_coefficient(d, s, k)),
    lambda d, s, k: kr.square(_coefficient(d, s, k)),
    lambda d, s, k: kr.sqrt(_positive(d, s, k)),
    lambda d, s, k: 1 / (0.3 + _positive(d, s, k)),
    lambda d, s, k: (0.2 + _positive(d, s, k)) ** d.one((0.5, 1.5, -1, 4)),
    lambda d, s, k: kr.multiply(_positive(d, s, k), _positive(d, s, k)),
    lambda d, s, k: _positive(d, s, k) + _positive(d, (), k),
    lambda d, s, k: kr.norm(_coefficient(d, (3, *s), k), axis=0),
    lambda d, s, k: kr.norm1(_coefficient(d, (2, *s), k), axis=0),
    lambda d, s, k: kr.pos(_coefficient(d, s, k)),
    lambda d, s, k: kr.ptp(_coefficient(d, (*s, 3), k), axis=len(s)),
    lambda d, s, k: kr.std(_coefficient(d, (3, *s), k), axis=0),
    lambda d, s, k: kr.logistic(_coefficient(d, s, k)),
    lambda d, s, k: kr.inv_pos(_positive(d, s, k) + 0.4),
    lambda d, s, k: kr.assume(kr.kl_div(_positive(d, s, k) + 0.2, _positive(d, s, k) + 0.2) + 1e-6, nonneg=True),
    lambda d, s, k: kr.assume(kr.harmonic_mean(_positive(d, (2,), k) + 0.2), pos=True) + _positive(d, s, k),
    lambda d, s, k: kr.inv_prod(_positive(d, (2,), k) + 0.5) * _positive(d, s, k),
    lambda d, s, k: kr.assume(kr.tr_inv(regular(d, 2)), bounds=[0, 2.1]) * _positive(d, s, k),
    lambda d, s, k: kr.huber(_coefficient(d, s, k), _positive(d, (), k)),
    lambda d, s, k: kr.broadcast_to(_positive(d, (), k), s),
    lambda d, s, k: _positive(d, (3, *s), k)[-1],
    lambda d, s, k: kr.sum_largest(_positive(d, (3, *s), k), 1.5, axis=0),
    lambda d, s, k: kr.quad_form(_coefficient(d, (2,), k), definite(d, 2)) + _positive(d, s, k),
    lambda d, s, k: kr.assume(kr.dotsort(_positive(d, (3,), k), _positive(d, (2,), k)), nonneg=True) + _positive(d, s, k),
    lambda d, s, k: kr.assume(kr.multiply(_coefficient(d, s, 0), 0.0) + _positive(d, s, k), pos=False, nonneg=True),
    lambda d, s, k: kr.function(torch.exp, parameter(d, s), shape=s, nonneg=True),
    lambda d, s, k: kr.function(lambda p, q: p * p + q.sum(), parameter(d, s), parameter(d, (2,), pos=True), shape=s, pos=True),
)

DEFINITE: tuple[Callable[[Drawing, int], kr.Expression], ...] = (
    lambda d, n: parameter(d, (n, n), PSD=True),
    lambda d, n: (lambda L: L @ L.T)(_coefficient(d, (n, 2), 1)),
    lambda d, n: (lambda L: L.T @ L)(_coefficient(d, (3, n), 1)),
    lambda d, n: (lambda M: kr.Constant(M @ M.T))(d.normal((n, n))),
    lambda d, n: kr.diag(_positive(d, (n,), 1)),
    lambda d, n: kr.inv(parameter(d, (n, n), PSD=True) + 0.5 * np.eye(n)),
    lambda d, n: (lambda L: L @ parameter(d, (2, 2), PSD=True) @ L.T)(_coefficient(d, (n, 2), 1)),
    lambda d, n: _positive(d, (), 1) * parameter(d, (n, n), PSD=True) + np.eye(n),
    lambda d, n: kr.multiply(parameter(d, (n, n), PSD=True), (lambda L: L @ L.T)(_coefficient(d, (n, 2), 1))),
    lambda d, n: -parameter(d, (n, n), NSD=True),
    lambda d, n: kr.psd_wrap((lambda p: p @ p)(parameter(d, (n, n), symmetric=True))),
)
