"""Sparse tensors as Q, G, A of ``solve_qp``: their patterns and, differentiably, their values."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..failure import input_error
from .data import SparseData
from .structure import Pattern, Structure, pattern, shared

MATRICES = ("Q", "G", "A")
Shape = tuple[int, ...]
Index = NDArray[np.int64]


def is_sparse(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.layout is not torch.strided


def checked(name: str, tensor: Tensor, at: tuple[str | int, ...]) -> Tensor:
    """A matrix without batch dimensions, in a layout that has entries."""
    if tensor.dim() != 2:
        title = f"argument {name}: expected a matrix, got shape {tuple(tensor.shape)}"
        why = "with sparse matrices a batch is in the vectors; matrices whose values differ by item are parameters of a layer"
        mend = "pass one matrix for all items\nwrite the model in the language: kr.compile gives every item its own values"
        raise input_error("I05", title, why, mend, at=at, label=str(tuple(tensor.shape)))
    if tensor.layout not in (torch.strided, torch.sparse_coo, torch.sparse_csr):
        title, mend = f"argument {name}: expected entries, got {tensor.layout}", f"write {name}.to_sparse_coo()"
        raise input_error("I09", title, "sparse matrices are read as COO or CSR", mend, at=at, label="sparse")
    return tensor


def data_of(tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape], batch: Shape, dtype: torch.dtype) -> SparseData:
    """Checked arguments of this joint batch as sparse data; vectors have ``shapes`` with one flat batch axis."""
    n = tensors["Q"].shape[-1]
    entries = {name: _entries(tensors[name]) for name in MATRICES if name in tensors}
    nothing = np.zeros((2, 0), dtype=np.int64)
    indices = {name: entries[name][0] if name in entries else nothing for name in MATRICES}
    heights = {name: tensors[name].shape[0] if name in tensors else 0 for name in MATRICES}
    structure, places = _structure(indices, heights, n)
    values = {}
    for name in MATRICES:
        own = entries[name][1].to(dtype) if name in entries else torch.zeros(0, dtype=dtype, device="cpu")
        size = len(getattr(structure, name))
        if name == "Q":
            own = own * torch.from_numpy(np.where(indices[name][0] == indices[name][1], 1.0, 0.5))
        values[name] = own.new_zeros(size).index_add(0, torch.from_numpy(places[name]), own)[None]

    def vector(name: str) -> Tensor:
        if name not in tensors:
            return torch.zeros(shapes[name], dtype=dtype, device="cpu")
        tensor = tensors[name].to(dtype)
        shape = shapes[name]
        return tensor.reshape(shape) if tensor.numel() == math.prod(shape) else tensor.expand(*batch, *shape[1:]).reshape(shape)

    p, h, b = (vector(name) for name in ("p", "h", "b"))
    lb, ub = (vector(name) if name in tensors else None for name in ("lb", "ub"))
    return SparseData(structure, values["Q"], p, values["G"], h, values["A"], b, lb, ub).expanded_to(math.prod(batch))


def _entries(matrix: Tensor) -> tuple[Index, Tensor]:
    """Positions (2, entries) and values of a matrix, differentiable."""
    if matrix.layout is torch.strided:
        rows, cols = matrix.detach().nonzero(as_tuple=True)
        if matrix.requires_grad:  # an entry that is zero has a derivative as well
            rows, cols = torch.ones_like(matrix, dtype=torch.bool).nonzero(as_tuple=True)
        return torch.stack([rows, cols]).numpy(), matrix[rows, cols]
    if matrix.layout is torch.sparse_csr:
        ends, cols = matrix.crow_indices(), matrix.col_indices()
        rows = torch.repeat_interleave(torch.arange(matrix.shape[0], device="cpu"), ends.diff())
        return torch.stack([rows, cols.long()]).numpy(), matrix.values()
    joined = matrix.coalesce()
    return joined.indices().numpy(), joined.values()


_lock = threading.Lock()
_known: OrderedDict[str, tuple[Structure, dict[str, Index]]] = OrderedDict()
KEPT = 16


def _structure(indices: Mapping[str, Index], heights: Mapping[str, int], n: int) -> tuple[Structure, dict[str, Index]]:
    """The structure, its diagonal of Q complete, and where each entry goes; remembered by content."""
    state = hashlib.sha256(repr((sorted(heights.items()), n)).encode())
    for name in MATRICES:
        state.update(np.ascontiguousarray(indices[name]).tobytes() + name.encode())
    digest = state.hexdigest()
    with _lock:
        found = _known.get(digest)
    if found is not None:
        return found
    patterns: dict[str, Pattern] = {}
    places: dict[str, Index] = {}
    for name in MATRICES:
        rows, cols = indices[name]
        if len(rows) and not (rows.min() >= 0 and cols.min() >= 0 and rows.max() < heights[name] and cols.max() < n):
            why = f"the matrix is {heights[name]} by {n}, and torch does not check the indices of sparse tensors"
            raise input_error("I05", f"argument {name}: an entry lies outside of the matrix", why, "check its indices", label="")
        if name == "Q":
            at = np.arange(n)
            low, high = np.concatenate([np.minimum(rows, cols), at]), np.concatenate([np.maximum(rows, cols), at])
            patterns[name], place = pattern(low, high, n, n)
            places[name] = place[: len(rows)]
        else:
            patterns[name], places[name] = pattern(rows, cols, heights[name], n)
    made = shared(patterns["Q"], patterns["A"], patterns["G"]), places
    with _lock:
        _known[digest] = made
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return made


def facts(tensors: Mapping[str, Tensor]) -> tuple[tuple[str, Any, Any, Any], ...]:
    """Names, shapes, dtypes and devices."""
    return tuple((name, tensor.shape, tensor.dtype, tensor.device) for name, tensor in tensors.items())
