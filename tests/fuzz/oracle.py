"""The model of one item as cvxpy states it. What cvxpy has no word for is put into words that it has, and no row is lost:

a function of torch            the value that it has for this item
the structure of a variable    rows that say which entries are zero, and which are equal
a sign that bounds imply       declared, for cvxpy does not see it
an indicator                   the rows that it stands for
a support function             its dual: sup { y'x : Gx <= h, Ax = b } = min { h'u + b'v : G'u + A'v = y, u >= 0 }
a constraint of no rows        nothing
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import cvxpy as cp
import numpy as np

import karush as kr
from fuzz.drawing import Array, values_of
from fuzz.models import Model
from karush.dsl.curvature import Form
from karush.dsl.expression import apply
from karush.dsl.walk import postorder

TIGHT = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
LONG = {"eps_abs": 1e-9, "eps_rel": 1e-9, "max_iters": 200_000}
LADDER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Clarabel to 1e-10", cp.CLARABEL, TIGHT),
    ("Clarabel to 1e-8", cp.CLARABEL, {}),
    ("SCS to 1e-9", cp.SCS, LONG),
)


def optimum(model: Model, i: int) -> Iterator[tuple[str, float]]:
    """Optimal values of one item by one oracle after the other, those that call themselves optimal.

    The value is that of the solver: cvxpy 1.9.3 stumbles over some constants with one entry when it computes it anew.
    """
    item = {key: value[i] for key, value in model.values.items()}
    problem = in_words(model.problem, item)
    cvxpy: Any = problem.to_cvxpy({name: item[p.key] for name, p in problem.parameters.items()}).problem
    for name, solver, options in LADDER:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its ways to canonicalize
            data, chain, inverse = cvxpy.get_problem_data(solver, solver_opts=dict(options))
            found = chain.invert(chain.solve_via_data(cvxpy, data, solver_opts=dict(options)), inverse)
        if found.status == cp.OPTIMAL:
            yield name, float(found.opt_val)


def in_words(problem: kr.Problem, item: Mapping[str, Array]) -> kr.Problem:
    """The problem without what cvxpy has no word for."""
    done: dict[int, kr.Expression] = {}
    bounds = [side for v in problem.variables.values() for side in (v.lower, v.upper) if side is not None]
    rows: dict[str, kr.Constraint] = {}
    for node in postorder([*bounds, *problem.expressions]):
        if isinstance(node, kr.Variable):
            done[id(node)] = _plain(node, done)
            rows |= _structure(node, done[id(node)])
            continue
        args = [done[id(argument)] for argument in node.args]
        name = "" if node.atom is None or node.form is Form.CONSTANT else node.atom.name
        if name == "indicator":
            done[id(node)] = kr.Constant(0.0)
            rows |= _named(args[0] <= 0, args[1] == 0)
        elif name == "suppfunc":
            y, G, h, A, b = args
            u, v = kr.Variable(h.size, nonneg=True), kr.Variable(b.size)
            done[id(node)] = h @ u + b @ v if b.size else h @ u
            rows |= _named(G.T @ u + A.T @ v == y if b.size else G.T @ u == y)
        else:
            done[id(node)] = _worded(node, args, item)
    kept = {name: _rebuilt(c, done) for name, c in problem.constraints.items() if c.size}
    sense = kr.Minimize if problem.objective.sign > 0 else kr.Maximize
    return kr.Problem(sense(done[id(problem.objective.expression)]), kept | rows)


def _plain(v: kr.Variable, done: Mapping[int, kr.Expression]) -> kr.Variable:
    """With the signs that follow from its bounds declared, and without structure."""
    sides = [None if side is None else done[id(side)] for side in (v.lower, v.upper)]
    return kr.Variable(v.shape, name=v.name, nonneg=v.is_nonneg(), nonpos=v.is_nonpos(), bounds=sides)


def _structure(v: kr.Variable, x: kr.Expression) -> dict[str, kr.Constraint]:
    """Entries that are equal to one another, or zero."""
    if v.places is None:
        return {}
    places, flat = v.places, x.reshape(-1)
    first = np.array([int(np.argmax(places == place)) for place in places])
    zero, copied = places < 0, (first != np.arange(len(places))) & (places >= 0)
    return _named(flat[zero] == 0, flat[copied] == flat[first[copied]])


def _named(*rows: kr.Constraint) -> dict[str, kr.Constraint]:
    """Those that are any."""
    return {f"row {c.key}": c for c in rows if c.size}


def _worded(node: kr.Expression, args: list[kr.Expression], item: Mapping[str, Array]) -> kr.Expression:
    if node.atom is None:
        return node
    if node.form is Form.CONSTANT and node.atom.value is None:
        return kr.Constant(values_of([node], dict(item))[0])
    return apply(node.atom.name, *args, **node.data)


def _rebuilt(c: kr.Constraint, done: Mapping[int, kr.Expression]) -> kr.Constraint:
    left, right, active = done[id(c.left)], done[id(c.right)], None if c.active is None else done[id(c.active)]
    if isinstance(c, kr.Soft):
        return replace(c, left=left, right=right, active=active, weight=done[id(c.weight)])
    return replace(c, left=left, right=right, active=active)
