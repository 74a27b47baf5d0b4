"""The OptNet layer for users who have matrices: ``solve_qp``."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from . import direct
from .data import Frame, QPData, QPSolution, Shape, mapped
from .failure import SolveError, input_error
from .flags import Conditioning
from .flags import conditioning as conditioning_of
from .inputs import dense, joint_batch, solve_dtype_of, without_values
from .options import Options, options_of
from .solve import in_full, solve
from .sparse import arguments
from .sparse.choose import Choice, serves
from .sparse.data import SparseData
from .sparse.flags import conditioning as sparse_conditioning
from .sparse.solve import solve as sparse_solve
from .warm import Previous, start_of

Signature: TypeAlias = tuple[Any, ...]


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
    smoothing: float = 0.0,
    backend: Literal["auto", "cpu", "torch", "sparse"] = "auto",
    batch_invariant: bool = False,
    warm_start: Previous | None = None,
) -> QPSolution:
    """Solve batches of convex quadratic programs, differentiably.

        minimize 1/2 x'Qx + p'x   subject to  Gx <= h,  Ax = b,  lb <= x <= ub

    Q (n,n), p (n), G (m,n), h (m), A (k,n), b (k), lb and ub (n) or scalar, each with any leading batch dimensions or none; these
    broadcast, and the joint batch must be the batch of at least one argument. A tensor without batch dimensions is shared, and its
    gradient is the sum over the batch. Q is read as (Q + Q')/2. h and ub may hold +inf, lb -inf: no such constraint. Q, G and A may
    be sparse tensors (COO or CSR, shared by the batch): their gradients are those of the entries that are there.

    Results carry the joint batch shape and the promoted floating dtype of the arguments; inside, float64 is used where the device
    has it. ``warm_start``: the solution of an earlier call with similar data. Options are those of ``Options``. Raises InputError
    before any work, SolveError if an item fails and ``on_failure`` is "raise".
    """
    options = options_of(eps, eps_abs, max_iter, on_failure, accept, regularize, smoothing, backend, batch_invariant)
    lb, ub = _spread(lb, Q), _spread(ub, Q)
    given = (Q, p, G, h, A, b, lb, ub)
    form = _forms.get(_signature(given))
    frame = None if form is None or backend == "sparse" else form.frame
    begun = None
    if frame is not None:
        found = direct.solve(given, frame, options, start_of(warm_start, frame.sizes, frame.B, p))
        if isinstance(found, QPSolution):
            return found
        begun = found
    sparse = backend == "sparse" or any(arguments.is_sparse(matrix) for matrix in (Q, G, A))
    posed = _posed_sparse if sparse else _posed
    data, batch, dtype = posed({"Q": Q, "p": p, "G": G, "h": h, "A": A, "b": b}, {"lb": lb, "ub": ub})
    if dtype != data.Q.dtype:
        options = replace(options, precision=dtype)
    start = start_of(warm_start, data.sizes, math.prod(batch), data.p)
    try:
        if isinstance(data, SparseData):
            serves(SPARSE_ALONE, options, data.p)
            solution = sparse_solve(data, options, warm_start=start)
        elif frame is None:
            solution = solve(data, options, warm_start=start)
        else:
            solution = in_full(data, options, None, start, begun)
    except SolveError as error:
        raise SolveError(_shaped(cast(QPSolution, error.solution), batch, dtype), error.indices, error.status) from None
    if len(batch) == 1 and dtype == data.Q.dtype:
        return solution
    return _shaped(solution, batch, dtype)


def conditioning(
    solution: QPSolution,
    Q: Tensor,
    p: Tensor,
    G: Tensor | None = None,
    h: Tensor | None = None,
    A: Tensor | None = None,
    b: Tensor | None = None,
    *,
    lb: Tensor | float | None = None,
    ub: Tensor | float | None = None,
    regularize: float = 0.0,
) -> Conditioning:
    """How regular the solutions of ``solve_qp`` are: flags, reciprocal condition number and margin of each item.

    Takes the arguments of that call: with ``problem = (Q, p, G, h)`` and ``solution = kr.solve_qp(*problem)``, it is
    ``kr.conditioning(solution, *problem)``; ``regularize`` as there. Nothing is solved, nothing differentiated. Raises InputError
    as ``solve_qp`` does, and where the two do not belong together.
    """
    posed = _posed_sparse if any(arguments.is_sparse(matrix) for matrix in (Q, G, A)) else _posed
    data, batch, _ = posed({"Q": Q, "p": p, "G": G, "h": h, "A": A, "b": b}, {"lb": lb, "ub": ub})
    n, m, k = data.sizes
    got = tuple(solution.status.shape), (solution.x.shape[-1], solution.z.shape[-1], solution.y.shape[-1])
    if got != (batch, (n, m, k)):
        why = f"they pose problems of batch shape {batch} with (n, m, k) = {n, m, k}; the solution has {got[0]} and {got[1]}"
        mend = "pass the arguments that it was solved with"
        raise input_error("I12", "a solution of other problems", why, mend, at=(0, "solution"))

    def flat(part: Tensor) -> Tensor:
        part = part.detach().reshape(math.prod(batch), *part.shape[len(batch) :])
        return part.to(data.Q.dtype) if part.dtype.is_floating_point else part

    solution = mapped(flat, solution)
    if isinstance(data, SparseData):
        found = sparse_conditioning(data.regularized(regularize), solution)
    else:
        Q = data.Q.detach() + regularize * torch.eye(n, dtype=data.Q.dtype, device=data.Q.device)
        found = conditioning_of(replace(data, Q=Q), solution)
    return Conditioning(*(part.reshape(batch) for part in (found.flags, found.rcond, found.margin)))


def _posed(blocks: Mapping[str, Any], sides: Mapping[str, Any]) -> tuple[QPData, Shape, torch.dtype]:
    """Checked arguments with one flat batch axis in the dtype that is solved in; the joint batch, and the dtype of results."""
    given = {**blocks, **sides}
    key = _signature(given.values())
    form = _forms.get(key)
    if form is not None:
        return form.data({name: value for name, value in given.items() if value is not None}), form.batch, form.dtype
    tensors = _all_checked(blocks, sides)
    form = _form(tuple([(name, tensor.shape, tensor.dtype, tensor.device) for name, tensor in tensors.items()]))
    if key is not None and all(tensor.dim() for tensor in tensors.values()):
        if len(_forms) >= FORMS:
            _forms.clear()
        _forms[key] = form
    return form.data(tensors), form.batch, form.dtype


def _posed_sparse(blocks: Mapping[str, Any], sides: Mapping[str, Any]) -> tuple[SparseData, Shape, torch.dtype]:
    """The same of matrices that are sparse, or are to be taken for it."""
    tensors = _all_checked(blocks, sides, sparse=True)
    form = _form(arguments.facts(tensors))
    serves(SPARSE_ALONE, Options(), tensors["p"].to(form.inner))
    return arguments.data_of(tensors, form.shapes, form.batch, form.inner), form.batch, form.dtype


SPARSE_ALONE = Choice(True, True, "sparse tensors")
PLAIN = (Tensor, torch.nn.Parameter)
FORMS = 256
_forms: dict[Signature | None, _Form] = {}  # of calls that were found right


def _signature(given: Collection[Any]) -> Signature | None:
    """All that the checks look at: shapes, and what else the tensors are, unless they are as the compiled engine reads them."""
    shapes: list[Shape | None] = []
    usual = True
    for value in given:
        if value is None:
            shapes.append(None)
        elif type(value) in PLAIN:
            shapes.append(value.shape)
            if value.dtype is not torch.float64 or not value.is_cpu or value.layout is not torch.strided:
                usual = False
        else:
            return None
    if usual:
        return tuple(shapes)
    return *shapes, *[(value.dtype, value.device, value.layout) for value in given if value is not None]


def _spread(bound: Any, Q: Any) -> Any:
    """One number for every variable as the tensor that it stands for, so that the call looks like others of its kind."""
    if type(Q) not in PLAIN or not Q.dim() or not Q.dtype.is_floating_point or Q.is_meta:
        return bound
    if type(bound) in (float, int):
        return torch.full(Q.shape[-1:], float(bound), dtype=Q.dtype, device=Q.device)
    return bound.expand(Q.shape[-1:]) if type(bound) in PLAIN and not bound.dim() else bound


def _all_checked(blocks: Mapping[str, Any], sides: Mapping[str, Any], sparse: bool = False) -> dict[str, Tensor]:
    G, h, A, b = (blocks[name] for name in ("G", "h", "A", "b"))
    for left, right in ((("G", G), ("h", h)), (("A", A), ("b", b))):
        for (name, given), (other, partner) in ((left, right), (right, left)):
            if given is None and partner is not None:
                why = "constraints come as pairs: Gx <= h and Ax = b"
                title = f"argument {name}: expected a tensor because {other} is given, got None"
                raise input_error("I16", title, why, f"pass {name}, or leave {other} out as well", at=_at(other))
    tensors = {name: _checked(name, value, sparse) for name, value in blocks.items() if value is not None or name in ("Q", "p")}
    tensors.update({name: _bound(name, value, tensors["Q"]) for name, value in sides.items() if value is not None})
    return tensors


@dataclass(frozen=True)
class _Form:
    """What follows from the shapes, dtypes and devices of arguments: ``shapes`` with one flat batch axis of size B or 1.

    No tensors: what is made within a transform of torch.func belongs to it.
    """

    batch: Shape
    dtype: torch.dtype
    inner: torch.dtype
    shapes: Mapping[str, Shape]
    frame: Frame | None  # where nothing is to be converted or repeated

    def data(self, tensors: Mapping[str, Tensor]) -> QPData:
        """The arguments in the dtype that is solved in."""

        def flat(name: str) -> Tensor:
            shape = self.shapes[name]
            if name not in tensors:
                return torch.zeros(shape, dtype=self.inner, device=tensors["Q"].device)
            tensor = tensors[name]
            if tensor.dtype != self.inner:
                tensor = tensor.to(self.inner)
            if tensor.shape == shape:
                return tensor
            return tensor.reshape(shape) if tensor.numel() == math.prod(shape) else self._expanded(tensor, shape)

        six = [flat(name) for name in ("Q", "p", "G", "h", "A", "b")]
        bounds = [flat(name) if name in tensors else None for name in ("lb", "ub")]
        return QPData(*six, *bounds).expanded_to(math.prod(self.batch))

    def _expanded(self, tensor: Tensor, shape: Shape) -> Tensor:
        tail = shape[1:]
        return tensor.expand(*self.batch, *tail).reshape(shape)


@lru_cache(maxsize=256)
def _form(signature: tuple[tuple[str, torch.Size, torch.dtype, torch.device], ...]) -> _Form:
    """Checked once for all calls of one form: it would cost as much as a small solve."""
    given = {name: _Given(shape, dtype, device) for name, shape, dtype, device in signature}
    _same_device(given)
    if given["Q"].device.type == "meta":
        raise without_values("argument Q", "Q", _at("Q"))
    dtype = reduce(torch.promote_types, (facts.dtype for facts in given.values()))
    batches, n = _shapes(given)
    batch = joint_batch(batches)
    size = math.prod(batch)
    shapes: dict[str, Shape] = {"G": (1, 0, n), "h": (1, 0), "A": (1, 0, n), "b": (1, 0)}
    for name, own in batches.items():
        shared = math.prod(own) == 1 and size != 1
        shapes[name] = (1 if shared else size, *given[name].shape[len(own) :])
    return _Form(batch, dtype, solve_dtype_of(given["Q"].device), shapes, _frame(given, batches, batch))


def _frame(given: Mapping[str, _Given], batches: Mapping[str, Shape], batch: Shape) -> Frame | None:
    """What the engines are told of these arguments as they are."""
    B = math.prod(batch)
    if any(facts.dtype != torch.float64 or math.prod(batches[name]) not in (1, B) for name, facts in given.items()):
        return None
    names = ("Q", "p", "G", "h", "A", "b", "lb", "ub")
    own = tuple([B > 1 and math.prod(batches.get(name, ())) == B for name in names])
    n, m, k = given["Q"].shape[-1], *(given[name].shape[-2] if name in given else 0 for name in ("G", "A"))
    usual = {name: batch if B == 1 or each else (1,) for name, each in zip(names, own, strict=True)}
    plain = all(usual[name] == own_batch for name, own_batch in batches.items())
    axes = () if plain else tuple([batches.get(name, batch) for name in names])
    return Frame(n, m, k, "lb" in given, "ub" in given, batch, B, own, plain, axes)


class _Given(NamedTuple):
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def _at(name: str) -> tuple[str | int, ...]:
    """Where a call of solve_qp has an argument."""
    order = ("Q", "p", "G", "h", "A", "b")
    return (name, order.index(name)) if name in order else (name,)


def _checked(name: str, value: Any, sparse: bool = False) -> Tensor:
    if not isinstance(value, Tensor):
        title = f"argument {name}: expected a tensor, got {type(value).__name__}"
        raise input_error("I09", title, "solve_qp takes torch tensors as they are", f"write torch.as_tensor({name})", at=_at(name))
    if not value.dtype.is_floating_point:
        title = f"argument {name}: expected a floating dtype, got {value.dtype}"
        why = "the problem is solved in the dtype of its data, and integers have no fractions"
        raise input_error("I07", title, why, f"convert it: {name}.double()", at=_at(name))
    if sparse and name in arguments.MATRICES:
        return arguments.checked(name, value, _at(name))
    return dense(f"argument {name}", name, value, _at(name))


def _bound(name: str, value: Any, reference: Tensor) -> Tensor:
    """A bound as a tensor; a number takes the dtype of Q, and one number bounds every variable."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = torch.tensor(float(value), dtype=reference.dtype, device=reference.device)
    if not isinstance(value, Tensor):
        title = f"argument {name}: expected a tensor or a number, got {type(value).__name__}"
        mend = f"write {name}=0.0, or pass a tensor with an entry for each variable"
        raise input_error("I09", title, "a bound is a tensor, or one number for every variable", mend, at=_at(name))
    checked = _checked(name, value)
    return checked if checked.dim() else checked.expand(reference.shape[-1:])


def _same_device(tensors: Mapping[str, _Given]) -> None:
    if len({tensor.device for tensor in tensors.values()}) > 1:
        listed = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        why = "a problem is solved where its data are, and nothing is copied between devices behind your back"
        place = next(tensor.device for tensor in tensors.values() if tensor.device.type != "meta")
        mend = f'move them to one device: .to("{place}")'
        raise input_error("I08", "arguments are on different devices", why, mend, label=listed)


def _shapes(tensors: Mapping[str, _Given]) -> tuple[dict[str, Shape], int]:
    """Batch shapes by name, and n; every size is stated by one argument and checked against the others."""
    matrices = {name: tensor for name, tensor in tensors.items() if name in ("Q", "G", "A")}
    for name, tensor in tensors.items():
        least = 2 if name in matrices else 1
        if len(tensor.shape) < least:
            title = f"argument {name}: expected at least {least} dimensions, got shape {tuple(tensor.shape)}"
            why = "matrices have two dimensions, vectors one; batch dimensions stand in front"
            mend = f"write torch.diag({name})" if name == "Q" else f"write {name}.unsqueeze(0)"
            raise input_error("I05", title, why, mend, at=_at(name))
    n = tensors["Q"].shape[-1]
    if n == 0:
        title = f"argument Q: expected at least one variable, got shape {tuple(tensors['Q'].shape)}"
        raise input_error("I05", title, "without variables there is nothing to choose", "check what made Q", at=_at("Q"))
    m, k = (tensors[name].shape[-2] if name in tensors else 0 for name in ("G", "A"))
    expected = {
        "Q": (n, n), "p": (n,), "G": (m, n), "h": (m,), "A": (k, n), "b": (k,), "lb": (n,), "ub": (n,),
    }  # fmt: skip
    batches = {}
    for name, tensor in tensors.items():
        tail = expected[name]
        got = tuple(tensor.shape)
        if got[-len(tail) :] != tail:
            title = f"argument {name}: expected shape batch + {tail} (n={n}, m={m}, k={k}), got {got}"
            why = "Q (n, n) states n, G (m, n) states m, A (k, n) states k; all others must agree"
            turned = len(tail) == 2 and got[-2:] == tail[::-1]
            mend = f"turn the matrix: {name}.mT" if turned else f"check {name}, and what states its size"
            raise input_error("I05", title, why, mend, at=_at(name), label=str(got))
        batches[name] = got[: -len(tail)]
    return batches, n


def _shaped(solution: QPSolution, batch: Shape, dtype: torch.dtype) -> QPSolution:
    """Every tensor with the joint batch shape; what is floating, in the dtype of the arguments."""

    def shaped(part: Tensor) -> Tensor:
        part = part.reshape((*batch, *part.shape[1:]))
        return part.to(dtype) if part.dtype.is_floating_point else part

    found: QPSolution = mapped(shaped, solution)
    return found
