"""Problems built from their solutions, and judges that share no code with the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import clarabel
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass
class Problem:
    """One quadratic program in NumPy, with a solution if it was built from one."""

    Q: Array
    p: Array
    G: Array
    h: Array
    A: Array
    b: Array
    lb: Array | None = None
    ub: Array | None = None
    x: Array = field(default_factory=lambda: np.zeros(0))
    y: Array = field(default_factory=lambda: np.zeros(0))
    z: Array = field(default_factory=lambda: np.zeros(0))

    def arguments(self) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Positional and keyword arguments of ``solve_qp``."""
        bounds = {name: torch.tensor(value) for name, value in (("lb", self.lb), ("ub", self.ub)) if value is not None}
        return [torch.tensor(value) for value in (self.Q, self.p, self.G, self.h, self.A, self.b)], bounds


def built(seed: int, n: int, m: int, k: int, rank: int | None = None, active: int | None = None) -> Problem:
    """A problem with a known solution: strictly complementary, with independent active rows if ``active`` + k <= n."""
    rng = np.random.default_rng(seed)
    rank = n if rank is None else rank
    active = min(m, max(0, n - k) // 2) if active is None else active
    F = rng.normal(size=(rank, n))
    Q = F.T @ F / max(rank, 1)
    x, y = rng.normal(size=n), rng.normal(size=k)
    G, A = rng.normal(size=(m, n)), rng.normal(size=(k, n))
    z, s = np.zeros(m), np.zeros(m)
    z[:active], s[active:] = rng.uniform(0.5, 2, active), rng.uniform(0.5, 2, m - active)
    return Problem(Q, -(Q @ x + G.T @ z + A.T @ y), G, G @ x + s, A, A @ x, x=x, y=y, z=z)


def random_batch(B: int, n: int, m: int, k: int, seed: int = 0) -> list[Tensor]:
    """Feasible, strictly convex, dense problems: Q, p, G, h, A, b with a batch axis."""
    problems = [built(1000 * seed + i, n, m, k) for i in range(B)]
    return [torch.tensor(np.stack([getattr(p, name) for p in problems])) for name in ("Q", "p", "G", "h", "A", "b")]


def clarabel_solution(problem: Problem) -> tuple[Array, Array, Array]:
    """x, y, z of Clarabel; bounds, if any, are left out of z."""
    n = len(problem.p)
    rows, rhs = [problem.A, problem.G], [problem.b, problem.h]
    for bound, sign in ((problem.lb, -1.0), (problem.ub, 1.0)):
        if bound is not None:
            rows.append(sign * np.eye(n))
            rhs.append(sign * bound)
    h = np.concatenate(rhs[1:])
    finite = np.isfinite(h)
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_feas = settings.tol_gap_abs = settings.tol_gap_rel = 1e-11
    cones = [cone(size) for cone, size in ((clarabel.ZeroConeT, len(problem.b)), (clarabel.NonnegativeConeT, finite.sum())) if size]
    stacked = np.vstack([problem.A, np.vstack(rows[1:])[finite]])
    solver = clarabel.DefaultSolver(
        sp.csc_matrix(np.triu(problem.Q)),
        problem.p,
        sp.csc_matrix(stacked),
        np.concatenate([problem.b, h[finite]]),
        cones,
        settings,
    )
    found = solver.solve()
    assert str(found.status) == "Solved"
    z = np.zeros(len(h))
    z[finite] = np.array(found.z)[len(problem.b) :]
    return np.array(found.x), np.array(found.z)[: len(problem.b)], z[: len(problem.h)]


def worst_residual(problem: Problem, x: Array, y: Array, z: Array, z_lb: Array, z_ub: Array) -> float:
    """The largest scaled KKT residual, with bounds as rows; normalisers are those that docs promise."""
    n = len(problem.p)
    G, h, w = problem.G, problem.h, z
    for bound, sign, multiplier in ((problem.lb, -1.0, z_lb), (problem.ub, 1.0, z_ub)):
        if bound is not None:
            G, h, w = np.vstack([G, sign * np.eye(n)]), np.concatenate([h, sign * bound]), np.concatenate([w, multiplier])
    keep = np.isfinite(h)
    assert (w >= 0).all()
    assert not w[~keep].any()
    G, h, w = G[keep], h[keep], w[keep]
    Q, p, A, b, size = problem.Q, problem.p, problem.A, problem.b, np.abs(x)

    def over(value: Array, terms: Array) -> float:
        return float((np.abs(value) / np.where(terms > 0, terms, 1)).max(initial=0))

    def floor(rows: Array) -> Array:
        units: Array = np.minimum(1, np.abs(rows).max(1, initial=0)) + ~rows.any(1)
        return units

    f, d = x @ Q @ x / 2 + p @ x, -x @ Q @ x / 2 - h @ w - b @ y
    u_f = min(1.0, np.abs(Q).max() + np.abs(p).max()) or 1.0
    u_j = np.minimum(1, np.abs(p) + np.abs(Q).max(0))
    u_j = np.where(u_j > 0, u_j, u_f)
    worst: float = max(
        over(np.maximum(G @ x - h, 0), floor(G) + np.abs(h) + np.abs(G) @ size),
        over(A @ x - b, floor(A) + np.abs(b) + np.abs(A) @ size),
        over(Q @ x + p + G.T @ w + A.T @ y, u_j + np.abs(Q) @ size + np.abs(p) + np.abs(G).T @ w + np.abs(A).T @ np.abs(y)),
        float(abs(f - d) / (u_f + abs(f) + abs(d))),
    )
    return worst


def dense_adjoint(problem: Problem, x: Array, y: Array, z: Array, g_x: Array, g_y: Array, g_z: Array) -> dict[str, Array]:
    """Gradients of g_x'x + g_y'y + g_z'z by one dense solve of the three-block system of OptNet, nothing eliminated.

    [Q   G'D(z)  A' ] [d_x]     [g_x]        dQ = (d_x x' + x d_x')/2      dp = d_x
    [G  -D(s)    0  ] [d_z] = - [g_z]        dG = D(z) d_z x' + z d_x'     dh = -D(z) d_z
    [A   0       0  ] [d_y]     [g_y]        dA = d_y x' + y d_x'          db = -d_y
    """
    Q, G, A = problem.Q, problem.G, problem.A
    n, m, k = len(x), len(z), len(y)
    s = problem.h - G @ x
    z, s = np.where(z > s, z, 0), np.where(z > s, 0, s)
    K = np.block([[Q, G.T * z, A.T], [G, -np.diag(s), np.zeros((m, k))], [A, np.zeros((k, m)), np.zeros((k, k))]])
    d = -np.linalg.solve(K, np.concatenate([g_x, g_z, g_y]))
    d_x, w, d_y = d[:n], z * d[n : n + m], d[n + m :]
    # A multiplier of an inactive row is zero wherever the row goes: its g_z has no effect, which -D(s) d_z = -g_z keeps out of w.
    return {
        "Q": (np.outer(d_x, x) + np.outer(x, d_x)) / 2,
        "p": d_x,
        "G": np.outer(w, x) + np.outer(z, d_x),
        "h": -w,
        "A": np.outer(d_y, x) + np.outer(y, d_x),
        "b": -d_y,
    }
