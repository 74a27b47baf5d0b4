"""The plan of a canonical problem: parameters -> derived parameters -> QPData, a short straight path fixed at compile time.

Plans are immutable and found by content: equal problems share one, and a copied or unpickled layer finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from ..canon.param_qp import Assumption, ParamQP
from ..canon.program import Functions
from ..dsl.sign import Attributes
from .alone import item as own
from .alone import joined
from .assemble import Assembly
from .checks import holds, plainly, verdict
from .constants import Constants
from .data import QPData
from .evaluate import Evaluator, batch_of
from .laps import Lap, untimed
from .sparse.assembly import SparseAssembly
from .sparse.data import SparseData
from .sparse.structure import Structure
from .status import Status


@dataclass(frozen=True)
class Built:
    """Problem data of one call, the constant term of the objective, every slot of the program, and a Status code per item."""

    data: QPData | SparseData
    constant: Tensor
    slots: list[Tensor]
    rejected: Tensor | None  # None: nothing was declared; 0: nothing against the item


class Plan:
    """Everything about a ParamQP that does not change between calls."""

    def __init__(self, qp: ParamQP) -> None:
        self.qp = qp
        self._constants = Constants()
        self._evaluator = Evaluator(qp.program, self._constants)
        self._declared = [item for item in qp.inputs if item.attributes.declared]
        self._bound = {i.name: self._constants.add(i.default.array[None]) for i in qp.bound if i.default is not None}
        self._defaults = {i.name: self._constants.add(i.default.array[None]) for i in qp.inputs if i.default is not None}

    @cached_property
    def _dense(self) -> tuple[Constants, Assembly]:
        constants = Constants()
        return constants, Assembly(self.qp, constants)

    @cached_property
    def _sparse(self) -> tuple[Constants, SparseAssembly]:
        constants = Constants()
        return constants, SparseAssembly(self.qp, constants)

    @property
    def structure(self) -> Structure:
        """The patterns that the sparse engine works on."""
        return self._sparse[1].structure

    def build(
        self,
        inputs: Mapping[str, Tensor],
        functions: Functions,
        like: Tensor,
        precision: torch.dtype,
        sparse: bool = False,
        lap: Lap = untimed,
        alone: bool = False,
    ) -> Built:
        """Run the plan. ``inputs``: one tensor per parameter, with one leading axis of size B, or 1 where shared.

        ``like`` has the device and the solve dtype; ``precision`` is the dtype that the values came in. ``sparse``: matrices as
        values on their patterns. ``lap``: a clock. ``alone``: for one item after the other.
        """
        if alone and not sparse:
            return self._one_by_one(inputs, functions, like, precision, lap)
        held = self._constants.on(like.device, like.dtype)
        slots = self._evaluator.run(inputs, functions, held)
        lap("derived parameters")
        constants, assembly = self._sparse if sparse else self._dense
        data, constant = assembly.data(slots, constants.on(like.device, like.dtype))
        rejected = None
        for _, value, attributes in self.facts(inputs, slots) if self._declared or self.qp.checks else ():
            value = value.detach()
            if plainly(value, attributes, precision):
                continue
            code = verdict(value, attributes, precision)
            rejected = code if rejected is None else torch.maximum(rejected, code)
        for fact in self.qp.assumptions:
            code = int(Status.INVALID_INPUT) * (~self._holds(fact, slots, precision)).to(torch.int8)
            rejected = code if rejected is None else torch.maximum(rejected, code)
        lap("assemble")
        return Built(data, constant, slots, rejected)

    def _one_by_one(
        self, inputs: Mapping[str, Tensor], functions: Functions, like: Tensor, precision: torch.dtype, lap: Lap
    ) -> Built:
        items = [{name: own(tensor, i) for name, tensor in inputs.items()} for i in range(max(1, batch_of(inputs.values())))]
        parts = [self.build(part, functions, like, precision) for part in items]
        if any(part.rejected is not None for part in parts):
            none = torch.zeros(1, dtype=torch.int8)
            parts = [replace(part, rejected=none if part.rejected is None else part.rejected) for part in parts]
        whole: Built = joined(parts)
        lap("assemble")
        return whole

    def completed(self, inputs: dict[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """The inputs, and the declared value of parameters that are not among them."""
        absent = {name: index for name, index in self._defaults.items() if name not in inputs} if self._defaults else None
        if not absent:
            return inputs
        held = self._constants.on(like.device, like.dtype)
        return {**inputs, **{name: held[index] for name, index in absent.items()}}

    def bound(self, like: Tensor) -> dict[str, Tensor]:
        """Parameters that are constants, for expressions that speak of them."""
        if not self._bound:
            return {}
        held = self._constants.on(like.device, like.dtype)
        return {name: held[index] for name, index in self._bound.items()}

    def _holds(self, fact: Assumption, slots: list[Tensor], precision: torch.dtype) -> Tensor:
        left, right = slots[fact.left].detach(), slots[fact.right].detach()
        return holds(left, right, fact.op, None if fact.active is None else slots[fact.active].detach(), precision)

    def blame(self, inputs: Mapping[str, Tensor], built: Built, index: int, precision: torch.dtype) -> list[str]:
        """What is wrong with the inputs of one item, for an error message."""

        def item(value: Tensor) -> Tensor:
            return value[min(index, value.shape[0] - 1)].unsqueeze(0)

        found = []
        for name, value in inputs.items():
            if not bool(torch.isfinite(item(value)).all()):
                found.append(f"parameter {name} is {'NaN' if bool(item(value).isnan().any()) else 'infinite'}")
        for text, value, attributes in self.facts(inputs, built.slots):
            if bool(verdict(item(value), attributes, precision)):
                found.append(f"{text} is not {' and '.join(attributes.declared)}")
        for fact in self.qp.assumptions:
            kept = bool(self._holds(fact, [item(slot) for slot in built.slots], precision))
            found += [] if kept else [f"constraint {fact.name!r}, which no variable can satisfy, does not hold: {fact.text}"]
        for slot, step in enumerate(self.qp.program.steps):
            arguments = [bool(torch.isfinite(item(built.slots[argument])).all()) for argument in step.args]
            if step.args and all(arguments) and not bool(torch.isfinite(item(built.slots[slot])).all()):
                found.append(f"{self.qp.program.text(slot)} is not finite")
        return found

    def facts(self, inputs: Mapping[str, Tensor], slots: list[Tensor]) -> list[tuple[str, Tensor, Attributes]]:
        """What was declared of values: in words, the value, and the attributes."""
        facts = [(f"parameter {item.name}", inputs[item.name], item.attributes) for item in self._declared]
        return facts + [(check.text, slots[check.slot], check.attributes) for check in self.qp.checks]


@lru_cache(maxsize=256)
def plan_of(qp: ParamQP) -> Plan:
    """The plan of a problem, made once per content."""
    return Plan(qp)
