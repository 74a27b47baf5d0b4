"""Errors of this folder: input that cannot be used, and solves that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..dsl.diagnostics import KarushError
from .status import Status

if TYPE_CHECKING:
    from .data import QPSolution
    from .solution import Solution

LISTED = 10


class InputError(KarushError, ValueError):
    """An argument has the wrong name, shape, dtype, device or value; raised before any work."""


class SolveError(KarushError, RuntimeError):
    """Some items of a batch have no acceptable solution.

    ``solution`` is complete, for the healthy items too, and of the kind that the call returns. ``indices`` are the failed items
    along its one flat batch axis, ``status`` their outcomes in the same order. ``details`` name parameters and constraints, if a
    model is known.
    """

    def __init__(
        self, solution: QPSolution | Solution, indices: list[int], status: list[Status], details: Sequence[str] = ()
    ) -> None:
        self.solution, self.indices, self.status, self.details = solution, indices, status, tuple(details)
        size = solution.status.numel()
        lines = [f"{len(indices)} of {size} problems have no acceptable solution"]
        for code, count in Counter(status).items():
            at = [index for index, found in zip(indices, status, strict=True) if found == code]
            shown = ", ".join(map(str, at[:LISTED])) + (", ..." if count > LISTED else "")
            lines.append(f"  {code.name} ({count}), at batch index {shown}: {code.message}")
        lines += [f"  {detail}" for detail in self.details]
        lines.append('  on_failure="return" or "nan" keeps the healthy items and gives failed ones zero gradient')
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.solution, self.indices, self.status, self.details)
