"""The same problem through Clarabel: an interior-point method that is not ours, for ``layer.check``."""

from __future__ import annotations

import clarabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.utils import _pytree as pytree

from .data import Active, QPData, QPSolution, Ray, Residuals
from .entries import Array, Item
from .status import Status

ACCURACY = 1e-11  # asked for; what Clarabel reaches is measured in the comparison
VERDICTS = {
    "Solved": Status.SOLVED,
    "AlmostSolved": Status.SOLVED_INACCURATE,
    "PrimalInfeasible": Status.PRIMAL_INFEASIBLE,
    "DualInfeasible": Status.DUAL_INFEASIBLE,
    "MaxIterations": Status.MAX_ITERATIONS,
}


def solve(data: QPData, regularize: float) -> QPSolution:
    """One problem, batch 1, float64, detached. What Clarabel knows no word for is zero: active set, ray, residuals."""
    own = Item.of(data, 0)
    n, m, k = data.sizes
    finite = [np.flatnonzero(np.isfinite(side)) for side in (own.h, own.lb, own.ub)]
    eye = sparse.eye_array(n, format="csr")
    rows = sparse.vstack([own.A, own.G[finite[0]], -eye[finite[1]], eye[finite[2]]], format="csc")
    right = np.concatenate([own.b, own.h[finite[0]], -own.lb[finite[1]], own.ub[finite[2]]])
    cones = [clarabel.ZeroConeT(k), clarabel.NonnegativeConeT(len(right) - k)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = ACCURACY
    upper = sparse.csc_matrix(np.triu(own.Q + regularize * np.eye(n)))
    found = clarabel.DefaultSolver(upper, own.p, sparse.csc_matrix(rows), right, cones, settings).solve()
    multipliers = np.asarray(found.z)
    y, rest = multipliers[:k], multipliers[k:]
    parts = np.split(rest, np.cumsum([len(rows) for rows in finite])[:-1])
    z, z_lb, z_ub = (_filled(size, at, part) for size, at, part in zip((m, n, n), finite, parts, strict=True))
    x = torch.tensor(np.asarray(found.x))
    G, h = torch.tensor(own.G), torch.tensor(own.h)
    code = VERDICTS.get(str(found.status), Status.NUMERICAL_ERROR)
    status = torch.tensor([code], dtype=torch.int8)
    none = torch.zeros(1, n, dtype=torch.float64)
    nothing = torch.zeros(1, n, dtype=torch.bool)
    found_there = QPSolution(
        x[None], torch.tensor(y)[None], z, z_lb, z_ub, (h - G @ x)[None],
        status, status <= Status.SOLVED_INACCURATE, torch.tensor([found.iterations], dtype=torch.int32),
        Residuals(torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, 4, dtype=torch.float64)),
        Active(torch.zeros(1, m, dtype=torch.bool), nothing, nothing),
        Ray(none, torch.zeros(1, k, dtype=torch.float64), torch.zeros(1, m, dtype=torch.float64), none, none),
    )  # fmt: skip
    placed: QPSolution = pytree.tree_map(lambda part: part.to(data.p.device), found_there)
    return placed


def _filled(size: int, at: NDArray[np.int64], values: Array) -> Tensor:
    whole = np.zeros(size)
    whole[at] = values
    return torch.tensor(whole)[None]
