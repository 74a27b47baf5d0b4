"""The differentiable solve of a batch of sparse quadratic programs.

The derivation is that of ``backends.adjoint``: with l = K^-1 g for the gradient g that arrives at u = (x, y, z, w),

    dp: -l_x      db: l_y      dh: l_z      dlb, dub: l_w on the variables at lb, at ub

and of the matrices only the entries of their patterns:

    q_ij, i < j:  -(l_i x_j + x_i l_j)     q_ii:  -l_i x_i     a_ij:  -(l_y,i x_j + y_i l_x,j)     g_ij:  -(l_z,i x_j + z_i l_x,j)

Everything is written in operations that are differentiable again, and ``KKTSolve`` is closed under differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from ..adjoint import followed
from ..data import Active as ActiveSet
from ..data import QPSolution, Ray, Residuals, WarmStart, mapped
from ..failure import SolveError
from ..options import Options
from ..products import summed_like
from ..status import Status
from . import hard, lanes
from .active import Active, Held, linear_solve
from .data import SparseData
from .engine import held_of
from .find import Found, find, finite_item, in_threads
from .item import Floats, Item
from .structure import Pattern, Structure


def solve(data: SparseData, options: Options, *, rejected: Tensor | None = None, warm_start: WarmStart | None = None) -> QPSolution:
    """Solve each item of a batch; float64 on a CPU. As ``backends.solve``, with the same statuses, policies and derivatives."""
    if torch.compiler.is_compiling():  # which would take NumPy's arrays for its own
        eager: QPSolution = torch.compiler.disable(_solve)(data, options, rejected, warm_start)
        return eager
    return _solve(data, options, rejected, warm_start)


def _solve(data: SparseData, options: Options, rejected: Tensor | None, warm_start: WarmStart | None) -> QPSolution:
    if options.regularize:
        data = data.regularized(options.regularize)
    held: list[QPSolution] = []
    tensors = (data.Q, data.p, data.G, data.h, data.A, data.b, data.lb, data.ub)
    x, y, z, z_lb, z_ub, s = Solve.apply(held, data.structure, options, rejected, warm_start, followed(tensors), *tensors)
    solution = replace(held[0], x=x, y=y, z=z, z_lb=z_lb, z_ub=z_ub, s=s)
    if options.on_failure != "nan":
        return solution
    ok = solution.ok.unsqueeze(1)
    x, y, z, z_lb, z_ub, s = (torch.where(ok, part, torch.nan) for part in (x, y, z, z_lb, z_ub, s))
    return replace(solution, x=x, y=y, z=z, z_lb=z_lb, z_ub=z_ub, s=s)


class Solve(Function):
    """(Q, p, G, h, A, b, lb, ub) -> (x, y, z, z_lb, z_ub, s); all else that was found is put into ``held``."""

    @staticmethod
    def forward(
        ctx: Any,
        held: list[QPSolution],
        structure: Structure,
        options: Options,
        rejected: Tensor | None,
        warm: WarmStart | None,
        keep: bool,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        data = SparseData(structure, *tensors)  # type: ignore[arg-type]  # in order
        solution, systems = _found(data, options, rejected, warm, keep)
        held.append(solution)
        if options.on_failure == "raise" and not bool(solution.ok.all()):
            indices = (~solution.ok).nonzero().squeeze(1)
            raise SolveError(solution, indices.tolist(), [Status(code) for code in solution.status[indices].tolist()])
        ctx.structure, ctx.systems = structure, systems
        # Copies: what somebody writes to the fields of a solution must not reach its gradients.
        ctx.masks = solution.ok.unsqueeze(1).clone(), solution.active.lb.clone(), solution.active.ub.clone()
        ctx.save_for_backward(*tensors, solution.x, solution.y, solution.z)
        ctx.set_materialize_grads(False)
        return solution.x, solution.y, solution.z, solution.z_lb, solution.z_ub, solution.s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        Q, p, G, h, A, b, lb, ub, x, y, z = ctx.saved_tensors
        ok, lower, upper = ctx.masks
        s: Structure = ctx.structure
        g_x, g_y, g_z, g_lb, g_ub, g_s = (
            torch.zeros_like(like) if grad is None else torch.where(ok, grad, 0)
            for grad, like in zip(grads, (x, y, z, x, x, z), strict=True)
        )
        if grads[5] is not None:
            g_x = g_x - _columns(s.G.rows, s.G.cols, G, g_s, s.n)
        g_w = torch.where(upper, g_ub, 0) - torch.where(lower, g_lb, 0)
        l_x, l_y, l_z, l_w = KKTSolve.apply(ctx.systems, s, Q, G, A, g_x, g_y, g_z, g_w)
        needs = ctx.needs_input_grad[6:]
        dQ = _of_Q(s, Q, l_x, x) if needs[0] else None
        dp = summed_like(p, -l_x) if needs[1] else None
        dG = _of_rows(s.G, G, l_z + g_s, x, z, l_x) if needs[2] else None
        dh = summed_like(h, l_z + g_s) if needs[3] else None
        dA = _of_rows(s.A, A, l_y, x, y, l_x) if needs[4] else None
        db = summed_like(b, l_y) if needs[5] else None
        dlb = summed_like(lb, torch.where(lower, l_w, 0)) if needs[6] else None
        dub = summed_like(ub, torch.where(upper, l_w, 0)) if needs[7] else None
        return None, None, None, None, None, None, dQ, dp, dG, dh, dA, db, dlb, dub


def _found(
    data: SparseData, options: Options, rejected: Tensor | None, warm: WarmStart | None, keep: bool = True
) -> tuple[QPSolution, _Systems]:
    """The compiled programs as far as they prove what they find, item by item for the rest."""
    solved = lanes.find(data, options, warm, keep)
    if solved is None:
        whole, kept, left = None, None, list(range(data.batch))
    else:
        whole, kept = solved
        left = _unproved(whole, kept.proved, options, rejected)
        if not left:
            return whole, _Systems(data, kept, {})
    found = hard.decided(data, options, left, find(data, options, rejected, warm, left))
    solution = _solution(data, found, options)
    if whole is not None:
        places = torch.tensor(left, device="cpu")
        solution = mapped(lambda all_, some: all_.index_copy(0, places, some), whole, solution)
    return solution, _Systems(data, kept, {i: (one.item, one.held) for i, one in zip(left, found, strict=True)})


def _unproved(solution: QPSolution, proved: Tensor, options: Options, rejected: Tensor | None) -> list[int]:
    """The items that are left; in ``proved`` they lose their proof if they had one."""
    if options.eps_abs is not None:
        proved &= (solution.residuals.absolute <= options.eps_abs).all(1)
    if rejected is not None:
        proved &= rejected == 0
    left: list[int] = (~proved).nonzero().squeeze(1).tolist()
    return left


class _Systems:
    """The kept systems of a batch: factors of what the compiled programs solved, others by item; None for those that failed."""

    def __init__(self, data: SparseData, kept: lanes.Kept | None, items: dict[int, tuple[Item, Held | None]]) -> None:
        self.data, self.kept, self.items = data, kept, items

    def solve(self, r: Sequence[Tensor], k: int) -> tuple[Tensor, ...]:
        """u = K^-1 r for every item, zero where there is none."""
        r_x, r_y, r_z, r_bound = r
        if self.kept is None:
            u_x, u_y, u_z, u_bound = (torch.zeros_like(part) for part in r)
            singular = set()
        else:
            (u_x, u_y, u_z, u_bound), lost = lanes.derive(self.data, self.kept, r)
            singular = set(lost.nonzero().squeeze(1).tolist())
        left = [*(i for i, (_, held) in self.items.items() if held is not None), *singular]
        if not left:
            return u_x, u_y, u_z, u_bound
        w = torch.cat([r_y, r_z], 1).numpy()

        def one(place: int) -> None:
            i = left[place]
            u = self._one(i, i in singular, r_x[i].numpy(), w[i], r_bound[i].numpy())
            for out, found in zip((u_x, u_y, u_z, u_bound), (u[0], u[1][:k], u[1][k:], u[2]), strict=True):
                out[i] = torch.from_numpy(found)

        in_threads(one, len(left))
        return u_x, u_y, u_z, u_bound

    def _one(self, i: int, singular: bool, *r: Floats) -> tuple[Floats, Floats, Floats]:
        """(u_x, u_w, u_bound) of one item."""
        held = None
        if not singular or not hard.small(self.data):
            item, held = self.items.get(i) or self._again(i)
            assert held is not None
            with np.errstate(all="ignore"):
                *u, settled = linear_solve(item, held, *r)
            if settled or not hard.small(self.data):
                return u[0], u[1], u[2]
        return hard.least_norm(self.data, i, self._active(i) if held is None else held.active, *r)

    def _again(self, i: int) -> tuple[Item, Held]:
        """The system of an item that the compiled programs solved."""
        item = finite_item(self.data, i)
        return item, held_of(item, self._active(i))

    def _active(self, i: int) -> Active:
        assert self.kept is not None
        active = self.kept.active
        rows = np.concatenate([np.ones(self.data.structure.k, dtype=bool), active.rows[i].numpy()])
        return Active(rows, active.lb[i].numpy(), active.ub[i].numpy())


class KKTSolve(Function):
    """(Q, G, A, r_x, r_y, r_z, r_w) -> (u_x, u_y, u_z, u_w); zero for items that failed."""

    @staticmethod
    def forward(ctx: Any, systems: _Systems, structure: Structure, *tensors: Tensor) -> tuple[Tensor, ...]:
        u = systems.solve([part.detach() for part in tensors[3:]], structure.k)
        ctx.systems, ctx.structure = systems, structure
        ctx.save_for_backward(*tensors[:3], *u)
        return u

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        Q, G, A, u_x, u_y, u_z, _ = ctx.saved_tensors
        s = ctx.structure
        l_x, l_y, l_z, l_w = KKTSolve.apply(ctx.systems, s, Q, G, A, *grads)
        needs = ctx.needs_input_grad[2:]
        dQ = _of_Q(s, Q, l_x, u_x) if needs[0] else None
        dG = _of_rows(s.G, G, l_z, u_x, u_z, l_x) if needs[1] else None
        dA = _of_rows(s.A, A, l_y, u_x, u_y, l_x) if needs[2] else None
        return None, None, dQ, dG, dA, l_x, l_y, l_z, l_w


def _of_Q(s: Structure, Q: Tensor, u: Tensor, x: Tensor) -> Tensor:
    rows, cols = torch.from_numpy(s.Q.rows), torch.from_numpy(s.Q.cols)
    both = u[:, rows] * x[:, cols] + x[:, rows] * u[:, cols]
    half = torch.where(rows == cols, -0.5, -1.0).to(both.dtype)
    return summed_like(Q, both * half)


def _of_rows(where: Pattern, block: Tensor, l_w: Tensor, x: Tensor, w: Tensor, l_x: Tensor) -> Tensor:
    rows, cols = torch.from_numpy(where.rows), torch.from_numpy(where.cols)
    return summed_like(block, -(l_w[:, rows] * x[:, cols] + w[:, rows] * l_x[:, cols]))


def _columns(rows: Any, cols: Any, values: Tensor, w: Tensor, n: int) -> Tensor:
    """M'w for values on a pattern."""
    terms = values * w[:, torch.from_numpy(rows)]
    return w.new_zeros(w.shape[0], n).index_add(1, torch.from_numpy(cols), terms)


