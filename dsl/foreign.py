"""What comes from NumPy, SciPy and torch: their arrays as constants, and their names for the operators of Python."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .diagnostics import definition_error


def as_array(value: Any) -> NDArray[np.float64]:
    """A float64 copy of a constant, whatever library it came from."""
    if isinstance(value, np.ndarray):
        pass
    elif getattr(value, "requires_grad", False):
        why = "constants are fixed when the model is compiled: no gradient could flow back into this one"
        mend = "make it a kr.Parameter, and pass it when the layer is called\nwrite .detach(), if no gradient is wanted"
        raise definition_error("N02", "a constant that requires grad", why, mend, label="requires grad")
    elif hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    elif hasattr(value, "toarray"):
        value = value.toarray()
    raw = np.asarray(value)
    if raw.dtype.kind not in "biuf":
        why = f"constants are real numbers, arrays and tensors; this is a {type(value).__name__}"
        label, mend = "not numbers", "convert it to an array of floats first"
        if raw.dtype.kind == "c":
            label, mend = "complex numbers", "pass its real and imaginary parts apart"
        raise definition_error("N02", "a constant that is not made of real numbers", why, mend, label=label)
    array = np.array(raw, dtype=np.float64)
    if np.isnan(array).any():
        why = "NaN stands for a missing value, and a model cannot be built on one"
        mend = "fill or drop the missing entries first\nmake it a kr.Parameter: then NaN fails the item that has it, and no other"
        raise definition_error("N02", "a constant with NaN", why, mend, label="holds NaN")
    return array


def as_sparse(value: Any) -> Any:
    """A float64 copy of a sparse matrix, by rows; None where the constant is anything else."""
    if not hasattr(value, "tocsr") or len(value.shape) != 2:
        return None
    rows = value.tocsr(copy=True)
    rows.data = as_array(rows.data)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    return rows


# torch's names of what NumPy calls otherwise.
TORCH = {"sub": "subtract", "mul": "multiply", "div": "divide", "true_divide": "divide", "neg": "negative", "abs": "absolute"}
TORCH |= {"eq": "equal", "le": "less_equal", "ge": "greater_equal", "lt": "less", "gt": "greater", "ne": "not_equal"}
TORCH |= {"mm": "matmul", "mv": "matmul", "pow": "power"}

# NumPy's names of the operators of Python.
UFUNCS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "matmul": operator.matmul,
    "negative": operator.neg,
    "absolute": operator.abs,
    "equal": operator.eq,
    "less_equal": operator.le,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "greater": operator.gt,
    "not_equal": operator.ne,
    "power": operator.pow,
    "remainder": operator.mod,
    "floor_divide": operator.floordiv,
}
