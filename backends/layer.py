"""The compiled layer: an ``nn.Module`` from parameters to solutions."""

from __future__ import annotations

import difflib
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn

from ..canon.canonicalize import Canonical, canonicalize
from ..canon.param_qp import ParamQP
from ..canon.program import Functions
from ..dsl.atoms import Shape
from ..dsl.constraint import Constraint
from ..dsl.diagnostics import definition_error, require
from ..dsl.expression import Expression
from ..dsl.later import Text
from ..dsl.leaves import Parameter
from ..dsl.problem import Problem
from ..dsl.render import listed
from ..dsl.sign import Attributes
from ..dsl.span import Span
from . import binding
from .arguments import Output, name_of, no_mapping, outputs_of, refuse_collisions, refuse_values, unusable_argument, value_of
from .check import CheckReport, check
from .data import QPData, QPSolution
from .explain import Explanation, explain
from .failure import SolveError, input_error
from .inputs import OF_A_CALL, Bound, bind, match
from .laps import Lap, untimed
from .measure import Call, measure
from .options import Options
from .plan import Built, Plan, plan_of
from .rows import Rows, rows_of
from .solution import Context, Solution
from .solve import solve
from .sparse.choose import asked, dense_or_error
from .sparse.data import SparseData
from .sparse.solve import solve as sparse_solve
from .status import Status
from .verdict import named
from .warm import Previous, start_of
from .weights import initial, mapped

if TYPE_CHECKING:
    from .spy import Picture


