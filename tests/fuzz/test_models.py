"""Random models: what is compiled has the optimum of what was written, item by item, by cvxpy and Clarabel.

300 models in every run of the tests; 2,000 by ``make fuzz``, which ends with the worst figures and what was refused on the way.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import karush as kr
from fuzz.judge import REPORT, Backend, Tally
from fuzz.models import Model, model
from karush.dsl import functions
from karush.dsl.atoms import ATOMS

BLOCK = 50

# Functions that no model can hold, whatever they are applied to: of variables they are cones, of data they are torch's.
ABSENT = {"lambda_max", "lambda_min", "sigma_max", "norm_nuc", "perspective"}
DRAWN = 200  # models whose parts are counted


def agree(seeds: range, compiled: int) -> None:
    """One model in ``compiled`` goes through native code, whose making takes longer than all the rest."""
    tally = Tally()
    for seed in seeds:
        backend: Backend = "auto" if seed % compiled == 0 else "torch"
        tally.see(model(seed, items=3 if seed % 4 == 0 else 2), backend)
    REPORT.add(tally)
    assert not tally.wrong, "\n".join(tally.lines())


@pytest.mark.parametrize("first", range(0, 300, BLOCK))
def test_random_models(first: int) -> None:
    agree(range(first, first + BLOCK), compiled=15)


@pytest.mark.fuzz
@pytest.mark.parametrize("first", range(0, 2000, BLOCK))
def test_many_random_models(first: int) -> None:
    agree(range(first, first + BLOCK), compiled=4)


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [model(seed) for seed in range(DRAWN)]


def test_every_atom_occurs(models: list[Model]) -> None:
    """norm2 as a function of data: of variables it is refused, or squared and then another atom. All others as they are."""
    number = {name: sum(name in m.atoms for m in models) for name in ATOMS}
    assert min(number.values()) >= 3, number


def test_every_function_can_be_drawn() -> None:
    """The tables of the generator name every function that the language has."""
    text = "".join(
        (Path(__file__).parent / f"{name}.py").read_text() for name in ("steps", "coefficients", "constraints", "models")
    )
    named = set(re.findall(r"\bkr\.(\w+)", text))
    known = {name for name, value in vars(functions).items() if callable(value)}
    assert known - named == ABSENT


def test_every_kind_of_model_occurs(models: list[Model]) -> None:
    """Scalars, axes of length one, constraints without rows, and whatever else a model can have."""
    variables = [v for m in models for v in m.problem.variables.values()]
    constraints = [c for m in models for c in m.problem.constraints.values()]
    shapes = {v.shape for v in variables}
    assert {(), (1,), (1, 3), (3, 1)} <= shapes
    for kind in ("symmetric", "diag", "sparsity", "nonneg", "nonpos"):
        assert any(getattr(v.attributes, kind) for v in variables), kind
    assert any(v.lower is not None and v.lower.parameters() for v in variables)
    assert {c.op for c in constraints} == {"==", "<=", ">="}
    assert any(not c.size for c in constraints)
    assert any(c.active is not None for c in constraints)
    assert {c.penalty for c in constraints if isinstance(c, kr.Soft)} == {"l1", "l2"}
    assert any(not c.residual.variables() for c in constraints)
    declared = {name for m in models for p in m.problem.parameters.values() for name in p.attributes.declared}
    assert declared == {"nonneg", "nonpos", "pos", "neg", "PSD", "NSD", "symmetric", "diag", "boolean", "sparsity", "bounds"}
    assert {type(m.problem.objective) for m in models} == {kr.Minimize, kr.Maximize}


def test_single_precision_comes_back_as_it_came(models: list[Model]) -> None:
    """Rounded inputs make another problem, near the first one, whose equalities may contradict each other by as much."""
    solved = 0
    for m in models[:60]:
        inputs = m.inputs
        double = kr.compile(m.problem, backend="torch")(inputs)
        layer = kr.compile(m.problem, backend="torch", on_failure="return")
        single = layer({name: value.float() for name, value in inputs.items()})
        parts = [single[v] for v in m.problem.variables.values()] + [
            single.dual(c) for c in m.problem.constraints.values() if c.size
        ]
        assert {part.dtype for part in (single.objective, *parts)} == {torch.float32}
        solved += int(single.ok.all())
        if single.ok.all():
            torch.testing.assert_close(single.objective.double(), double.objective, rtol=1e-3, atol=1e-3)
    assert solved >= 50, solved
