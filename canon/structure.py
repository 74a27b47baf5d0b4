"""Structure: which parameter can change which entry of Q p G h A b, and what follows for the problem as a whole.

A ``Pattern`` is the boolean matrix of entries that may differ from zero, and one more for every parameter: the entries that it can
change. Patterns add and multiply like the matrices that they stand for,

    (A + B)[s] = A[s] + B[s]            (A B)[s] = A[s] B + A B[s]

so the pattern of a product of factors, or of a Gram matrix E'WE, follows from those of its parts. No value is looked at, except
constants; what is said here holds for all values of the parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from .blocks import Block, Gram
from .factors import Factor, Fixed, Index, Term
from .param_qp import ParamQP, Retrieved
from .program import Program
from .sparse import Matrix

Names = tuple[str, ...]
NUMERIC = 1000  # up to this size the rank of a constant matrix is computed, beyond it that of its pattern


@dataclass(frozen=True, eq=False)
class Pattern:
    """Entries that may differ from zero, and those that each parameter can change."""

    every: sparse.csr_array
    by: Mapping[str, sparse.csr_array]

    @property
    def T(self) -> Pattern:
        return Pattern(_mask(self.every.T), {name: _mask(part.T) for name, part in self.by.items()})

    def __add__(self, other: Pattern) -> Pattern:
        names = dict.fromkeys([*self.by, *other.by])
        by = {name: _union([side.by[name] for side in (self, other) if name in side.by]) for name in names}
        return Pattern(_union([self.every, other.every]), by)

    def __matmul__(self, other: Pattern) -> Pattern:
        by: dict[str, sparse.csr_array] = {}
        for name in dict.fromkeys([*self.by, *other.by]):
            parts = [self.by[name] @ other.every] if name in self.by else []
            parts += [self.every @ other.by[name]] if name in other.by else []
            by[name] = _union(parts)
        return Pattern(_mask(self.every @ other.every), by)

    def diagonal(self, size: int) -> Pattern:
        """This column on a diagonal; a single entry is repeated."""

        def spread(part: sparse.csr_array) -> sparse.csr_array:
            held = np.broadcast_to(part.toarray()[:, 0].astype(np.float64), size)
            return _mask(sparse.diags_array(held, format="csr"))

        return Pattern(spread(self.every), {name: spread(part) for name, part in self.by.items()})

    def placed(self, shape: tuple[int, int], row: int, col: int) -> Pattern:
        """This as a part of a larger matrix."""

        def move(part: sparse.csr_array) -> sparse.csr_array:
            coo = part.tocoo()
            return _mask(sparse.csr_array((coo.data, (coo.row + row, coo.col + col)), shape=shape))

        return Pattern(move(self.every), {name: move(part) for name, part in self.by.items()})

    def groups(self) -> dict[Names, tuple[Index, Index]]:
        """Rows and columns of the entries by the set of parameters that can change them; () for constants."""
        places = _places(self.every)
        code = np.zeros(len(places), dtype=np.int64)
        members: list[Names] = [()]
        for name, part in self.by.items():
            pairs, code = np.unique(2 * code + np.isin(places, _places(part)), return_inverse=True)
            members = [(*members[pair // 2], *((name,) if pair % 2 else ())) for pair in pairs]
        width = self.every.shape[1]
        return {some: np.divmod(places[code == value], width) for value, some in enumerate(members)} if len(places) else {}


def inputs_of(program: Program) -> tuple[Names, ...]:
    """For every slot, the parameters that it depends on."""
    found: list[Names] = []
    for step in program.steps:
        own = (str(dict(step.data)["name"]),) if step.op == "input" else ()
        found.append(tuple(dict.fromkeys([*own, *(name for argument in step.args for name in found[argument])])))
    return tuple(found)


def patterns(qp: ParamQP) -> dict[str, Pattern]:
    """The pattern of every block that exists, products of Gram matrices included; of lb and ub, the bounds that are there."""
    inputs = inputs_of(qp.program)
    found = {letter: _block(block, inputs) for letter, block in qp.blocks.items()}
    for side in ("lb", "ub"):
        if side in found:
            present = np.isfinite(qp.blocks[side].constant.toarray())  # a bound of zero is there, an infinite one is not
            found[side] = Pattern(_mask(sparse.csr_array(present)), found[side].by)
    for gram in qp.grams:
        E, e, middle = _block(gram.E, inputs), _block(gram.e, inputs), _middle(gram, inputs)
        left = E.T @ middle
        found["Q"] += left @ E
        found["p"] += left @ e
        found["constant"] += e.T @ middle @ e
    for letter, block in qp.gates.blocks.items():
        gate = _block(block, inputs)
        for target in {"G": ("G", "h"), "A": ("A", "b")}.get(letter, (letter,)):
            found[target] = _gated(found[target], gate, filled=target == "h")
    return found


def rank_bound(qp: ParamQP, pattern: Pattern) -> int:
    """A number that the rank of Q never exceeds: that of its pattern, or the sum over the parts that make it."""
    parts = _rank(qp.Q.constant, constant=True)
    parts += sum(_rank(_factor(entries, ()).every) for entries in qp.Q.entries)
    parts += sum(min(_factor_rank(factor) for factor in placed.term) for placed in qp.Q.products)
    inputs = inputs_of(qp.program)
    for gram in qp.grams:
        middle = 0 if gram.P is None else _factor_rank(gram.P)
        weights = _rank(_middle(gram, inputs).every)
        parts += min(_rank(_block(gram.E, inputs).every), weights if gram.P is None else middle)
    return min(parts, _rank(pattern.every))


def separate(found: Mapping[str, Pattern]) -> int:
    """Number of independent problems: groups of variables that share no entry of Q and no row."""
    Q = found["Q"].every.tocoo()
    n = Q.shape[0]
    starts, ends, nodes, idle = [Q.row], [Q.col], n, 0
    for letter in ("G", "A"):
        if letter in found:
            rows = found[letter].every.tocoo()  # a row is a node, which a full one makes cheaper than pairs of its variables
            starts.append(rows.row + nodes)
            ends.append(rows.col)
            nodes += rows.shape[0]
            idle += rows.shape[0] - len(np.unique(rows.row))
    places = np.concatenate(starts), np.concatenate(ends)
    joined = sparse.coo_array((np.ones(len(places[0]), dtype=np.int8), places), shape=(nodes, nodes))
    return int(csgraph.connected_components(joined.tocsr(), directed=False)[0]) - idle


def without_curvature(pattern: Pattern, variables: tuple[Retrieved, ...]) -> tuple[tuple[str, int], ...]:
    """Variables, and how many of their entries, whose columns of Q are zero for all parameters."""
    empty = np.diff(pattern.every.tocsc().indptr) == 0
    counts = ((v.name, int(empty[v.start : v.start + v.size].sum())) for v in variables)
    return tuple((name, count) for name, count in counts if count)


def expansion_labels(qp: ParamQP) -> dict[str, str]:
    """What people may read instead of <abs 3>: abs, or abs 1, abs 2, ... where there are several."""
    stems = [v.name.strip("<>").split()[0] for v in qp.expansions]
    numbered = [f"{stem} {stems[:place].count(stem) + 1}" for place, stem in enumerate(stems)]
    told = (stem if stems.count(stem) == 1 else label for stem, label in zip(stems, numbered, strict=True))
    return {v.name: label for v, label in zip(qp.expansions, told, strict=True)}


def _block(block: Block, inputs: tuple[Names, ...]) -> Pattern:
    total = Pattern(_mask(block.constant), {})
    for entries in block.entries:
        total += _factor(entries, inputs[entries.slot])
    for placed in block.products:
        total += _term(placed.term, inputs).placed(block.shape, placed.row, placed.col)
    return total


def _gated(pattern: Pattern, gate: Pattern, filled: bool) -> Pattern:
    """A block whose rows exist or not by a column of gates. ``filled``: an absent row holds a number there, h = inf."""
    every = _union([pattern.every, *(gate.by.values() if filled else ())])
    rows = {name: sparse.diags_array(part.toarray()[:, 0].astype(np.float64), format="csr") for name, part in gate.by.items()}
    return Pattern(every, pattern.by) + Pattern(every, {name: _mask(switched @ every) for name, switched in rows.items()})


def _middle(gram: Gram, inputs: tuple[Names, ...]) -> Pattern:
    """diag(weight), or weight * P."""
    size = gram.E.shape[0]
    weight = _block(gram.weight, inputs).diagonal(size)
    return weight if gram.P is None else weight @ _term((gram.P,), inputs)


def _term(term: Term, inputs: tuple[Names, ...]) -> Pattern:
    return reduce(lambda left, right: left @ right, (_factor(f, () if isinstance(f, Fixed) else inputs[f.slot]) for f in term))


def _factor(factor: Factor, names: Names) -> Pattern:
    if isinstance(factor, Fixed):
        return Pattern(_mask(factor.matrix), {})
    mask = _mask(sparse.csr_array((np.ones(len(factor.rows), dtype=bool), (factor.rows, factor.cols)), shape=factor.shape))
    return Pattern(mask, dict.fromkeys(names, mask))


def _factor_rank(factor: Factor) -> int:
    return _rank(factor.matrix, constant=True) if isinstance(factor, Fixed) else _rank(_factor(factor, ()).every)


def _rank(matrix: Matrix | sparse.csr_array, constant: bool = False) -> int:
    if not matrix.nnz:
        return 0
    if constant and max(matrix.shape) <= NUMERIC:
        return int(np.linalg.matrix_rank(matrix.toarray()))
    return int(csgraph.structural_rank(sparse.csr_matrix(_mask(matrix))))


def _places(mask: sparse.csr_array) -> Index:
    """Positions of the entries in C order."""
    coo = mask.tocoo()
    return np.sort(coo.row.astype(np.int64) * mask.shape[1] + coo.col)


def _mask(matrix: Matrix | sparse.csr_array) -> sparse.csr_array:
    mask = sparse.csr_array(matrix.csr if isinstance(matrix, Matrix) else matrix).astype(bool)
    mask.eliminate_zeros()
    mask.sum_duplicates()
    return mask


def _union(parts: list[sparse.csr_array]) -> sparse.csr_array:
    return _mask(sum((part.astype(np.int8) for part in parts[1:]), start=parts[0].astype(np.int8)))
