"""Products, the factorization and its solves, for matrices of which every entry is a Num.

Everything goes by tiles: a square of accumulators stays in registers while the longest dimension passes by, so that each number
read from memory is used as often as the tile is wide.
"""

from __future__ import annotations

from .llvm import Lanes
from .values import Array, Cell, Index, Num


def matvec(t: Lanes, n: int, rows: Index, M: Array, x: Array, out: Array) -> None:
    """out = Mx, M (rows, n)."""
    for i, size in t.rows(rows):
        sums = [t.cell(0.0) for _ in range(size)]
        for j in t.range(n):
            xj = x[j]
            for a, total in enumerate(sums):
                total.value = t.fma(M[i + a, j], xj, total.value)
        for a, total in enumerate(sums):
            out[i + a] = total.value


def vecmat(t: Lanes, n: int, rows: Index, w: Array, M: Array, out: Array) -> None:
    """out = out + M'w, M (rows, n)."""
    for j, size in t.tiles(n):
        sums = [t.cell(out[j + b]) for b in range(size)]
        for r in t.range(rows):
            wr = w[r]
            for b, total in enumerate(sums):
                total.value = t.fma(wr, M[r, j + b], total.value)
        for b, total in enumerate(sums):
            out[j + b] = total.value


def symmetric(t: Lanes, n: int, M: Array, half: Array, out: Array) -> None:
    """out = out + (M + M') half, M (n, n), read once."""
    for i, size in t.rows(Index(t, t.index(n))):
        own = [half[i + a] for a in range(size)]
        sums = [t.cell(0.0) for _ in range(size)]
        for j in t.range(n):
            xj, across = half[j], out[j]
            for a, total in enumerate(sums):
                entry = M[i + a, j]
                total.value = t.fma(entry, xj, total.value)
                across = t.fma(entry, own[a], across)
            out[j] = across
        for a, total in enumerate(sums):
            out[i + a] = out[i + a] + total.value


def step_of_rows(
    t: Lanes, n: int, rows: Index, W: Array, u: Array, D: Array, left: Array, v: Array, across: Array, go: Num
) -> None:
    """a = W u,  v = go D (a - left),  left = left - a,  across = across + W'v, W (rows, n), read once.

    Rows of weight 0 in every lane are passed by.
    """
    for r, size in t.rows(rows):
        weights = [D[r + a] for a in range(size)]
        with t.if_any(sum(weights[1:], weights[0]) > 0.0):
            sums = [t.cell(0.0) for _ in range(size)]
            for j in t.range(n):
                uj = u[j]
                for a, total in enumerate(sums):
                    total.value = t.fma(W[r + a, j], uj, total.value)
            steps = []
            for a, total in enumerate(sums):
                along = total.value
                steps.append(go * weights[a] * (along - left[r + a]))
                v[r + a] = steps[a]
                left[r + a] = left[r + a] - along
            for j in t.range(n):
                sum_j = across[j]
                for a, step in enumerate(steps):
                    sum_j = t.fma(step, W[r + a, j], sum_j)
                across[j] = sum_j


def sizes_of_rows(t: Lanes, n: int, rows: Index, x: Array, w: Array, M: Array, along: Array, across: Array) -> None:
    """along = along + |M||x| and across = across + |M|'|w|, M (rows, n)."""
    for r, height in t.rows(rows):
        sums = [t.cell(along[r + a]) for a in range(height)]
        sizes = [t.abs(w[r + a]) for a in range(height)]
        for j in t.range(n):
            xj, sum_j = t.abs(x[j]), across[j]
            for a, total in enumerate(sums):
                entry = t.abs(M[r + a, j])
                total.value = t.fma(entry, xj, total.value)
                sum_j = t.fma(entry, sizes[a], sum_j)
            across[j] = sum_j
        for a, total in enumerate(sums):
            along[r + a] = total.value


