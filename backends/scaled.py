"""The problem in the units of ``equilibrate``, laid out for the iteration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import kkt
from .kkt import rowmat
from .residuals import Floors
from .screen import Clean


@dataclass(frozen=True)
class Scaled:
    """An equilibrated problem, W = [A; G]; Wt is W' laid out by rows, for products from either side. Vectors are rows, (·, 1, n).

    ``coefficients``: for each kind of bound, -1 (lower) or 1 (upper), 0 where absent. ``cost`` is (p, -b, -h), so that the
    duality gap is x'Qx + p'x - cost'(0,y,z). ``floor``: least normalisers of the residuals (r_x, r_y, r_z), and of the gap.
    ``unit`` (B,1,1): size of the objective, which regularisation is relative to; ``curvature`` (B,1,1): that of Q alone, or
    ``unit`` where Q is zero; ``theta`` (B,1,1): ratio of multipliers to slacks to be expected.
    """

    Q: Tensor
    W: Tensor
    Wt: Tensor
    coefficients: tuple[Tensor, ...]
    cost: Tensor
    floor: Tensor
    gap_floor: Tensor
    unit: Tensor
    curvature: Tensor
    theta: Tensor
    k: int

    @property
    def n(self) -> int:
        return self.Q.shape[2]

    @property
    def inequalities(self) -> int:
        """M: rows of G and bounds."""
        return self.cost.shape[2] - self.n - self.k

    def rows(self, x: Tensor) -> Tensor:
        """(Ax, Cx)."""
        Wx = rowmat(x, self.Wt)
        return torch.cat([Wx, *(e * x for e in self.coefficients)], 2) if self.coefficients else Wx

    def columns(self, w: Tensor) -> Tensor:
        """A'y + C'z for w = (y, z)."""
        if not self.coefficients:
            return rowmat(w, self.W)
        own, *bounds = w.split([self.W.shape[1], *(self.n for _ in self.coefficients)], 2)
        result = rowmat(own, self.W)
        for e, z in zip(self.coefficients, bounds, strict=True):
            result = torch.addcmul(result, e, z)
        return result

    @property
    def rho(self) -> Tensor:
        """Regularisation on the diagonal, (B,1,1)."""
        return kkt.rho(self.n, self.k > 0, self.Q.dtype) * self.unit

    def bound_weights(self, D: Tensor) -> Tensor:
        """What bounds add to the diagonal of Q + W'DW."""
        first = self.W.shape[1]
        total = torch.zeros_like(D[:, :, :1])
        for i, e in enumerate(self.coefficients):
            total = torch.addcmul(total, D[:, :, first + i * self.n : first + (i + 1) * self.n], e.abs())
        return total


def scale(clean: Clean, floors: Floors, d: Tensor, e: Tensor, *, careful: bool = False) -> Scaled:
    """The problem in the units of ``equilibrate``; a bound, whose row is a unit vector, is scaled to stay one.

    ``careful``: x may be larger than the right-hand sides suggest.
    """
    B, n, k = clean.batch, clean.Q.shape[2], clean.k
    Q = (clean.Q * d.unsqueeze(2)).mul_(d.unsqueeze(1))
    W = (clean.W * e.unsqueeze(2)).mul_(d.unsqueeze(1))
    cost = [d * clean.p, -e * clean.rhs, *(-bound.rhs / d for bound in clean.bounds)]
    # Rows and variables without any data get a floor of 1: dividing 0 by 0 must not look like an error.
    rows = torch.where(floors.rows > 0, floors.rows, 1)
    least = [d * (floors.columns + clean.p.abs()), e * (rows + clean.rhs.abs())]
    least += [(1 + bound.rhs.abs()) / d for bound in clean.bounds]
    expanded = [[part.expand(B, -1) for part in parts] for parts in (cost, least)]
    coefficients = tuple(bound.coefficient.unsqueeze(1) for bound in clean.bounds)
    packed, floor = (torch.cat(part, 1).unsqueeze(1) for part in expanded)
    # Multipliers are of the size of p over that of x, and x is of the size of the right-hand sides. Where these are rounding, like
    # an equality with b = 1e-17, that is wrong by as much, and nothing is solved: the second guess is that x is of the size of p/Q.
    p_size, x_size, Q_size = size_of(packed[:, :, :n]), size_of(packed[:, :, n:]), size_of(Q, 0.0)
    if careful:
        x_size = torch.maximum(x_size, torch.where(Q_size > 0, p_size / Q_size, x_size))
    theta = p_size / x_size
    unit = torch.maximum(Q_size, theta)
    curvature = torch.where(Q_size > 0, Q_size, unit)
    return Scaled(Q, W, W.mT.contiguous(), coefficients, packed, floor, floors.objective.unsqueeze(2), unit, curvature, theta, k)


def size_of(v: Tensor, of_zero: float = 1.0) -> Tensor:
    """Largest entry of each item, ``of_zero`` if all are zero; (B, 1, 1)."""
    if not v.shape[1:].numel():
        return v.new_full((len(v), 1, 1), of_zero)
    largest = torch.linalg.vector_norm(v, ord=torch.inf, dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, largest, of_zero)
