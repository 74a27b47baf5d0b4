"""Everything a solve leaves behind, as the flat tuple of tensors that crosses autograd's border."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .data import Active, QPSolution, Ray, Residuals


class Found(NamedTuple):
    """First what has a derivative, then what has none."""

    x: Tensor
    y: Tensor
    z: Tensor
    z_lb: Tensor
    z_ub: Tensor
    s: Tensor
    # outcome
    status: Tensor
    iterations: Tensor
    scaled: Tensor
    absolute: Tensor
    rows: Tensor
    # certificates
    ray_x: Tensor
    ray_y: Tensor
    ray_z: Tensor
    ray_lb: Tensor
    ray_ub: Tensor
    # the factored KKT system
    U: Tensor
    scale: Tensor
    weight: Tensor
    unit: Tensor
    flat: Tensor
    lower: Tensor
    upper: Tensor
    ok: Tensor

    @property
    def detached(self) -> tuple[Tensor, ...]:
        return tuple(self[6:])

    @property
    def factor(self) -> tuple[Tensor, ...]:
        """The fields of ``Factor``, and which items it holds for."""
        return tuple(self[-8:])

    @property
    def solution(self) -> QPSolution:
        return QPSolution(
            self.x, self.y, self.z, self.z_lb, self.z_ub, self.s, self.status, self.ok, self.iterations,
            Residuals(self.scaled, self.absolute),
            Active(self.rows, self.lower, self.upper),
            Ray(self.ray_x, self.ray_y, self.ray_z, self.ray_lb, self.ray_ub),
        )  # fmt: skip
