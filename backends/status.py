"""How a solve ended, per item of a batch."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of one item; ``message`` says what it means, what usually causes it, and how to mend it.

    The codes are stable and fit into int8, the dtype of ``QPSolution.status``.
    """

    message: str

    SOLVED = 0, "residuals and duality gap are at or below eps"
    SOLVED_INACCURATE = (
        1,
        "residuals and duality gap are at or below sqrt(eps), not eps; usually the problem is badly scaled or degenerate. "
        'Rescale its units, or demand more with accept="solved"',
    )
    PRIMAL_INFEASIBLE = (
        2,
        "no x satisfies the constraints: a verified combination of them (QPSolution.ray) is contradictory. "
        "Usually a bound or right-hand side is too tight; relax it, or penalise its violation in the objective",
    )
    DUAL_INFEASIBLE = (
        3,
        "the objective is unbounded below along a verified feasible direction (QPSolution.ray). "
        "Usually a bound or a quadratic term is missing, or the sign of p is wrong",
    )
    MAX_ITERATIONS = (
        4,
        "max_iter was reached above sqrt(eps). Raise max_iter; if that does not help, rescale the data",
    )
    NUMERICAL_ERROR = (
        5,
        "the iteration broke down above sqrt(eps) with neither solution nor certificate. "
        "Usually the data span too many orders of magnitude; rescale them, or use regularize=1e-6",
    )
    INVALID_INPUT = (
        6,
        "NaN, or an infinity that cannot mean 'no constraint' (only h and ub may be +inf, only lb may be -inf). "
        "Usually an earlier layer diverged; check its outputs",
    )
    NONCONVEX = (
        7,
        "Q is not positive semidefinite, relative to its largest entry. Build it as L @ L.T, or shift its diagonal",
    )

    def __new__(cls, code: int, message: str = "") -> Status:
        member = int.__new__(cls, code)
        member._value_ = code
        member.message = message
        return member
