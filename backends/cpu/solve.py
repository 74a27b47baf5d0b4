"""The whole solve of a range of blocks: read, iterate, polish, judge, write. What ``backends/engine.py`` does for a batch.

An item is written only if its polished point proves itself; ``sure`` stays 0 for all others, and the torch engine takes them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from . import interior_point, polish, problem, transfer
from .constants import DELTA, LEAST, RHO, SURE
from .interior_point import Iterate
from .llvm import Lanes
from .patterned import Places
from .polish import Candidate
from .problem import DENSE, SPARSE, Fields, Problem, Sizes
from .values import BYTE, DOUBLE, INT, Counter, Index, Memory

# The tables that a call brings. Words: sizes, then address and stride of the tensors of the problem, then addresses of the results.
SIZES = ("batch", "m", "k", "nl", "nu", "tables")  # the address of ``patterned``'s tables, if Q and W are sparse
TENSORS = ("Q", "p", "G", "h", "A", "b", "lb", "ub", "x0", "y0", "z0", "z_lb0", "z_ub0")  # the last five: where to start warm
RESULTS = (
    "x", "y", "z", "z_lb", "z_ub", "s", "scaled", "absolute", "iterations", "sure",
    "U", "scale", "weight", "unit", "flat", "rows", "lower", "upper",
)  # fmt: skip
INTEGERS = {"iterations": INT, "sure": BYTE, "rows": BYTE, "lower": BYTE, "upper": BYTE}
LEFT = len(SIZES)  # becomes 1 where an item is left unsolved
WORDS = LEFT + 1 + 2 * len(TENSORS) + len(RESULTS)
# Numbers: eps, and how many iterations an item may take in all; then for each attempt the residual and the gap of the loop, and the
# bias of the polish. After all other words: how many attempts, and for each its iterations, its refinements, where it starts, and
# whether all unsolved items go on from it or only those that are nearly solved.
SMALLEST = 1e-14  # slacks and multipliers of a solution as it was: zero, for all that the choice of the active set sees
WHERE_IT_IS, COLD, WARM, AS_IT_WAS = range(4)


def write(t: Lanes, n: int, name: str = "solve", *, plan: str = DENSE) -> None:
    """Write the function solve(words, numbers, scratch, first block, last block).

    For problems of n variables; of any number for the plan SPARSE.
    """

    def body(t: Lanes, words: Any, numbers: Any, scratch: Any, first: Any, last: Any) -> None:
        for block in t.range(Index(t, first), Index(t, last)):
            _block(t, n, plan, words, numbers, scratch, block)

    t.function(name, 3, body, longs=2)


@cache
def scratch_size(s: Sizes) -> int:
    """Nums of working memory."""
    counter = Counter()
    _arrays(counter, s)
    return counter.total


def _arrays(memory: Any, s: Sizes) -> tuple[Problem, Iterate, Candidate, Any, Any]:
    qp = Problem(memory, s)
    return qp, Iterate(memory, qp), Candidate(memory, qp), memory.array(3), memory.array(1)


def _block(t: Lanes, n: Any, plan: str, words: Any, numbers: Any, scratch: Any, block: Index) -> None:
    batch, m, k, nl, nu, tables = (t.word(words, i) for i in range(len(SIZES)))
    places = Places.at(t, tables) if plan == SPARSE else None
    n = n if places is None else places.n
    s = Sizes(n, m, k, nl, nu, plan, t.along, places)
    first = LEFT + 1
    fields = Fields(
        *(t.field(t.word(words, first + 2 * i), t.word(words, first + 2 * i + 1), block, batch) for i in range(len(TENSORS)))
    )
    first += 2 * len(TENSORS)
    address = {name: t.word(words, first + i) for i, name in enumerate(RESULTS)}
    qp, it, c, marks, sure_now = _arrays(Memory(t, scratch), s)
    left = t.cell(1.0)

    scales = problem.read(t, qp, fields)
    for i in t.range(k):
        qp.D[i] = scales.unit / DELTA
    qp.system.begin(t, k, qp.D)
    eps, limit = t.number(numbers, 0), t.number(numbers, 1)
    rho = t.cell(scales.unit * RHO)
    with t.unless(k, 0):
        rho.value = scales.unit * (RHO + s.rounding(t))
    for j in t.range(n):
        it.best_x[j] = 0.0
    for i in t.range(s.multipliers):
        it.best_w[i] = 0.0
    pending, taken, merit = t.cell(scales.alive), t.cell(0.0), t.cell(float("inf"))
    for attempt in t.range(t.word(words, WORDS)):
        loop_eps, gap_eps, bias = (t.number(numbers, attempt * 3 + (2 + i)) for i in range(3))
        budget, refinements, where, all_go_on = (t.word(words, attempt * 4 + (WORDS + 1 + i)) for i in range(4))
        with t.unless(s.inequalities, 0):
            for j in t.range(n):
                qp.system.free[j] = 1.0
            with t.when(where, COLD):
                interior_point.start(t, qp, it, scales, rho.value)
            for code, floor in ((WARM, LEAST), (AS_IT_WAS, SMALLEST)):
                with t.when(where, code):
                    interior_point.warm_start(t, qp, it, scales, fields, floor)
            with t.when(where, WHERE_IT_IS):
                interior_point.restart(t, qp, it)
            interior_point.iterate(t, qp, it, scales, rho, pending.value, loop_eps, gap_eps, budget, limit, taken, merit)
        steady = polish.polish(t, qp, it, c, scales, bias, refinements)
        worst = polish.judge(t, qp, c, scales)
        sure = steady & (worst <= eps * SURE) & (qp.system.good[0] > 0.0) & (pending.value > 0.0)
        sure_now[0] = t.where(sure, 1.0, 0.0)
        marks[2] = polish.flat(t, qp, c, scales)  # with the system in the units of the equilibration
        kept = polish.finish(t, qp, c, scales, fields.h)
        marks[0], marks[1] = taken.value, sure_now[0]
        for name, source, count in (
            ("x", c.x, n), ("y", c.w, k), ("z", c.w.tail(k), m), ("z_lb", c.z_lb, n), ("z_ub", c.z_ub, n), ("s", c.slack, m),
            ("scaled", c.scaled, 4), ("absolute", c.absolute, 4), ("iterations", marks, 1), ("sure", marks.tail(1), 1),
            ("U", *kept), ("scale", c.scale, n), ("weight", c.weight, s.rows), ("unit", c.unit, 1),
            ("flat", marks.tail(2), 1), ("rows", c.held.tail(k), m), ("lower", c.lower, n), ("upper", c.upper, n),
        ):  # fmt: skip
            with t.unless(address[name], 0):
                transfer.write(t, address[name], block, batch, source, count, sure_now, INTEGERS.get(name, DOUBLE))
        left.value = t.where(sure, 0.0, left.value)
        # Only what is nearly solved is worth another attempt, with other rows held active or a sharper gap.
        nearly = (worst <= t.sqrt(eps)) | (merit.value <= t.sqrt(eps))
        again = (pending.value > 0.0) & ~sure & (nearly | (t.num(all_go_on) > 0.0))
        pending.value = t.where(again, 1.0, 0.0)
        t.leave(~again)
    with t.if_any(left.value > 0.0):
        t.put_word(words, LEFT, 1)
