"""What the plans of the compiled engine bring: each beside the general one, on the same problems, in turns.

*dual*: projections onto the simplex, whose system has one row. *shared*: equality-constrained problems that share Q and A. The plan
is switched off by its own question. The last columns are the largest differences of x, and of the gradient by p, between both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import torch
from torch import Tensor

import karush as kr
from benchmarks.timing import now, ratio, shown, told
from karush.backends import shared
from karush.backends.cpu import engine

F = torch.float64
Case = tuple[str, int, int, int]  # plan, n, k, batch
CASES: list[Case] = [
    ("dual", 32, 1, 128), ("dual", 100, 1, 128), ("dual", 300, 1, 64), ("dual", 1000, 1, 8),
    ("shared", 100, 20, 128), ("shared", 100, 0, 512), ("shared", 300, 50, 64),
]  # fmt: skip
QUESTIONS: dict[str, tuple[object, str]] = {"dual": (engine, "is_dual"), "shared": (shared, "serves")}


def problems(plan: str, n: int, k: int, batch: int) -> Callable[[Tensor], Tensor]:
    """x as a function of p."""
    generator = torch.Generator().manual_seed(n)
    M = torch.randn(n, n, generator=generator, dtype=F)
    if plan == "dual":
        eye, ones = torch.eye(n, dtype=F), torch.ones(1, n, dtype=F)
        return lambda p: kr.solve_qp(eye, p, A=ones, b=torch.ones(1, dtype=F), lb=0.0).x
    Q, A = M @ M.mT / n + 0.1 * torch.eye(n, dtype=F), torch.randn(k, n, generator=generator, dtype=F)
    b = torch.randn(batch, k, generator=generator, dtype=F)
    return lambda p: kr.solve_qp(Q, p, A=A, b=b).x


def once(solve: Callable[[Tensor], Tensor], p: Tensor) -> tuple[float, Tensor, Tensor]:
    """Milliseconds forward and backward, x, and a gradient by p."""
    leaf = p.clone().requires_grad_()
    start = now()
    x = solve(leaf)
    (grad,) = torch.autograd.grad(x, leaf, torch.linspace(-1, 1, x.shape[1], dtype=F).expand_as(x))
    return 1e3 * (now() - start), x.detach(), grad


def main(repeats: int = 7) -> None:
    print(f"\nmilliseconds forward and backward, medians (quartiles) of {repeats}, {told()}")
    print(f"{'plan':<8}{'(n, k) x batch':>20}{'with':>26}{'without':>26}{'':>9}{'x':>10}{'gradient':>10}")
    for plan, n, k, batch in CASES:
        solve, p = problems(plan, n, k, batch), torch.randn(batch, n, dtype=F, generator=torch.Generator().manual_seed(1))
        where, question = QUESTIONS[plan]
        times: dict[bool, list[float]] = {True: [], False: []}
        found: dict[bool, tuple[Tensor, Tensor]] = {}
        for turn in range(repeats + 1):
            for asked in (True, False):
                if asked:
                    spent, *found[asked] = once(solve, p)  # type: ignore[assignment]  # two tensors
                else:
                    with mock.patch.object(where, question, return_value=False):
                        spent, *found[asked] = once(solve, p)  # type: ignore[assignment]  # two tensors
                if turn:
                    times[asked].append(spent)
        ours, general = (shown(times[asked]) for asked in (True, False))
        more = ratio(times[False], times[True])
        off = [float((one - other).abs().max()) for one, other in zip(found[True], found[False], strict=True)]
        size = f"({n}, {k}) x {batch}"
        print(f"{plan:<8}{size:>20}{ours:>26}{general:>26}{more:8.1f}x{off[0]:10.0e}{off[1]:10.0e}", flush=True)


if __name__ == "__main__":
    main()
