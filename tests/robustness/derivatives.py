"""Gradients that are not ours, from one dense KKT solve in NumPy; and ours, taken where users take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray

import karush as kr
from engine.problems import Array, Problem
from robustness.conftest import Backend, Choices
from robustness.judges import as_rows

NAMES = ("Q", "p", "G", "h", "A", "b", "lb", "ub")
Blocks = dict[str, Array]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Vertex:
    """An optimal point and the constraints that hold it: ``active`` marks rows of ``rows``, the problem with bounds as rows."""

    rows: Problem
    x: Array
    y: Array
    z: Array
    active: Mask

    @property
    def K(self) -> Array:
        """[Q A' G_a'; A 0 0; G_a 0 0]."""
        C = np.vstack([self.rows.A, self.rows.G[self.active]])
        return np.block([[self.rows.Q, C.T], [C, np.zeros((len(C), len(C)))]])


def vertex(problem: Problem, x: Array, z: Array) -> Vertex:
    """The exact point of the constraints whose multiplier is larger than their slack, each over its own terms.

    ``z`` belongs to the rows of ``as_rows(problem)``.
    """
    rows = as_rows(problem)
    length = np.linalg.norm(rows.G, axis=1)
    slack = (rows.h - rows.G @ x) / (np.minimum(1, length) + np.abs(rows.h) + np.abs(rows.G) @ np.abs(x))
    pull = z * length / (np.abs(rows.Q) @ np.abs(x) + np.abs(rows.p)).max()
    active = pull > slack
    held = Vertex(rows, x, np.zeros(len(rows.b)), z, active)
    n, k = len(x), len(rows.b)
    found = solved(held.K, np.concatenate([-rows.p, rows.b, rows.h[active]]))
    z = np.zeros(len(rows.h))
    z[active] = found[n + k :]
    return Vertex(rows, found[:n], found[n : n + k], z, active)


def solved(K: Array, r: Array) -> Array:
    """K^-1 r, refined with residuals in extended precision: exact to rounding while cond K < 1e15."""
    inverse = np.linalg.inv(K)
    wide, u = K.astype(np.longdouble), np.zeros(len(r), np.longdouble)
    for _ in range(6):
        u = u + inverse @ (r - wide @ u).astype(np.float64)
    return u.astype(np.float64)


def exact(problem: Problem, at: Vertex, w: Array) -> Blocks:
    """Gradients of w'x at a regular point: l = K^-1 (w, 0, 0), then the outer products of ``backends/adjoint``."""
    n, k, m = len(at.x), len(at.y), len(problem.h)
    l = solved(at.K, np.concatenate([w, np.zeros(len(at.K) - n)]))  # noqa: E741  # the letter of the derivation
    l_x, l_y, l_z = l[:n], l[n : n + k], np.zeros(len(at.z))
    l_z[at.active] = l[n + k :]
    blocks = {
        "Q": -(np.outer(l_x, at.x) + np.outer(at.x, l_x)) / 2,
        "p": -l_x,
        "G": -(np.outer(l_z[:m], at.x) + np.outer(at.z[:m], l_x)),
        "h": l_z[:m],
        "A": -(np.outer(l_y, at.x) + np.outer(at.y, l_x)),
        "b": l_y,
    }
    first = m
    for name, sign in (("lb", -1.0), ("ub", 1.0)):
        bound = getattr(problem, name)
        if bound is not None:
            keep = np.isfinite(bound)
            blocks[name] = np.zeros(n)
            blocks[name][keep] = sign * l_z[first : first + keep.sum()]
            first += keep.sum()
    return blocks


def ours(
    problem: Problem, w: Array, backend: Backend, *, dtype: torch.dtype = torch.float64, **options: Unpack[Choices]
) -> tuple[kr.QPSolution, Blocks]:
    """The solution, and the gradients of w'x in every block that is given."""
    given = {name: getattr(problem, name) for name in NAMES if getattr(problem, name) is not None}
    leaves = {name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in given.items()}
    solution = kr.solve_qp(**leaves, on_failure="return", backend=backend, **options)  # type: ignore[arg-type]  # by name
    (torch.tensor(w, dtype=dtype) * solution.x).sum().backward()
    return solution, {name: leaf.grad.double().numpy() for name, leaf in leaves.items() if leaf.grad is not None}


def flags_of(problem: Problem, solution: kr.QPSolution) -> kr.GradientFlag:
    """Of a single problem."""
    blocks, bounds = problem.arguments()
    found = kr.conditioning(solution, *blocks, lb=bounds.get("lb"), ub=bounds.get("ub"))
    return kr.GradientFlag(int(found.flags))


def error(found: Array, true: Array) -> float:
    """The largest difference over the largest entry; NaN if there is one."""
    return float(np.abs(found - true).max(initial=0) / (np.abs(true).max(initial=0) or 1.0))
