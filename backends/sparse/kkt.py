"""The optimality system of one item, in the units of its equilibration, factored for given diagonals.

    [Q + diag(x)   A'   G' ]
    [A            -diag(w) ]        x > 0 on the variables, w > 0 on the rows W = [A; G]
    [G                     ]

A variable with an enormous x stands still, a row with an enormous w is not there: one pattern serves every active set.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import multifrontal
from .item import Floats, Item

BUMP = 1e-13  # what becomes of a pivot that is rounding, over the size of the objective


@dataclass(frozen=True, eq=False)
class KKT:
    """Factors the system of one scaled item again and again."""

    item: Item
    unit: float

    @cached_property
    def _room(self) -> Floats:
        return multifrontal.room_for_L_of(self.item.structure.analysis)

    def factor(self, x: Floats, w: Floats, *, passing: bool = False) -> multifrontal.Factorization:
        """``passing``: the factors last until the next ones that are; memory for them is used again."""
        s, item = self.item.structure, self.item
        diagonal = np.concatenate([x, -w])
        diagonal[s.Q.rows[s.on]] += item.Q[s.on]
        values = np.concatenate([item.Q[s.off], item.W, diagonal])
        return multifrontal.factor(s.analysis, values, s.signs, BUMP * self.unit, self._room if passing else None)
