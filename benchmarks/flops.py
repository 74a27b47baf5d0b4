"""How many floating point operations a forward pass of the compiled engine takes, and how many the machine could do meanwhile.

Counted are the multiplications and additions on matrices that the method asks for, a fused one as two; W has K = m + k rows and n
columns. Not counted: all that is done to vectors, comparisons, roots and divisions, and the scaling of tiles; what lanes do while
they wait for a mate; and what an item costs that needs another polish. So a share of the limit is rather too low than too high.

    Cholesky                n(n+1)(2n+1)/6              n³/3, and what small n add to it
    triangular solves       2 n²                        both of them
    a product               2 n² by Q, 2 nK by W or W'

    rows                    2 nr + n²r                  r of them, weighted, into Q + W'DW, its upper half: n(n+1)/2 pairs each
    factor                  Cholesky + the m rows of G  those of A, whose weights stay, are there already
    residuals               Q x, W'w, W x
    step                    W't, solves, W dx           for a right-hand side

    once                    Cholesky of Q, its symmetric half, the k rows of A, and to equilibrate by PASSES sums of squares of rows
                            and columns, of Q by rows only: 3 operations an entry; then 2 an entry to rescale
    start                   factor, step
    iteration               residuals, factor, two steps; residuals once more where it ends
    polish                  factor; each refinement Q x, W x, W'w, solves, W u; a flat direction is looked for by two solves
    judging                 residuals, and with absolute values once more

The code is that of ``backends/cpu``: ``problem``, ``interior_point``, ``polish``, by the same names. For a diagonal Q with few rows
another plan applies, and another count.
"""

from __future__ import annotations

import torch

from benchmarks.timing import now
from karush.backends.engine import FROM_NOTHING, REFINEMENTS
from karush.backends.equilibrate import PASSES

LARGE, REPEATS = 1536, 12  # of the product that shows what the machine can do


def forward(n: int, m: int, k: int, iterations: float) -> float:
    """Operations for an item without bounds, with a dense Q; linear in the iterations that it took."""
    K = m + k
    by_Q, by_W, solves = 2 * n * n, 2 * n * K, 2 * n * n
    cholesky = n * (n + 1) * (2 * n + 1) / 6
    factor = cholesky + 2 * n * m + n * n * m
    residuals, step = by_Q + 2 * by_W, solves + 2 * by_W
    once = cholesky + n * n + 2 * n * k + n * n * k + PASSES * (3 * n * n + 6 * n * K) + 2 * (n * n + n * K)
    loop = factor + step + iterations * (residuals + factor + 2 * step) + residuals if m else 0
    refinements = REFINEMENTS if m else FROM_NOTHING
    polish = factor + refinements * (by_Q + solves + 3 * by_W) + 2 * solves
    return once + loop + polish + 2 * residuals


def peak() -> float:
    """Operations a second of one thread in float64: the fastest of a few large matrix products of torch's library."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    A, B = torch.rand(2, LARGE, LARGE, dtype=torch.float64)
    out = torch.empty_like(A)
    seconds = []
    for _ in range(REPEATS):
        start = now()
        torch.mm(A, B, out=out)
        seconds.append(now() - start)
    torch.set_num_threads(before)
    return 2 * LARGE**3 / min(seconds)