class Layer(nn.Module):
    """A compiled problem. Call it with parameters; it returns a ``Solution``, or plain tensors where ``outputs`` were chosen.

    Made by ``kr.compile``. Compiled state is immutable: a layer may be called from several threads, copied, pickled and spawned.
    """

    _qp: ParamQP
    _stuffed: ParamQP
    _function_names: dict[str, str]
    _leaves: dict[str, str]
    _constraints: dict[str, str]
    _shifts: dict[str, Expression]
    _order: tuple[str, ...]
    _ordered: bool
    _outputs: tuple[Output, ...] | None
    _options: Options
    _text: Text
    _spans: dict[str, Span | None]
    _weighted: tuple[str, ...]
    _shapes: dict[str, Shape]
    _attributes: dict[str, Attributes]
    _optional: tuple[str, ...]
    _constants: tuple[str, ...]
    _plain: Functions
    _modules_used: tuple[str, ...]

    def __init__(
        self,
        canonical: Canonical,
        leaves_by_key: dict[str, str],
        constraints_by_key: dict[str, str],
        order: Sequence[str],
        ordered: bool,
        outputs: tuple[Output, ...] | None,
        weights: Mapping[str, nn.Parameter],
        options: Options,
        text: Text,
        spans: Mapping[str, Span | None],
    ) -> None:
        super().__init__()
        inputs = canonical.qp.inputs
        self.__dict__.update(  # what is no tensor and no module need not ask torch what it is
            _qp=canonical.qp,
            _stuffed=canonical.stuffed,
            _function_names=canonical.function_names,
            _leaves=leaves_by_key,
            _constraints=constraints_by_key,
            _shifts=canonical.shifts,
            _order=tuple(order),
            _ordered=ordered,
            _outputs=outputs,
            _options=options,
            _text=text,
            _spans=dict(spans),
            _weighted=tuple(weights),
            _shapes={item.name: item.shape for item in inputs},
            _attributes={item.name: item.attributes for item in inputs},
            _optional=tuple([item.name for item in inputs if item.default is not None]),
            _constants=tuple([item.name for item in canonical.qp.bound]),
            _plain={},
            _modules_used=(),
        )
        for name, value in weights.items():
            self.register_parameter(name, value)
        for name, function in canonical.functions.items():
            if isinstance(function, nn.Module):
                self.add_module(name, function)
                self._modules_used += (name,)
            else:
                self._plain[name] = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Solve for parameters given by name, by one mapping, or by position in the order of ``inputs``.

        Each tensor has shape batch + the parameter's shape; batches broadcast as in torch, and the joint batch must be the batch of
        at least one input. Raises InputError before any work; SolveError after it, unless ``on_failure`` says otherwise.
        """
        solution = self._solve(self.matched(args, kwargs), self._options)
        if self._outputs is None:
            return solution
        values = tuple(value_of(solution, output) for output in self._outputs)
        return values[0] if len(values) == 1 else values

    def solve(self, inputs: Mapping[Any, Any] | None = None, *, warm_start: Previous | None = None, **options: Any) -> Solution:
        """Solve with options of this call (``on_failure``, ``eps``, ...); always returns a ``Solution``.

        ``warm_start``: the solution of an earlier call with similar data, or ``previous[indices]`` for another choice of items. It
        saves iterations and changes no answer: an item that gets nowhere from there starts anew.
        """
        if not isinstance(inputs, Mapping | None):
            raise no_mapping(inputs, self._order)
        unknown = options.keys() - set(OF_A_CALL)
        if unknown:
            name = min(unknown)
            near = difflib.get_close_matches(name, OF_A_CALL, 1)
            mend = f"did you mean {near[0]!r}?" if near else "inputs go into the mapping, options are keywords"
            raise input_error("I13", f"unknown option {name}", f"the options are {listed(OF_A_CALL)}", mend, at=(name,), label="")
        return self._solve(self.matched((inputs or {},), {}), replace(self._options, **options), warm_start)

    def matched(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs given in any of the ways of a call, by name."""
        if 1 < len(args) <= len(self._order) and not self._ordered:
            why = f"the order in which parameters happen to appear in the model is {listed(self._order)}: easily not the one meant"
            mend = f"pass them by name: {self._order[0]}=...\nstate an order: kr.compile(problem, inputs=[...])"
            raise input_error("I03", "several inputs by position, in no stated order", why, mend, at=(1,), label="by position")
        return match(args, kwargs, self._order, self._leaves, self._weighted, self._optional, self._constants)

    def bind(self, *which: Any, **values: Any) -> Layer:
        """A layer in which some parameters and weights are constants: what depends on them alone is computed here, once.

            deployed = trained.bind()          all weights, at their present values
            fixed = layer.bind(A=A0, B=...)    a value for one, the value that it has for another; names or a mapping do as well

        Outputs, options, order of inputs, functions and the other weights, copied, carry over; this layer stays what it is.
        Constants have no batch, no gradient, and no part in the dtype of results; they must have the declared attributes. Functions
        are evaluated once where nothing behind them can be trained: no module in training mode, no result that requires grad.
        Raises InputError.
        """
        chosen = binding.asked(which, values, self._qp, self._leaves, self._weighted)
        device, dtype = binding.home(self)
        raw = {name: getattr(self, name).detach() for name in self._weighted}
        tensors, came = binding.constants(chosen, self._qp, raw, device, dtype)
        precision = binding.coarser(self._options.precision, came)
        before = Canonical(self._qp, self._stuffed, self._functions, self._function_names, self._shifts, self._text)
        canonical = binding.made_constant(before, tensors, precision or dtype)
        kept = {name: getattr(self, name) for name in self._weighted if name not in chosen}
        weights = {name: nn.Parameter(own.detach().clone(), own.requires_grad) for name, own in kept.items()}
        order = [name for name in self._order if name not in chosen]
        options = replace(self._options, precision=precision)
        made = Layer(
            canonical,
            self._leaves,
            self._constraints,
            order,
            self._ordered,
            self._outputs,
            weights,
            options,
            self._text,
            self._spans,
        )
        made.training = self.training  # of the layer alone: modules among the functions are the user's own
        return made

    def standard_form(self, *args: Any, **kwargs: Any) -> QPData:
        """The batched problem data Q p G h A b lb ub of these inputs, differentiable; one leading axis, of size 1 where shared."""
        bound, inputs = self._bind(self.matched(args, kwargs))
        dense_or_error(self._qp, "layer.standard_form")
        return cast(QPData, self._plan.build(inputs, self._functions, bound.like, bound.dtype).data)

    def weight(self, parameter: Parameter | str) -> Tensor:
        """The value of a weight: the raw tensor under its map, which has the declared attributes."""
        name = parameter if isinstance(parameter, str) else self._leaves.get(parameter.key, "")
        if name not in self._weighted:
            why = f"the weights of this layer are {listed(self._weighted)}"
            mend = "make it one: kr.compile(problem, weights={...: initial value})"
            raise input_error("I12", f"no weight {name or parameter!r} in this layer", why, mend, label="")
        item = next(item for item in self._qp.inputs if item.name == name)
        return mapped(getattr(self, name), item.attributes)

    def check(self, *args: Any, item: int | tuple[int, ...] | None = None, **kwargs: Any) -> CheckReport:
        """Hold one item against an independent solver: solution, multipliers, objective, residuals and gradients.

        Inputs are given as in a call; ``item`` is an index into their batch, the first if left out. Gradients of a random
        projection of all outputs, in every input and weight, are compared with central differences of Clarabel. The report prints
        as a table; ``report.ok`` is the answer. Checks the exact problem: ``smoothing`` is left out, ``regularize`` kept. Needs the
        extra ``karush[cvxpy]``, else DefinitionError; raises InputError.
        """
        dense_or_error(self._qp, "layer.check")
        bound, inputs = self._bind(self.matched(args, kwargs))
        return check(self._solved, bound, inputs, self._options, item)

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """What was compiled: sizes, structure, which parameter enters where and how, what follows for gradients, the engine.

        With inputs, given as in a call ({} for a layer that takes none), also the measured time of every stage of this call,
        forward and backward, and at most three tips. Raises what the call raises.
        """
        told = explain(self._qp, str(self._text), self._weighted, self._options)
        if not args and not kwargs:
            return told
        given = self.matched(args, kwargs)
        raw = {name: getattr(self, name) for name in self._weighted}
        call = Call(self._timed, self._bind(given)[0], given, raw, self._qp, self._options, self.training)
        return replace(told, measured=measure(call))

    def rows(self, constraint: Constraint | str) -> Rows:
        """Where a constraint lives in the canonical matrices: ``data.G[:, rows.G]``, or all its rows with ``rows.of(data)``."""
        name = constraint if isinstance(constraint, str) else self._constraints.get(getattr(constraint, "key", ""), "")
        return rows_of(self._qp, name, constraint)

    def spy(self) -> Picture:
        """A matplotlib figure of Q p G h A b and the bounds, coloured by the parameters that change each entry."""
        require("matplotlib", "layer.spy", "karush[examples]")
        from .spy import spy  # optional: matplotlib is an extra

        return spy(self._qp)

    def _repr_html_(self) -> str:
        """Sizes and parts in text, as ``print`` gives them, and the problem."""
        return f"<pre>{html.escape(repr(self))}\n\n{html.escape(str(self._text))}</pre>"

    def extra_repr(self) -> str:
        qp = self._qp
        inputs = ", ".join(f"{item.name}{item.shape}" for item in qp.inputs if item.name not in self._weighted)
        constants = f" constants=[{', '.join(item.name for item in qp.bound)}]," if qp.bound else ""
        return f"inputs=[{inputs}], weights=[{', '.join(self._weighted)}],{constants} n={qp.n}, m={qp.m}, k={qp.k}"

    @property
    def _plan(self) -> Plan:
        return plan_of(self._qp)

    @property
    def _functions(self) -> Functions:
        if not self._modules_used:
            return self._plain
        return {**self._plain, **{name: self.get_submodule(name) for name in self._modules_used}}

    def _bind(self, given: Mapping[str, Any]) -> tuple[Bound, dict[str, Tensor]]:
        """Checked inputs and the values of weights, in the solve dtype."""
        raw = {name: getattr(self, name) for name in self._weighted}  # functional_call swaps plain tensors in
        bound = bind(given, self._shapes, raw.values())
        inputs = bound.tensors
        if raw:
            dtype, attributes = bound.like.dtype, self._attributes
            inputs = inputs | {name: mapped(tensor.to(dtype), attributes[name]).unsqueeze(0) for name, tensor in raw.items()}
        return bound, self._plan.completed(inputs, bound.like)

    def _timed(self, called: Mapping[str, Any], lap: Lap) -> tuple[Tensor, ...]:
        """A call whose stages are measured, to the tensors that it returns, or all variables."""
        bound, inputs = self._bind(self.matched((), called))
        lap("check inputs")
        solution = self._solved(bound, inputs, self._options, None, lap)
        wanted: Sequence[Output] = [v.name for v in self._qp.variables] if self._outputs is None else self._outputs
        values = tuple(value_of(solution, output) for output in wanted)
        lap("solution")
        return values

    def _solve(self, called: Mapping[str, Any], options: Options, warm_start: Previous | None = None) -> Solution:
        bound, inputs = self._bind(called)
        return self._solved(bound, inputs, options, warm_start)

    def _solved(
        self, bound: Bound, inputs: dict[str, Tensor], options: Options, warm_start: Previous | None = None, lap: Lap = untimed
    ) -> Solution:
        """Solve for inputs that are checked and have one leading axis: what a call does after binding."""
        given = inputs
        if bound.dtype != bound.like.dtype:
            options = replace(options, precision=binding.coarser(options.precision, bound.dtype))
        sparse = asked(self._qp, options, bound.like, math.prod(bound.batch))
        built = self._plan.build(
            inputs, self._functions, bound.like, options.precision or bound.dtype, sparse, lap, options.alone(bound.like)
        )
        if options.on_failure != "raise":
            built, inputs = self._harmless(built, inputs, bound, sparse, options)
        size = math.prod(bound.batch)
        data = built.data.expanded_to(size)
        rejected = None if built.rejected is None else built.rejected.expand(size)
        start = start_of(warm_start, data.sizes, size, bound.like)
        try:
            if isinstance(data, SparseData):
                raw = sparse_solve(data, options, rejected=rejected, warm_start=start)
            else:
                raw = solve(data, options, rejected=rejected, warm_start=start)
        except SolveError as error:
            whole = self._solution(cast(QPSolution, error.solution), built, inputs, given, bound, options)
            raise named(error, whole) from None
        lap("solve")
        return self._solution(raw, built, inputs, given, bound, options)

    def _solution(
        self, raw: QPSolution, built: Built, inputs: dict[str, Tensor], given: dict[str, Tensor], bound: Bound, options: Options
    ) -> Solution:
        names = self._function_names, self._leaves, self._constraints, self._shifts, self._spans
        policy = options.on_failure == "nan", options.regularize, options.alone(bound.like)
        context = Context(self._qp, self._functions, *names, bound.batch, bound.dtype, *policy)
        return Solution(raw, built.data, built.constant, built.slots, inputs, given, context)

    def _harmless(
        self, built: Built, inputs: dict[str, Tensor], bound: Bound, sparse: bool, options: Options
    ) -> tuple[Built, dict[str, Tensor]]:
        """Items whose data cannot be used borrow the inputs of a usable mate, so that nothing non-finite is differentiated.

        Zero times NaN is NaN: a gradient that is exactly zero at the data would still poison a shared parameter behind an exp or
        an inverse. Where no item is usable, nothing at all flows back. The items keep their status; only what flows through them
        changes.
        """
        bad = _unusable(built.data)
        if built.rejected is not None:
            bad = bad | (built.rejected != 0)
        if not _any(bad):
            return built, inputs
        codes = int(Status.INVALID_INPUT) * bad.to(torch.int8)
        if built.rejected is not None:
            codes = torch.where(built.rejected != 0, built.rejected, codes)
        lender = torch.where(bad, (~bad).to(torch.int8).argmax(), torch.arange(len(bad), device=bad.device))
        borrowed = {}
        for name, tensor in inputs.items():
            lent = tensor.index_select(0, lender) if tensor.shape[0] == len(bad) else tensor
            borrowed[name] = torch.where(bad.all(), lent.detach(), lent)
        alone = options.alone(bound.like)
        again = self._plan.build(borrowed, self._functions, bound.like, bound.dtype, sparse, alone=alone)
        return replace(again, rejected=codes), borrowed


