"""Every function of the language beside NumPy's and cvxpy's of the same meaning: the table that all comparisons of atoms run over.

The first word of a name is the public function. ``ours`` is called on an expression, ``value`` on an array, ``theirs`` on a cvxpy
expression (None: cvxpy has none, or one of another meaning; ``why`` says which). ``shape`` is that of the argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cvxpy
import numpy as np
import torch

import karush as kr

cp: Any = cvxpy  # its atoms carry no types
One = Callable[[Any], Any]

RNG = np.random.default_rng(42)
W = np.round(RNG.standard_normal((3, 4)), 2)
V, H = np.round(RNG.standard_normal(4), 2), np.round(RNG.standard_normal(3), 2)
S = np.round(RNG.standard_normal((4, 4)), 2)
PSD, STACK = S @ S.T / 4, np.stack([S.T @ S / 4, np.eye(4), np.diag(V**2)])


PAIRS = np.array([np.eye(4)[i] - np.eye(4)[j] for i in range(4) for j in range(i)])  # all differences of four entries


BOX = kr.Variable(4)  # of the set of a support function


class Entry(NamedTuple):
    ours: One
    value: One
    theirs: One | None
    shape: tuple[int, ...] = (3, 4)
    why: str = ""


NOT_THERE = "cvxpy has no such function"
F_ORDER = "cvxpy reads entries in F order"
OTHER_ATOMS = "stated in other atoms, whose signs are known"


def cummax(x: np.ndarray, axis: int = 0) -> np.ndarray:
    return np.maximum.accumulate(x, axis)


def largest(x: np.ndarray, k: float, axis: int | None = None) -> Any:
    """The sum of the k largest, counted off one by one."""
    if axis is not None:
        return np.apply_along_axis(largest, axis, x, k)
    order = sorted(x.reshape(-1), reverse=True)
    whole = int(k)
    return sum(order[:whole]) + (k - whole) * (order[whole] if k > whole else 0.0)


def huber(x: np.ndarray, M: float) -> np.ndarray:
    return np.array([v * v if abs(v) <= M else 2 * M * abs(v) - M * M for v in x.reshape(-1)]).reshape(x.shape)


def forms(X: np.ndarray, P: np.ndarray) -> np.ndarray:
    return np.array([x @ (P if P.ndim == 2 else P[t]) @ x for t, x in enumerate(X)])


AFFINE: dict[str, Entry] = {
    "sum": Entry(kr.sum, np.sum, cp.sum),
    "sum axis": Entry(
        lambda x: kr.sum(x, 1, keepdims=True), lambda x: x.sum(1, keepdims=True), lambda x: cp.sum(x, 1, keepdims=True)
    ),
    "sum axes": Entry(lambda x: kr.sum(x, (0, 2)), lambda x: x.sum((0, 2)), lambda x: cp.sum(x, (0, 2)), (2, 3, 2)),
    "sum list": Entry(
        lambda x: kr.sum([x[0], 2 * x[1], W[0]]), lambda x: (x[0] + 2 * x[1] + W[0]).sum(), lambda x: cp.sum(x[0] + 2 * x[1] + W[0])
    ),
    "mean": Entry(lambda x: kr.mean(x, 0), lambda x: x.mean(0), lambda x: cp.mean(x, 0)),
    "mean axes": Entry(
        lambda x: kr.mean(x, (0, 1), True), lambda x: x.mean((0, 1), keepdims=True), lambda x: cp.mean(x, (0, 1), True)
    ),
    "cumsum": Entry(lambda x: kr.cumsum(x, 1), lambda x: x.cumsum(1), lambda x: cp.cumsum(x, 1)),
    "cumsum flat": Entry(lambda x: kr.cumsum(x, None), lambda x: x.cumsum(), None, (3, 4), F_ORDER),
    "diff": Entry(kr.diff, lambda x: np.diff(x, axis=0), cp.diff),
    "diff twice": Entry(lambda x: kr.diff(x, 2, 1), lambda x: np.diff(x, 2, 1), lambda x: cp.diff(x, 2, 1)),
    "trace": Entry(kr.trace, np.trace, cp.trace, (3, 3)),
    "diag": Entry(lambda x: kr.diag(x, 1), lambda x: np.diag(x, 1), lambda x: cp.diag(x, 1), (4,)),
    "diag below": Entry(lambda x: kr.diag(x, -2), lambda x: np.diag(x, -2), lambda x: cp.diag(x, -2), (2,)),
    "diag of matrix": Entry(lambda x: kr.diag(x, -1), lambda x: np.diag(x, -1), lambda x: cp.diag(x, -1), (4, 4)),
    "upper_tri": Entry(
        kr.upper_tri, lambda x: np.array([x[i, j] for i in range(4) for j in range(i + 1, 4)]), cp.upper_tri, (4, 4)
    ),
    "vec_to_upper_tri": Entry(
        kr.vec_to_upper_tri, lambda x: np.array([[x[0], x[1], x[2]], [0, x[3], x[4]], [0, 0, x[5]]]), cp.vec_to_upper_tri, (6,)
    ),
    "vec_to_upper_tri strict": Entry(
        lambda x: kr.vec_to_upper_tri(x, strict=True),
        lambda x: np.array([[0, x[0], x[1]], [0, 0, x[2]], [0, 0, 0]]),
        lambda x: cp.vec_to_upper_tri(x, strict=True),
        (3,),
    ),
    "partial_trace": Entry(
        lambda x: kr.partial_trace(x, (2, 3), 0), lambda x: x[:3, :3] + x[3:, 3:], lambda x: cp.partial_trace(x, (2, 3), 0), (6, 6)
    ),
    "partial_trace second": Entry(
        lambda x: kr.partial_trace(x, (2, 3), 1),
        lambda x: np.array([[np.trace(x[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]) for j in (0, 1)] for i in (0, 1)]),
        lambda x: cp.partial_trace(x, (2, 3), 1),
        (6, 6),
    ),
    "partial_transpose": Entry(
        lambda x: kr.partial_transpose(x, (2, 2), 1),
        lambda x: np.block([[x[:2, :2].T, x[:2, 2:].T], [x[2:, :2].T, x[2:, 2:].T]]),
        lambda x: cp.partial_transpose(x, (2, 2), 1),
        (4, 4),
    ),
    "symmetric_wrap": Entry(kr.symmetric_wrap, lambda x: x, None, (3, 3), "of a variable it states nothing"),
    "psd_wrap": Entry(kr.psd_wrap, lambda x: x, None, (3, 3), "of a variable it states nothing"),
    "reshape": Entry(lambda x: kr.reshape(x, (2, -1)), lambda x: x.reshape(2, -1), lambda x: cp.reshape(x, (2, 6), order="C")),
    "flatten": Entry(kr.flatten, lambda x: x.reshape(-1), lambda x: x.flatten(order="C")),
    "vec": Entry(kr.vec, lambda x: x.reshape(-1), lambda x: cp.vec(x, order="C")),
    "reshape columns": Entry(
        lambda x: kr.reshape(x, (2, -1), order="F"),
        lambda x: x.reshape(2, -1, order="F"),
        lambda x: cp.reshape(x, (2, 6), order="F"),
    ),
    "vec columns": Entry(lambda x: kr.vec(x, "F"), lambda x: x.flatten("F"), lambda x: cp.vec(x, order="F"), (2, 3, 2)),
    "deep_flatten": Entry(
        lambda x: kr.deep_flatten([[x[0], 1.0], (x[1, :2], [x[2, 0]])]),
        lambda x: np.hstack([x[0], 1, x[1, :2], x[2, 0]]),
        None,
        (3, 4),
        F_ORDER,
    ),
    "squeeze": Entry(lambda x: kr.squeeze(x, 1), lambda x: x.squeeze(1), lambda x: cp.squeeze(x, 1), (3, 1, 2)),
    "squeeze all": Entry(kr.squeeze, np.squeeze, cp.squeeze, (1, 3, 1)),
    "expand_dims": Entry(lambda x: kr.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1)), None, (3, 4), NOT_THERE),
    "promote": Entry(lambda x: kr.promote(x, (2, 3)), lambda x: np.full((2, 3), x), lambda x: cp.promote(x, (2, 3)), ()),
    "broadcast_to": Entry(
        lambda x: kr.broadcast_to(x, (2, 4)), lambda x: np.broadcast_to(x, (2, 4)), lambda x: cp.broadcast_to(x, (2, 4)), (4,)
    ),
    "transpose": Entry(kr.transpose, np.transpose, cp.transpose),
    "transpose axes": Entry(
        lambda x: kr.transpose(x, (1, 2, 0)), lambda x: x.transpose(1, 2, 0), lambda x: cp.transpose(x, (1, 2, 0)), (2, 3, 2)
    ),
    "permute_dims": Entry(
        lambda x: kr.permute_dims(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1), lambda x: cp.permute_dims(x, (2, 0, 1)), (2, 3, 2)
    ),
    "swapaxes": Entry(lambda x: kr.swapaxes(x, 0, 2), lambda x: np.swapaxes(x, 0, 2), lambda x: cp.swapaxes(x, 0, 2), (2, 3, 2)),
    "moveaxis": Entry(lambda x: kr.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), lambda x: cp.moveaxis(x, 0, -1), (2, 3, 2)),
    "moveaxis several": Entry(
        lambda x: kr.moveaxis(x, [0, 2], [2, 0]),
        lambda x: np.moveaxis(x, [0, 2], [2, 0]),
        lambda x: cp.moveaxis(x, [0, 2], [2, 0]),
        (2, 3, 2),
    ),
    "flip": Entry(kr.flip, np.flip, None, (3, 4), NOT_THERE),
    "flip axis": Entry(lambda x: kr.flip(x, 1), lambda x: np.flip(x, 1), lambda x: x[:, ::-1]),
    "roll": Entry(lambda x: kr.roll(x, 2), lambda x: np.roll(x, 2), None, (3, 4), NOT_THERE),
    "roll axis": Entry(lambda x: kr.roll(x, -1, 1), lambda x: np.roll(x, -1, 1), lambda x: cp.hstack([x[:, 1:], x[:, :1]])),
    "repeat": Entry(lambda x: kr.repeat(x, 2), lambda x: np.repeat(x, 2), None, (3, 4), NOT_THERE),
    "repeat axis": Entry(lambda x: kr.repeat(x, 3, 0), lambda x: np.repeat(x, 3, 0), None, (3, 4), NOT_THERE),
    "tile": Entry(lambda x: kr.tile(x, (2, 1, 2)), lambda x: np.tile(x, (2, 1, 2)), None, (3, 4), NOT_THERE),
    "tile vector": Entry(lambda x: kr.tile(x, 2), lambda x: np.tile(x, 2), lambda x: cp.hstack([x, x]), (4,)),
    "split": Entry(lambda x: kr.split(x, 2, 1)[1], lambda x: np.split(x, 2, 1)[1], lambda x: x[:, 2:]),
    "split at": Entry(lambda x: kr.split(x, [1, 3], -1)[1], lambda x: np.split(x, [1, 3], -1)[1], lambda x: x[:, 1:3]),
    "concatenate": Entry(
        lambda x: kr.concatenate([x, W], -1), lambda x: np.concatenate([x, W], -1), lambda x: cp.concatenate([x, W], 1)
    ),
    "concatenate all": Entry(
        lambda x: kr.concatenate([x, W[0]], None), lambda x: np.concatenate([x, W[0]], None), None, (3, 4), F_ORDER
    ),
    "stack": Entry(lambda x: kr.stack([x, 2 * x], 1), lambda x: np.stack([x, 2 * x], 1), lambda x: cp.stack([x, 2 * x], 1)),
    "hstack": Entry(lambda x: kr.hstack([x, x[:, :1]]), lambda x: np.hstack([x, x[:, :1]]), lambda x: cp.hstack([x, x[:, :1]])),
    "hstack scalars": Entry(
        lambda x: kr.hstack([x[0, 0], x[1]]), lambda x: np.hstack([x[0, 0], x[1]]), lambda x: cp.hstack([x[0, 0], x[1]])
    ),
    "vstack": Entry(lambda x: kr.vstack([x, V]), lambda x: np.vstack([x, V]), lambda x: cp.vstack([x, V])),
    "bmat": Entry(
        lambda x: kr.bmat([[x, np.eye(3)], [np.ones((1, 4)), H[None]]]),
        lambda x: np.block([[x, np.eye(3)], [np.ones((1, 4)), H[None]]]),
        lambda x: cp.bmat([[x, np.eye(3)], [np.ones((1, 4)), H[None]]]),
    ),
    # Products
    "multiply": Entry(lambda x: kr.multiply(V, x), lambda x: V * x, lambda x: cp.multiply(np.tile(V, (3, 1)), x)),
    "matmul": Entry(lambda x: kr.matmul(x, S), lambda x: x @ S, lambda x: cp.matmul(x, S)),
    "vdot": Entry(lambda x: kr.vdot(W, x), lambda x: np.vdot(W, x), lambda x: cp.vdot(W, x)),
    "scalar_product": Entry(lambda x: kr.scalar_product(x, V), lambda x: x @ V, lambda x: cp.scalar_product(x, V), (4,)),
    "outer": Entry(lambda x: kr.outer(x, H), lambda x: np.outer(x, H), lambda x: cp.outer(x, H), (4,)),
    "outer data first": Entry(lambda x: kr.outer(H, x), lambda x: np.outer(H, x), lambda x: cp.outer(H, x), (4,)),
    "kron": Entry(lambda x: kr.kron(W[:2, :2], x), lambda x: np.kron(W[:2, :2], x), lambda x: cp.kron(W[:2, :2], x)),
    "kron data last": Entry(lambda x: kr.kron(x, W[:1]), lambda x: np.kron(x, W[:1]), lambda x: cp.kron(x, W[:1])),
    "kron vectors": Entry(lambda x: kr.kron(x, H), lambda x: np.kron(x, H), None, (4,), "cvxpy's takes matrices"),
    "convolve": Entry(lambda x: kr.convolve(H, x), lambda x: np.convolve(H, x), lambda x: cp.convolve(H, x), (5,)),
    "convolve short": Entry(lambda x: kr.convolve(x, V), lambda x: np.convolve(x, V), lambda x: cp.convolve(V, x), (2,)),
    "conv": Entry(lambda x: kr.conv(V, x), lambda x: np.convolve(V, x), None, (4,), "cvxpy's is a column"),
    "einsum": Entry(
        lambda x: kr.einsum("ij,kj->ki", x, S), lambda x: np.einsum("ij,kj->ki", x, S), lambda x: cp.einsum("ij,kj->ki", x, S)
    ),
    "einsum three": Entry(
        lambda x: kr.einsum("i,ij,jk", H, x, S), lambda x: np.einsum("i,ij,jk", H, x, S), lambda x: cp.einsum("i,ij,jk->k", H, x, S)
    ),
    "einsum batch": Entry(
        lambda x: kr.einsum("tij,tj->ti", STACK, x),
        lambda x: np.einsum("tij,tj->ti", STACK, x),
        lambda x: cp.einsum("tij,tj->ti", STACK, x),
    ),
    "einsum trace": Entry(lambda x: kr.einsum("ii", x), lambda x: np.einsum("ii", x), lambda x: cp.trace(x), (3, 3)),
    "einsum diagonal": Entry(lambda x: kr.einsum("iij->ji", x), lambda x: np.einsum("iij->ji", x), None, (2, 2, 3), NOT_THERE),
}

CONVEX: dict[str, Entry] = {
    "abs": Entry(kr.abs, np.abs, cp.abs),
    "max": Entry(kr.max, np.max, cp.max),
    "max axis": Entry(lambda x: kr.max(x, 1, True), lambda x: x.max(1, keepdims=True), lambda x: cp.max(x, 1, True)),
    "maximum": Entry(lambda x: kr.maximum(x, W, 0.3), lambda x: np.maximum(np.maximum(x, W), 0.3), lambda x: cp.maximum(x, W, 0.3)),
    "pos": Entry(kr.pos, lambda x: np.maximum(x, 0), cp.pos),
    "neg": Entry(kr.neg, lambda x: np.maximum(-x, 0), cp.neg),
    "scalene": Entry(
        lambda x: kr.scalene(x, 2, 0.5), lambda x: 2 * np.maximum(x, 0) + 0.5 * np.maximum(-x, 0), lambda x: cp.scalene(x, 2, 0.5)
    ),
    "ptp": Entry(kr.ptp, np.ptp, cp.ptp),
    "ptp axis": Entry(lambda x: kr.ptp(x, 0), lambda x: np.ptp(x, 0), lambda x: cp.ptp(x, 0)),
    "cummax": Entry(kr.cummax, cummax, cp.cummax),
    "cummax axis": Entry(lambda x: kr.cummax(x, 1), lambda x: cummax(x, 1), lambda x: cp.cummax(x, 1)),
    "cummax flat": Entry(lambda x: kr.cummax(x, None), lambda x: cummax(x.reshape(-1)), None, (3, 4), F_ORDER),
    "norm1": Entry(kr.norm1, lambda x: np.abs(x).sum(), cp.norm1),
    "norm1 axis": Entry(lambda x: kr.norm1(x, 0), lambda x: np.abs(x).sum(0), lambda x: cp.norm1(x, 0)),
    "norm_inf": Entry(kr.norm_inf, lambda x: np.abs(x).max(), cp.norm_inf),
    "norm 1": Entry(lambda x: kr.norm(x, 1), lambda x: np.linalg.norm(x, 1), lambda x: cp.norm(x, 1), (4,)),
    "norm inf": Entry(lambda x: kr.norm(x, "inf"), lambda x: np.linalg.norm(x, np.inf), lambda x: cp.norm(x, "inf"), (4,)),
    "norm columns": Entry(lambda x: kr.norm(x, 1), lambda x: np.linalg.norm(x, 1), lambda x: cp.norm(x, 1)),
    "norm rows": Entry(lambda x: kr.norm(x, np.inf), lambda x: np.linalg.norm(x, np.inf), lambda x: cp.norm(x, np.inf)),
    "norm axis": Entry(lambda x: kr.norm(x, 1, axis=1), lambda x: np.linalg.norm(x, 1, axis=1), lambda x: cp.norm(x, 1, axis=1)),
    "pnorm 1": Entry(lambda x: kr.pnorm(x, 1), lambda x: np.abs(x).sum(), lambda x: cp.pnorm(x, 1)),
    "pnorm inf": Entry(lambda x: kr.pnorm(x, "inf", 1), lambda x: np.abs(x).max(1), lambda x: cp.pnorm(x, "inf", 1)),
    "mixed_norm 1 inf": Entry(
        lambda x: kr.mixed_norm(x, 1, "inf"), lambda x: np.abs(x).sum(1).max(), lambda x: cp.mixed_norm(x, 1, "inf")
    ),
    "mixed_norm inf 1": Entry(
        lambda x: kr.mixed_norm(x, "inf", 1), lambda x: np.abs(x).max(1).sum(), lambda x: cp.mixed_norm(x, "inf", 1)
    ),
    "tv": Entry(kr.tv, lambda x: np.abs(np.diff(x)).sum(), cp.tv, (5,)),
    "tv of matrix": Entry(
        lambda x: kr.tv(x, isotropic=False),
        lambda x: np.abs(np.diff(x, axis=0)).sum() + np.abs(np.diff(x, axis=1)).sum(),
        lambda x: cp.sum(cp.abs(cp.diff(x))) + cp.sum(cp.abs(cp.diff(x, axis=1))),
    ),
    "sum_largest": Entry(lambda x: kr.sum_largest(x, 3), lambda x: largest(x, 3), lambda x: cp.sum_largest(x, 3)),
    "sum_largest fraction": Entry(lambda x: kr.sum_largest(x, 2.4), lambda x: largest(x, 2.4), lambda x: cp.sum_largest(x, 2.4)),
    "sum_largest axis": Entry(
        lambda x: kr.sum_largest(x, 1.5, 1),
        lambda x: largest(x, 1.5, 1),
        lambda x: cp.hstack([cp.sum_largest(x[i], 1.5) for i in range(3)]),
    ),
    "sum_largest all": Entry(lambda x: kr.sum_largest(x, 20), np.sum, cp.sum),
    "sum_largest half": Entry(lambda x: kr.sum_largest(x, 0.5), lambda x: 0.5 * x.max(), lambda x: 0.5 * cp.max(x)),
    "cvar": Entry(lambda x: kr.cvar(x, 0.4), lambda x: largest(x, 3) / 3, lambda x: cp.cvar(x, 0.4), (5,)),
    "dotsort": Entry(
        lambda x: kr.dotsort(x, [3, 1, 1]),
        lambda x: np.sort(x) @ [0, 0, 1, 1, 3],
        lambda x: cp.dotsort(x, np.array([3, 1, 1])),
        (5,),
    ),
    "dotsort signs": Entry(lambda x: kr.dotsort(x, V), lambda x: np.sort(x, None) @ np.sort(V), lambda x: cp.dotsort(x, V), (2, 2)),
    "indicator": Entry(lambda x: kr.indicator([x <= 9]), lambda x: np.zeros(()), lambda x: cp.transforms.indicator([x <= 9])),
    "suppfunc": Entry(
        lambda x: kr.suppfunc(BOX, [BOX <= 2, np.arange(4) - 2 <= BOX])(x),
        lambda x: np.maximum(2 * x, (np.arange(4) - 2) * x).sum(),
        lambda x: cp.sum(cp.maximum(2 * x, cp.multiply(np.arange(4) - 2, x))),
        (4,),
        OTHER_ATOMS,
    ),
    "square": Entry(kr.square, np.square, cp.square),
    "power": Entry(lambda x: kr.power(x, 2), np.square, lambda x: cp.power(x, 2)),
    "sum_squares": Entry(kr.sum_squares, lambda x: (x * x).sum(), cp.sum_squares),
    "sum_squares axis": Entry(
        lambda x: kr.sum_squares(x, 0, True),
        lambda x: (x * x).sum(0, keepdims=True),
        lambda x: cp.sum(cp.square(x), 0, keepdims=True),
    ),
    "quad_over_lin": Entry(lambda x: kr.quad_over_lin(x, 2.5), lambda x: (x * x).sum() / 2.5, lambda x: cp.quad_over_lin(x, 2.5)),
    "var": Entry(kr.var, np.var, cp.var),
    "var axis": Entry(
        lambda x: kr.var(x, 1, ddof=1),
        lambda x: x.var(1, ddof=1),
        lambda x: cp.sum(cp.square(x - cp.mean(x, 1, keepdims=True) @ np.ones((1, 4))), 1) / 3,
    ),
    "huber": Entry(lambda x: kr.huber(x, 0.5), lambda x: huber(x, 0.5), lambda x: cp.huber(x, 0.5)),
    "quad_form": Entry(lambda x: kr.quad_form(x, PSD), lambda x: x @ PSD @ x, lambda x: cp.quad_form(x, PSD), (4,)),
    "quad_form rows": Entry(
        lambda x: kr.quad_form(x, PSD), lambda x: forms(x, PSD), lambda x: cp.hstack([cp.quad_form(x[t], PSD) for t in range(3)])
    ),
    "quad_form each": Entry(
        lambda x: kr.quad_form(x, STACK),
        lambda x: forms(x, STACK),
        lambda x: cp.hstack([cp.quad_form(x[t], STACK[t]) for t in range(3)]),
    ),
    "matrix_frac": Entry(
        lambda x: kr.matrix_frac(x, PSD + np.eye(4)),
        lambda x: x @ np.linalg.solve(PSD + np.eye(4), x),
        lambda x: cp.matrix_frac(x, PSD + np.eye(4)),
        (4,),
    ),
    "matrix_frac matrix": Entry(
        lambda x: kr.matrix_frac(x, np.diag([1.0, 2, 4])),
        lambda x: np.trace(x.T @ np.diag([1.0, 0.5, 0.25]) @ x),
        lambda x: cp.sum([cp.quad_form(x[:, j], np.diag([1.0, 0.5, 0.25])) for j in range(4)]),
    ),
    # A Euclidean norm that is squared
    "norm squared": Entry(lambda x: kr.norm(x - 1) ** 2, lambda x: ((x - 1) ** 2).sum(), lambda x: cp.sum_squares(x - 1), (4,)),
    "norm scaled": Entry(lambda x: (0.5 * kr.norm(x, "fro")) ** 2, lambda x: (x * x).sum() / 4, lambda x: cp.sum_squares(x) / 4),
    "norm2 axis": Entry(lambda x: kr.square(kr.norm2(x, 1)), lambda x: (x * x).sum(1), lambda x: cp.sum(cp.square(x), 1)),
    "norm2 times": Entry(lambda x: kr.norm2(x) * kr.norm2(x), lambda x: (x * x).sum(), cp.sum_squares),
    "mixed_norm 2 2": Entry(lambda x: kr.mixed_norm(x, 2, 2) ** 2, lambda x: (x * x).sum(), cp.sum_squares),
    # Products of an expression with itself
    "multiply itself": Entry(lambda x: kr.multiply(x, x), np.square, cp.square),
    "matmul itself": Entry(lambda x: kr.matmul(x - 1, x - 1), lambda x: (x - 1) @ (x - 1), lambda x: cp.sum_squares(x - 1), (4,)),
    "matmul form": Entry(lambda x: 0.5 * x.T @ PSD @ x, lambda x: 0.5 * x @ PSD @ x, lambda x: 0.5 * cp.quad_form(x, PSD), (4,)),
    "matmul factor": Entry(lambda x: x @ S @ S.T @ x, lambda x: x @ S @ S.T @ x, lambda x: cp.sum_squares(S.T @ x), (4,)),
    "matmul column": Entry(
        lambda x: x.T @ x, lambda x: x.T @ x, lambda x: cp.reshape(cp.sum_squares(x), (1, 1), order="C"), (3, 1)
    ),
    "vdot itself": Entry(lambda x: kr.vdot(x, x), lambda x: (x * x).sum(), cp.sum_squares),
    # Squares of what stays on one side of zero
    "square of norm": Entry(lambda x: kr.square(kr.norm1(x)), lambda x: np.abs(x).sum() ** 2, lambda x: cp.square(cp.norm1(x))),
    "square of concave": Entry(
        lambda x: kr.square(kr.minimum(x, 0)), lambda x: np.minimum(x, 0) ** 2, lambda x: cp.square(cp.neg(x))
    ),
    "square of ptp": Entry(
        lambda x: kr.square(kr.ptp(x)), lambda x: np.ptp(x) ** 2, lambda x: cp.square(cp.norm_inf(PAIRS @ x)), (4,)
    ),
    "abs of concave": Entry(lambda x: kr.abs(-kr.norm1(x)), lambda x: np.abs(x).sum(), cp.norm1),
    "huber of norm": Entry(
        lambda x: kr.huber(kr.norm1(x), 1), lambda x: huber(np.abs(x).sum(), 1)[()], lambda x: cp.huber(cp.norm1(x), 1)
    ),
}

CONCAVE: dict[str, Entry] = {
    "min": Entry(kr.min, np.min, cp.min),
    "min axis": Entry(lambda x: kr.min(x, 0), lambda x: x.min(0), lambda x: cp.min(x, 0)),
    "minimum": Entry(lambda x: kr.minimum(x, W), lambda x: np.minimum(x, W), lambda x: cp.minimum(x, W)),
    "cummin": Entry(lambda x: kr.cummin(x, 1), lambda x: np.minimum.accumulate(x, 1), lambda x: -cp.cummax(-x, 1)),
    "sum_smallest": Entry(lambda x: kr.sum_smallest(x, 2.5), lambda x: -largest(-x, 2.5), lambda x: cp.sum_smallest(x, 2.5)),
    "quad_form negative": Entry(lambda x: kr.quad_form(x, -PSD), lambda x: -x @ PSD @ x, lambda x: cp.quad_form(x, -PSD), (4,)),
    "matmul negative": Entry(lambda x: -x @ x, lambda x: -(x @ x), lambda x: -cp.sum_squares(x), (4,)),
}


class OfData(NamedTuple):
    """A function of data. ``draw`` makes an argument of a generator; ``sign``: what the rules prove of its values."""

    ours: One
    value: One
    draw: Callable[[np.random.Generator], np.ndarray]
    sign: str = "unknown"


def real(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((3, 4))


def positive(rng: np.random.Generator) -> np.ndarray:
    return rng.random((3, 4)) + 0.2


def definite(rng: np.random.Generator) -> np.ndarray:
    L = rng.standard_normal((3, 3))
    return L @ L.T + np.eye(3)


def logarithm(x: np.ndarray) -> Any:
    return np.log(np.exp(x).sum(1))


DATA: dict[str, OfData] = {
    "exp": OfData(kr.exp, np.exp, real, "nonnegative"),
    "log": OfData(kr.log, np.log, positive),
    "sqrt": OfData(kr.sqrt, np.sqrt, positive, "nonnegative"),
    "tanh": OfData(kr.tanh, np.tanh, real),
    "sin": OfData(kr.sin, np.sin, real),
    "cos": OfData(kr.cos, np.cos, real),
    "sigmoid": OfData(kr.sigmoid, lambda x: 1 / (1 + np.exp(-x)), real, "nonnegative"),
    "softplus": OfData(kr.softplus, lambda x: np.log(1 + np.exp(x)), real, "nonnegative"),
    "inv": OfData(kr.inv, np.linalg.inv, definite),
    "cholesky": OfData(kr.cholesky, np.linalg.cholesky, definite),
    "solve": OfData(lambda x: kr.solve(x, H), lambda x: np.linalg.solve(x, H), definite),
    "solve matrix": OfData(lambda x: kr.solve(x, x + 1), lambda x: np.linalg.solve(x, x + 1), definite),
    "std": OfData(lambda x: kr.std(x, 1, ddof=1), lambda x: x.std(1, ddof=1), real, "nonnegative"),
    "log1p": OfData(kr.log1p, np.log1p, positive),
    "logistic": OfData(kr.logistic, lambda x: np.log(1 + np.exp(x)), real, "nonnegative"),
    "log_sum_exp": OfData(lambda x: kr.log_sum_exp(x, 1), logarithm, real),
    "entr": OfData(kr.entr, lambda x: -x * np.log(x), positive),
    "xexp": OfData(kr.xexp, lambda x: x * np.exp(x), real),
    "rel_entr": OfData(lambda x: kr.rel_entr(x, 2 + x**2), lambda x: x * np.log(x / (2 + x**2)), positive),
    "kl_div": OfData(lambda x: kr.kl_div(x, 0.7), lambda x: x * np.log(x / 0.7) - x + 0.7, positive),
    "inv_pos": OfData(kr.inv_pos, lambda x: 1 / x, positive),
    "geo_mean": OfData(kr.geo_mean, lambda x: np.prod(x) ** (1 / x.size), positive, "nonnegative"),
    "harmonic_mean": OfData(kr.harmonic_mean, lambda x: x.size / (1 / x).sum(), positive),
    "prod": OfData(kr.prod, np.prod, real),
    "prod axis": OfData(lambda x: kr.prod(x, 0, True), lambda x: np.prod(x, 0, keepdims=True), real),
    "inv_prod": OfData(kr.inv_prod, lambda x: 1 / np.prod(x), positive),
    "log_det": OfData(kr.log_det, lambda x: np.log(np.linalg.det(x)), definite),
    "tr_inv": OfData(kr.tr_inv, lambda x: np.trace(np.linalg.inv(x)), definite),
    "matrix_frac": OfData(lambda x: kr.matrix_frac(H, x), lambda x: H @ np.linalg.solve(x, H), definite),
    "norm2": OfData(lambda x: kr.norm2(x, 1), lambda x: np.linalg.norm(x, axis=1), real, "nonnegative"),
    "norm": OfData(lambda x: kr.norm(x, "fro"), np.linalg.norm, real, "nonnegative"),
    "pnorm": OfData(lambda x: kr.pnorm(x, 3), lambda x: (np.abs(x) ** 3).sum() ** (1 / 3), real, "nonnegative"),
    "mixed_norm": OfData(kr.mixed_norm, lambda x: np.linalg.norm(x, axis=1).sum(), real, "nonnegative"),
    "tv": OfData(
        kr.tv, lambda x: np.sqrt(np.diff(x, axis=0)[:, :-1] ** 2 + np.diff(x, axis=1)[:-1] ** 2).sum(), real, "nonnegative"
    ),
    "power": OfData(lambda x: kr.power(x, -1.5), lambda x: x**-1.5, positive),
    "power even": OfData(lambda x: x**4, lambda x: x**4, real, "nonnegative"),
    "power none": OfData(lambda x: x**0, np.ones_like, real, "nonnegative"),
    "outer": OfData(lambda x: kr.outer(x[0], x[1]), lambda x: np.outer(x[0], x[1]), real),
    "psd_wrap": OfData(kr.psd_wrap, lambda x: x, definite),
    "symmetric_wrap": OfData(kr.symmetric_wrap, lambda x: x, definite),
    "assume": OfData(lambda x: kr.assume(x, nonneg=True), lambda x: x, positive, "nonnegative"),
    "function": OfData(lambda x: kr.function(torch.erf, x, shape=(3, 4)), np.vectorize(math.erf), real),
    "sum_largest": OfData(lambda x: kr.sum_largest(x, kr.exp(x[0, 0])), lambda x: largest(x, min(np.exp(x[0, 0]), 12)), real),
    "dotsort": OfData(lambda x: kr.dotsort(x[0], x[1]), lambda x: np.sort(x[0]) @ np.sort(x[1]), real),
    "cvar": OfData(lambda x: kr.cvar(x[0], 0.5), lambda x: np.sort(x[0])[2:].mean(), real),
    "cummax": OfData(kr.cummax, cummax, real),
    "ptp": OfData(lambda x: kr.ptp(x, 1), lambda x: np.ptp(x, 1), real, "nonnegative"),
    "quad_form": OfData(lambda x: kr.quad_form(x, PSD), lambda x: forms(x, PSD), real, "nonnegative"),
    "huber": OfData(lambda x: kr.huber(x, 0.5), lambda x: huber(x, 0.5), real, "nonnegative"),
    "kron": OfData(lambda x: kr.kron(x, x), lambda x: np.kron(x, x), real),
    "convolve": OfData(lambda x: kr.convolve(x[0], x[1]), lambda x: np.convolve(x[0], x[1]), real),
    "einsum": OfData(lambda x: kr.einsum("ij,kj->ik", x, x), lambda x: x @ x.T, real),
}

# Of variables: what is said must name the function, why it cannot be, and what can.
REFUSED: dict[str, One] = {
    "exp": kr.exp, "log": kr.log, "sqrt": kr.sqrt, "tanh": kr.tanh, "sin": kr.sin, "cos": kr.cos, "sigmoid": kr.sigmoid,
    "softplus": kr.softplus, "inv": lambda x: kr.inv(kr.outer(x, V)), "cholesky": lambda x: kr.cholesky(kr.outer(x, V)),
    "solve": lambda x: kr.solve(np.eye(4), x), "assume": lambda x: kr.assume(x, nonneg=True),
    "function": lambda x: kr.function(torch.erf, x, shape=4), "std": kr.std, "log1p": kr.log1p, "logistic": kr.logistic,
    "log_sum_exp": kr.log_sum_exp, "entr": kr.entr, "xexp": kr.xexp, "rel_entr": lambda x: kr.rel_entr(V, x),
    "kl_div": lambda x: kr.kl_div(x, V), "inv_pos": kr.inv_pos, "geo_mean": kr.geo_mean, "harmonic_mean": kr.harmonic_mean,
    "prod": kr.prod, "inv_prod": kr.inv_prod, "log_det": lambda x: kr.log_det(kr.diag(x)),
    "tr_inv": lambda x: kr.tr_inv(kr.diag(x)),
    "matrix_frac": lambda x: kr.matrix_frac(V, kr.diag(x)), "lambda_max": lambda x: kr.lambda_max(kr.diag(x)),
    "lambda_min": lambda x: kr.lambda_min(kr.diag(x)), "sigma_max": lambda x: kr.sigma_max(kr.diag(x)),
    "norm_nuc": lambda x: kr.norm_nuc(kr.diag(x)), "perspective": lambda x: kr.perspective(kr.sum_squares(x), x[0]),
    "power": lambda x: kr.power(x, 3), "pnorm": lambda x: kr.pnorm(x, 3), "norm": lambda x: kr.norm(kr.diag(x), 2),
    "norm of order": lambda x: kr.norm(x, 1.5), "mixed_norm": lambda x: kr.mixed_norm(kr.outer(x, V), 2, 1),
    "tv": lambda x: kr.tv(kr.outer(x, V)),
}  # fmt: skip
