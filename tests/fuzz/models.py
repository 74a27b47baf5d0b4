"""Whole models, feasible and bounded by construction: drawn from a seed, with a batch of values for their parameters.

objective     nests of atoms, plus for each variable a strongly convex term, or a box
constraints   each around the known point, which meets them all
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

import karush as kr
from fuzz.coefficients import coefficient, positive, regular
from fuzz.constraints import again, box, constraint
from fuzz.drawing import Array, Drawing, judged
from fuzz.leaves import variable
from fuzz.steps import nest, scalar


@dataclass(frozen=True)
class Model:
    """``values`` of all leaves by key, one for each item; ``rejected``: codes of the pieces that the rules refused."""

    seed: int
    problem: kr.Problem
    values: dict[str, Array]
    items: int
    rejected: Counter[str]

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """What a call of the layer takes: a batch, or one value for all items; nothing for parameters with a value of their own."""
        free = {name: self.values[p.key] for name, p in self.problem.parameters.items() if p.value is None}
        return {name: torch.tensor(value[0] if (value == value[:1]).all() else value) for name, value in free.items()}

    @property
    def atoms(self) -> set[str]:
        """Names of the atoms that occur in it."""
        bounds = [side for v in self.problem.variables.values() for side in (v.lower, v.upper) if side is not None]
        roots = [*self.problem.expressions, *bounds]
        return {atom for root in roots for atom in root.atoms()}


def model(seed: int, items: int = 2) -> Model:
    """The model of a seed."""
    d = Drawing(np.random.default_rng(seed), items)
    for _ in range(int(d.rng.integers(1, 4))):
        d.accepted(lambda: variable(d, lambda shape: positive(d, shape)))
    cost: kr.Expression = kr.Constant(0.0)
    for _ in range(int(d.rng.integers(1, 4))):
        cost = cost + _term(d)
    cost = cost + d.given(d.normal((items,)))  # what has no input at all comes back in single precision
    constraints: list[kr.Constraint] = []
    for x in d.variables():
        if d.chance(0.35):
            constraints += d.accepted(partial(box, d, x))
        else:
            cost = cost + d.accepted(partial(_near, d, x))
    constraints += [constraint(d) for _ in range(int(d.rng.integers(0, 6)))]
    constraints += [again(d, d.one(constraints))] if constraints and d.chance(0.15) else []
    cost = cost * 10.0 ** d.one((-2, -1, 1, 2)) if d.chance(0.15) else cost
    maximize = d.chance(0.4)
    objective: kr.Minimize | kr.Maximize = kr.Maximize(d.number(-1, 1) - cost) if maximize else kr.Minimize(cost)
    listed = {f"c{i}": c for i, c in enumerate(constraints)} if d.chance(0.5) else [constraints[:2], *constraints[2:]]
    problem = kr.Problem(objective, listed)
    problem = d.one(
        (
            problem,
            problem,
            problem,
            2 * problem,
            -problem,
            problem / 4 + kr.Problem(kr.Maximize(-cost) if maximize else kr.Minimize(cost)),
        )
    )
    return Model(seed, problem, d.values, items, d.rejected)


def _term(d: Drawing) -> kr.Expression:
    """A convex number; at times the indicator of a set that holds the known point."""
    if d.chance(0.08):
        return d.accepted(lambda: judged(kr.indicator([constraint(d)])))

    def draw() -> kr.Expression:
        x = scalar(d, nest(d, int(d.rng.integers(1, 7))))
        x = -x if not x.curvature.convex else x
        return judged(positive(d, ()) * x if d.chance(0.4) else x)

    return d.accepted(draw)


def _near(d: Drawing, x: kr.Variable) -> kr.Expression:
    """A strongly convex cost of a variable."""
    away = x - coefficient(d, d.one(((), x.shape)))
    kind = d.one("sspwm")
    if kind == "p" and x.size:
        return kr.quad_form(away.reshape(-1), regular(d, x.size))
    if kind == "w":
        return kr.sum(kr.multiply(0.1 + positive(d, x.shape), kr.square(away)))
    if kind == "m":
        return (d.number(0.1, 1) + positive(d, ())) * kr.sum_squares(away)
    return kr.sum_squares(away)
