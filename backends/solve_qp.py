"""The OptNet layer for users who have matrices: ``solve_qp``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from .data import QPData, QPSolution
from .failure import InputError, SolveError
from .inputs import joint_batch, solve_dtype_of
from .options import Options
from .solve import solve

Shape = tuple[int, ...]


def solve_qp(
    Q: Tensor,
    p: Tensor,
    G: Tensor | None = None,
    h: Tensor | None = None,
    A: Tensor | None = None,
    b: Tensor | None = None,
    *,
    lb: Tensor | float | None = None,
    ub: Tensor | float | None = None,
    eps: float | None = None,
    eps_abs: float | None = None,
    max_iter: int = Options.max_iter,
    on_failure: Literal["raise", "return", "nan"] = "raise",
    accept: Literal["solved", "inaccurate"] = "inaccurate",
    regularize: float = 0.0,
) -> QPSolution:
    """Solve batches of convex quadratic programs, differentiably.

        minimize 1/2 x'Qx + p'x   subject to  Gx <= h,  Ax = b,  lb <= x <= ub

    Q (n,n), p (n), G (m,n), h (m), A (k,n), b (k), lb and ub (n) or scalar, each with any leading batch dimensions or none; these
    broadcast, and the joint batch must be the batch of at least one argument. A tensor without batch dimensions is shared, and its
    gradient is the sum over the batch. Q is read as (Q + Q')/2. h and ub may hold +inf, lb -inf: no such constraint.

    Results carry the joint batch shape and the promoted floating dtype of the arguments; inside, float64 is used where the device
    has it. Options are those of ``Options``. Raises InputError before any work, SolveError if an item fails and ``on_failure`` is
    "raise".
    """
    options = Options(eps, eps_abs, max_iter, on_failure, accept, regularize)
    for left, right in ((("G", G), ("h", h)), (("A", A), ("b", b))):
        for (name, given), (other, partner) in ((left, right), (right, left)):
            if given is None and partner is not None:
                raise InputError(f"argument {name}: expected a tensor because {other} is given, got None")
    blocks = {"Q": Q, "p": p, "G": G, "h": h, "A": A, "b": b}
    tensors = {name: _checked(name, value) for name, value in blocks.items() if value is not None or name in ("Q", "p")}
    reference = tensors["Q"]
    bounds = {name: _bound(name, value, reference) for name, value in (("lb", lb), ("ub", ub)) if value is not None}
    tensors.update(bounds)
    _same_device(tensors)
    dtype = reference.dtype
    for tensor in tensors.values():
        dtype = torch.promote_types(dtype, tensor.dtype)

    batches, n = _shapes(tensors)
    batch = joint_batch(batches)
    size = math.prod(batch)
    inner = solve_dtype_of(reference.device)

    def flat(name: str, *empty: int) -> Tensor:
        """One batch axis of size B or 1, in the dtype that is solved in."""
        if name not in tensors:
            return torch.zeros(1, *empty, dtype=inner, device=reference.device)
        tensor, own = tensors[name].to(inner), batches[name]
        tail = tensor.shape[len(own) :]
        if math.prod(own) == 1 and size != 1:
            return tensor.reshape(1, *tail)
        return tensor.expand(*batch, *tail).reshape(size, *tail)

    data = QPData(
        flat("Q"), flat("p"), flat("G", 0, n), flat("h", 0), flat("A", 0, n), flat("b", 0),
        *(flat(name) if name in bounds else None for name in ("lb", "ub")),
    ).expanded_to(size)  # fmt: skip
    try:
        solution = solve(data, replace(options, precision=dtype))
    except SolveError as error:
        raise SolveError(_shaped(error.solution, batch, dtype), error.indices, error.status) from None
    shaped: QPSolution = _shaped(solution, batch, dtype)
    return shaped


def _checked(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(f"argument {name}: expected a tensor, got {type(value).__name__}")
    if not value.dtype.is_floating_point:
        raise InputError(f"argument {name}: expected a floating dtype, got {value.dtype}; convert it with {name}.double()")
    return value


def _bound(name: str, value: Any, reference: Tensor) -> Tensor:
    """A bound as a tensor; a number takes the dtype of Q, and one number bounds every variable."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = torch.tensor(float(value), dtype=reference.dtype, device=reference.device)
    checked = _checked(name, value)
    return checked if checked.dim() else checked.expand(reference.shape[-1:])


def _same_device(tensors: Mapping[str, Tensor]) -> None:
    if len({tensor.device for tensor in tensors.values()}) > 1:
        listed = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise InputError(f"arguments are on different devices: {listed}")


def _shapes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Shape], int]:
    """Batch shapes by name, and n; every size is stated by one argument and checked against the others."""
    matrices = {name: tensor for name, tensor in tensors.items() if name in ("Q", "G", "A")}
    for name, tensor in tensors.items():
        least = 2 if name in matrices else 1
        if tensor.dim() < least:
            raise InputError(f"argument {name}: expected at least {least} dimensions, got shape {tuple(tensor.shape)}")
    n = tensors["Q"].shape[-1]
    if n == 0:
        raise InputError(f"argument Q: expected at least one variable, got shape {tuple(tensors['Q'].shape)}")
    m, k = (tensors[name].shape[-2] if name in tensors else 0 for name in ("G", "A"))
    expected = {
        "Q": (n, n), "p": (n,), "G": (m, n), "h": (m,), "A": (k, n), "b": (k,), "lb": (n,), "ub": (n,),
    }  # fmt: skip
    batches = {}
    for name, tensor in tensors.items():
        tail = expected[name]
        got = tuple(tensor.shape)
        if got[-len(tail) :] != tail:
            raise InputError(f"argument {name}: expected shape batch + {tail} (n={n}, m={m}, k={k}), got {got}")
        batches[name] = got[: -len(tail)]
    return batches, n


def _shaped(value: Any, batch: Shape, dtype: torch.dtype) -> Any:
    """Every tensor with the joint batch shape; what is floating and is a result, in the dtype of the arguments."""
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _shaped(getattr(value, f.name), batch, dtype) for f in fields(value)})
    shaped = value.reshape((*batch, *value.shape[1:]))
    return shaped.to(dtype) if shaped.dtype.is_floating_point else shaped
