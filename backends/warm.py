"""What may be given as a warm start, brought to the form that engines take."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

from .data import QPSolution, WarmStart
from .failure import InputError, input_error
from .solution import Solution

Previous: TypeAlias = Solution | QPSolution | WarmStart


def start_of(previous: Previous | None, sizes: tuple[int, int, int], size: int, like: Tensor) -> WarmStart | None:
    """Detached solutions of ``size`` similar problems of ``sizes`` (n, m, k); one previous solution serves all items."""
    if previous is None:
        return None
    if isinstance(previous, Solution | QPSolution):
        previous = previous.warm_start
    if not isinstance(previous, WarmStart):
        raise _unusable(f"a Solution, got {type(previous).__name__}", "pass what an earlier call returned")
    if previous.sizes != sizes:
        raise _unusable(f"a solution with (n, m, k) = {sizes}, got {previous.sizes}", "pass the solution of the same model")
    given = len(previous.x)
    if given not in (1, size):
        mend = "choose the items of this batch: warm_start=previous[indices]"
        raise _unusable(f"one solution, or one for each of {size} problems, got {given}", mend)
    parts = (previous.x, previous.y, previous.z, previous.z_lb, previous.z_ub)
    return WarmStart(*(part.detach().to(like.device, like.dtype).expand(size, -1) for part in parts))


def _unusable(expected: str, mend: str) -> InputError:
    why = "a warm start is the solution of a similar problem, to begin from"
    return input_error("I13", f"option warm_start: expected {expected}", why, mend, at=("warm_start",), label="")
