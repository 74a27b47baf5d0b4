"""Every atom has an entry in every stage's table: adding one in a single place fails here, loudly."""

import catalogue
from karush.backends.evaluate import OPERATIONS
from karush.canon.expand import EPIGRAPHS
from karush.canon.linear import MATRICES
from karush.dsl.atoms import ATOMS
from karush.dsl.curvature import Form
from karush.dsl.cvxpy_export import ABSENT, CVXPY
from karush.dsl.walk import postorder

PRODUCTS = {"multiply", "matmul"}  # the compiler's rule for a product depends on which factor holds the variables


def test_every_atom_runs_in_torch() -> None:
    assert set(OPERATIONS) == set(ATOMS)


def test_every_atom_is_known_to_the_oracle_or_said_to_be_absent() -> None:
    assert set(CVXPY) | ABSENT == set(ATOMS)
    assert not set(CVXPY) & ABSENT


def test_every_affine_atom_has_a_matrix() -> None:
    affine = {name for name, atom in ATOMS.items() if atom.form is Form.AFFINE}
    assert set(MATRICES) == affine - PRODUCTS


def test_every_other_atom_of_variables_has_an_epigraph() -> None:
    assert set(EPIGRAPHS) == {name for name, atom in ATOMS.items() if atom.form in (Form.PIECEWISE, Form.QUADRATIC)}


def test_every_atom_has_a_value_except_user_functions() -> None:
    assert {name for name, atom in ATOMS.items() if atom.value is None} == {"function"}


def test_every_atom_is_compared_with_the_oracle() -> None:
    """In some model of the catalogue, over which solutions, duals, gradients and batches are checked."""
    used = set()
    for build in catalogue.CASES.values():
        problem = build()
        sides = [side for constraint in problem.constraints.values() for side in (constraint.left, constraint.right)]
        used |= {node.atom.name for node in postorder([problem.objective.expression, *sides]) if node.atom is not None}
    assert used == set(ATOMS)
