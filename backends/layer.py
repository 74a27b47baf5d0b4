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
from ..canon.param_qp import Input
from ..canon.program import Functions
from ..dsl.constraint import Constraint
from ..dsl.diagnostics import DefinitionError, definition_error, require
from ..dsl.expression import Expression
from ..dsl.leaves import Parameter
from ..dsl.problem import Problem
from ..dsl.render import listed
from ..dsl.span import Span
from ..dsl.walk import leaves
from .check import CheckReport, check
from .checks import verdict
from .data import QPData, QPSolution
from .explain import Explanation, explain
from .failure import InputError, SolveError, input_error
from .inputs import OF_A_CALL, Bound, bind, match
from .options import Options
from .plan import Built, Plan, plan_of
from .rows import Rows, rows_of
from .solution import Context, Dual, Objective, Solution
from .solve import solve
from .status import Status
from .verdict import named
from .warm import Previous, start_of
from .weights import initial, mapped

if TYPE_CHECKING:
    from .spy import Picture

Output = Expression | Dual | Objective | str


class Layer(nn.Module):
    """A compiled problem. Call it with parameters; it returns a ``Solution``, or plain tensors where ``outputs`` were chosen.

    Made by ``kr.compile``. Compiled state is immutable: a layer may be called from several threads, copied, pickled and spawned.
    """

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
        text: str,
        spans: Mapping[str, Span | None],
    ) -> None:
        super().__init__()
        self._qp, self._function_names = canonical.qp, canonical.function_names
        self._leaves, self._constraints, self._shifts = leaves_by_key, constraints_by_key, canonical.shifts
        self._order, self._ordered, self._outputs = tuple(order), ordered, outputs
        self._options, self._text, self._spans = options, text, dict(spans)
        self._weighted = tuple(weights)
        for name, value in weights.items():
            self.register_parameter(name, value)
        self._plain: Functions = {}
        self._modules_used: tuple[str, ...] = ()
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
        values = tuple(_output(solution, output) for output in self._outputs)
        return values[0] if len(values) == 1 else values

    def solve(self, inputs: Mapping[Any, Any] | None = None, *, warm_start: Previous | None = None, **options: Any) -> Solution:
        """Solve with options of this call (``on_failure``, ``eps``, ...); always returns a ``Solution``.

        ``warm_start``: the solution of an earlier call with similar data, or ``previous[indices]`` for another choice of items. It
        saves iterations and changes no answer: an item that gets nowhere from there starts anew.
        """
        if not isinstance(inputs, Mapping | None):
            raise _no_mapping(inputs, self._order)
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
        optional = [item.name for item in self._qp.inputs if item.default is not None]
        return match(args, kwargs, self._order, self._leaves, self._weighted, optional)

    def standard_form(self, *args: Any, **kwargs: Any) -> QPData:
        """The batched problem data Q p G h A b lb ub of these inputs, differentiable; one leading axis, of size 1 where shared."""
        bound, inputs = self._bind(self.matched(args, kwargs))
        return self._plan.build(inputs, self._functions, bound.like, bound.dtype).data

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
        bound, inputs = self._bind(self.matched(args, kwargs))
        return check(self._solved, bound, inputs, self._options, item)

    def explain(self) -> Explanation:
        """What was compiled: sizes, structure, which parameter enters where and how, what follows for gradients, the engine."""
        return explain(self._qp, self._text, self._weighted, self._options)

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
        return f"<pre>{html.escape(repr(self))}\n\n{html.escape(self._text)}</pre>"

    def extra_repr(self) -> str:
        qp = self._qp
        inputs = ", ".join(f"{item.name}{item.shape}" for item in qp.inputs if item.name not in self._weighted)
        return f"inputs=[{inputs}], weights=[{', '.join(self._weighted)}], n={qp.n}, m={qp.m}, k={qp.k}"

    @property
    def _plan(self) -> Plan:
        return plan_of(self._qp)

    @property
    def _functions(self) -> Functions:
        return {**self._plain, **{name: self.get_submodule(name) for name in self._modules_used}}

    def _bind(self, given: Mapping[str, Any]) -> tuple[Bound, dict[str, Tensor]]:
        """Checked inputs and the values of weights, in the solve dtype."""
        raw = {name: getattr(self, name) for name in self._weighted}  # functional_call swaps plain tensors in
        shapes = {item.name: item.shape for item in self._qp.inputs}
        bound = bind(given, shapes, raw.values())
        attributes = {item.name: item.attributes for item in self._qp.inputs}
        dtype = bound.like.dtype
        values = {name: mapped(tensor.to(dtype), attributes[name]).unsqueeze(0) for name, tensor in raw.items()}
        return bound, self._plan.completed({**bound.tensors, **values}, bound.like)

    def _solve(self, called: Mapping[str, Any], options: Options, warm_start: Previous | None = None) -> Solution:
        bound, inputs = self._bind(called)
        return self._solved(bound, inputs, options, warm_start)

    def _solved(self, bound: Bound, inputs: dict[str, Tensor], options: Options, warm_start: Previous | None = None) -> Solution:
        """Solve for inputs that are checked and have one leading axis: what a call does after binding."""
        given = {name: tensor.detach() for name, tensor in inputs.items()}
        built = self._plan.build(inputs, self._functions, bound.like, bound.dtype)
        if options.on_failure != "raise":
            built, inputs = self._harmless(built, inputs, bound)
        size = math.prod(bound.batch)
        try:
            raw = solve(
                built.data.expanded_to(size),
                options if bound.dtype == bound.like.dtype else replace(options, precision=bound.dtype),
                rejected=None if built.rejected is None else built.rejected.expand(size),
                warm_start=start_of(warm_start, built.data.sizes, size, bound.like),
            )
        except SolveError as error:
            whole = self._solution(cast(QPSolution, error.solution), built, inputs, given, bound, options)
            raise named(error, whole) from None
        return self._solution(raw, built, inputs, given, bound, options)

    def _solution(
        self, raw: QPSolution, built: Built, inputs: dict[str, Tensor], given: dict[str, Tensor], bound: Bound, options: Options
    ) -> Solution:
        names = self._function_names, self._leaves, self._constraints, self._shifts, self._spans
        policy = options.on_failure == "nan", options.regularize
        context = Context(self._qp, self._functions, *names, bound.batch, bound.dtype, *policy)
        return Solution(raw, built.data, built.constant, built.slots, inputs, given, context)

    def _harmless(self, built: Built, inputs: dict[str, Tensor], bound: Bound) -> tuple[Built, dict[str, Tensor]]:
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
        again = self._plan.build(borrowed, self._functions, bound.like, bound.dtype)
        return replace(again, rejected=codes), borrowed


