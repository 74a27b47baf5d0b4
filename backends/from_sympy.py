"""The public door from sympy: the language reads the expressions, and the result can be compiled and solved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..dsl.diagnostics import require
from .problem import Problem

if TYPE_CHECKING:
    from ..dsl.sympy_import import SympyImport


def from_sympy(
    objective: Any,
    constraints: Any = (),
    *,
    variables: Any,
    parameters: Any = None,
    minimize: bool = True,
    assume: Mapping[Any, Any] | None = None,
) -> SympyImport[Problem]:
    """Read a problem written in sympy.

    ``objective``: a scalar expression, of degree two at most in the variables; ``Abs``, ``Max``, ``Min`` where they are convex.
    ``constraints``: relations (``Eq``, ``<=``, ``>=``), triples ``(G*x, "<=", h)`` for matrices, in lists or dicts of names.
    ``variables``, ``parameters``: symbols, matrix symbols, indexed bases with a shape, matrices of symbols, in lists or dicts of
    names; without ``parameters`` every other symbol is one. Assumptions of symbols become signs. ``assume``: what the rules cannot
    see, by expression, as ``{P: "PSD"}``, ``{1 - t: "nonneg"}``, ``{objective: "convex"}``; it is checked per item at run time.

    Returns a ``SympyImport``: ``.problem``, and ``imported[anything]`` for what stands for a symbol, expression or relation. Raises
    DCPError that names every term a quadratic program cannot represent, DefinitionError for what is no expression, as strings.
    """
    require("sympy", "from_sympy", "karush[sympy]")
    from ..dsl.sympy_import import imported  # optional: sympy is an extra

    return imported(objective, constraints, variables, parameters, minimize, assume, Problem)
