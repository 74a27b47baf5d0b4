"""What solves take, counted, in nanoseconds of one thread of a machine with AVX-512: enough to choose between them.

    dense     ITERATIONS ((m + k) n²/2 + n³/6) multiply-adds, and a few passes over every place in Q, G, A
    together  ITERATIONS times the products of the factorization, and a few passes over every entry
    alone     multiply-adds of fronts, memory for each entry of L, and the calls of Python

The first two are of the compiled programs, for each of the problems that lie side by side; a few of them take as long as all lanes.
"""

from __future__ import annotations

from .symbolic import Analysis

ITERATIONS = 12
PER_CALL = 2e5  # that a sparse call takes more than a dense one, forward and backward
BY_ITEM = 6e6  # that a sparse problem takes by itself, however small: Python's calls
LANES = 8


def dense(n: int, rows: int) -> float:
    """A problem with dense matrices, among others."""
    return ITERATIONS * (0.033 * (rows * n**2 / 2 + n**3 / 6) + 0.6 * n * (n + rows))


def together(products: int, entries: int) -> float:
    """A sparse problem among others. ``entries``: of Q, G, A and of L."""
    return ITERATIONS * (0.33 * products + 1.8 * entries)


def block(products: int, rows: int) -> float:
    """All lanes at once. ``rows``: n + m + k, each of them worth twenty products for what is done to vectors."""
    return LANES * ITERATIONS * 0.33 * (products + 20 * rows)


def alone(analysis: Analysis) -> float:
    """A sparse problem by itself."""
    return ITERATIONS * (analysis.flops / 5 + 4 * analysis.stored) + BY_ITEM
