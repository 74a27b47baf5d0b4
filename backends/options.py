"""What a caller may decide about a solve; checked once, when it is stated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from .failure import InputError

# Tolerances on scaled residuals, by the dtype in which the problem is solved.
EPS = {torch.float64: 1e-8, torch.float32: 1e-4}


@dataclass(frozen=True)
class Options:
    """Options of one solve.

    ``eps``: scaled residuals of an item called SOLVED (None: by the solve dtype); ``eps_abs``: absolute ones too, if given.
    ``on_failure``: "raise" a SolveError, "return" the best iterate, or "nan"; gradients of failed items are zero.
    ``accept``: whether SOLVED_INACCURATE counts as success. ``regularize``: delta, adds delta/2 |x|² to the objective.
    ``precision``: the dtype that the data were computed in, whose rounding Q may carry (None: that of the solve).
    """

    eps: float | None = None
    eps_abs: float | None = None
    max_iter: int = 50
    on_failure: Literal["raise", "return", "nan"] = "raise"
    accept: Literal["solved", "inaccurate"] = "inaccurate"
    regularize: float = 0.0
    precision: torch.dtype | None = None

    def __post_init__(self) -> None:
        for name in ("eps", "eps_abs"):
            value = getattr(self, name)
            if value is not None and not (_is_real(value) and 0 < value < 1):
                raise InputError(f"option {name}: expected a number between 0 and 1, or None; got {value!r}")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, int) or self.max_iter < 1:
            raise InputError(f"option max_iter: expected a positive integer, got {self.max_iter!r}")
        if not _is_real(self.regularize) or not 0 <= self.regularize < math.inf:
            raise InputError(f"option regularize: expected a finite number >= 0, got {self.regularize!r}")
        if self.precision is not None and not (isinstance(self.precision, torch.dtype) and self.precision.is_floating_point):
            raise InputError(f"option precision: expected a floating torch dtype or None, got {self.precision!r}")
        for name, allowed in (("on_failure", ("raise", "return", "nan")), ("accept", ("solved", "inaccurate"))):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"option {name}: expected one of {', '.join(map(repr, allowed))}; got {value!r}")

    def tolerance(self, dtype: torch.dtype) -> float:
        """``eps``, or its default for the dtype that is solved in."""
        return EPS[dtype] if self.eps is None else self.eps


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
