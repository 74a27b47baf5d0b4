"""From derived parameters to the values of Q, G, A on their patterns, and to p, h, b and bounds: the sparse ``Assembly``.

    Q = Q_0 + sum over Grams of 2 E'WE        p = p_0 + 2 E'We        constant = c_0 + e'We

A row that does not exist for an item is chosen away, as in ``backends.assemble``: its values become 0, its right-hand side inf.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...canon.blocks import Gram
from ...canon.param_qp import ParamQP
from ..assemble import met
from ..constants import Constants
from .data import SparseData
from .structure import shared
from .values import Matrix, Recipes


class SparseAssembly:
    """The recipes of one ParamQP; immutable. Raises TooDenseError where a product would be too large."""

    def __init__(self, qp: ParamQP, constants: Constants) -> None:
        make = Recipes(constants)
        matrices = {name: make.block(getattr(qp, name)) for name in ("G", "A")}
        vectors = {name: make.block(block, every_row=True) for name, block in qp.blocks.items() if name not in ("Q", "G", "A")}
        quadratic, linear, constant = [make.block(qp.Q)], [vectors["p"]], [vectors["constant"]]
        for gram in qp.grams:
            Q, p, c = _gram(make, gram)
            quadratic.append(Q)
            linear.append(p)
            constant.append(c)
        vectors["p"] = make.added(linear, qp.n, 1)
        vectors["constant"] = make.added(constant, 1, 1)
        self._matrices: dict[str, Matrix] = {"Q": make.upper(quadratic, qp.n), **matrices}
        self._vectors = vectors
        self._gates = {name: make.block(block, every_row=True) for name, block in qp.gates.blocks.items()}
        self.structure = shared(*(self._matrices[name].where for name in ("Q", "A", "G")))

    def data(self, slots: list[Tensor], held: list[Tensor]) -> tuple[SparseData, Tensor]:
        """The problem data, and the constant term of the objective with shape (B,)."""
        Q, G, A = (self._matrices[name].recipe(slots, held) for name in ("Q", "G", "A"))
        vectors = {name: matrix.recipe(slots, held) for name, matrix in self._vectors.items()}
        p, h, b, lb, ub = (vectors.get(name) for name in ("p", "h", "b", "lb", "ub"))
        assert p is not None
        assert h is not None
        assert b is not None
        data = SparseData(self.structure, Q, p, G, h, A, b, lb, ub)
        for name, gate in self._gates.items():
            data = _without(data, name, gate.recipe(slots, held).detach() != 0)
        return met(data), vectors["constant"].reshape(-1)


def _gram(make: Recipes, gram: Gram) -> tuple[Matrix, Matrix, Matrix]:
    """2 E'WE, 2 E'We and e'We."""
    E, e = make.block(gram.E), make.block(gram.e)
    W = make.on_diagonal(make.block(gram.weight, every_row=True), gram.E.shape[0])
    if gram.P is not None:
        W = make.times(W, make.factor(gram.P))
    WE, We = make.times(W, E), make.times(W, e)
    return make.scaled(make.times(E.T, WE), 2), make.scaled(make.times(E.T, We), 2), make.times(e.T, We)


def _without(data: SparseData, name: str, exists: Tensor) -> SparseData:
    """Rows of one block (or bounds of one side) chosen away where they do not exist."""
    if name in ("G", "A"):
        where = data.structure.G if name == "G" else data.structure.A
        matrix, right, absent = (data.G, data.h, torch.inf) if name == "G" else (data.A, data.b, 0.0)
        matrix = torch.where(exists[:, torch.from_numpy(where.rows)], matrix, 0)
        right = torch.where(exists, right, absent)
        return replace(data, G=matrix, h=right) if name == "G" else replace(data, A=matrix, b=right)
    bound, absent = (data.lb, -torch.inf) if name == "lb" else (data.ub, torch.inf)
    assert bound is not None
    bound = torch.where(exists, bound, absent)
    return replace(data, lb=bound) if name == "lb" else replace(data, ub=bound)
