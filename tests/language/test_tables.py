"""Every atom has an entry in every stage's table: adding one in a single place fails here, loudly."""

import re
from pathlib import Path

import catalogue
from karush.backends.evaluate import OPERATIONS
from karush.canon.expand import EPIGRAPHS
from karush.canon.linear import MATRICES
from karush.dsl import functions
from karush.dsl.atoms import ATOMS
from karush.dsl.curvature import Form
from karush.dsl.cvxpy_export import ABSENT, CVXPY
from karush.dsl.latex import LATEX, PLAIN
from karush.dsl.sympy_export import SYMPY
from karush.dsl.walk import postorder

ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = {"multiply", "matmul"}  # the compiler's rule for a product depends on which factor holds the variables


def test_every_atom_runs_in_torch() -> None:
    assert set(OPERATIONS) == set(ATOMS)


def test_every_atom_is_known_to_the_oracle_or_said_to_be_absent() -> None:
    assert set(CVXPY) | ABSENT == set(ATOMS)
    assert not set(CVXPY) & ABSENT


def test_every_atom_is_known_to_sympy() -> None:
    assert set(SYMPY) == set(ATOMS)


def test_every_atom_has_a_notation_or_is_said_to_be_plain() -> None:
    assert set(ATOMS) <= set(LATEX) | PLAIN
    assert not set(LATEX) & PLAIN
    assert set(ATOMS) >= PLAIN


def test_every_affine_atom_has_a_matrix() -> None:
    affine = {name for name, atom in ATOMS.items() if atom.form is Form.AFFINE}
    assert set(MATRICES) == affine - PRODUCTS


def test_every_other_atom_of_variables_has_an_epigraph() -> None:
    assert set(EPIGRAPHS) == {name for name, atom in ATOMS.items() if atom.form in (Form.PIECEWISE, Form.QUADRATIC)}


def test_every_atom_has_a_value_except_user_functions_and_linear_programs() -> None:
    assert {name for name, atom in ATOMS.items() if atom.value is None} == {"function", "suppfunc"}


def test_every_atom_is_compared_with_the_oracle() -> None:
    """In some model of the catalogue, over which solutions, duals, gradients and batches are checked."""
    used = set()
    for build in catalogue.CASES.values():
        problem = build()
        sides = [side for constraint in problem.constraints.values() for side in (constraint.left, constraint.right)]
        used |= {node.atom.name for node in postorder([problem.objective.expression, *sides]) if node.atom is not None}
    assert used == set(ATOMS)


def test_the_guide_names_every_function() -> None:
    """Its section on atoms says of each what it is."""
    guide = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    section = re.sub(r"```.*?```", "", guide[guide.index("## Atoms") : guide.index("## Constraints")], flags=re.DOTALL)
    said = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", section))))
    public = {name for name, value in vars(functions).items() if callable(value) and not name.startswith("_")}
    assert public - said == set()
