"""Tensors for the tests of drop-ins, and the comparison of derivatives with differences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

T = torch.float64


def randn(*shape: int, grad: bool = True, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 31 * sum(shape))
    return torch.randn(*shape, dtype=T, generator=generator).requires_grad_(grad)


def gradcheck(function: Any, *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)
