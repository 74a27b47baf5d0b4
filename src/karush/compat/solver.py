"""karush's engine behind the original layer of cvxpylayers 1.2:  ``CvxpyLayer(..., solver=Solver())``.

cvxpylayers canonicalizes (DPP) and hands over, for each item, the nonzeros of a cone program in compressed columns:

    minimize 1/2 x'Px + q'x + c       P: its nonzeros, (B, nnz);  q and c side by side, (B, n + 1)
    subject to  A x + b in K          A and b side by side, (B, nnz), column by column;  K: zeros, then nonnegatives

which for linear constraints is a QP with G = -A, h = b in the rows of the nonnegative cone and -A x = b in those of the zero cone;
duals keep their signs. Structures do not change after the layer is built, so dense blocks are filled by one scatter.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..backends.solve_qp import solve_qp
from ..dsl.diagnostics import DefinitionError, definition_error
from .options import read


class Structure(NamedTuple):
    """Flat places of the nonzeros in the dense matrices, and the sizes."""

    P: Tensor | None
    A: Tensor
    n: int
    zeros: int
    rows: int


class Solver:
    """A ``SolverInterface`` for the torch layer of cvxpylayers: quadratic programs are solved and differentiated by karush.

    ``Solver(eps=..., on_failure=...)``: options of every call; ``solver_args`` of a call come on top, read as in ``CvxpyLayer``.
    One Solver serves one layer, because it learns the structure of its problem. Raises DefinitionError where cvxpylayers is not
    installed, where the problem has cones that are not linear, and where a second layer wants the same Solver.
    """

    canon_solver = "CLARABEL"
    canon_solver_name = "CLARABEL"
    supports_quad_obj = True
    is_parametric = False

    def __init__(self, **options: Any) -> None:
        try:
            from cvxpylayers.interfaces.base import SolverInterface  # optional: whoever plugs into it has it
        except ImportError as missing:
            why = f"cvxpylayers with its solver interface cannot be imported ({missing})"
            raise definition_error("X02", "Solver() needs cvxpylayers", why, "pip install 'cvxpylayers>=1.2'") from None
        SolverInterface.register(Solver)  # the interface asks for an instance; nothing of its code is needed
        self._options = read(options)
        self._structure: Structure | None = None

    def setup(self, ctx: Any) -> None:
        """Called by the layer once it has canonicalized its problem."""
        if self._structure is not None:
            raise _refused("a second layer", "a Solver learns the structure of one problem", "give every layer its own Solver()")
        dims = ctx.cone_dims
        cones = [name for name in ("exp", "soc", "psd", "p3d", "pnd") if np.any(np.asarray(getattr(dims, name, 0)) > 0)]
        if cones:
            why = f"canonicalized, it has cones of kind {', '.join(cones)}"
            raise _refused("a problem that is no quadratic program", why, "write norms squared, or keep the default solver")
        indices, starts, (rows, columns) = ctx.reduced_A.problem_data_index
        n = int(columns) - 1
        at = torch.from_numpy(_flat(indices, starts, int(columns)))
        quadratic = ctx.reduced_P.problem_data_index if ctx.reduced_P.reduced_mat is not None else None
        P = None if quadratic is None else torch.from_numpy(_flat(quadratic[0], quadratic[1], n))
        self._structure = Structure(P, at, n, int(dims.zero), int(rows))

    def set_params(self, params: list[Any]) -> None:
        """Not needed: canonical data are what this solver works with."""

    def solve_torch_batch(
        self, P: Tensor | None, q: Tensor, A: Tensor, dims: Any, solver_args: dict[str, Any], needs_grad: bool
    ) -> tuple[Tensor, Tensor, Any]:
        """Solutions (B, n), multipliers (B, zeros then nonnegatives), and what ``derivative_torch_batch`` needs."""
        given = (None if P is None else _leaf(P, needs_grad), _leaf(q, needs_grad), _leaf(A, needs_grad))
        with torch.set_grad_enabled(needs_grad):
            x, duals = self._solve(*given, {**self._options, **read(solver_args)})
        return x.detach(), duals.detach(), (x, duals, given) if needs_grad else None

    def derivative_torch_batch(self, dprimal: Tensor, ddual: Tensor, saved_state: Any) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients with respect to P, q and A as they were handed over; that of P is None where there is none."""
        x, duals, given = saved_state
        wanted = [tensor for tensor in given if tensor is not None]
        found = torch.autograd.grad((x, duals), wanted, (dprimal, ddual), retain_graph=True, materialize_grads=True)
        return (None, *found) if given[0] is None else tuple(found)  # type: ignore[return-value]  # two or three by the same test

    def _solve(self, P: Tensor | None, q: Tensor, A: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self._structure is None:
            raise _refused("a solve", "the layer has not called setup yet", "pass it as solver= to cvxpylayers' CvxpyLayer")
        at_P, at_A, n, zeros, rows = self._structure
        batch = q.shape[0]
        Q = q.new_zeros(batch, n * n)
        if P is not None and at_P is not None:
            Q = Q.index_copy(1, at_P.to(q.device), P.to(q.dtype))
        M = q.new_zeros(batch, rows * (n + 1)).index_copy(1, at_A.to(q.device), A.to(q.dtype)).reshape(batch, rows, n + 1)
        A_x, b = -M[..., :n], M[..., n]
        solution = solve_qp(Q.reshape(batch, n, n), q[:, :n], A_x[:, zeros:], b[:, zeros:], A_x[:, :zeros], b[:, :zeros], **options)
        return solution.x, torch.cat([solution.y, solution.z], 1)


def _leaf(tensor: Tensor, needs_grad: bool) -> Tensor:
    return tensor.detach().requires_grad_(needs_grad)


def _flat(indices: Any, starts: Any, columns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Places in row-major order of nonzeros that are listed column by column."""
    counts = np.diff(np.asarray(starts))
    return np.asarray(indices, dtype=np.int64) * columns + np.repeat(np.arange(columns), counts)


def _refused(what: str, why: str, mend: str) -> DefinitionError:
    return definition_error("X05", f"Solver cannot take {what}", why, mend)
