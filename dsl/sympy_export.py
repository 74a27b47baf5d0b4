"""A problem as sympy would state it, with its Lagrangian and conditions of optimality. Needs sympy (``pip install karush[sympy]``).

    L = f + sum of y (left - right) over equalities + sum of z (left - right) over <= + sum of z (right - left) over >=

with f what is minimised (minus the objective under ``Maximize``) and z >= 0: the signs of ``solution.dual``. A vector is a column,
a matrix a matrix of symbols, three and more dimensions an array; entries of x are x_0, x_1, ... in C order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy.matrices.expressions.matexpr import MatrixElement

from .expression import Constant, Expression
from .leaves import Parameter, Variable
from .problem import Problem
from .soft import Soft
from .walk import postorder

sp: Any = sympy  # it carries no types
Entries = NDArray[np.object_]
EXACT = 1024  # fractions of powers of two up to here are written as fractions
RELATIONS = {"==": sp.Eq, "<=": sp.Le, ">=": sp.Ge}


@dataclass(frozen=True)
class Rows:
    """A constraint entry by entry: relations, what must vanish or not exceed zero, and the multipliers."""

    relations: tuple[Any, ...]
    residuals: tuple[Any, ...]
    multipliers: tuple[Any, ...]
    equality: bool


@dataclass(frozen=True)
class KKT:
    """Conditions of optimality: what must vanish as expressions, what must hold as relations."""

    stationarity: Mapping[str, Any]  # by variable, of its shape: derivatives of the Lagrangian
    primal: Mapping[str, tuple[Any, ...]]  # by constraint
    dual: tuple[Any, ...]  # multipliers of inequalities are nonnegative
    complementarity: tuple[Any, ...]  # multiplier times residual


@dataclass(frozen=True, eq=False)
class SympyModel:
    """The problem in sympy; everything is by the names of the problem.

    ``sense`` is "minimize" or "maximize". ``constraints``: relations of entries in C order. ``domain``: the same for declared signs
    and bounds of variables. ``duals``: a multiplier for each constraint, of its shape; those of the domain are in ``rows``. What is
    softened by ``kr.soft`` is priced in the objective. ``facts``: what ``kr.from_sympy`` must be told, as ``assume``.
    """

    sense: str
    objective: Any
    variables: Mapping[str, Any]
    parameters: Mapping[str, Any]
    constraints: Mapping[str, tuple[Any, ...]]
    domain: Mapping[str, tuple[Any, ...]]
    duals: Mapping[str, Any]
    rows: Mapping[str, Rows]
    facts: Mapping[Any, str]

    @cached_property
    def lagrangian(self) -> Any:
        """L(x, y, z), of the minimisation."""
        cost = self.objective if self.sense == "minimize" else -self.objective
        terms = [z * r for rows in self.rows.values() for z, r in zip(rows.multipliers, rows.residuals, strict=True) if r != -sp.oo]
        return sp.Add(cost, *terms)

    @cached_property
    def kkt(self) -> KKT:
        """Where L is smooth, these say that a point is optimal; Abs and Max are differentiated by sympy's rules."""
        inequalities = [rows for rows in self.rows.values() if not rows.equality]
        return KKT(
            MappingProxyType({name: self._gradient(leaf) for name, leaf in self.variables.items()}),
            MappingProxyType({name: rows.relations for name, rows in self.rows.items()}),
            tuple(sp.Ge(z, 0, evaluate=False) for rows in inequalities for z in rows.multipliers),
            tuple(
                z if r == -sp.oo else z * r for rows in inequalities for z, r in zip(rows.multipliers, rows.residuals, strict=True)
            ),
        )

    def _gradient(self, leaf: Any) -> Any:
        def slope(entry: Any) -> Any:
            return sp.diff(self.lagrangian, entry) if entry.is_Symbol else sp.Integer(0)

        return leaf.applyfunc(slope) if hasattr(leaf, "applyfunc") else slope(leaf)


