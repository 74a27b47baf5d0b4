"""Where the entries of Q, G and A are: fixed for a model, found by content, and analysed once.

    [Q + ...   A'   G' ]
    [A        -..      ]        of size N = n + k + m, its values in the order   off-diagonal Q, A, G, diagonal
    [G             -.. ]

Q is kept as its upper triangle: the value at (i, j), i < j, stands for q_ij = q_ji.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .symbolic import Analysis, analyse

Index = NDArray[np.int64]
Short = NDArray[np.int32]  # what SciPy multiplies with


@dataclass(frozen=True, eq=False)
class Pattern:
    """Positions of the entries of a matrix of ``height`` rows, row by row, each once."""

    rows: Index
    cols: Index
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def ends(self) -> Short:
        return np.searchsorted(self.rows, np.arange(self.height + 1)).astype(np.int32)

    @cached_property
    def columns(self) -> Short:
        return self.cols.astype(np.int32)


def pattern(rows: Index, cols: Index, height: int, width: int) -> tuple[Pattern, Index]:
    """The pattern of these positions, which may repeat, and which entry of it each of them is."""
    key, place = np.unique(rows.astype(np.int64) * width + cols, return_inverse=True)
    return Pattern(key // max(width, 1), key % max(width, 1), height, width), place.reshape(-1)


@dataclass(frozen=True, eq=False)
class Gathered:
    """A matrix by rows whose values are those of another order: ``values[source]``."""

    pattern: Pattern
    source: Index


@dataclass(frozen=True, eq=False)
class Structure:
    """The patterns of Q (upper triangle), A and G, and what follows from them."""

    Q: Pattern
    A: Pattern
    G: Pattern

    @property
    def n(self) -> int:
        return self.Q.width

    @property
    def m(self) -> int:
        return self.G.height

    @property
    def k(self) -> int:
        return self.A.height

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(n, m, k)."""
        return self.n, self.m, self.k

    @property
    def entries(self) -> int:
        """Entries of Q, A and G, those of Q counted in both triangles."""
        return len(self.whole_Q.source) + len(self.A) + len(self.G)

    @cached_property
    def off(self) -> Index:
        """Which entries of Q are off the diagonal."""
        return np.flatnonzero(self.Q.rows != self.Q.cols)

    @cached_property
    def on(self) -> Index:
        """Which entries of Q are on the diagonal."""
        return np.flatnonzero(self.Q.rows == self.Q.cols)

    @cached_property
    def whole_Q(self) -> Gathered:
        """Both triangles."""
        rows = np.concatenate([self.Q.rows, self.Q.cols[self.off]])
        cols = np.concatenate([self.Q.cols, self.Q.rows[self.off]])
        source = np.concatenate([np.arange(len(self.Q)), self.off])
        order = np.lexsort((cols, rows))
        return Gathered(Pattern(rows[order], cols[order], self.n, self.n), source[order])

    @cached_property
    def W(self) -> Pattern:
        """[A; G]."""
        rows = np.concatenate([self.A.rows, self.k + self.G.rows])
        return Pattern(rows, np.concatenate([self.A.cols, self.G.cols]), self.k + self.m, self.n)

    @cached_property
    def Wt(self) -> Gathered:
        """W', with values taken from those of W."""
        order = np.lexsort((self.W.rows, self.W.cols))
        return Gathered(Pattern(self.W.cols[order], self.W.rows[order], self.n, self.k + self.m), order)

    @cached_property
    def analysis(self) -> Analysis:
        """Of the matrix above; made once, by whoever comes first."""
        with _analysing:
            found = self._analysed.get("analysis")
            if found is None:
                n, N = self.n, self.n + self.k + self.m
                rows = np.concatenate([self.Q.rows[self.off], n + self.W.rows, np.arange(N)])
                cols = np.concatenate([self.Q.cols[self.off], self.W.cols, np.arange(N)])
                found = self._analysed.setdefault("analysis", analyse(N, rows, cols))
            return found

    @cached_property
    def analysis_of_Q(self) -> Analysis:
        """Of Q alone, its diagonal complete."""
        with _analysing:
            found = self._analysed.get("Q")
            if found is None:
                at = np.arange(self.n)
                rows, cols = (np.concatenate([part[self.off], at]) for part in (self.Q.rows, self.Q.cols))
                found = self._analysed.setdefault("Q", analyse(self.n, rows, cols))
            return found

    @cached_property
    def signs(self) -> NDArray[np.float64]:
        """Of the pivots: positive for x, negative for y and z."""
        return np.concatenate([np.ones(self.n), -np.ones(self.k + self.m)])

    @cached_property
    def _analysed(self) -> dict[str, Analysis]:
        return {}

    @cached_property
    def digest(self) -> str:
        """A hash of the content."""
        state = hashlib.sha256(repr(self.sizes).encode())
        for part in (self.Q, self.A, self.G):
            state.update(np.ascontiguousarray(part.rows).tobytes() + b"|" + np.ascontiguousarray(part.cols).tobytes() + b"|")
        return state.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (self.Q, self.A, self.G)


_analysing = threading.RLock()
_known: OrderedDict[str, Structure] = OrderedDict()
KEPT = 32  # structures that are remembered


def shared(Q: Pattern, A: Pattern, G: Pattern) -> Structure:
    """The one structure with these patterns."""
    made = Structure(Q, A, G)
    with _analysing:
        found = _known.setdefault(made.digest, made)
        _known.move_to_end(made.digest)
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return found
