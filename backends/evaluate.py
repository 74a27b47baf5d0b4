"""Running programs in torch: one operation per atom, on tensors with one leading batch axis of size B, or 1 where shared.

Used for derived parameters, for expressions asked of a solution and for ``kr.evaluate``. Every operation is differentiable to any
order and works under vmap.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..canon.program import Functions, Program, Step
from ..dsl.atoms import HOLDS
from ..dsl.keys import Key
from .constants import Constants
from .failure import input_error
from .support import support

Shape = tuple[int, ...]


class Evaluator:
    """A program with its constants registered; immutable. The first ``known`` slots will be given."""

    def __init__(self, program: Program, constants: Constants, known: int = 0) -> None:
        self._known = known
        self._moves = [_move(program, step, constants) for step in program.steps[known:]]

    def run(
        self, inputs: Mapping[str, Tensor], functions: Functions, held: list[Tensor], known: Sequence[Tensor] = ()
    ) -> list[Tensor]:
        """The value of every slot; ``held`` are the constants on the right device and dtype."""
        slots = list(known[: self._known])
        for move in self._moves:
            if isinstance(move, str):
                slots.append(inputs[move])
            elif isinstance(move, int):
                slots.append(held[move])
            else:
                arguments = [slots[argument] for argument in move.args]
                if move.positions is not None:
                    slots.append(_gather(arguments[0], held[move.positions], move.shape))
                elif move.function is not None:
                    slots.append(_function(move.shape, *arguments, **move.data, callable=functions[move.function]))
                else:
                    slots.append(move.operation(move.shape, *arguments, **move.data))
        return slots


class _Operation(NamedTuple):
    """A step that computes. ``positions``: of an index that gathers; ``function``: of the user's, by name."""

    operation: Callable[..., Tensor]
    args: tuple[int, ...]
    data: dict[str, Any]
    shape: Shape
    positions: int | None
    function: str | None


def _move(program: Program, step: Step, constants: Constants) -> str | int | _Operation:
    """What is to be done for a step: take an input by name, a constant by number, or compute."""
    data = dict(step.data)
    if step.op == "input":
        return str(data["name"])
    if step.op == "constant":
        return constants.add(data["value"].array[None])
    gathers = step.op == "index" and not _viewable(data["key"])
    positions = constants.add(_positions(program, step)) if gathers else None
    function = data.pop("callable") if step.op == "function" else None
    return _Operation(OPERATIONS[step.op], step.args, data, step.shape, positions, function)


def evaluate(
    program: Program, inputs: Mapping[str, Tensor], functions: Functions, like: Tensor, known: Sequence[Tensor] = ()
) -> Tensor:
    """Run a program once and keep nothing: its one output, on the device and in the dtype of ``like``."""
    constants = Constants()
    evaluator = Evaluator(program, constants, len(known))
    (output,) = program.outputs
    return evaluator.run(inputs, functions, constants.on(like.device, like.dtype), known)[output]


def batch_of(tensors: Iterable[Tensor]) -> int:
    """The common size of leading axes that are 1 or B; an empty batch wins over 1."""
    sizes = {tensor.shape[0] for tensor in tensors}
    return 0 if 0 in sizes else max(sizes, default=1)


def flat(x: Tensor) -> Tensor:
    """(B, number of entries), also where B is zero."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def _viewable(key: Key) -> bool:
    """Whether torch can take this index as a view: no arrays, no negative steps."""
    return key.basic and not any(isinstance(part, slice) and (part.step or 1) < 0 for part in key.entries)


def _positions(program: Program, step: Step) -> np.ndarray[Any, np.dtype[np.int64]]:
    shape = program.steps[step.args[0]].shape
    places = np.arange(int(np.prod(shape))).reshape(shape)
    return np.asarray(places[dict(step.data)["key"].value], dtype=np.int64).reshape(-1)


def _gather(x: Tensor, positions: Tensor, shape: Shape) -> Tensor:
    return flat(x).index_select(1, positions).reshape(x.shape[0], *shape)


def _call(function: Callable[..., Any], arguments: list[Tensor], shape: Shape, batched: bool) -> Tensor:
    """A user's function, written for one item unless ``batched``; shared arguments stay shared."""
    size = batch_of(arguments)
    solve_dtype = arguments[0].dtype if arguments else torch.float64
    if isinstance(function, torch.nn.Module):  # a network computes in its own precision
        own = next((p.dtype for p in function.parameters() if p.dtype.is_floating_point), solve_dtype)
        arguments = [argument.to(own) for argument in arguments]
    if size == 0:
        return (arguments[0] if arguments else torch.empty(0)).new_zeros((0, *shape), dtype=solve_dtype)
    expected = shape if size == 1 and not batched else (size, *shape)
    try:
        if batched:
            result = function(*(argument.expand(size, *argument.shape[1:]) for argument in arguments))
        elif size == 1:
            result = function(*(argument.squeeze(0) for argument in arguments))
        else:
            dims = tuple(None if argument.shape[0] == 1 else 0 for argument in arguments)
            items = [a.squeeze(0) if dim is None else a for a, dim in zip(arguments, dims, strict=True)]
            result = torch.func.vmap(function, in_dims=dims)(*items)
    except Exception as error:
        error.add_note(_called(function, arguments, batched))
        raise
    if not isinstance(result, Tensor) or tuple(result.shape) != expected:
        got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        name = getattr(function, "__name__", type(function).__name__)
        got_shape = tuple(result.shape)[len(expected) - len(shape) :] if isinstance(result, Tensor) else None
        what = "batch + the declared shape" if batched else "the declared shape, for one item"
        why = f"it was declared to return {shape}; with batched={batched} it must return {what}"
        mend = f"declare the shape that it has: kr.function(..., shape={got_shape})\nreshape its result"
        mend = "return a torch tensor" if got_shape is None else mend
        raise input_error("I14", f"function {name}: expected a tensor of shape {expected}, got {got}", why, mend)
    return (result if len(expected) == len(shape) + 1 else result.unsqueeze(0)).to(solve_dtype)


