"""The pipeline: expand, extract, stuff, simplify; each stage verified before the next.

Problem -> Expanded -> Extracted -> ParamQP -> ParamQP with native bounds
"""

from __future__ import annotations

from dataclasses import dataclass

from ..dsl.printing import constraint_text
from ..dsl.problem import Problem
from .expand import expand
from .extract import extract
from .param_qp import ParamQP
from .program import Functions
from .simplify import simplify
from .stuff import stuff


@dataclass(frozen=True)
class Canonical:
    """The canonical problem; the user's functions by the names its program uses, and these names by key."""

    qp: ParamQP
    functions: Functions
    function_names: dict[str, str]


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
    simplified = simplify(stuffed, extracted.columns)
    simplified.verify("simplify")
    return Canonical(simplified, extracted.functions, extracted.function_names)
