"""Variables and parameters of every kind that can be declared, and their values."""

from __future__ import annotations

from typing import Any

import numpy as np

import karush as kr
from fuzz.drawing import SHAPES, SQUARE, Array, Drawing, Shape

SIGNS: tuple[dict[str, bool], ...] = ({"nonneg": True}, {"nonpos": True}, {"pos": True}, {"neg": True})


# Variables


def variable(d: Drawing, bound: Any) -> kr.Variable:
    """A variable and its point. ``bound`` draws a positive coefficient of a shape."""
    structure = d.one(("", "", "", "symmetric", "diag", "sparsity"))
    shape = d.one(SQUARE if structure in ("symmetric", "diag") else SHAPES)
    given: dict[str, Any] = {structure: True} if structure in ("symmetric", "diag") else {}
    if structure == "sparsity" and shape:
        given["sparsity"] = d.rng.random(shape) < 0.7
    limits = d.one(("", "", "sign", "bounds", "bounds", "both"))
    if limits in ("sign", "both"):
        given |= d.one(SIGNS if not structure else SIGNS[:2])
    if limits in ("bounds", "both"):
        given["bounds"] = [d.one((None, -1.5, _low(d, shape), -bound(shape) - 0.1, -bound(()) - 0.1)),
                           d.one((None, 2, _high(d, shape), bound(shape) + 0.1, bound(()) + 0.1))]  # fmt: skip
    if not given and d.chance(0.1):  # some entries are fixed
        low = d.normal(shape)
        given["bounds"] = [low, low + np.where(d.rng.random(shape) < 0.4, 0.0, d.rng.uniform(0.1, 2, shape))]
    x = kr.Variable(shape, name=d.fresh("x"), **given)
    d.hold(x, np.broadcast_to(_within(d, x), (d.items, *shape)))
    return x


def _low(d: Drawing, shape: Shape) -> Array:
    return np.where(d.rng.random(shape) < 0.3, -np.inf, -np.abs(d.normal(shape)) - 0.2)


def _high(d: Drawing, shape: Shape) -> Array:
    return np.where(d.rng.random(shape) < 0.3, np.inf, np.abs(d.normal(shape)) + 0.2)


def _within(d: Drawing, x: kr.Variable) -> Array:
    """A point within the bounds that all items share, inside or on them."""
    low, high = -2 * np.ones(x.shape), 2 * np.ones(x.shape)
    if x.lower is not None:
        low = np.maximum(low, d.at(x.lower).max(0))
    if x.upper is not None:
        high = np.minimum(high, d.at(x.upper).min(0))
    share = d.one((d.rng.uniform(0.1, 0.9, x.shape), d.rng.integers(0, 3, x.shape) / 2))
    if x.attributes.symmetric:
        low, high, share = np.maximum(low, low.T), np.minimum(high, high.T), (share + share.T) / 2
    point = low + (high - low) * share
    return point if x.places is None else np.where(x.places.reshape(x.shape) < 0, 0.0, point)


# Parameters


def parameter(d: Drawing, shape: Shape, **attributes: Any) -> kr.Parameter:
    """A parameter of these attributes and this shape, sometimes one that is there already; sometimes the same for all items."""
    known = [p for p in d.parameters(shape) if set(p.attributes.declared) == set(attributes)]
    if known and "sparsity" not in attributes and "bounds" not in attributes and d.chance(0.4):
        return d.one(known)
    value = np.stack([_drawn(d, shape, attributes) for _ in range(d.items)])
    fixed = d.chance(0.08)
    if fixed or d.chance(0.15):
        value = np.broadcast_to(value[0], value.shape)
    p = kr.Parameter(shape, name=d.fresh("p"), value=value[0] if fixed else None, **attributes)
    d.hold(p, value)
    return p


def of_any_sign(d: Drawing, shape: Shape) -> kr.Parameter:
    """Of any sign and structure: some with signs or bounds, square ones with structure."""
    options: list[dict[str, Any]] = [{}, {}, *SIGNS, {"bounds": [-1, 1]}, {"boolean": True}]
    options.append({"sparsity": d.rng.random(shape) < 0.7})
    if shape in SQUARE:
        options += [{"symmetric": True}, {"diag": True}, {"PSD": True}, {"NSD": True}]
    return parameter(d, shape, **d.one(options))


def _drawn(d: Drawing, shape: Shape, attributes: dict[str, Any]) -> Array:
    raw = d.normal(shape)
    if "PSD" in attributes or "NSD" in attributes:
        return raw @ raw.T if "PSD" in attributes else -raw @ raw.T
    if "symmetric" in attributes:
        return (raw + raw.T) / 2
    if "diag" in attributes:
        return raw * np.eye(len(raw))
    if "sparsity" in attributes:
        return np.where(attributes["sparsity"], raw, 0.0)
    if "boolean" in attributes:
        return (raw > -0.2).astype(np.float64)
    if "bounds" in attributes:
        return np.clip(raw, -1, 1)
    size = np.abs(raw) + 0.3 if {"pos", "neg"} & attributes.keys() else np.abs(raw) * (d.rng.random(shape) > 0.15)
    return size if {"nonneg", "pos"} & attributes.keys() else -size if attributes else raw