def export(problem: Problem) -> SympyModel:
    """State the problem in sympy."""
    symbols = _Symbols()
    everything: dict[str, Variable | Parameter] = {**problem.variables, **problem.parameters}
    known = {leaf.key: symbols.leaf(name, leaf) for name, leaf in everything.items()}
    done: dict[int, Entries] = {}

    def entries(expression: Expression) -> Entries:
        for node in postorder([expression]):
            if id(node) not in done:
                done[id(node)] = _node(node, [done[id(argument)] for argument in node.args], known)
        return done[id(expression)]

    sign, objective = problem.objective.sign, entries(problem.objective.expression).item()
    rows: dict[str, Rows] = {}
    for name, constraint in problem.constraints.items():
        if isinstance(constraint, Soft):
            objective = objective + sign * entries(constraint.price).item()
        else:
            active = None if constraint.active is None else entries(constraint.active)
            rows[name] = _rows(symbols, name, constraint.op, entries(constraint.left), entries(constraint.right), active)
    stated = list(rows)
    for name, leaf in problem.variables.items():
        for label, op, limit in _domain(name, leaf):
            right = np.zeros(leaf.shape, dtype=object) if limit is None else entries(limit)
            rows[label] = _rows(symbols, label, op, known[leaf.key], np.broadcast_to(right, leaf.shape), None)
    assumed = [node for node in postorder(problem.expressions) if node.atom is not None and node.atom.name == "assume"]
    facts: dict[Any, str] = {objective: "convex" if sign > 0 else "concave"}
    for node in assumed:
        attributes = node.data["attributes"]
        signs = [name for name, holds in (("nonneg", attributes.sign.nonneg), ("nonpos", attributes.sign.nonpos)) if holds]
        facts |= {entry: fact for fact in signs for entry in entries(node).reshape(-1).tolist() if entry.free_symbols}
    leaves = {name: _public(known[leaf.key]) for name, leaf in everything.items()}
    duals = {
        name: _public(np.array(rows[name].multipliers, dtype=object).reshape(problem.constraints[name].shape)) for name in stated
    }
    return SympyModel(
        "minimize" if sign > 0 else "maximize",
        objective,
        MappingProxyType({name: leaves[name] for name in problem.variables}),
        MappingProxyType({name: leaves[name] for name in problem.parameters}),
        MappingProxyType({name: rows[name].relations for name in stated}),
        MappingProxyType({name: found.relations for name, found in rows.items() if name not in stated}),
        MappingProxyType(duals),
        MappingProxyType(rows),
        MappingProxyType(facts),
    )


class _Symbols:
    """Real symbols under names that are not taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, name: str, **assumptions: bool) -> Any:
        """A symbol; of an array's entry the indices follow the name."""
        wanted = re.sub(r"\W", "_", name)
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return sp.Symbol(wanted, real=True, **assumptions)

    def leaf(self, name: str, leaf: Variable | Parameter) -> Entries:
        """Entries of a leaf; of a symmetric matrix both of a pair are one symbol, outside a sparsity pattern they are zero."""
        attributes = leaf.attributes
        known = {word: True for word, holds in (("nonnegative", leaf.sign.nonneg), ("nonpositive", leaf.sign.nonpos)) if holds}
        found = np.empty(leaf.shape, dtype=object)
        for at in np.ndindex(leaf.shape):
            pattern = attributes.sparsity
            if (attributes.diag and at[0] != at[1]) or (pattern is not None and not pattern.array[at]):
                found[at] = sp.Integer(0)
            elif attributes.square and at[0] > at[1]:
                found[at] = found[at[::-1]]
            else:
                found[at] = self.new("_".join([name, *map(str, at)]), **known)
        return found


def _rows(symbols: _Symbols, name: str, op: str, left: Entries, right: Entries, active: Entries | None) -> Rows:
    letter = "y" if op == "==" else "z"
    relations, residuals, multipliers = [], [], []
    for at in np.ndindex(left.shape):
        relation = RELATIONS[op](left[at], right[at], evaluate=False)
        residual = right[at] - left[at] if op == ">=" else left[at] - right[at]
        if active is not None:  # 0 where the row does not exist
            relation, residual = sp.Or(sp.Eq(active[at], 0), relation), active[at] * residual
        relations.append(relation)
        residuals.append(residual)
        assumptions = {} if op == "==" else {"nonnegative": True}
        multipliers.append(symbols.new("_".join([letter, name, *map(str, at)]), **assumptions))
    return Rows(tuple(relations), tuple(residuals), tuple(multipliers), op == "==")