def sizes_of_columns(t: Lanes, n: int, rows: Index, w: Array, M: Array, across: Array) -> None:
    """across = across + |M|'|w|, M (rows, n)."""
    for j, width in t.tiles(n):
        sums = [t.cell(across[j + b]) for b in range(width)]
        for r in t.range(rows):
            size = t.abs(w[r])
            for b, total in enumerate(sums):
                total.value = t.fma(size, t.abs(M[r, j + b]), total.value)
        for b, total in enumerate(sums):
            across[j + b] = total.value


def largest_of_rows(t: Lanes, n: int, rows: Index, M: Array, out: Array, poison: Array) -> None:
    """out_i = max |M_ij|, M (rows, n); ``poison`` becomes NaN where an entry is not finite."""
    unsound = [t.cell(0.0) for _ in range(4)]
    for i, height in t.rows(rows):
        largest = [t.cell(0.0) for _ in range(height)]
        for j in t.range(n):
            for a in range(height):
                entry = M[i + a, j]
                unsound[a].value = t.fma(entry, t.num(0.0), unsound[a].value)
                largest[a].value = t.max(largest[a].value, t.abs(entry))
        for a in range(height):
            out[i + a] = largest[a].value
    for part in unsound:
        poison[0] = poison[0] + part.value


def squares_of_rows(t: Lanes, n: int, rows: Index, M: Array, d: Array, out: Array) -> None:
    """out_i = sum of M_ij² d_j, M (rows, n)."""
    for i, height in t.rows(rows):
        sums = [t.cell(0.0) for _ in range(height)]
        for j in t.range(n):
            weight = d[j]
            for a, total in enumerate(sums):
                entry = M[i + a, j]
                total.value = t.fma(entry * entry, weight, total.value)
        for a, total in enumerate(sums):
            out[i + a] = total.value


def squares_of_columns(t: Lanes, n: int, rows: Index, M: Array, w: Array, out: Array) -> None:
    """out_j = out_j + sum of M_ij² w_i, M (rows, n)."""
    for j, width in t.tiles(n):
        sums = [t.cell(out[j + b]) for b in range(width)]
        for r in t.range(rows):
            weight = w[r]
            for b, total in enumerate(sums):
                entry = M[r, j + b]
                total.value = t.fma(entry * entry, weight, total.value)
        for b, total in enumerate(sums):
            out[j + b] = total.value


def rescale(t: Lanes, n: int, rows: Index, M: Array, e: Array, d: Array) -> None:
    """M_ij = e_i M_ij d_j, M (rows, n)."""
    for i in t.range(rows):
        unit = e[i]
        for j in t.range(n):
            M[i, j] = M[i, j] * (unit * d[j])


def factor(
    t: Lanes, n: int, rows: Index, Q: Array, W: Array, D: Array, diagonal: Array, free: Array, U: Array, inverse: Array, good: Array
) -> None:
    """U with U'U = F(Q + W'DW)F + diag(diagonal), F = diag(free); ``inverse``: 1/U_jj; ``good[0]``: 1 if it exists, else 0.

    By rows of tiles: a tile is formed, reduced by the rows above it, and divided by the tile on the diagonal. A pivot that is not
    positive is replaced by 1, so that what follows stays finite.
    """
    fine = t.cell(1.0)
    for i, height in t.tiles(n):
        accumulators = _tile(t, rows, Q, W, D, free, U, i, height, i, height)
        u: list[list[Num]] = [[] for _ in range(height)]
        inverses: list[Num] = []
        for a in range(height):
            pivot = accumulators[a][0].value + diagonal[i + a]
            for c in range(a):
                pivot = pivot - u[c][a - c] * u[c][a - c]
            positive = pivot > 0.0
            fine.value = t.where(positive, fine.value, 0.0)
            root = t.sqrt(t.where(positive, pivot, 1.0))
            one = 1.0 / root
            inverses.append(one)
            inverse[i + a] = one
            U[i + a, i + a] = root
            u[a].append(root)
            for b in range(a + 1, height):
                value = accumulators[a][b - a].value
                for c in range(a):
                    value = value - u[c][a - c] * u[c][b - c]
                value = value * one
                u[a].append(value)
                U[i + a, i + b] = value
                U[i + b, i + a] = 0.0
        for j, width in t.tiles(n, i + height):
            accumulators = _tile(t, rows, Q, W, D, free, U, i, height, j, width)
            for b in range(width):
                done: list[Num] = []
                for a in range(height):
                    value = accumulators[a][b].value
                    for c in range(a):
                        value = value - u[c][a - c] * done[c]
                    value = value * inverses[a]
                    done.append(value)
                    U[i + a, j + b] = value
                    U[j + b, i + a] = 0.0
    good[0] = fine.value