def _solution(data: SparseData, found: list[Found], options: Options) -> QPSolution:
    n, m, k = data.sizes

    def stacked(parts: list[Any], width: int, dtype: Any = np.float64) -> Tensor:
        return torch.from_numpy(np.stack(parts) if parts else np.zeros((0, width), dtype=dtype))

    x, w, z_lb, z_ub = (
        stacked([getattr(one.point, name) for one in found], width)
        for name, width in (("x", n), ("w", k + m), ("z_lb", n), ("z_ub", n))
    )
    status = torch.tensor([int(one.status) for one in found], dtype=torch.int8, device="cpu")
    accepted = [Status.SOLVED, *([Status.SOLVED_INACCURATE] if options.accept == "inaccurate" else [])]
    ok = torch.tensor([one.status in accepted for one in found], dtype=torch.bool, device="cpu")
    iterations = torch.tensor([one.iterations for one in found], dtype=torch.int32, device="cpu")
    residuals = Residuals(stacked([one.scaled for one in found], 4), stacked([one.absolute for one in found], 4))
    active = ActiveSet(*(stacked([one.active[i] for one in found], width, bool) for i, width in enumerate((m, n, n))))

    def ray(name: str, width: int) -> Tensor:
        rays: list[Floats | None] = [getattr(one.ray, name) for one in found]
        return stacked([np.zeros(width) if part is None else part for part in rays], width)

    ray_w = ray("w", k + m)
    rays = Ray(ray("x", n), ray_w[:, :k], ray_w[:, k:], ray("z_lb", n), ray("z_ub", n))
    s = stacked([one.s for one in found], m)
    y, z = w[:, :k].contiguous(), w[:, k:].contiguous()
    return QPSolution(x, y, z, z_lb, z_ub, s, status, ok, iterations, residuals, active, rays)