def _called(function: Callable[..., Any], arguments: list[Tensor], batched: bool) -> str:
    """What an error inside of a user's function is told about its place."""
    name = getattr(function, "__name__", type(function).__name__)
    what = "a batch of" if batched else "one item with"
    shapes = ", ".join(str(tuple(argument.shape[0 if batched else 1 :])) for argument in arguments) or "none"
    mapped = "" if batched else ", and must work under torch.func.vmap"
    return f"karush: raised by the function {name} of kr.function. It gets {what} tensors of shapes {shapes}{mapped}"


# Operations: (shape of one item of the result, tensors, static data) -> tensor


def _dims(x: Tensor, axis: tuple[int, ...] | None) -> tuple[int, ...]:
    return tuple(range(1, x.ndim)) if axis is None else tuple(a + 1 for a in axis)


def _sum(shape: Shape, x: Tensor, axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    dims = _dims(x, axis)
    return x.sum(dims, keepdim=keepdims) if dims else x


def _max(shape: Shape, x: Tensor, axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    dims = _dims(x, axis)
    return x.amax(dims, keepdim=keepdims) if dims else x


def _broadcast_to(target: Shape, x: Tensor, shape: Shape) -> Tensor:
    missing = len(target) - (x.ndim - 1)
    return x.reshape(x.shape[0], *(1,) * missing, *x.shape[1:]).expand(x.shape[0], *target)


def _concatenate(shape: Shape, *xs: Tensor, axis: int) -> Tensor:
    size = batch_of(xs)
    return torch.cat([x.expand(size, *x.shape[1:]) for x in xs], dim=axis + 1)


def _matmul(shape: Shape, x: Tensor, y: Tensor) -> Tensor:
    """NumPy's matmul of items: vectors gain a dimension and lose it again; leading dimensions broadcast."""
    left, right = (x.unsqueeze(1) if x.ndim == 2 else x), (y.unsqueeze(2) if y.ndim == 2 else y)
    rank = max(left.ndim, right.ndim)
    left = left.reshape(left.shape[0], *(1,) * (rank - left.ndim), *left.shape[1:])
    right = right.reshape(right.shape[0], *(1,) * (rank - right.ndim), *right.shape[1:])
    result = left @ right
    return result.reshape(result.shape[0], *shape)


def _huber(shape: Shape, x: Tensor, M: Tensor) -> Tensor:
    size = x.abs()
    return torch.where(size <= M, x * x, 2 * M * size - M * M)


def _quad_form(shape: Shape, x: Tensor, P: Tensor, definite: object) -> Tensor:
    if P.ndim < x.ndim + 1:  # one matrix for all vectors of an item
        P = P.reshape(P.shape[0], *(1,) * (x.ndim + 1 - P.ndim), *P.shape[1:])
    return (x * (P @ x.unsqueeze(-1)).squeeze(-1)).sum(-1)


def _ptp(shape: Shape, x: Tensor, axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    dims = _dims(x, axis)
    return x.amax(dims, keepdim=keepdims) - x.amin(dims, keepdim=keepdims) if dims else torch.zeros_like(x)


def _norm2(shape: Shape, x: Tensor, axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    dims = _dims(x, axis)
    return torch.linalg.vector_norm(x, dim=dims, keepdim=keepdims) if dims else x.abs()


def _sum_largest(shape: Shape, x: Tensor, k: Tensor, axis: tuple[int, ...] | None, keepdims: bool) -> Tensor:
    """Sorted, the first floor(k) count whole and the next one by the fraction."""
    dims = _dims(x, axis)
    last = x.movedim(dims, tuple(range(x.ndim - len(dims), x.ndim)))
    rows = (
        last.reshape(*last.shape[: x.ndim - len(dims)], math.prod(last.shape[x.ndim - len(dims) :]))
        .sort(-1, descending=True)
        .values
    )
    share = (k.reshape(-1, 1) - torch.arange(rows.shape[-1], device=x.device, dtype=x.dtype)).clamp(0, 1)
    total = (rows * share.reshape(share.shape[0], *(1,) * (rows.ndim - 2), share.shape[1])).sum(-1)
    return total.reshape(total.shape[0], *shape)


def _dotsort(shape: Shape, x: Tensor, w: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(w, (0, x.shape[1] - w.shape[1]))
    return (x.sort(1).values * padded.sort(1).values).sum(1)


def _indicator(shape: Shape, r: Tensor, e: Tensor) -> Tensor:
    broken = (r > HOLDS).any(1) | (e.abs() > HOLDS).any(1)
    return torch.where(broken, torch.inf, r.new_zeros(()))


# Matrices that have no inverse or factor make their own item NaN, which is then told of that item; they raise for none.


def _inv(shape: Shape, x: Tensor) -> Tensor:
    found = torch.linalg.inv_ex(x)
    return _where(found.info == 0, found.inverse)


def _cholesky(shape: Shape, x: Tensor) -> Tensor:
    found = torch.linalg.cholesky_ex(x)
    return _where(found.info == 0, found.L)


def _solve(shape: Shape, A: Tensor, b: Tensor) -> Tensor:
    size = batch_of((A, b))
    right = b.unsqueeze(2) if b.ndim == 2 else b
    found = torch.linalg.solve_ex(A.expand(size, *A.shape[1:]), right.expand(size, *right.shape[1:]))
    return _where(found.info == 0, found.result).reshape(size, *shape)


def _where(good: Tensor, value: Tensor) -> Tensor:
    return torch.where(good.reshape(-1, *(1,) * (value.ndim - 1)), value, torch.nan)


def _function(target: Shape, *xs: Tensor, **data: Any) -> Tensor:
    return _call(data["callable"], list(xs), target, data["batched"])


def _same(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operation without static data, whose result has the shape of its arguments."""

    def run(shape: Shape, *xs: Tensor) -> Tensor:
        return operation(*xs)

    return run


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": _same(torch.add),
    "negate": _same(torch.neg),
    "sum": _sum,
    "index": lambda target, x, key, shape: x[(slice(None), *key.value)],
    "reshape": lambda target, x, shape: x.reshape(x.shape[0], *target),
    "transpose": lambda shape, x, axes: x.permute(0, *(axis + 1 for axis in axes)),
    "broadcast_to": _broadcast_to,
    "concatenate": _concatenate,
    "diag": lambda shape, x, offset: torch.diag_embed(x, offset),
    "diagonal": lambda shape, x, offset: torch.diagonal(x, offset, 1, 2),
    "cumsum": lambda shape, x, axis: torch.cumsum(x, axis + 1),
    "multiply": _same(torch.mul),
    "matmul": _matmul,
    "abs": _same(torch.abs),
    "max": _max,
    "maximum": lambda shape, *xs: functools.reduce(torch.maximum, xs),
    "ptp": _ptp,
    "cummax": lambda shape, x, axis: torch.cummax(x, axis + 1).values,
    "sum_largest": _sum_largest,
    "dotsort": _dotsort,
    "indicator": _indicator,
    "suppfunc": _same(support),
    "norm2": _norm2,
    "square": _same(torch.square),
    "huber": _huber,
    "quad_form": _quad_form,
    "reciprocal": _same(torch.reciprocal),
    "exp": _same(torch.exp),
    "log": _same(torch.log),
    "sqrt": _same(torch.sqrt),
    "tanh": _same(torch.tanh),
    "sin": _same(torch.sin),
    "cos": _same(torch.cos),
    "sigmoid": _same(torch.sigmoid),
    "softplus": lambda shape, x: torch.logaddexp(x, torch.zeros_like(x)),
    "power": lambda shape, x, exponent: x**exponent,
    "inv": _inv,
    "cholesky": _cholesky,
    "solve": _solve,
    "assume": lambda shape, x, attributes: x,
    "function": _function,
}
