"""The plan of a canonical problem: parameters -> derived parameters -> QPData, a short straight path fixed at compile time.

Plans are immutable and found by content: equal problems share one, and a copied or unpickled layer finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..canon.param_qp import ParamQP
from ..canon.program import Functions
from .assemble import Assembly
from .checks import violations
from .constants import Constants
from .data import QPData
from .evaluate import Evaluator
from .status import Status


@dataclass(frozen=True)
class Built:
    """Problem data of one call, the constant term of the objective, and a Status code per item (0: nothing against it)."""

    data: QPData
    constant: Tensor
    rejected: Tensor | None


class Plan:
    """Everything about a ParamQP that does not change between calls."""

    def __init__(self, qp: ParamQP) -> None:
        self.qp = qp
        self._constants = Constants()
        self._evaluator = Evaluator(qp.program, self._constants)
        self._assembly = Assembly(qp, self._constants)
        self._checked = [item for item in qp.inputs if item.attributes.declared]

    def build(self, inputs: Mapping[str, Tensor], functions: Functions, device: torch.device, dtype: torch.dtype) -> Built:
        """``inputs``: one tensor per declared parameter, with one leading axis of size B, or 1 where shared."""
        held = self._constants.on(device, dtype)
        slots = self._evaluator.run(inputs, functions, held)
        data, constant = self._assembly.data(slots, held)
        return Built(data, constant, self._rejected(inputs, slots))

    def _rejected(self, inputs: Mapping[str, Tensor], slots: list[Tensor]) -> Tensor | None:
        """Declared facts that do not hold: a sign makes an item INVALID_INPUT, definiteness NONCONVEX."""
        facts = [(inputs[item.name], item.attributes) for item in self._checked]
        facts += [(slots[check.slot], check.attributes) for check in self.qp.checks]
        codes = None
        for value, attributes in facts:
            code = Status.NONCONVEX if attributes.PSD or attributes.NSD else Status.INVALID_INPUT
            found = violations(value.detach(), attributes).to(torch.int8) * int(code)
            codes = found if codes is None else torch.maximum(codes, found)
        return codes

    def blame(self, inputs: Mapping[str, Tensor], functions: Functions, item: int) -> list[str]:
        """Names of what is wrong with the inputs of one item, for an error message."""
        found = []
        for name, value in inputs.items():
            if bool(torch.isnan(value[min(item, value.shape[0] - 1)]).any()):
                found.append(f"parameter {name} is NaN")
        device, dtype = next(((v.device, v.dtype) for v in inputs.values()), (torch.device("cpu"), torch.float64))
        slots = self._evaluator.run(inputs, functions, self._constants.on(device, dtype))
        facts = [(f"parameter {i.name}", inputs[i.name], i.attributes) for i in self._checked]
        facts += [(check.text, slots[check.slot], check.attributes) for check in self.qp.checks]
        for text, value, attributes in facts:
            if bool(violations(value[min(item, value.shape[0] - 1)].unsqueeze(0), attributes)):
                found.append(f"{text} is not {' and '.join(attributes.declared)}")
        return found


@lru_cache(maxsize=256)
def plan_of(qp: ParamQP) -> Plan:
    """The plan of a problem, made once per content."""
    return Plan(qp)
