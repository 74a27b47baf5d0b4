"""Errors of this folder: input that cannot be used, and solves that failed. They read like those of the language."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..dsl.diagnostics import DiagnosedError, Diagnostic
from ..dsl.source import argument
from ..dsl.span import Span, here
from .status import Status

if TYPE_CHECKING:
    from .data import QPSolution
    from .solution import Solution

LISTED = 10

# The code of each outcome; what is said of one problem and of several; how to mend it, where the causes are known item by item.
OUTCOMES = {
    Status.PRIMAL_INFEASIBLE: (
        "R01", "is infeasible", "are infeasible",
        "relax one of them, or allow its violation at a price: kr.soft(constraint, weight)",
    ),
    Status.DUAL_INFEASIBLE: (
        "R02", "is unbounded", "are unbounded",
        "add the bound that is missing, or a quadratic term; check the sign of the objective",
    ),
    Status.MAX_ITERATIONS: ("R03", "was not solved within max_iter", "were not solved within max_iter", ""),
    Status.NUMERICAL_ERROR: ("R04", "broke down numerically", "broke down numerically", ""),
    Status.INVALID_INPUT: (
        "R05", "has data that cannot be used", "have data that cannot be used",
        "check what computed them; kr.softplus or a square makes a sign, L @ L.T a definite matrix",
    ),
    Status.NONCONVEX: ("R06", "is not convex", "are not convex", "build the matrix as L @ L.T, or shift its diagonal"),
    Status.SOLVED_INACCURATE: (
        "R07", "was solved inaccurately", "were solved inaccurately",
        'take it as it is: accept="inaccurate" is the default\nask for less with eps, or rescale the units of the data',
    ),
}  # fmt: skip
KEEP = 'keep the healthy items: on_failure="return" or "nan" gives failed ones zero gradient'


class InputError(DiagnosedError, ValueError):
    """An argument has the wrong name, shape, dtype, device or value; raised before any work."""

    __module__ = "karush"


class SolveError(DiagnosedError, RuntimeError):
    """Some items of a batch have no acceptable solution.

    ``solution`` is complete, for the healthy items too, and of the kind that the call returns. ``indices`` are the failed items
    along its one flat batch axis, ``status`` their outcomes in the same order. ``details`` name parameters and constraints, item by
    item, if a model is known: pairs of the flat index and what is wrong there.
    """

    __module__ = "karush"

    def __init__(
        self,
        solution: QPSolution | Solution,
        indices: list[int],
        status: list[Status],
        details: Sequence[tuple[int, str]] = (),
        span: Span | None = None,
    ) -> None:
        self.solution, self.indices, self.status, self.details = solution, indices, status, tuple(details)
        self.span = span or here()
        super().__init__(*(self._finding(code) for code in dict.fromkeys(status)))

    def _finding(self, code: Status) -> Diagnostic:
        """What is to be said of all items with one outcome."""
        at = [index for index, found in zip(self.indices, self.status, strict=True) if found is code]
        stable, one, many, mend = OUTCOMES[code]
        size, alone = self.solution.status.numel(), not self.solution.status.shape
        title = f"the problem {one}" if alone else f"{len(at)} of {size} problems {one if len(at) == 1 else many}"
        label = code.name if alone else f"{code.name} at batch index {self._places(at)}"
        meaning, _, advice = code.message.partition(". ")
        causes: dict[str, list[int]] = {}
        for index, cause in self.details:
            if index in at:
                causes.setdefault(cause, []).append(index)
        facts = [c if alone else f"item{'s' if len(i) > 1 else ''} {self._places(i)}: {c}" for c, i in causes.items()]
        untold = len(set(at) - {index for index, _ in self.details})
        facts += [f"{untold} more: the error's solution.explain(index) tells of each"] if facts and untold else []
        ways = [
            mend if mend and (facts or code is Status.SOLVED_INACCURATE) else advice[:1].lower() + advice[1:],
            *([] if alone else [KEEP]),
        ]
        return Diagnostic(stable, title, self.span, "", label, "\n".join(facts or [meaning]), "\n".join(way for way in ways if way))

    def _places(self, indices: Sequence[int]) -> str:
        """Flat indices as indices into the batch dimensions; a few of them."""
        shape = tuple(self.solution.status.shape)
        places = [index if len(shape) < 2 else tuple(map(int, np.unravel_index(index, shape))) for index in indices[:LISTED]]
        return ", ".join(map(str, places)) + (", ..." if len(indices) > LISTED else "")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.solution, self.indices, self.status, self.details, self.span)


def unknown(kind: str, name: object, known: Sequence[str]) -> InputError:
    """A solution or layer was asked for something that the model does not have."""
    near = difflib.get_close_matches(str(name), known, 1)
    mend = f"did you mean {near[0]!r}?" if near else "print the problem to see its names"
    return input_error("I12", f"no {kind} {name!r} in this model", f"it has {', '.join(known) or 'none'}", mend, label="")


def input_error(code: str, title: str, why: str, mend: str = "", *, at: Sequence[str | int] = (), label: str = "") -> InputError:
    """An argument that cannot be used, at the user's call. ``at``: its keyword or position there; the first found counts."""
    span = here()
    place = next((found for which in at if (found := argument(span, which)) is not None), span)
    return InputError(Diagnostic(code, title, place, "", label, why, mend))
