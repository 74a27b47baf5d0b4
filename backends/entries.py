"""Whose is a canonical row? The inverse of ``rows``: from a place in [A; G; lb; ub] to an entry of what the user wrote.

Every row reads C x == c or C x <= c; a lower bound is -x_j <= -lb_j. A row belongs to a constraint, to the declaration of a
variable, or to the definition of what stands in place of an atom, such as t >= |x|.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..canon.param_qp import ParamQP, Retrieved
from ..canon.structure import expansion_labels
from ..dsl.span import Span
from .data import QPData
from .sparse.data import SparseData

UNNAMED = re.compile(r"constraint\d+")  # names that a Problem gives
SHOWN = 4  # entries of one constraint that are named one by one

Array = NDArray[np.float64]
Spans = Mapping[str, Span | None]


@dataclass(frozen=True)
class Entry:
    """An entry of a constraint: ``weight`` times the multiplier of its canonical row is the multiplier that the user knows.

    ``name`` is "" where the user gave none; ``text`` is the constraint, printed; ``index`` the entry, () of a scalar; ``place`` is
    file and line, "" where unknown. ``kind``: "constraint", "declared" or "definition".
    """

    kind: str
    name: str
    text: str
    index: tuple[int, ...]
    place: str
    weight: float

    @property
    def whole(self) -> str:
        """The constraint that this is an entry of, as an error names it."""
        if self.kind == "declared":
            return f"the declared bounds of {self.name}"
        return f"{self.name!r} ({self.text})" if self.name else self.text


@dataclass(frozen=True)
class Item:
    """The canonical problem of one item in NumPy, float64."""

    Q: Array
    p: Array
    G: Array
    h: Array
    A: Array
    b: Array
    lb: Array
    ub: Array

    @staticmethod
    def of(data: QPData | SparseData, index: int) -> Item:
        if isinstance(data, SparseData):
            data, index = data.dense(index), 0
        n = data.sizes[0]

        def take(tensor: Tensor | None, absent: float = 0.0) -> Array:
            if tensor is None:
                return np.full(n, absent)
            own = tensor.detach()
            return np.asarray(own[min(index, own.shape[0] - 1)].cpu().double().numpy())

        Q = take(data.Q)
        p, G, h, A, b = (take(block) for block in (data.p, data.G, data.h, data.A, data.b))
        return Item((Q + Q.T) / 2, p, G, h, A, b, take(data.lb, -np.inf), take(data.ub, np.inf))

    def rows(self, places: NDArray[np.int64]) -> tuple[Array, Array]:
        """C and c of these places in [A; G; lb; ub]."""
        n, k, m = len(self.p), len(self.b), len(self.h)
        C, c = np.zeros((len(places), n)), np.concatenate([self.b, self.h, -self.lb, self.ub])[places]
        for row, place in enumerate(places):
            if place < k:
                C[row] = self.A[place]
            elif place < k + m:
                C[row] = self.G[place - k]
            else:
                side, j = divmod(int(place) - k - m, n)
                C[row, j] = 1.0 if side else -1.0
        return C, c


class Owners:
    """Who wrote each place in [A; G; lb; ub]. ``keys``: of constraints and variables, by name; ``spans`` by key."""

    def __init__(self, qp: ParamQP, constraints: Mapping[str, str], leaves: Mapping[str, str], spans: Spans) -> None:
        self.qp = qp
        self._constraints = {name: spans.get(key) for key, name in constraints.items()}
        self._leaves = {name: spans.get(key) for key, name in leaves.items()}
        self._of: dict[int, tuple[int, int]] = {}
        for which, multiplier in enumerate(qp.multipliers):
            for entry, place in enumerate(multiplier.source.array.tolist()):
                self._of[place] = which, entry

    def entry(self, place: int, row: Array) -> Entry:
        """Of a canonical row with these coefficients."""
        qp = self.qp
        if place in self._of:
            which, at = self._of[place]
            m = qp.multipliers[which]
            name = "" if UNNAMED.fullmatch(m.name) else m.name
            index = tuple(int(i) for i in np.unravel_index(at, m.shape)) if m.shape else ()
            return Entry("constraint", name, m.text, index, where(self._constraints.get(m.name)), float(m.weight.array[at]))
        touched = np.flatnonzero(row)
        if place >= qp.k + qp.m:
            j = (place - qp.k - qp.m) % qp.n
            side = "<=" if place >= qp.k + qp.m + qp.n else ">="
            owner = next((v for v in qp.variables if v.start <= j < v.start + v.size), None)
            if owner is not None:
                text = f"{owner.name} {side} its declared bound"
                place_of = where(self._leaves.get(owner.name))
                return Entry("declared", owner.name, text, index_in(owner, j - owner.start), place_of, 1.0)
            touched = np.array([j])
        labels = expansion_labels(qp)
        inside = (v for v in qp.expansions if ((touched >= v.start) & (touched < v.start + v.size)).any())
        atom = next((labels[v.name] for v in inside), "an atom")
        return Entry("definition", "", f"the definition of {atom}", (), "", 1.0)


def index_in(variable: Retrieved, own: int) -> tuple[int, ...]:
    """Which entry of a variable this entry of x is; the first, where symmetry makes it several."""
    if not variable.shape:
        return ()
    flat = own if variable.source is None else int(np.flatnonzero(variable.source.array == own)[0])
    return tuple(int(i) for i in np.unravel_index(flat, variable.shape))


def where(span: Span | None) -> str:
    """File and line of a place, without the folder; "" where Python kept none."""
    place = None if span is None else span.resolve()
    if place is None or not place.file or place.file.startswith("<"):
        return ""
    return f"{PurePath(place.file).name}:{place.line}"


def label(entries: Sequence[Entry]) -> str:
    """Some entries of one constraint: cap, cap[3], x <= u [0, 2, 5 and 7 more]; a declared bound names its variable."""
    first = entries[0]
    stem = first.name or first.text
    if first.kind == "definition" or not first.index:
        return stem
    told = [",".join(map(str, entry.index)) for entry in entries]
    told = told if all(len(entry.index) == 1 for entry in entries) or len(told) == 1 else [f"({one})" for one in told]
    more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return f"{stem}{'' if first.name else ' '}[{', '.join(told[:SHOWN])}{more}]"
