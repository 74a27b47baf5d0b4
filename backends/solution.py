"""What a call returns: the solution of every item, asked for by variable, expression or constraint."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, overload

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..canon.param_qp import ParamQP, Retrieved
from ..canon.program import Builder, Functions
from ..dsl.constraint import Constraint
from ..dsl.elsewhere import ASKED, OF_SOLUTIONS
from ..dsl.expression import Expression
from ..dsl.leaves import Parameter, Variable
from ..dsl.render import listed
from ..dsl.span import Span
from ..dsl.usage import of_model
from .alone import each
from .data import QPData, QPSolution, Residuals, WarmStart
from .envelope import optimal_value
from .evaluate import evaluate
from .failure import input_error, unknown
from .flags import Conditioning, conditioning, gradient_flags
from .plan import plan_of
from .sparse import envelope
from .sparse.data import SparseData
from .sparse.flags import conditioning as sparse_conditioning
from .status import Status
from .verdict import Verdict, explain

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Dual:
    """Asks a layer for the multiplier of a constraint, given by itself or by name."""

    of: Constraint | str


class Objective:
    """Asks a layer for the optimal value."""

    def __repr__(self) -> str:
        return "objective"


objective = Objective()


def dual(constraint: Constraint | str) -> Dual:
    """The multiplier of a constraint, as an output of a layer: ``outputs=[x, kr.dual("budget")]``."""
    return Dual(constraint)


@dataclass(frozen=True)
class Context:
    """What does not change between calls of a layer, and the batch, dtype and policy of this one."""

    qp: ParamQP
    functions: Functions
    function_names: dict[str, str]  # by key
    leaves: dict[str, str]  # names of variables and parameters by key
    constraints: dict[str, str]  # names of constraints by key
    shifts: dict[str, Expression]  # of soft constraints by name: their multipliers besides those of rows
    spans: Mapping[str, Span | None]  # where variables and constraints were written, by key
    batch: Shape
    dtype: torch.dtype
    nan_on_failure: bool
    regularize: float
    alone: bool  # what torch computes is computed for one item after the other


@dataclass(frozen=True, eq=False)
class Solution:
    """Solutions of a batch of problems.

    ``solution[x]``, ``solution["x"]``, ``solution[L.T @ x]``: any variable or expression, of shape batch + its shape.
    ``solution.dual(constraint)``: multipliers, >= 0 for inequalities, with the sign of cvxpy for equalities.
    ``solution.objective``: the optimal value in the user's sign, differentiated by the envelope theorem.
    ``status ok iterations residuals gradient_flags conditioning``: per item, detached. ``explain(i)``: an item in words.
    """

    raw: QPSolution
    data: QPData | SparseData
    constant: Tensor
    slots: list[Tensor]
    inputs: dict[str, Tensor]
    given: dict[str, Tensor]  # as the call gave them; what failed may have borrowed its ``inputs`` from a mate
    context: Context

    __iter__ = None  # without it Python would try solution[0], solution[1], ...

    @overload
    def __getitem__(self, what: slice | Tensor | list[int]) -> WarmStart: ...
    @overload
    def __getitem__(self, what: Expression | str) -> Tensor: ...
    def __getitem__(self, what: object) -> Tensor | WarmStart:
        if isinstance(what, slice | Tensor | list):
            return self.warm_start[what]
        if isinstance(what, str):
            return self._variable(what)
        if isinstance(what, Variable):
            return self._variable(self._name(what))
        if not isinstance(what, Expression):
            why = "a solution is asked by what it solves for"
            mend = "multipliers are solution.dual(constraint), the optimal value is solution.objective"
            raise input_error("I12", f"expected a variable, its name or an expression, got {what!r}", why, mend)
        return self._expression(what)

    def __getattr__(self, name: str) -> NoReturn:
        known = [] if name.startswith("_") or name == "context" else [v.name for v in self.context.qp.variables]
        where = f"write solution[{name!r}]" if name in known else OF_SOLUTIONS.get(name)
        if where is not None:
            raise of_model("solution", name, where, ASKED)
        raise AttributeError(f"a solution has no attribute {name!r}", name=name, obj=self)

    @property
    def warm_start(self) -> WarmStart:
        """What a later call may start from; ``solution[indices]`` are those of some items, along one flat batch axis."""
        return self.raw.warm_start

    def __contains__(self, what: object) -> bool:
        name = self.context.leaves.get(what.key) if isinstance(what, Variable) else what
        return isinstance(name, str) and name in [v.name for v in self.context.qp.variables]

    def dual(self, constraint: Constraint | str) -> Tensor:
        """The multiplier of a constraint, of shape batch + the constraint's shape."""
        key = getattr(constraint, "key", "")
        name = constraint if isinstance(constraint, str) else self.context.constraints.get(key, "")
        found = next((m for m in self.context.qp.multipliers if m.name == name), None)
        if found is None:
            raise unknown("constraint", name or constraint, [m.name for m in self.context.qp.multipliers])
        z = torch.cat([self.raw.y, self.raw.z, self.raw.z_lb, self.raw.z_ub], dim=1)
        source = torch.from_numpy(found.source.array.copy()).to(z.device)
        weight = torch.from_numpy(found.weight.array.copy()).to(z.device, z.dtype)
        rows = z.index_select(1, source) * weight if found.source.array.size else z.new_zeros(z.shape[0], math.prod(found.shape))
        value = self._shaped(rows, found.shape)
        return value + self[self.context.shifts[name]] if name in self.context.shifts else value

    @property
    def objective(self) -> Tensor:
        """The optimal value, of shape batch; terms of parameters alone included."""
        x, p = self.raw.x, self.data.p
        if self.context.regularize:  # x is not the minimiser of the value reported, so its own derivative counts
            value = (p * x).sum(1)
            if isinstance(self.data, SparseData):
                value = value + envelope.quadratic(self.data, x)
            else:
                value = value + (each(_curved, x, self.data.Q) if self.context.alone else _curved(x, self.data.Q))[0]
        elif isinstance(self.data, SparseData):
            value = envelope.optimal_value(self.data, self.raw)
        else:
            value = optimal_value(self.data, self.raw, alone=self.context.alone)
        return self._kept(self.context.qp.sign * (value + self.constant), ())

    @property
    def status(self) -> Tensor:
        """int8 codes of ``Status``, of shape batch."""
        return self.raw.status.reshape(self.context.batch)

    @property
    def ok(self) -> Tensor:
        """Whether the item was solved to the accepted accuracy."""
        return self.raw.ok.reshape(self.context.batch)

    @property
    def iterations(self) -> Tensor:
        """Iterations of the interior-point method, int32."""
        return self.raw.iterations.reshape(self.context.batch)

    @property
    def residuals(self) -> Residuals:
        """Residuals of the original problem, scaled and absolute, of shape batch + (4,)."""
        own = self.raw.residuals
        return Residuals(own.scaled.reshape(*self.context.batch, 4), own.absolute.reshape(*self.context.batch, 4))

    @property
    def gradient_flags(self) -> Tensor:
        """Bitmask of ``GradientFlag`` per item: what kind of point the gradient is taken at."""
        if isinstance(self.data, SparseData):
            return self.conditioning.flags
        return gradient_flags(self._posed(self.data), self.raw, self._own).reshape(self.context.batch)

    @property
    def conditioning(self) -> Conditioning:
        """How regular the points are: the flags and the numbers behind them, per item."""
        if isinstance(self.data, SparseData):
            found = sparse_conditioning(self.data.regularized(self.context.regularize), self.raw, self._own)
        else:
            found = conditioning(self._posed(self.data), self.raw, self._own)
        return Conditioning(*(part.reshape(self.context.batch) for part in (found.flags, found.rcond, found.margin)))

    def explain(self, item: int | tuple[int, ...] | None = None) -> Verdict:
        """Why an item has no solution, or what kind of point it is: an object of facts that prints.

        ``item``: its index in the batch, a tuple for several batch dimensions; none for a single problem. An infeasible item gets
        the constraints that contradict each other, with weights; an unbounded one the direction; an unusable one the parameter and
        by how much it fails; an unsolved one its worst residuals; a solved one what is active and what its gradient means.
        Raises InputError.
        """
        return explain(self, item)

    def stats(self) -> dict[str, float]:
        """A few numbers for a logger."""
        solved = self.ok.double()
        iterations = self.raw.iterations.double()
        worst = self.raw.residuals.worst
        return {
            "items": float(solved.numel()),
            "solved": float(solved.mean()) if solved.numel() else 1.0,
            "iterations_mean": float(iterations.mean()) if solved.numel() else 0.0,
            "iterations_max": float(iterations.max()) if solved.numel() else 0.0,
            "residual_max": float(worst.max()) if solved.numel() else 0.0,
        }

    def _posed(self, data: QPData) -> QPData:
        """The problem that was solved: with the term that the user added."""
        if not self.context.regularize:
            return data
        eye = torch.eye(data.sizes[0], dtype=data.Q.dtype, device=data.Q.device)
        return replace(data, Q=data.Q + self.context.regularize * eye)

    @property
    def _own(self) -> Tensor | None:
        """Columns of the user's variables; None where there are no others."""
        columns = [torch.arange(v.start, v.start + v.size) for v in self.context.qp.variables]
        return torch.cat(columns).to(self.raw.x.device) if columns and self.context.qp.expansions else None

    def __repr__(self) -> str:
        counts = {s.name: int((self.raw.status == s).sum()) for s in Status}
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "empty"
        shapes = ", ".join(f"{v.name} {self.context.batch + v.shape}" for v in self.context.qp.variables)
        return f"Solution(batch {self.context.batch}: {told}; {shapes})"

    def _variable(self, name: str) -> Tensor:
        found = next((v for v in self.context.qp.variables if v.name == name), None)
        if found is None:
            raise unknown("variable", name, [v.name for v in self.context.qp.variables])
        return self._shaped(_full(self.raw.x, found), found.shape)

    def _expression(self, expression: Expression) -> Tensor:
        """Continues the program of the layer, whose slots are known: what was solved with is what is reported."""
        qp = self.context.qp
        x = torch.where(self.raw.ok[:, None], self.raw.x, 0) if self.context.nan_on_failure else self.raw.x  # 0 * NaN is NaN
        builder = Builder(_Names(self), qp.program.steps, self.context.function_names)
        program = builder.finish([builder.lower(expression)])
        values = {**plan_of(qp).bound(x), **self.inputs}
        for v in qp.variables:
            values[v.name] = _full(x, v).reshape(x.shape[0], *v.shape)
        functions = {**self.context.functions, **builder.functions}

        def value(*known: Tensor) -> tuple[Tensor]:
            named = dict(zip(values, known, strict=False))
            return (evaluate(program, named, functions, x, known[len(values) :]),)

        found = each(value, *values.values(), *self.slots) if self.context.alone else value(*values.values(), *self.slots)
        return self._kept(found[0], expression.shape)

    def _kept(self, value: Tensor, shape: Shape) -> Tensor:
        """``value`` for every item; nothing flows back through a failed one."""
        value = value.expand(self.raw.x.shape[0], *shape)
        ok = self.raw.ok.reshape(-1, *(1,) * len(shape))
        instead = torch.full_like(value, torch.nan) if self.context.nan_on_failure else value.detach()
        return self._shaped(torch.where(ok, value, instead), shape)

    def _shaped(self, value: Tensor, shape: Shape) -> Tensor:
        wanted = self.context.batch + shape
        if value.shape != wanted:
            value = value.reshape(wanted)
        return value if value.dtype == self.context.dtype else value.to(self.context.dtype)

    def _name(self, leaf: Variable | Parameter) -> str:
        return _Names(self)[leaf.key]


