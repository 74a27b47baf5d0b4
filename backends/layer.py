"""The compiled layer: an ``nn.Module`` from parameters to solutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..canon.canonicalize import Canonical, canonicalize
from ..canon.param_qp import Input, Multiplier, Retrieved
from ..canon.program import Functions
from ..dsl.diagnostics import DefinitionError, Diagnostic
from ..dsl.expression import Expression
from ..dsl.leaves import Parameter
from ..dsl.problem import Problem
from ..dsl.walk import leaves
from .data import QPData, QPSolution, Ray
from .failure import InputError, SolveError
from .inputs import Bound, bind, match
from .options import Options
from .plan import Built, Plan, plan_of
from .solution import Context, Dual, Objective, Solution
from .solve import solve
from .status import Status
from .weights import initial, mapped

Output = Expression | Dual | Objective | str
EXPLAINED = 3  # failed items whose causes an error spells out
NEGLIGIBLE = 1e-6  # what a certificate holds of a constraint or variable that takes no part in it, relative to its largest entry


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
        outputs: tuple[Output, ...] | None,
        weights: Mapping[str, nn.Parameter],
        options: Options,
        text: str,
    ) -> None:
        super().__init__()
        self._qp, self._function_names = canonical.qp, canonical.function_names
        self._leaves, self._constraints = leaves_by_key, constraints_by_key
        self._order, self._outputs = tuple(order), outputs
        self._options, self._text = options, text
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

    def solve(self, inputs: Mapping[Any, Any] | None = None, **options: Any) -> Solution:
        """Solve with options of this call (``on_failure``, ``eps``, ...); always returns a ``Solution``."""
        if not isinstance(inputs, Mapping | None):
            raise InputError(f"inputs: expected a mapping from parameters or names to values, got {type(inputs).__name__}")
        unknown = options.keys() - {field.name for field in fields(Options)}
        if unknown:
            known = ", ".join(field.name for field in fields(Options))
            raise InputError(f"unknown option {', '.join(sorted(unknown))}; expected {known}")
        return self._solve(self.matched((inputs or {},), {}), replace(self._options, **options))

    def matched(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs given in any of the ways of a call, by name."""
        return match(args, kwargs, self._order, self._leaves, self._weighted)

    def standard_form(self, *args: Any, **kwargs: Any) -> QPData:
        """The batched problem data Q p G h A b lb ub of these inputs, differentiable; one leading axis, of size 1 where shared."""
        bound, inputs = self._bind(self.matched(args, kwargs))
        return self._plan.build(inputs, self._functions, bound.like, bound.dtype).data

    def weight(self, parameter: Parameter | str) -> Tensor:
        """The value of a weight: the raw tensor under its map, which has the declared attributes."""
        name = parameter if isinstance(parameter, str) else self._leaves.get(parameter.key, "")
        if name not in self._weighted:
            raise InputError(f"no weight {name or parameter!r} in this layer; it has {', '.join(self._weighted) or 'none'}")
        item = next(item for item in self._qp.inputs if item.name == name)
        return mapped(getattr(self, name), item.attributes)

    def explain(self) -> str:
        """What was compiled: sizes, inputs, the derived-parameter program, the route of every block, and the engine."""
        head = (
            f"{self._text}\n\nengine torch: batched Mehrotra interior point on any device, dense, float64 where the device has it\n"
        )
        return head + str(self._qp)

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
        return bound, {**bound.tensors, **values}

    def _solve(self, given: Mapping[str, Any], options: Options) -> Solution:
        bound, inputs = self._bind(given)
        built = self._plan.build(inputs, self._functions, bound.like, bound.dtype)
        if options.on_failure != "raise":
            built, inputs = self._harmless(built, inputs, bound)
        size = math.prod(bound.batch)
        try:
            raw = solve(
                built.data.expanded_to(size),
                replace(options, precision=bound.dtype),
                rejected=None if built.rejected is None else built.rejected.expand(size),
            )
        except SolveError as error:
            raise self._named(error, built, inputs, bound, options) from None
        return self._solution(raw, built, inputs, bound, options)

    def _solution(self, raw: QPSolution, built: Built, inputs: dict[str, Tensor], bound: Bound, options: Options) -> Solution:
        names = self._function_names, self._leaves, self._constraints
        policy = options.on_failure == "nan", options.regularize > 0
        context = Context(self._qp, self._functions, *names, bound.batch, bound.dtype, *policy)
        return Solution(raw, built.data, built.constant, built.slots, inputs, context)

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

    def _named(self, error: SolveError, built: Built, inputs: dict[str, Tensor], bound: Bound, options: Options) -> SolveError:
        """The engine's error in the user's words: which parameter, which constraints."""
        raw = cast(QPSolution, error.solution)
        details = []
        for index, status in list(zip(error.indices, error.status, strict=True))[:EXPLAINED]:
            causes = []
            if status in (Status.INVALID_INPUT, Status.NONCONVEX):
                causes = self._plan.blame(inputs, built, index, bound.dtype)
            if status is Status.PRIMAL_INFEASIBLE:
                conflict = [f"{m.name!r} ({m.text})" for m in self._qp.multipliers if _conflicts(raw.ray, m, index)]
                causes = [f"no point satisfies {', '.join(conflict) or 'the constraints'} together"]
            if status is Status.DUAL_INFEASIBLE:
                moving = [v.name for v in self._qp.variables if _moves(raw.ray, v, index)]
                causes = [f"the objective falls without end along {', '.join(moving)}"]
            details += [f"item {_place(index, bound.batch)}: {cause}" for cause in causes]
        solution = self._solution(raw, built, inputs, bound, options)
        return SolveError(solution, error.indices, error.status, details)