def _tile(
    t: Lanes,
    rows: Index,
    Q: Array,
    W: Array,
    D: Array,
    free: Array,
    U: Array,
    i: Index | int,
    height: int,
    j: Index | int,
    width: int,
) -> list[list[Cell]]:
    """F(Q + W'DW)F - U'U in a tile; on the diagonal (i is j) its upper half alone."""
    first = [a if i is j else 0 for a in range(height)]
    sums = _gram_tile(t, rows, Q, W, D, i, height, j, width)
    left, right = [free[i + a] for a in range(height)], [free[j + b] for b in range(width)]
    for a in range(height):
        for b in range(first[a], width):
            total = sums[a][b - first[a]]
            total.value = total.value * (left[a] * right[b])
    for r in t.range(i):
        left = [-U[r, i + a] for a in range(height)]
        right = [U[r, j + b] for b in range(width)]
        for a in range(height):
            for b in range(first[a], width):
                total = sums[a][b - first[a]]
                total.value = t.fma(left[a], right[b], total.value)
    return sums


def _gram_tile(
    t: Lanes, rows: Index, Q: Array, W: Array, D: Array, i: Index | int, height: int, j: Index | int, width: int
) -> list[list[Cell]]:
    """Q + W'DW in a tile; on the diagonal (i is j) its upper half alone."""
    first = [a if i is j else 0 for a in range(height)]
    sums = [[t.cell(Q[i + a, j + b]) for b in range(first[a], width)] for a in range(height)]
    for r in t.range(rows):
        weight = D[r]
        left = [weight * W[r, i + a] for a in range(height)]
        right = [W[r, j + b] for b in range(width)]
        for a in range(height):
            for b in range(first[a], width):
                total = sums[a][b - first[a]]
                total.value = t.fma(left[a], right[b], total.value)
    return sums


def gram(t: Lanes, n: int, rows: Index, Q: Array, W: Array, D: Array, out: Array) -> None:
    """out = Q + W'DW, its upper half: ``factor`` goes on from there with other rows, and sums as it would from the beginning."""
    for i, height in t.tiles(n):
        for a, row in enumerate(_gram_tile(t, rows, Q, W, D, i, height, i, height)):
            for b, total in enumerate(row):
                out[i + a, i + a + b] = total.value
        for j, width in t.tiles(n, i + height):
            for a, row in enumerate(_gram_tile(t, rows, Q, W, D, i, height, j, width)):
                for b, total in enumerate(row):
                    out[i + a, j + b] = total.value


def solve(t: Lanes, n: int, U: Array, inverse: Array, r: Array) -> None:
    """r <- (U'U)^-1 r."""
    for j, width in t.tiles(n):
        sums = [t.cell(r[j + b]) for b in range(width)]
        for i in t.range(j):
            ri = -r[i]
            for b, total in enumerate(sums):
                total.value = t.fma(U[i, j + b], ri, total.value)
        done: list[Num] = []
        for b, total in enumerate(sums):
            value = total.value
            for c in range(b):
                value = value - U[j + c, j + b] * done[c]
            value = value * inverse[j + b]
            done.append(value)
            r[j + b] = value
    for i, height in t.tiles_down(n):
        sums = [t.cell(r[i + a]) for a in range(height)]
        for j in t.range(i + height, n):
            rj = -r[j]
            for a, total in enumerate(sums):
                total.value = t.fma(U[i + a, j], rj, total.value)
        done = []
        for a in reversed(range(height)):
            value = sums[a].value
            for c, later in zip(range(height - 1, a, -1), done, strict=True):
                value = value - U[i + a, i + c] * later
            value = value * inverse[i + a]
            done.append(value)
            r[i + a] = value