def _curved(x: Tensor, Q: Tensor) -> tuple[Tensor]:
    """x'Qx/2 of each item."""
    return ((x * (Q @ x.unsqueeze(2)).squeeze(2)).sum(1) / 2,)


def _full(x: Tensor, variable: Retrieved) -> Tensor:
    """All entries of a variable, of which x may hold only those that are free of each other."""
    size = variable.size
    own = x if size == x.shape[1] else x[:, variable.start : variable.start + size]
    if variable.source is None:
        return own
    at = torch.from_numpy(variable.source.array + 1).to(x.device)
    return torch.cat([own.new_zeros(x.shape[0], 1), own], 1).index_select(1, at)


class _Names(dict[str, str]):
    """Names of leaves by key, with an error that says what is unknown."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(solution.context.leaves)

    def __missing__(self, key: str) -> str:
        why = f"leaves are told apart by identity, not by name; this model has {listed(self.values())}"
        mend = "ask by name, as a string, or with the very objects that the problem was written with"
        raise input_error("I11", "a variable or parameter of another model was asked for", why, mend)


def _unflatten(children: Any, context: Any) -> Solution:
    raw, data, constant, slots, inputs, given = children
    return Solution(raw, data, constant, slots, inputs, given, context)


pytree.register_pytree_node(
    Solution,
    lambda s: ([s.raw, s.data, s.constant, s.slots, s.inputs, s.given], s.context),
    _unflatten,
    serialized_type_name="karush.Solution",
)
