"""A drop-in for qpth:  ``from karush.compat.qpth import QPFunction, QPSolvers``.

Signature, shapes and order of arguments are qpth's. What is different on purpose stands in the documentation (coming from qpth):
gradients of shared arguments are sums, failure is told per item, Q may be only semidefinite where that is not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import torch
from torch import Tensor

from ..backends.failure import InputError, input_error
from ..backends.options import EPS
from ..backends.solve_qp import solve_qp
from ..dsl.diagnostics import Diagnostic
from ..dsl.span import here


class QPSolvers(Enum):
    """qpth's two solvers; both names mean the one engine of karush."""

    PDIPM_BATCHED = 1
    CVXPY = 2


class NotPositiveDefiniteError(InputError, RuntimeError):
    """Q is not positive definite, and ``check_Q_spd`` asked for it. A RuntimeError too, which is what qpth raises."""


@dataclass(frozen=True)
class QPFunction:
    """A batch of quadratic programs:  minimize 1/2 z'Qz + p'z  subject to  Gz <= h,  Az = b.

    ``QPFunction(...)(Q, p, G, h, A, b)`` takes each argument with one leading batch dimension or without, an empty tensor for what
    is absent, and returns z of shape (B, n), (1, n) where nothing has a batch. An ``eps`` looser than the accuracy of karush is
    followed; ``verbose``, ``notImprovedLim`` and ``maxIter`` are accepted and not needed: the iteration ends by itself, and what it
    could not solve is told. ``on_failure``, karush's own: "raise" a SolveError, "return" the best iterate or "nan", with zero
    gradient.

    Raises InputError (a ValueError) for shapes that do not fit, NotPositiveDefiniteError if ``check_Q_spd`` finds such an item.
    """

    eps: float = 1e-12
    verbose: int = 0
    notImprovedLim: int = 3  # noqa: N815  # qpth's name
    maxIter: int = 20  # noqa: N815  # qpth's name
    solver: QPSolvers = QPSolvers.PDIPM_BATCHED
    check_Q_spd: bool = True  # noqa: N815  # qpth's name
    on_failure: Literal["raise", "return", "nan"] = "raise"

    def __call__(self, Q: Tensor, p: Tensor, G: Tensor, h: Tensor, A: Tensor, b: Tensor) -> Tensor:
        given = {"Q": (Q, 2), "p": (p, 1), "G": (G, 2), "h": (h, 1), "A": (A, 2), "b": (b, 1)}
        kept = {name: _batched(name, tensor, rank) for name, (tensor, rank) in given.items() if _present(name, tensor)}
        sizes = {name: tensor.shape[0] for name, (tensor, rank) in given.items() if name in kept and tensor.dim() == rank + 1}
        if len(set(sizes.values())) > 1:
            title = f"arguments have different batch sizes: {', '.join(f'{name} {size}' for name, size in sizes.items())}"
            why = "what is batched has one and the same batch size"
            raise input_error("I06", title, why, "pass without a batch dimension what all items share")
        if self.check_Q_spd:
            _check_definite(kept["Q"])
        eps = self.eps if self.eps > EPS[torch.float64] else None
        blocks = [kept.get(name) for name in ("G", "h", "A", "b")]
        return solve_qp(kept["Q"], kept["p"], *blocks, eps=eps, on_failure=self.on_failure).x


def _present(name: str, tensor: object) -> bool:
    """Whether an argument is there: qpth writes an empty tensor for what is not."""
    if not isinstance(tensor, Tensor):
        title = f"argument {name}: expected a tensor, got {type(tensor).__name__}; torch.Tensor() stands for an absent one"
        raise input_error("I09", title, "QPFunction takes its six arguments by position", "write torch.Tensor() for what is absent")
    return name in ("Q", "p") or tensor.numel() > 0 or tensor.dim() > 1


def _batched(name: str, tensor: Tensor, rank: int) -> Tensor:
    if tensor.dim() not in (rank, rank + 1):
        title = f"argument {name}: expected {rank} or {rank + 1} dimensions, got shape {tuple(tensor.shape)}"
        raise input_error("I05", title, "each argument has one batch dimension or none", "kr.solve_qp takes any number of them")
    return tensor if tensor.dim() > rank else tensor.unsqueeze(0)


def _check_definite(Q: Tensor) -> None:
    symmetric = (Q + Q.mT).detach() / 2
    bad = torch.linalg.cholesky_ex(symmetric).info.nonzero().flatten().tolist()
    if bad:
        title = f"argument Q: expected positive definite matrices, got another at batch index {', '.join(map(str, bad[:10]))}"
        why, mend = "check_Q_spd=True asks for it, as in qpth", "pass check_Q_spd=False: karush solves semidefinite problems, too"
        raise NotPositiveDefiniteError(Diagnostic("I17", title, here(), "", "called here", why, mend))
