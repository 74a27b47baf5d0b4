"""What a caller may decide about a solve; checked once, when it is stated."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from .failure import InputError, input_error

# Tolerances on scaled residuals, by the dtype in which the problem is solved.
MEANING = {
    "eps": "the largest scaled residual and duality gap of an item that is called solved",
    "eps_abs": "the largest absolute residual of an item that is called solved, in the units of the data",
    "max_iter": "the number of interior-point iterations after which an item is given up",
    "on_failure": "what failed items do: raise an error, return their best iterate, or become NaN",
    "accept": "what counts as success: only solved, or inaccurately solved too",
    "regularize": "delta in an added delta/2 |x|²",
    "smoothing": "mu in an added -mu sum(log(s)) over the slacks of all inequalities",
    "backend": "the engine that solves",
    "batch_invariant": "whether an item has the same bits in a batch of any size",
    "precision": "the dtype that the data were computed in",
}
EPS = {torch.float64: 1e-8, torch.float32: 1e-4}


@dataclass(frozen=True)
class Options:
    """Options of one solve.

    ``eps``: scaled residuals of an item called SOLVED (None: by the solve dtype); ``eps_abs``: absolute ones too, if given.
    ``max_iter``: interior-point iterations of an item, after which it is given up (12 more after a warm start that led nowhere; an
    item that the fast method leaves undecided before that starts anew with the careful one, and ``iterations`` are those of the
    attempt that gave the answer).
    ``on_failure``: "raise" a SolveError, "return" the best iterate, or "nan"; gradients of failed items are zero.
    ``accept``: whether SOLVED_INACCURATE counts as success. ``regularize``: delta, adds delta/2 |x|² to the objective.
    ``smoothing``: mu, adds -mu sum(log(s)) over the slacks of inequalities and bounds: a smooth map of the data, for first
    derivatives.
    ``backend``: "torch" for the engine that runs on any device; "auto" and "cpu" for the compiled one, as far as that goes;
    "sparse" for matrices that are large and mostly zeros, which "auto" takes where a counted cost says so.
    ``batch_invariant``: on a CPU, an item has the same bits in a batch of any size; otherwise the same up to ten ``eps``, and in
    batches of one size the same bits in any company.
    ``precision``: the dtype that the data were computed in, whose rounding Q may carry (None: that of the solve).
    """

    eps: float | None = None
    eps_abs: float | None = None
    max_iter: int = 50
    on_failure: Literal["raise", "return", "nan"] = "raise"
    accept: Literal["solved", "inaccurate"] = "inaccurate"
    regularize: float = 0.0
    smoothing: float = 0.0
    backend: Literal["auto", "cpu", "torch", "sparse"] = "auto"
    batch_invariant: bool = False
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        for name in ("eps", "eps_abs"):
            value = getattr(self, name)
            if value is not None and not (_is_real(value) and 0 < value < 1):
                raise _option(name, value, "a number between 0 and 1, or None", "1e-8 suits float64, 1e-4 float32")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, int) or self.max_iter < 1:
            raise _option("max_iter", self.max_iter, "a positive integer", "50 is plenty for most problems")
        if not _is_real(self.regularize) or not 0 <= self.regularize < math.inf:
            raise _option("regularize", self.regularize, "a finite number >= 0", "0 adds nothing, 1e-6 makes solutions unique")
        if not _is_real(self.smoothing) or not 0 <= self.smoothing < math.inf:
            raise _option("smoothing", self.smoothing, "a finite number >= 0", "0 is the exact problem, 1e-3 is a little smooth")
        if self.precision is not None and not (isinstance(self.precision, torch.dtype) and self.precision.is_floating_point):
            raise _option("precision", self.precision, "a floating torch dtype or None", "leave it out: it follows from the data")
        if not isinstance(self.batch_invariant, bool):
            raise _option("batch_invariant", self.batch_invariant, "True or False", "leave it out: False is faster for few items")
        choices = {
            "on_failure": ("raise", "return", "nan"),
            "accept": ("solved", "inaccurate"),
            "backend": ("auto", "cpu", "torch", "sparse"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed:
                near = difflib.get_close_matches(str(value), allowed, 1)
                mend = f"did you mean {near[0]!r}?" if near else f"write {name}={allowed[0]!r}, which is the default"
                raise _option(name, value, f"one of {', '.join(map(repr, allowed))}", mend)

    @cached_property
    def plain(self) -> bool:
        """Whether the problem is solved as it is, and what solves it is all that decides on success."""
        return self.eps_abs is None and self.precision is None and not self.regularize and not self.smoothing

    def alone(self, like: Tensor) -> bool:
        """Whether what torch computes must be computed for one item after the other."""
        return self.batch_invariant and like.is_cpu

    def tolerance(self, dtype: torch.dtype) -> float:
        """``eps``, or its default for the dtype that is solved in."""
        return EPS[dtype] if self.eps is None else self.eps


@lru_cache(maxsize=64, typed=True)
def _options_of(*values: Any) -> Options:
    return Options(*values)


def options_of(*values: Any) -> Options:
    """``Options`` of these values in the order of the fields, checked once for all calls that state the same."""
    try:
        return _options_of(*values)
    except TypeError:  # a value that cannot be hashed, and is none
        return Options(*values)


def _option(name: str, value: object, expected: str, mend: str) -> InputError:
    why = f"{name} is {MEANING[name]}"
    return input_error("I13", f"option {name}: expected {expected}; got {value!r}", why, mend, at=(name,), label="")


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