def compile(
    problem: Problem,
    *,
    inputs: Sequence[Parameter | str] | None = None,
    outputs: Sequence[Output] | Output | None = None,
    weights: Mapping[Any, Any] | None = None,
    backend: str = "auto",
    eps: float | None = None,
    eps_abs: float | None = None,
    max_iter: int = Options.max_iter,
    on_failure: Literal["raise", "return", "nan"] = "raise",
    accept: Literal["solved", "inaccurate"] = "inaccurate",
    regularize: float = 0.0,
    batch_invariant: bool = False,
) -> Layer:
    """Compile a problem to a torch module.

    ``inputs``: the positional order of parameters (default: order of appearance). ``outputs``: what calls return as plain tensors:
    variables, expressions, ``kr.dual(...)``, ``kr.objective``; default is a ``Solution``. ``weights``: parameters that become
    trainable, with initial values. ``eps``: relative accuracy (1e-8 in float64, 1e-4 in float32); ``eps_abs``: absolute, in the
    units of the data. ``on_failure``: "raise", "return" (best iterate, zero gradient) or "nan". ``accept``: "solved" or
    "inaccurate". ``regularize``: delta in an added delta/2 |x|². ``batch_invariant``: the torch engine's plan depends on the
    model alone, so both values mean the same there. Raises DefinitionError and InputError.
    """
    if not isinstance(problem, Problem):
        raise _definition("the problem", f"expected a kr.Problem, got {type(problem).__name__}")
    if not isinstance(weights, Mapping | None):
        raise _definition("weights", f"expected a mapping from parameters to initial values, got {type(weights).__name__}")
    if not isinstance(batch_invariant, bool):
        raise _definition("batch_invariant", f"expected True or False, got {batch_invariant!r}")
    if backend not in ("auto", "torch"):
        raise _definition("the backend", f"expected 'auto' or 'torch', got {backend!r}")
    options = Options(eps, eps_abs, max_iter, on_failure, accept, regularize)
    canonical = canonicalize(problem)
    by_key = problem.names
    declared = {item.name: item for item in canonical.qp.inputs}
    held = {_name(parameter, by_key, declared): value for parameter, value in (weights or {}).items()}
    _refuse_collisions(held, canonical.functions)
    free = [name for name in declared if name not in held]
    order = free if inputs is None else [_name(parameter, by_key, declared) for parameter in inputs]
    if sorted(order) != sorted(free):
        raise _definition("inputs", f"expected each of {', '.join(free) or 'none'} once, got {', '.join(order)}")
    chosen = None if outputs is None else _outputs(outputs, by_key, problem)
    parameters = {name: initial(declared[name], value) for name, value in held.items()}
    constraints = {constraint.key: name for name, constraint in problem.constraints.items()}
    return Layer(canonical, by_key, constraints, order, chosen, parameters, options, repr(problem))


