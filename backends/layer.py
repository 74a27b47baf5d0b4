"""The compiled layer: an ``nn.Module`` from parameters to solutions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from ..canon.canonicalize import Canonical, canonicalize
from ..canon.param_qp import Input, Multiplier, Retrieved
from ..canon.program import Functions
from ..dsl.diagnostics import DefinitionError, Diagnostic
from ..dsl.expression import Expression, wrap
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

Output = Expression | Dual | Objective
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
        self._qp = canonical.qp
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
        solution = self._solve(match(args, kwargs, self._order, self._leaves), self._options)
        if self._outputs is None:
            return solution
        values = tuple(_output(solution, output) for output in self._outputs)
        return values[0] if len(values) == 1 else values

    def solve(self, inputs: Mapping[Any, Any] | None = None, **options: Any) -> Solution:
        """Solve with options of this call (``on_failure``, ``eps``, ...); always returns a ``Solution``."""
        given = match((inputs or {},), {}, self._order, self._leaves)
        return self._solve(given, replace(self._options, **options))

    def standard_form(self, *args: Any, **kwargs: Any) -> QPData:
        """The batched problem data Q p G h A b lb ub of these inputs, differentiable; one leading axis, of size 1 where shared."""
        bound, inputs = self._bind(match(args, kwargs, self._order, self._leaves))
        return self._plan.build(inputs, self._functions, bound.device, _dtype(inputs, bound)).data

    def weight(self, parameter: Parameter | str) -> Tensor:
        """The value of a weight: the raw tensor under its map, which has the declared attributes."""
        name = parameter if isinstance(parameter, str) else self._leaves.get(parameter.key, "")
        if name not in self._weighted:
            raise InputError(f"no weight {name or parameter!r} in this layer; it has {', '.join(self._weighted) or 'none'}")
        item = next(item for item in self._qp.inputs if item.name == name)
        return mapped(self.get_parameter(name), item.attributes)

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
        raw = {name: self.get_parameter(name) for name in self._weighted}
        shapes = {item.name: item.shape for item in self._qp.inputs}
        bound = bind(given, shapes, raw.values())
        attributes = {item.name: item.attributes for item in self._qp.inputs}
        dtype = _dtype(bound.tensors, bound)
        values = {name: mapped(tensor.to(dtype), attributes[name]).unsqueeze(0) for name, tensor in raw.items()}
        return bound, {**bound.tensors, **values}

    def _solve(self, given: Mapping[str, Any], options: Options) -> Solution:
        bound, inputs = self._bind(given)
        dtype = _dtype(inputs, bound)
        built = self._plan.build(inputs, self._functions, bound.device, dtype)
        if options.on_failure != "raise":
            built = self._harmless(inputs, built, bound, dtype)
        size = math.prod(bound.batch)
        data = built.data
        if data.batch != size:  # nothing that has a batch enters the problem
            data = replace(data, p=data.p.expand(size, -1))
        try:
            raw = solve(data, options, rejected=None if built.rejected is None else built.rejected.expand(size))
        except SolveError as error:
            raise self._named(error, built, inputs, bound, options) from None
        return Solution(raw, built.data, built.constant, inputs, self._context(bound, options))

    def _context(self, bound: Bound, options: Options) -> Context:
        known = self._leaves, self._constraints, bound.batch, bound.dtype
        return Context(self._qp, self._functions, *known, options.on_failure == "nan")

    def _harmless(self, inputs: dict[str, Tensor], built: Built, bound: Bound, dtype: torch.dtype) -> Built:
        """Items whose data cannot be used borrow the inputs of a usable mate, so that nothing non-finite is differentiated.

        Zero times NaN is NaN: a gradient that is exactly zero at the data would still poison a shared parameter behind an exp or
        an inverse. The items keep their status; only what flows through them changes.
        """
        bad = _unusable(built.data)
        if built.rejected is not None:
            bad = bad | (built.rejected != 0)
        if not _any(bad):
            return built
        codes = torch.where(bad, torch.tensor(int(Status.INVALID_INPUT), dtype=torch.int8, device=bad.device), 0)
        if built.rejected is not None:
            codes = torch.where(built.rejected != 0, built.rejected, codes)
        lender = torch.where(bad, (~bad).to(torch.int8).argmax(), torch.arange(len(bad), device=bad.device))
        borrowed = {n: t.index_select(0, lender) if t.shape[0] == len(bad) else t for n, t in inputs.items()}
        again = self._plan.build(borrowed, self._functions, bound.device, dtype)
        return Built(again.data, again.constant, codes.to(torch.int8))

    def _named(self, error: SolveError, built: Built, inputs: Mapping[str, Tensor], bound: Bound, options: Options) -> SolveError:
        """The engine's error in the user's words: which parameter, which constraints."""
        raw = cast(QPSolution, error.solution)
        details = []
        for index, status in list(zip(error.indices, error.status, strict=True))[:EXPLAINED]:
            if status in (Status.INVALID_INPUT, Status.NONCONVEX):
                details += [f"item {index}: {text}" for text in self._plan.blame(inputs, self._functions, index)]
            if status is Status.PRIMAL_INFEASIBLE:
                conflict = [f"{m.name!r} ({m.text})" for m in self._qp.multipliers if _conflicts(raw.ray, m, index)]
                details.append(f"item {index}: no point satisfies {', '.join(conflict) or 'the constraints'} together")
            if status is Status.DUAL_INFEASIBLE:
                moving = [v.name for v in self._qp.variables if _moves(raw.ray, v, index)]
                details.append(f"item {index}: the objective falls without end along {', '.join(moving)}")
        solution = Solution(raw, built.data, built.constant, dict(inputs), self._context(bound, options))
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
    for output in several:
        if isinstance(output, Dual):
            name = output.of if isinstance(output.of, str) else None
            known = {c.key for c in problem.constraints.values()}
            if (name is not None and name not in problem.constraints) or (name is None and output.of.key not in known):  # type: ignore[union-attr]  # a Constraint
                raise _definition("outputs", f"no constraint {output.of!r}; there are {', '.join(problem.constraints)}")
        elif not isinstance(output, Objective):
            unknown = [leaf for leaf in leaves([wrap(output)]) if leaf.key not in by_key]  # type: ignore[attr-defined]  # a leaf
            if unknown:
                raise _definition("outputs", f"{unknown[0]!r} does not occur in the problem")
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


def _dtype(tensors: Mapping[str, Tensor], bound: Bound) -> torch.dtype:
    return next((t.dtype for t in tensors.values()), torch.float32 if bound.device.type == "mps" else torch.float64)


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