def compile(
    problem: Problem,
    *,
    inputs: Sequence[Parameter | str] | None = None,
    outputs: Sequence[Output] | Output | None = None,
    weights: Mapping[Any, Any] | None = None,
    backend: Literal["auto", "cpu", "torch", "sparse"] = "auto",
    eps: float | None = None,
    eps_abs: float | None = None,
    max_iter: int = Options.max_iter,
    on_failure: Literal["raise", "return", "nan"] = "raise",
    accept: Literal["solved", "inaccurate"] = "inaccurate",
    regularize: float = 0.0,
    smoothing: float = 0.0,
    batch_invariant: bool = False,
) -> Layer:
    """Compile a problem to a torch module.

    ``inputs``: the positional order of parameters; without it only one may come by position. ``outputs``: what calls
    return as plain tensors: variables, expressions, ``kr.dual(...)``, ``kr.objective``; default is a ``Solution``. ``weights``:
    parameters that become trainable, with initial values. ``backend``: "torch" (any device), "sparse" (large and mostly zeros, on a
    CPU), or "auto", by a counted cost. ``eps``: relative accuracy (1e-8 in float64, 1e-4 in float32); ``eps_abs``: absolute.
    ``on_failure``: "raise", "return" (best iterate, zero gradient) or "nan". ``accept``: "solved" or "inaccurate". ``regularize``:
    delta in an added delta/2 |x|². ``smoothing``: mu in an added barrier -mu sum(log(slacks)). ``batch_invariant``: on
    a CPU, an item has the same bits in a batch of any size. Raises DefinitionError and InputError.
    """
    if not isinstance(problem, Problem):
        raise unusable_argument("problem", f"a kr.Problem, got {type(problem).__name__}", "write kr.Problem(...) first")
    if not isinstance(weights, Mapping | None):
        raise unusable_argument("weights", f"a mapping, got {type(weights).__name__}", "write weights={parameter: initial value}")
    options = Options(eps, eps_abs, max_iter, on_failure, accept, regularize, smoothing, backend, batch_invariant)
    canonical = canonicalize(problem)
    by_key = problem.names
    declared = {item.name: item for item in canonical.qp.inputs}
    held = {name_of(parameter, by_key, declared): value for parameter, value in (weights or {}).items()}
    refuse_collisions(held, canonical.functions, Layer)
    refuse_values(declared)
    optional = [name for name in declared if name not in held and declared[name].default is not None]
    free = [name for name in declared if name not in held and name not in optional] + optional
    order = list(free) if inputs is None else [name_of(parameter, by_key, declared) for parameter in inputs]
    order += [name for name in optional if name not in order]
    if sorted(order) != sorted(free):
        why = f"inputs gives the order of all parameters that are no weights, each once: {listed(free)}; got {listed(order)}"
        mend = f"write inputs=[{', '.join(map(repr, free))}]"
        raise definition_error("N04", "inputs cannot be used", why, mend, at=("inputs",), label="not each of them once")
    chosen = None if outputs is None else outputs_of(outputs, by_key, problem)
    parameters = {name: initial(declared[name], value) for name, value in held.items()}
    constraints = {constraint.key: name for name, constraint in problem.constraints.items()}
    spans = {leaf.key: leaf.span for leaf in problem.variables.values()} | {c.key: c.span for c in problem.constraints.values()}
    return Layer(canonical, by_key, constraints, order, inputs is not None, chosen, parameters, options, canonical.text, spans)


def _any(mask: Tensor) -> bool:
    """Whether any entry is set; True under vmap, where the answer cannot be read."""
    try:
        return bool(mask.any())
    except RuntimeError:
        return True


def _unusable(data: QPData | SparseData) -> Tensor:
    """Items with NaN anywhere, or an infinity where only finite numbers make sense."""
    bad = torch.zeros((), dtype=torch.bool, device=data.p.device)
    for block in (data.Q, data.p, data.G, data.A, data.b):
        bad = bad | ~torch.isfinite(block.detach()).flatten(1).all(1)
    for limit in (data.h, data.lb, data.ub):
        if limit is not None:
            bad = bad | torch.isnan(limit.detach()).flatten(1).any(1)
    return bad
