"""Pass 3, stuff: variables get columns, constraints get rows, squares get their route into Q.

    expects    Extracted
    promises   ParamQP whose bounds are the declared ones: every inequality is a row of G

Columns follow the order of the variables, rows the order of the constraints; the way home is therefore a slice of x for every
variable and a range of y or z for every named block of rows.

Routes of a weighted square, W = diag(weight) or weight * P:
    E constant        2 E'WE, 2 E'We and e'We as chains of factors; constant ones vanish into the constant part
    E parametric      a Gram product at run time
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..dsl.atoms import Shape
from ..dsl.keys import Frozen
from ..dsl.later import Text
from ..dsl.leaves import Parameter
from ..dsl.problem import Problem
from .blocks import Block, BlockBuilder, Gram
from .extract import Column, Extracted, Quadratic, Row
from .factors import ONE, Affine, Entries, Factor, Fixed, Term, chain, fixed, identity, ones, scaling, selection, transposed
from .param_qp import Assumption, Check, Gates, Input, Multiplier, ParamQP, Retrieved


def stuff(extracted: Extracted, problem: Problem, said: Callable[[str], Text]) -> ParamQP:
    """Number columns and rows and fill the blocks. ``said`` prints the constraint of a name."""
    starts, n = {}, 0
    for column in extracted.columns:
        starts[column.key] = n
        n += column.size
    Q, p, constant = BlockBuilder(n, n), BlockBuilder(n, 1), BlockBuilder(1, 1)
    for key, terms in extracted.objective.terms.items():
        for term in terms:
            if key == ONE:
                constant.add(term)
            else:
                p.add(transposed(term), starts[key])
    grams = []
    for quadratic in extracted.quadratics:
        middles = _middles(quadratic)
        if middles is None or not _constant_coefficients(quadratic.E):
            grams.append(_gram(quadratic, starts, n))
            continue
        E = _matrix(quadratic.E, starts, n)
        offsets = quadratic.E.terms.get(ONE, ())
        for W in middles:
            Q.add(chain(E.T, *W, E), scale=2.0)
            for e in offsets:
                p.add(chain(E.T, *W, *e), scale=2.0)
                for other in offsets:
                    constant.add(chain(*transposed(other), *W, *e))
    G, h = _rows(extracted.inequalities, starts, n)
    A, b = _rows(extracted.equalities, starts, n)
    k = b.shape[0]
    homes = _home(extracted.equalities, 0, said) | _home(extracted.inequalities, k, said)
    retrieved = [
        Retrieved(c.name, c.shape, starts[c.key], None if c.source is None else Frozen(c.source)) for c in extracted.columns
    ]
    return ParamQP(
        tuple(Input(name, leaf.shape, leaf.attributes, _default(leaf)) for name, leaf in problem.parameters.items()),
        extracted.program,
        _checks(extracted),
        Q.finish(),
        p.finish(),
        G,
        h,
        A,
        b,
        _declared(extracted.columns, -np.inf),
        _declared(extracted.columns, np.inf),
        constant.finish(),
        tuple(grams),
        problem.objective.sign,
        tuple(v for v in retrieved if v.name in problem.variables),
        tuple(homes.get(name) or _nowhere(name, c.shape, said(name)) for name, c in problem.constraints.items()),
        tuple(Assumption(f.name, f.op, f.left, f.right, f.active, str(said(f.name))) for f in extracted.facts),
        Gates(_gate(extracted.inequalities), _gate(extracted.equalities)),
        tuple(v for v in retrieved if v.name not in problem.variables),
    )


def _home(rows: Sequence[Row], first: int, said: Callable[[str], Text]) -> dict[str, Multiplier]:
    """Named row blocks and where their multipliers stand in [y; z]."""
    found = {}
    for row in rows:
        if row.name is not None:
            source = np.arange(first, first + row.affine.rows)
            found[row.name] = Multiplier(row.name, row.shape, Frozen(source), Frozen(ones(len(source))), said(row.name))
        first += row.affine.rows
    return found


def _nowhere(name: str, shape: Shape, said: Text) -> Multiplier:
    """A constraint that became no row: a fact about data, or a price alone."""
    return Multiplier(name, shape, Frozen(np.zeros(0, dtype=np.int64)), Frozen(np.zeros(0)), said)


def _default(leaf: Parameter) -> Frozen | None:
    return None if leaf.value is None else Frozen(leaf.value)


def _declared(columns: Sequence[Column], absent: float) -> Block | None:
    """One side of the declared bounds as a column over all variables, ``absent`` where there is none."""
    sides = [c.lower if absent < 0 else c.upper for c in columns]
    if all(side is None for side in sides):
        return None
    builder = BlockBuilder(sum(c.size for c in columns), 1)
    first = 0
    for column, side in zip(columns, sides, strict=True):
        if side is None:
            builder.add((fixed(np.full(column.size, absent)),), first)
        else:
            for term in side.terms.get(ONE, ()):
                builder.add(term, first)
        first += column.size
    return builder.finish()


def _gate(rows: Sequence[Row]) -> Block | None:
    """Where rows exist; 1 for those that always do."""
    if all(row.active is None for row in rows):
        return None
    builder = BlockBuilder(sum(row.affine.rows for row in rows), 1)
    first = 0
    for row in rows:
        terms = ((fixed(np.ones(row.affine.rows)),),) if row.active is None else row.active.terms.get(ONE, ())
        for term in terms:
            builder.add(term, first)
        first += row.affine.rows
    return builder.finish()


def _rows(rows: Sequence[Row], starts: Mapping[str, int], n: int) -> tuple[Block, Block]:
    """Coefficients and right-hand side of stacked rows: C x + c <= 0 becomes C x <= -c."""
    height = sum(row.affine.rows for row in rows)
    C, c = BlockBuilder(height, n), BlockBuilder(height, 1)
    first = 0
    for row in rows:
        for key, terms in row.affine.terms.items():
            for term in terms:
                if key == ONE:
                    c.add(term, first, scale=-1.0)
                else:
                    C.add(term, first, starts[key])
        first += row.affine.rows
    return C.finish(), c.finish()


def _constant_coefficients(E: Affine) -> bool:
    return all(len(t) == 1 and isinstance(t[0], Fixed) for key, terms in E.terms.items() if key != ONE for t in terms)


def _matrix(E: Affine, starts: Mapping[str, int], n: int) -> Fixed:
    """The constant coefficient matrix over all columns."""
    builder = BlockBuilder(E.rows, n)
    for key, terms in E.terms.items():
        if key != ONE:
            for term in terms:
                builder.add(term, 0, starts[key])
    return Fixed(builder.finish().constant)


def _middles(quadratic: Quadratic) -> list[Term] | None:
    """W as a sum of products of factors, or None where a weight is itself a product."""
    ((terms),) = quadratic.weight.terms.values()
    if any(len(term) > 1 for term in terms):
        return None
    size = quadratic.E.rows
    weights = [_diagonal(term[0], size) for term in terms]
    return [chain(weight) if quadratic.P is None else chain(weight, quadratic.P) for weight in weights]


def _diagonal(weight: Factor, size: int) -> Factor:
    """A row of weights as a diagonal matrix; each is repeated for the entries of the vector that it weighs."""
    each = size // weight.shape[1] if weight.shape[1] else 0
    if isinstance(weight, Fixed):
        return scaling(np.repeat(weight.matrix.toarray()[0], each))
    at = (weight.cols[:, None] * each + np.arange(each)).reshape(-1)
    return Entries(weight.slot, at, at, np.repeat(weight.source, each), np.repeat(weight.weight, each), (size, size))


def _gram(quadratic: Quadratic, starts: Mapping[str, int], n: int) -> Gram:
    E, e = BlockBuilder(quadratic.E.rows, n), BlockBuilder(quadratic.E.rows, 1)
    for key, terms in quadratic.E.terms.items():
        for term in terms:
            if key == ONE:
                e.add(term)
            else:
                E.add(term, 0, starts[key])
    ((terms),) = quadratic.weight.terms.values()
    number, size = terms[0][-1].shape[1], quadratic.E.rows
    rows = size if number > 1 else 1  # of several vectors each weight serves all entries of its own
    spread = selection(np.arange(number).repeat(rows // number), number) if number > 1 else identity(1)
    weight = BlockBuilder(rows, 1)
    for term in terms:
        weight.add(chain(spread, *transposed(term)))
    return Gram(E.finish(), e.finish(), weight.finish(), quadratic.P)


def _checks(extracted: Extracted) -> tuple[Check, ...]:
    """Facts that the convexity rules relied on, to be verified at run time: declared of functions and assumptions."""
    found = []
    for slot, step in enumerate(extracted.program.steps):
        attributes = dict(step.data).get("attributes")
        if attributes is not None and attributes.declared:
            found.append(Check(slot, attributes, extracted.program.text(slot)))
    return tuple(found)
