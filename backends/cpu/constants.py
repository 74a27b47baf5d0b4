"""The constants of the torch engine at float64: one method, one set of numbers."""

from __future__ import annotations

import torch

from .. import kkt, linear, polish, screen
from ..equilibrate import PASSES as PASSES
from ..interior_point import CUTS as CUTS
from ..interior_point import LEAST as LEAST
from ..interior_point import NEAR as NEAR
from ..interior_point import SHORTER as SHORTER
from ..interior_point import STALL as STALL
from ..interior_point import STEP as STEP
from ..interior_point import TRUSTED as TRUSTED
from ..residuals import SURE as SURE

RHO = kkt.RHO[torch.float64]
DELTA = kkt.DELTA[torch.float64]
CONVEX = screen.CONVEX[torch.float64]
NO_LIMIT = screen.NO_LIMIT
ACCURATE = linear.ACCURATE[torch.float64]
CONSISTENT = linear.CONSISTENT[torch.float64]
REFINEMENTS = linear.REFINEMENTS
STEADY = linear.STEADY[torch.float64]
SEEN, STRIDE = linear.SEEN, kkt.STRIDE
STEADY_POLISH = polish.STEADY[torch.float64]


def rounding(n: int) -> float:
    """What held rows add to the regularisation RHO of the diagonal."""
    return kkt.rounding(n, torch.float64)
