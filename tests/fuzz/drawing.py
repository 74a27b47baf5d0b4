"""A model in the making: the numbers it draws, its leaves with their values, and what the rules of the language refused.

Every variable has a known point, the same for all items of the batch, and every parameter a value for each item. So the value of
any expression is known at once, and what is built around it can be met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

import karush as kr
from karush.dsl.curvature import Form
from karush.dsl.walk import postorder

T = TypeVar("T")
Array = NDArray[np.float64]
Shape = tuple[int, ...]
SHAPES: tuple[Shape, ...] = ((), (1,), (2,), (3,), (4,), (6,), (1, 3), (3, 1), (2, 2), (2, 3), (3, 3), (4, 3), (2, 1, 3), (2, 2, 2))
SQUARE: tuple[Shape, ...] = ((2, 2), (3, 3))


def values_of(roots: Iterable[kr.Expression], leaves: dict[str, Array]) -> list[Array]:
    """The values of expressions for one item, by the definition of every atom: no compiler and no solver takes part."""
    roots = list(roots)
    known: dict[int, Array] = {}
    for node in postorder(roots):
        known[id(node)] = _value(node, [known[id(argument)] for argument in node.args], leaves)
    return [known[id(root)] for root in roots]


def _value(node: kr.Expression, args: list[Array], leaves: dict[str, Array]) -> Array:
    if isinstance(node, kr.Constant):
        return node.value
    if isinstance(node, kr.Variable | kr.Parameter):
        return leaves[node.key]
    assert node.atom is not None
    if node.atom.name == "suppfunc":
        return _support(*args)
    if node.atom.value is None:
        return np.asarray(node.data["callable"](*map(torch.as_tensor, args)))
    return np.asarray(node.atom.value(*args, **node.data))


def _support(y: Array, G: Array, h: Array, A: Array, b: Array) -> Array:
    """The largest y'x with Gx <= h and Ax = b, by HiGHS."""
    return np.asarray(-linprog(-y, G, h, A, b, bounds=(None, None)).fun)


class RoundingError(Exception):
    """Data that are the rounding of a zero: what they mean depends on who computes them."""


@dataclass
class Drawing:
    """``leaves`` by their keys; ``values``: of every leaf, one for each item. ``rejected``: codes of what was refused, counted."""

    rng: np.random.Generator
    items: int
    leaves: dict[str, kr.Variable | kr.Parameter] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one(self, options: Sequence[T]) -> T:
        return options[int(self.rng.integers(len(options)))]

    def number(self, low: float, high: float) -> float:
        """A number of two digits, which reads well in a model that fails."""
        return round(float(self.rng.uniform(low, high)), 2)

    def normal(self, shape: Shape, scale: float = 0.7) -> Array:
        """Numbers of two digits around zero; at times whole ones, among which are zeros and ties."""
        raw = self.rng.integers(-2, 3, shape) if self.chance(0.15) else np.round(scale * self.rng.standard_normal(shape), 2)
        return np.asarray(raw, dtype=np.float64)

    def item(self, i: int) -> dict[str, Array]:
        return {key: value[i] for key, value in self.values.items()}

    def at(self, expression: kr.Expression) -> Array:
        """The values of an expression at the known point, one for each item."""
        return np.stack([values_of([expression], self.item(i))[0] for i in range(self.items)])

    def hold(self, leaf: kr.Variable | kr.Parameter, values: Array) -> None:
        self.leaves[leaf.key], self.values[leaf.key] = leaf, np.array(values, dtype=np.float64)

    def fresh(self, stem: str) -> str | None:
        """A name; one leaf in ten has none."""
        return None if self.chance(0.1) else f"{stem}{len(self.leaves)}"

    def variables(self) -> list[kr.Variable]:
        return [leaf for leaf in self.leaves.values() if isinstance(leaf, kr.Variable)]

    def parameters(self, shape: Shape) -> list[kr.Parameter]:
        """Those of a shape that are there already."""
        return [leaf for leaf in self.leaves.values() if isinstance(leaf, kr.Parameter) and leaf.shape == shape]

    def given(self, values: Array) -> kr.Parameter:
        """A new parameter without attributes that has these values."""
        parameter = kr.Parameter(values.shape[1:], name=self.fresh("p"))
        self.hold(parameter, values)
        return parameter

    def accepted(self, draw: Callable[[], T], attempts: int = 200) -> T:
        """Draw until the rules accept; every refusal is counted under its codes."""
        for _ in range(attempts):
            try:
                return draw()
            except kr.ModelError as error:
                self.rejected.update({finding.code for finding in error.diagnostics})
            except RoundingError:
                self.rejected["rounding"] += 1
        raise AssertionError(f"{attempts} draws were refused: {self.rejected}")


def judged(expression: kr.Expression) -> kr.Expression:
    """The expression, if some place in a quadratic program takes it. Raises what a problem with any other would say."""
    if not expression.curvature.known or expression.form is Form.NONE:
        kr.Problem(kr.Minimize(kr.sum(expression)))
        raise AssertionError("a problem took an expression of unknown curvature")
    return expression