def compile(
    problem: Problem,
    *,
    inputs: Sequence[Parameter | str] | None = None,
    outputs: Sequence[Output] | Output | None = None,
    weights: Mapping[Any, Any] | None = None,
    backend: Literal["auto", "cpu", "torch"] = "auto",
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
    parameters that become trainable, with initial values. ``backend``: "torch" (any device), or "auto" (compiled as
    far as that goes). ``eps``: relative accuracy (1e-8 in float64, 1e-4 in float32); ``eps_abs``: absolute, in units of the data.
    ``on_failure``: "raise", "return" (best iterate, zero gradient) or "nan". ``accept``: "solved" or "inaccurate". ``regularize``:
    delta in an added delta/2 |x|². ``smoothing``: mu in an added barrier -mu sum(log(slacks)). ``batch_invariant``: on
    a CPU, an item has the same bits in a batch of any size. Raises DefinitionError and InputError.
    """
    if not isinstance(problem, Problem):
        raise _unusable_argument("problem", f"a kr.Problem, got {type(problem).__name__}", "write kr.Problem(...) first")
    if not isinstance(weights, Mapping | None):
        raise _unusable_argument("weights", f"a mapping, got {type(weights).__name__}", "write weights={parameter: initial value}")
    options = Options(eps, eps_abs, max_iter, on_failure, accept, regularize, smoothing, backend, batch_invariant)
    canonical = canonicalize(problem)
    by_key = problem.names
    declared = {item.name: item for item in canonical.qp.inputs}
    held = {_name(parameter, by_key, declared): value for parameter, value in (weights or {}).items()}
    _refuse_collisions(held, canonical.functions)
    _refuse_values(declared)
    optional = [name for name in declared if name not in held and declared[name].default is not None]
    free = [name for name in declared if name not in held and name not in optional] + optional
    order = list(free) if inputs is None else [_name(parameter, by_key, declared) for parameter in inputs]
    order += [name for name in optional if name not in order]
    if sorted(order) != sorted(free):
        why = f"inputs gives the order of all parameters that are no weights, each once: {listed(free)}; got {listed(order)}"
        mend = f"write inputs=[{', '.join(map(repr, free))}]"
        raise definition_error("N04", "inputs cannot be used", why, mend, at=("inputs",), label="not each of them once")
    chosen = None if outputs is None else _outputs(outputs, by_key, problem)
    parameters = {name: initial(declared[name], value) for name, value in held.items()}
    constraints = {constraint.key: name for name, constraint in problem.constraints.items()}
    spans = {leaf.key: leaf.span for leaf in problem.variables.values()} | {c.key: c.span for c in problem.constraints.values()}
    return Layer(canonical, by_key, constraints, order, inputs is not None, chosen, parameters, options, repr(problem), spans)


def _outputs(outputs: Sequence[Output] | Output, by_key: Mapping[str, str], problem: Problem) -> tuple[Output, ...]:
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    if not several:
        why = "outputs says what a call returns, so there is at least one"
        mend = "leave it out to get a Solution"
        raise definition_error("N04", "outputs cannot be used", why, mend, at=("outputs",), label="empty")
    keys = {constraint.key for constraint in problem.constraints.values()}
    for output in several:
        if isinstance(output, Dual):
            known = output.of in problem.constraints if isinstance(output.of, str) else getattr(output.of, "key", "") in keys
            if not known:
                raise _foreign("constraint", output.of, list(problem.constraints), "outputs")
        elif isinstance(output, str):
            if output not in problem.variables:
                raise _foreign("variable", output, list(problem.variables), "outputs")
        elif isinstance(output, Expression):
            unknown = [leaf for leaf in leaves([output]) if leaf.key not in by_key]
            if unknown:
                raise _foreign("leaf", unknown[0], list(by_key.values()), "outputs")
        elif not isinstance(output, Objective):
            hint = "a variable, its name, an expression, kr.dual(constraint) or kr.objective"
            why = f"an output is {hint}; got {output!r}"
            raise definition_error("N04", "outputs cannot be used", why, "name a variable, such as outputs=x", at=("outputs",))
    return tuple(several)


def _output(solution: Solution, output: Output) -> Tensor:
    if isinstance(output, Dual):
        return solution.dual(output.of)
    return solution.objective if isinstance(output, Objective) else solution[output]


def _name(parameter: Parameter | str, by_key: Mapping[str, str], declared: Mapping[str, Input]) -> str:
    name = parameter if isinstance(parameter, str) else by_key.get(getattr(parameter, "key", ""), "")
    if name not in declared:
        raise _foreign("parameter", parameter, list(declared), "weights", "inputs")
    return name


def _refuse_values(declared: Mapping[str, Input]) -> None:
    """Declared values must have the declared attributes."""
    for name, item in declared.items():
        if item.default is None:
            continue
        value = torch.from_numpy(item.default.array.copy()).unsqueeze(0)
        if bool(verdict(value, item.attributes, value.dtype)) or not bool(torch.isfinite(value).all()):
            said = " ".join(item.attributes.declared) or "finite"
            why = f"parameter {name} is declared {said}"
            mend = "declare a value that complies\ndrop the attribute, if nothing relies on it"
            raise definition_error("N15", f"the value of parameter {name} is not {said}", why, mend, label="")


def _refuse_collisions(weights: Mapping[str, Any], functions: Mapping[str, Any]) -> None:
    for name in weights:
        if hasattr(Layer, name) or name in functions or name == "training":
            why = f"weights become attributes of the module, and {name!r} is taken by torch.nn.Module or by the layer"
            mend = f'rename the parameter: kr.Parameter(..., name="{name}_")'
            raise definition_error("N11", f"the weight {name!r} cannot be named so", why, mend, at=("weights",), label="taken")


def _no_mapping(given: object, order: Sequence[str]) -> InputError:
    title = f"inputs: expected a mapping from parameters or names to values, got {type(given).__name__}"
    why = "solve takes the inputs as one mapping, because its keywords are options"
    return input_error("I09", title, why, f"write {{{', '.join(f'{name!r}: ...' for name in order)}}}", at=(0, "inputs"))


def _unusable_argument(name: str, wanted: str, mend: str) -> DefinitionError:
    place = (name, 0) if name == "problem" else (name,)
    return definition_error("N04", f"{name} cannot be used", f"kr.compile takes as {name} {wanted}", mend, at=place)


def _foreign(kind: str, what: object, known: list[str], *where: str) -> DefinitionError:
    """Something that the problem does not have was named in the call of compile."""
    what = getattr(what, "name", None) or what
    near = difflib.get_close_matches(str(what), known, 1)
    mend = "leave it out; a parameter without effect takes no part in the problem"
    if kind != "parameter":
        mend = "ask for what the problem has; print it to see its names"
    mend = f"did you mean {near[0]!r}?" if near else mend
    why = f"the problem has {listed(known)}"
    return definition_error("N10", f"no {kind} {what!r}: it does not occur in the problem", why, mend, at=where, label="")


def _any(mask: Tensor) -> bool:
    """Whether any entry is set; True under vmap, where the answer cannot be read."""
    try:
        return bool(mask.any())
    except RuntimeError:
        return True


def _unusable(data: QPData) -> Tensor:
    """Items with NaN anywhere, or an infinity where only finite numbers make sense."""
    bad = torch.zeros((), dtype=torch.bool, device=data.p.device)
    for block in (data.Q, data.p, data.G, data.A, data.b):
        bad = bad | ~torch.isfinite(block.detach()).flatten(1).all(1)
    for limit in (data.h, data.lb, data.ub):
        if limit is not None:
            bad = bad | torch.isnan(limit.detach()).flatten(1).any(1)
    return bad
