"""Constraints of every kind, around the known point: the other side has the value that the point needs, and some room.

affine == data        convex <= data        convex <= concave        concave >= data
by a sign or by name, of one variable, on data only, without rows; soft; for some items only
"""

from __future__ import annotations

import numpy as np

import karush as kr
from fuzz.coefficients import coefficient, positive
from fuzz.drawing import Array, Drawing
from fuzz.leaves import parameter
from fuzz.steps import affine, nest

FAR = 5.0  # how far a row that does not exist would be from being met


def box(d: Drawing, x: kr.Variable) -> list[kr.Constraint]:
    """Limits of all entries, which hold a linear objective."""
    size = kr.abs(x) if d.chance(0.3) else x
    value = float(np.abs(d.at(x)).max(initial=0.0))
    high = value + d.number(0.3, 2) + (positive(d, ()) if d.chance(0.5) else 0.0)
    return [size <= high, x >= -high]


def again(d: Drawing, c: kr.Constraint) -> kr.Constraint:
    """The same once more, in another scale: one of the two says nothing new."""
    scale = d.one((1.0, 2.0, 0.1))
    left, right = scale * c.left, scale * c.right
    twice = right == left if c.op == "==" else left <= right if c.op == "<=" else left >= right
    twice = twice if c.active is None else twice.where(c.active)
    return kr.soft(twice, c.weight, c.penalty) if isinstance(c, kr.Soft) else twice


def constraint(d: Drawing) -> kr.Constraint:
    """One more constraint; every refusal of the rules is counted."""
    return d.accepted(lambda: _checked(d.one(KINDS)(d)))


def _checked(c: kr.Constraint) -> kr.Constraint:
    kr.Problem(kr.Minimize(0.0), [c])
    return c


def _equality(d: Drawing) -> kr.Constraint:
    """Few rows, so that a point remains to be chosen."""
    x = affine(d)
    x = x if x.size < 3 else x.reshape(-1)[: int(d.rng.integers(1, 3))]
    return _some(d, x, "==")


def _inequality(d: Drawing) -> kr.Constraint:
    x = nest(d, int(d.rng.integers(0, 4)))
    return _some(d, x, "<=" if x.curvature.convex else ">=")


def _curved(d: Drawing) -> kr.Constraint:
    """convex <= concave"""
    x, y = nest(d, 2), nest(d, 2)
    x, y = x if x.curvature.convex else -x, y if y.curvature.concave else -y
    y = y if y.shape in (x.shape, ()) else kr.min(y)
    return x <= y + _level(d, d.at(x - y), "<=", None)


def _single(d: Drawing) -> kr.Constraint:
    """Of one variable: a native bound."""
    x = d.one(d.variables())
    part = x if not x.ndim or d.chance(0.5) else x[::2]
    return _some(d, d.number(-1.5, 1.5) * part if d.chance(0.4) else part, d.one(("<=", ">=")))


def _named(d: Drawing) -> kr.Constraint:
    x = affine(d)
    if d.chance(0.4):
        return kr.Zero(kr.sum(x) - d.given(d.at(kr.sum(x))))
    level = _level(d, d.at(x), "<=", None)
    return kr.NonNeg(level - x) if d.chance(0.5) else kr.NonPos(x - level)


def _of_data(d: Drawing) -> kr.Constraint:
    """A fact of the parameters."""
    p = coefficient(d, d.one(((), (2,))))
    return p <= round(float(d.at(p).max(initial=0.0)) + 0.5, 2)


def _without_rows(d: Drawing) -> kr.Constraint:
    x = d.one(d.variables()).reshape(-1)
    return d.one((x[:0] <= 1, x[x.size :] == 3))


def _shifted(d: Drawing) -> kr.Constraint:
    """M x == M v, where v is the point: consistent whatever M is."""
    x = d.one(d.variables())
    M = coefficient(d, (int(d.rng.integers(1, 3)), x.size))
    return M @ x.reshape(-1) == M @ d.given(d.values[x.key]).reshape(-1)


def _soft(d: Drawing) -> kr.Constraint:
    """Whatever the other side is."""
    c = d.one((_equality, _inequality, _curved, _single))(d)
    weight = positive(d, d.one(((), c.shape)))
    return kr.soft(c, weight, penalty=d.one(("l1", "l2")))


KINDS = (
    _equality,
    _inequality,
    _inequality,
    _inequality,
    _curved,
    _single,
    _named,
    _of_data,
    _without_rows,
    _shifted,
    _soft,
    _soft,
)


def _some(d: Drawing, x: kr.Expression, op: str) -> kr.Constraint:
    """x against data, sometimes only where a condition holds."""
    active, there = _condition(d, x.shape) if d.chance(0.25) else (None, None)
    level = _level(d, d.at(x), op, there)
    sides = (level, x) if d.chance(0.3) else (x, level)
    turned = {"==": "==", "<=": ">=", ">=": "<="}[op] if sides[0] is level else op
    c = sides[0] == sides[1] if turned == "==" else sides[0] <= sides[1] if turned == "<=" else sides[0] >= sides[1]
    return c if active is None else c.where(active)


def _condition(d: Drawing, shape: tuple[int, ...]) -> tuple[kr.Expression, Array]:
    """Where rows exist, and its value."""
    smaller = d.one(((), shape, shape[-1:]))
    p = parameter(d, smaller, boolean=True)
    active = d.one((p, p, 1 - p, kr.multiply(p, parameter(d, smaller, boolean=True)), kr.Constant(d.rng.random(smaller) < 0.6)))
    return active, np.stack([np.broadcast_to(value, shape) for value in d.at(active)])


def _level(d: Drawing, value: Array, op: str, there: Array | None) -> kr.Expression:
    """Data that the point meets, with room or without; where a row does not exist, data that it would break."""
    room = np.zeros(value.shape) if op == "==" or d.chance(0.1) else d.rng.uniform(0.05, 1, value.shape)
    level = value - room if op == ">=" else value + room
    if there is not None:
        level = np.where(there > 0, level, level + (FAR if op == ">=" else -FAR))
    elif op != "==" and d.chance(0.3):  # one number for all rows and items
        return kr.Constant(level.max(initial=-1.0) if op == "<=" else level.min(initial=1.0))
    elif np.ptp(level, axis=0).max(initial=0.0) == 0 and d.chance(0.5):
        return kr.Constant(level[0])
    moved = coefficient(d, value.shape[1:])
    return d.given(level) if d.chance(0.6) else d.given(level - d.at(moved)) + moved
