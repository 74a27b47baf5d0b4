"""The pipeline: expand, extract, stuff, simplify; each stage verified before the next.

Problem -> Expanded -> Extracted -> ParamQP -> ParamQP with native bounds
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..dsl.expression import Expression
from ..dsl.printing import constraint_text
from ..dsl.problem import Problem
from .expand import expand
from .extract import extract
from .param_qp import ParamQP
from .program import Functions
from .simplify import simplify
from .soften import shift
from .specialize import Array, specialize
from .stuff import stuff


@dataclass(frozen=True)
class Canonical:
    """The canonical problem; the user's functions by the names its program uses, and these names by key.

    ``stuffed``: the problem before its rows became bounds, which is where constants are put in. ``shifts``: what the multipliers of
    some soft constraints hold besides those of their rows, by constraint.
    """

    qp: ParamQP
    stuffed: ParamQP
    functions: Functions
    function_names: dict[str, str]
    shifts: dict[str, Expression]


def canonicalize(problem: Problem) -> Canonical:
    """Compile a problem to its parametric QP."""
    expanded = expand(problem)
    expanded.verify()
    names = problem.names
    extracted = extract(expanded, names)
    extracted.verify()
    texts = {name: constraint_text(constraint, names) for name, constraint in problem.constraints.items()}
    stuffed = stuff(extracted, problem, texts)
    stuffed.verify("stuff")
    simplified = simplify(stuffed)
    simplified.verify("simplify")
    shifts = {name: part for name, constraint in problem.constraints.items() if (part := shift(constraint)) is not None}
    return Canonical(simplified, stuffed, extracted.functions, extracted.function_names, shifts)


def specialized(canonical: Canonical, constants: Mapping[str, Array], known: Mapping[int, Array]) -> Canonical:
    """The same with some inputs made constants: see ``specialize``."""
    stuffed = specialize(canonical.stuffed, constants, known)
    stuffed.verify("specialize")
    stuffed.program.verify()
    simplified = simplify(stuffed)
    simplified.verify("simplify")
    return replace(canonical, qp=simplified, stuffed=stuffed)
