"""Why no point satisfies all constraints: few of them, with weights, whose sum says that 0 is at most a negative number.

    C_i x <= c_i  or  == c_i,   w_i >= 0 for inequalities:      sum w_i C_i = 0   and   sum w_i c_i < 0       (Farkas)

The engine's ray proves it with many rows: it is the multiplier of a nearest point, and every row that is violated there takes part.
A ray of least support names fewer. Such a support is irreducible: without any one of its rows the others can be satisfied
(Gleeson and Ryan, 1990). To get there, as in Caratheodory's theorem: where the rows of a support S are dependent together with
their right sides, some u on S has u'C = 0 and u'c = 0, and w + t u proves what w proves; t is the first at which a weight becomes
zero. When no u is left, w is the only solution of w'C = 0 on S but for its length, and is computed once more as such.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Ray
from .entries import Array, Entry, Item, Owners, label

NEGLIGIBLE = 1e-6  # of a ray's largest component
DEPENDENT = 1e-9  # singular values, relative to the largest
PROVEN = 1e-8  # the left side of a sum, and least decrease, relative to the terms


@dataclass(frozen=True)
class Part:
    """One constraint, or some entries of it with one weight, in a sum that cannot hold.

    ``weight`` multiplies the constraint as written, read as left - right <= 0 (right - left where it says >=); that of an equality
    may be negative. ``label`` names the entries, ``text`` is the constraint, printed, ``place`` file and line where known.
    """

    weight: float
    label: str
    text: str
    place: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Conflict:
    """Constraints that contradict each other: added up with their weights, the left sides cancel and leave 0 <= ``right`` < 0.

    ``left``: the largest coefficient that is left in the sum, relative to its terms; recomputed from the data.
    ``irreducible``: whether the others can be satisfied without any one of these.
    """

    parts: tuple[Part, ...]
    left: float
    right: float
    irreducible: bool

    @property
    def constraints(self) -> tuple[str, ...]:
        """The constraints, each once, as errors name them; definitions left out."""
        names = (entry.whole for part in self.parts for entry in part.entries if entry.kind != "definition")
        return tuple(dict.fromkeys(names))


def conflict(item: Item, ray: Ray, index: int, owners: Owners) -> Conflict | None:
    """The certificate of one item in the user's constraints; None where there is none that numbers confirm."""
    parts = (ray.y, ray.z, ray.z_lb, ray.z_ub)
    whole = np.concatenate([part[index].detach().cpu().double().numpy() for part in parts])
    places = np.flatnonzero(whole).astype(np.int64)
    if not len(places):
        return None
    C, c = item.rows(places)
    length = np.linalg.norm(C, axis=1)
    unit = np.where(length > 0, length, 1)
    C, c, w = C / unit[:, None], c / unit, whole[places] * unit
    free = places < len(item.b)
    few = _irreducible(C, c, np.where(np.abs(w) > NEGLIGIBLE * np.abs(w).max(), w, 0.0))
    irreducible = few is not None and _left(C, c, few, free) <= PROVEN
    if few is not None and irreducible:
        w = few
    support = np.flatnonzero(w)
    entries = [owners.entry(int(places[i]), C[i] * unit[i]) for i in support]
    weights = np.array([entry.weight for entry in entries]) * w[support] / unit[support]
    stated = np.array([entry.kind != "definition" for entry in entries])
    scale = _scale(weights[stated] if stated.any() else weights)
    told = _grouped(entries, weights / scale)
    right = float(w[support] @ c[support]) / scale
    return Conflict(told, _left(C, c, w, free), right, irreducible) if right < 0 else None


def _irreducible(C: Array, c: Array, w: Array) -> Array | None:
    """Weights of least support, by the elimination above; rows have length 1."""
    w = w.copy()
    S = np.flatnonzero(w)
    stacked = np.column_stack([C[S], c[S] / max(np.abs(c[S]).max(), 1e-300)])
    basis = np.zeros((0, len(w)))
    found = _null(stacked)
    basis = np.zeros((len(found), len(w)))
    basis[:, S] = found
    while len(basis):
        u, rest = basis[0], basis[1:]
        size = np.abs(u)
        can = np.flatnonzero((size > DEPENDENT * size.max()) & (w != 0))
        if not len(can):
            basis = rest
            continue
        i = can[np.argmin(np.abs(w[can]) / size[can])]
        w = w - w[i] / u[i] * u
        w[i] = 0.0
        w[np.abs(w) <= DEPENDENT * np.abs(w).max()] = 0.0
        rest = rest - np.outer(rest[:, i] / u[i], u)
        rest[:, w == 0] = 0.0
        basis = rest[np.linalg.norm(rest, axis=1) > DEPENDENT]
        basis = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    S = np.flatnonzero(w)
    if not len(S):
        return None
    last = np.linalg.svd(C[S].T, full_matrices=True)[2][-1]
    exact = np.zeros(len(w))
    exact[S] = last if last @ c[S] < 0 else -last
    return exact


def _null(M: Array) -> Array:
    """Rows that span {u: u'M = 0}."""
    _, s, Vt = np.linalg.svd(M.T, full_matrices=True)
    rank = int((s > DEPENDENT * s.max(initial=0.0)).sum())
    return np.asarray(Vt[rank:])


def _left(C: Array, c: Array, w: Array, free: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """The largest coefficient left in the sum, relative to its terms; inf where the sum proves nothing."""
    if (w[~free] < 0).any() or not w @ c < -PROVEN * (np.abs(w) @ np.abs(c)):
        return np.inf
    terms = np.abs(w) @ np.abs(C)
    return float((np.abs(w @ C) / np.where(terms > 0, terms, 1)).max(initial=0.0))


def _scale(weights: Array) -> float:
    """The smallest weight where that makes all of them small integers, as in sums by hand; else the largest."""
    size = np.abs(weights)
    ratios = size / size.min()
    return float(size.min() if ratios.max() < 100 and (np.abs(ratios - ratios.round()) < 1e-6).all() else size.max())


def _grouped(entries: list[Entry], weights: Array) -> tuple[Part, ...]:
    """Entries of one constraint with one weight together."""
    groups: dict[tuple[str, str, str, float], list[Entry]] = {}
    for entry, weight in zip(entries, weights, strict=True):
        key = float(f"{weight:.6g}")
        groups.setdefault((entry.kind, entry.name, entry.text, key), []).append(entry)
    return tuple(
        Part(weight, label(group), group[0].text, group[0].place, tuple(group)) for (_, _, _, weight), group in groups.items()
    )