def _domain(name: str, leaf: Variable) -> Iterator[tuple[str, str, Expression | None]]:
    """Declared signs and bounds; a bound includes the sign."""
    sign = leaf.attributes.sign
    for label, op, limit, signed in (("lower", ">=", leaf.lower, sign.nonneg), ("upper", "<=", leaf.upper, sign.nonpos)):
        if limit is not None or signed:
            yield f"{name} {label}", op, limit


def _public(entries: Entries) -> Any:
    """A symbol, a matrix, or an array of more dimensions."""
    if entries.ndim == 0:
        return entries.item()
    if entries.ndim <= 2:
        return sp.ImmutableMatrix(entries.reshape(len(entries), -1) if entries.size else sp.zeros(*(*entries.shape, 1)[:2]))
    return sp.ImmutableDenseNDimArray(entries.reshape(-1).tolist(), entries.shape)


def _node(node: Expression, args: list[Entries], known: Mapping[str, Entries]) -> Entries:
    if isinstance(node, Constant):
        return _elementwise(_number)(node.value.astype(object))
    if isinstance(node, Variable | Parameter):
        return known[node.key]
    assert node.atom is not None
    result = np.empty(node.shape, dtype=object)
    result[...] = SYMPY[node.atom.name](node, *args)
    return result


def _number(value: float) -> Any:
    """Exact: an integer, a fraction where the float is a simple one, else the float itself."""
    if not np.isfinite(value):
        return sp.oo if value > 0 else -sp.oo
    over, under = float(value).as_integer_ratio()
    return sp.Rational(over, under) if under <= EXACT else sp.Float(float(value))


def _elementwise(function: Callable[..., Any]) -> Callable[..., Entries]:
    """``function`` of sympy over entries."""

    def over(*arrays: Entries) -> Entries:
        result = np.empty(arrays[0].shape, dtype=object)
        for at in np.ndindex(result.shape):
            result[at] = function(*(array[at] for array in arrays))
        return result

    return over


def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, *args: _elementwise(function)(*args)


def _plain(node: Expression, *args: Entries) -> Any:
    """NumPy's own operation: it adds, multiplies and moves whatever the entries are."""
    assert node.atom is not None
    assert node.atom.value is not None
    return node.atom.value(*args, **node.data)


def _over(function: Callable[[list[Any], tuple[Any, ...]], Any]) -> Callable[..., Any]:
    """A reduction of all entries, or of those along an axis; what follows x is passed on."""

    def reduce(node: Expression, x: Entries, *rest: Entries) -> Any:
        axis = tuple(range(x.ndim)) if node.data["axis"] is None else node.data["axis"]
        kept = [i for i in range(x.ndim) if i not in axis]
        rows = x.transpose(*kept, *axis).reshape(*(x.shape[i] for i in kept), -1)
        result = np.empty(rows.shape[:-1], dtype=object)
        for at in np.ndindex(result.shape):
            result[at] = function(list(rows[at]), tuple(array.item() for array in rest))
        return result.reshape(node.shape)

    return reduce


def _largest(x: list[Any], k: Any) -> Any:
    """The sum of the k largest: min over t of k t + sum of max(x_i - t, 0), attained where t is one of the entries."""
    k = sp.Min(k, len(x))
    return sp.Min(*(k * t + sp.Add(*(sp.Max(entry - t, 0) for entry in x if entry is not t)) for t in x))


def _ranked(x: list[Any]) -> list[Any]:
    """Entries from the largest down."""
    sums = [sp.Integer(0), *(_largest(x, k) for k in range(1, len(x))), sp.Add(*x)]
    return [after - before for before, after in pairwise(sums)]


def _dotsort(node: Expression, x: Entries, w: Entries) -> Any:
    weights = [*w, *[sp.Integer(0)] * (len(x) - len(w))]
    ranked = sorted(weights, reverse=True) if all(weight.is_number for weight in weights) else _ranked(weights)
    return sp.Add(*(entry * weight for entry, weight in zip(_ranked(list(x)), ranked, strict=True)))