def _outputs(outputs: Sequence[Output] | Output, by_key: Mapping[str, str], problem: Problem) -> tuple[Output, ...]:
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    if not several:
        raise _definition("outputs", "the list is empty")
    keys = {constraint.key for constraint in problem.constraints.values()}
    for output in several:
        if isinstance(output, Dual):
            known = output.of in problem.constraints if isinstance(output.of, str) else output.of.key in keys
            if not known:
                raise _definition("outputs", f"no constraint {output.of!r}; there are {', '.join(problem.constraints)}")
        elif isinstance(output, str):
            if output not in problem.variables:
                raise _definition("outputs", f"no variable {output!r}; there are {', '.join(problem.variables)}")
        elif isinstance(output, Expression):
            unknown = [leaf for leaf in leaves([output]) if leaf.key not in by_key]
            if unknown:
                raise _definition("outputs", f"{unknown[0]!r} does not occur in the problem")
        elif not isinstance(output, Objective):
            hint = "a variable, its name, an expression, kr.dual(constraint) or kr.objective"
            raise _definition("outputs", f"expected {hint}, got {output!r}")
    return tuple(several)


def _output(solution: Solution, output: Output) -> Tensor:
    if isinstance(output, Dual):
        return solution.dual(output.of)
    return solution.objective if isinstance(output, Objective) else solution[output]


def _name(parameter: Parameter | str, by_key: Mapping[str, str], declared: Mapping[str, Input]) -> str:
    name = parameter if isinstance(parameter, str) else by_key.get(getattr(parameter, "key", ""), "")
    if name not in declared:
        raise _definition("a parameter", f"{parameter!r} does not occur in the problem; it has {', '.join(declared) or 'none'}")
    return name


def _refuse_collisions(weights: Mapping[str, Any], functions: Mapping[str, Any]) -> None:
    for name in weights:
        if hasattr(Layer, name) or name in functions or name == "training":
            raise _definition(f"the weight {name!r}", "the name is taken by torch.nn.Module or by the layer; rename the parameter")


def _definition(title: str, why: str) -> DefinitionError:
    return DefinitionError(Diagnostic("N04", f"{title} cannot be used", None, "", "", why, ""))


def _place(index: int, batch: tuple[int, ...]) -> str:
    """A flat index as the index into the batch dimensions."""
    if len(batch) < 2:
        return str(index)
    return str(tuple(int(i) for i in np.unravel_index(index, batch)))


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


def _conflicts(ray: Ray, multiplier: Multiplier, index: int) -> bool:
    """Whether a constraint takes part in the certificate of infeasibility of an item."""
    rays = torch.cat([ray.y[index], ray.z[index], ray.z_lb[index], ray.z_ub[index]]).abs()
    part = rays[torch.from_numpy(multiplier.source.array.copy()).to(rays.device)]
    return bool((part > NEGLIGIBLE * rays.max()).any()) if part.numel() else False


def _moves(ray: Ray, variable: Retrieved, index: int) -> bool:
    direction = ray.x[index].abs()
    part = direction[variable.start : variable.start + variable.size]
    return bool((part > NEGLIGIBLE * direction.max()).any())
