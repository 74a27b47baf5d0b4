"""The public door from cvxpy: the language reads the problem, and the result can be compiled and solved."""

from __future__ import annotations

from typing import Any

from ..dsl.cvxpy_import import CvxpyImport, imported
from .problem import Problem


def from_cvxpy(problem: Any) -> CvxpyImport[Problem]:
    """Read a cvxpy problem: its variables, parameters with their attributes, objective and constraints.

    Returns a ``CvxpyImport``: ``.problem`` is the karush problem, and indexing with anything of the cvxpy problem gives what
    stands for it. DPP is not needed, nor are values of parameters; the cvxpy problem is not touched. Raises DCPError that names
    every atom a quadratic program cannot represent, and where it stands.
    """
    return imported(problem, Problem)
