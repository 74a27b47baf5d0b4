"""Constants of a plan: float64 NumPy at home, one copy per device and dtype on demand.

They are never buffers of a module (``.half()`` or ``to_empty()`` would destroy them). The copies are the only thing that a compiled
layer ever writes, behind a lock.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Constants:
    """Arrays by number. Integer arrays stay integer; the others take the dtype that is asked for."""

    def __init__(self) -> None:
        self._arrays: list[NDArray[Any]] = []
        self._copies: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        self._lock = threading.Lock()

    def add(self, array: NDArray[Any]) -> int:
        """Register an array while the plan is being made; its number."""
        self._arrays.append(np.ascontiguousarray(array))
        return len(self._arrays) - 1

    def on(self, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        """All arrays on ``device``, made once."""
        found = self._copies.get((device, dtype))
        if found is None:
            # Tensors made under inference mode could never be saved for a backward pass later on.
            with self._lock, torch.inference_mode(False):
                found = [self._tensor(array, device, dtype) for array in self._arrays]
                self._copies[device, dtype] = found
        return found

    @staticmethod
    def _tensor(array: NDArray[Any], device: torch.device, dtype: torch.dtype) -> Tensor:
        wanted = torch.int64 if array.dtype.kind in "iu" else dtype
        return torch.tensor(array, device=device, dtype=wanted)