def _cummax(node: Expression, x: Entries) -> Any:
    return np.frompyfunc(sp.Max, 2, 1).accumulate(x, axis=node.data["axis"], dtype=object)


def _cholesky(node: Expression, x: Entries) -> Any:
    """Column by column; L[i, j] = (x[i, j] - sum of L[i, k] L[j, k]) / L[j, j]."""
    L = np.full(x.shape, sp.Integer(0), dtype=object)
    for j in range(len(x)):
        L[j, j] = sp.sqrt(x[j, j] - sp.Add(*(L[j, k] ** 2 for k in range(j))))
        for i in range(j + 1, len(x)):
            L[i, j] = (x[i, j] - sp.Add(*(L[i, k] * L[j, k] for k in range(j)))) / L[j, j]
    return L


def _support(node: Expression, *args: Entries) -> Any:
    """A linear program, of which sympy keeps the name."""
    return sp.Function("suppfunc", real=True)(*(entry for array in args for entry in array.flat))


def _huber(x: Any, M: Any) -> Any:
    return sp.Piecewise((x**2, sp.Abs(x) <= M), (2 * M * sp.Abs(x) - M**2, True))


def _inverse(node: Expression, x: Entries) -> Any:
    """Written out up to 3 x 3; beyond, entries of an inverse that sympy keeps as it is."""
    matrix = sp.ImmutableMatrix(x)
    if len(x) <= 3:
        return np.array(matrix.inv().tolist(), dtype=object)
    kept = sp.Inverse(matrix)
    return np.array(
        [[MatrixElement(kept, sp.Integer(i), sp.Integer(j)) for j in range(len(x))] for i in range(len(x))], dtype=object
    )


def _function(node: Expression, *args: Entries) -> Any:
    """A function that sympy does not know, one for each entry."""
    function = node.data["callable"]
    name = re.sub(r"\W", "_", getattr(function, "__name__", type(function).__name__))
    given = [entry for array in args for entry in array.flat]
    result = np.empty(node.shape, dtype=object)
    for at in np.ndindex(node.shape):
        result[at] = sp.Function("_".join([name, *map(str, at)]), real=True)(*given)
    return result


SYMPY: dict[str, Callable[..., Any]] = {
    "add": _plain,
    "negate": _plain,
    "sum": _plain,
    "index": _plain,
    "reshape": _plain,
    "transpose": _plain,
    "broadcast_to": _plain,
    "concatenate": _plain,
    "diag": _plain,
    "diagonal": _plain,
    "cumsum": _plain,
    "multiply": _plain,
    "matmul": _plain,
    "abs": _each(sp.Abs),
    "max": _over(lambda x, rest: sp.Max(*x)),
    "maximum": _each(sp.Max),
    "ptp": _over(lambda x, rest: sp.Max(*x) - sp.Min(*x)),
    "cummax": _cummax,
    "sum_largest": _over(lambda x, rest: _largest(x, rest[0])),
    "dotsort": _dotsort,
    "indicator": lambda node, r, e: sp.Piecewise((0, sp.And(*(x <= 0 for x in r), *(sp.Eq(x, 0) for x in e))), (sp.oo, True)),
    "suppfunc": _support,
    "norm2": _over(lambda x, rest: sp.sqrt(sp.Add(*(entry**2 for entry in x)))),
    "square": lambda node, x: x**2,
    "huber": _each(_huber),
    "quad_form": _plain,
    "reciprocal": _each(lambda x: 1 / x),
    "exp": _each(sp.exp),
    "log": _each(sp.log),
    "sqrt": _each(sp.sqrt),
    "tanh": _each(sp.tanh),
    "sin": _each(sp.sin),
    "cos": _each(sp.cos),
    "sigmoid": _each(lambda x: 1 / (1 + sp.exp(-x))),
    "softplus": _each(lambda x: sp.log(1 + sp.exp(x))),
    "power": lambda node, x: x ** _number(node.data["exponent"]),
    "inv": _inverse,
    "cholesky": _cholesky,
    "solve": lambda node, A, b: _inverse(node, A) @ b,
    "assume": lambda node, x: x,
    "function": _function,
}
