"""How long each stage of a call takes, with the caller's own inputs, and what would make it faster.

A clock is carried through the call and told where a stage ends; in calls that nobody measures it does nothing. What is said of a
call is what was seen in it: the shapes, dtypes and devices that came, and times that were taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..canon.param_qp import ParamQP
from ..canon.structure import patterns
from ..dsl.render import listed
from .cpu.engine import LARGEST
from .inputs import Bound
from .laps import Lap
from .options import Options
from .sparse.choose import asked

STAGES = ("check inputs", "derived parameters", "assemble", "solve", "solution", "backward")
PATIENCE_S, LEAST, MOST = 0.5, 3, 15  # seconds for the calls that are timed, and their number
TOGETHER = 32  # items that a single one is compared with
TIPS = 3


@dataclass(frozen=True)
class StageTime:
    """The median time of a stage, in milliseconds, and its share of the whole."""

    stage: str
    ms: float
    share: float


@dataclass(frozen=True)
class Tip:
    """Something that would make this call cheaper: what was seen, and what to do."""

    title: str
    text: str


@dataclass(frozen=True)
class Measured:
    """Stages of a call in their order, in a line of words what was called, and tips, at most three."""

    stages: tuple[StageTime, ...]
    what: str
    tips: tuple[Tip, ...]


@dataclass(frozen=True)
class Call:
    """What a layer lets be measured.

    ``forward``: a call for inputs by name with a clock, to the tensors that it returns. ``bound``: the inputs as they are checked.
    """

    forward: Callable[[Mapping[str, Any], Lap], Sequence[Tensor]]
    bound: Bound
    given: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    qp: ParamQP
    options: Options
    training: bool


def measure(call: Call) -> Measured:
    """Time a call. Backward is that of the sum of all outputs, into the inputs that require grad, if any do, else into all."""
    size = _size(call.bound)
    times = _timed(call, call.given)
    total = sum(times.values())
    stages = tuple(StageTime(stage, times[stage], times[stage] / total if total else 0.0) for stage in STAGES if stage in times)
    items = f"{size} item{'' if size == 1 else 's'}"
    into = listed(_leaves(call)[0]) or "nothing"
    like = call.bound.like
    what = (
        f"{items}, solved in {_name(like.dtype)} on {like.device.type}, {torch.get_num_threads()} threads; backward into {into}; "
        f"{total:.3g} ms in all"
    )
    tips = [tip for tip in _tips(call, size, times) if tip is not None]
    return Measured(stages, what, tuple(tips[:TIPS]))


def _leaves(call: Call) -> tuple[list[str], dict[str, Any]]:
    """Names of what backward goes into, weights last; and the inputs, those that require grad as leaves of their own."""
    every = {name: torch.tensor(value) if isinstance(value, np.ndarray) else value for name, value in call.given.items()}
    tensors = {name: value for name, value in every.items() if isinstance(value, Tensor) and value.is_floating_point()}
    asked = [name for name, value in tensors.items() if value.requires_grad]
    weights = [name for name, value in call.weights.items() if value.requires_grad]
    names = asked or ([] if weights else list(tensors))
    leaves = {name: value.detach().requires_grad_(name in names) for name, value in tensors.items()}
    return [*names, *weights], {**call.given, **leaves}


def _timed(call: Call, given: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds of every stage: the medians of a few calls."""
    names, inputs = _leaves(Call(call.forward, call.bound, given, call.weights, call.qp, call.options, call.training))
    wanted = [call.weights[name] if name in call.weights else inputs[name] for name in names]
    runs: list[dict[str, float]] = []
    with torch.enable_grad():
        start = time.perf_counter()
        while len(runs) < LEAST + 1 or (len(runs) <= MOST and time.perf_counter() - start < PATIENCE_S):
            clock = _Clock(call.bound.like.device)
            outputs = [output for output in call.forward(inputs, clock.lap) if output.requires_grad]
            if outputs and wanted:
                torch.autograd.grad([output.sum() for output in outputs], wanted, allow_unused=True)
                clock.lap("backward")
            runs.append(clock.laps)
    return {stage: 1e3 * median(run[stage] for run in runs[1:]) for stage in STAGES if stage in runs[-1]}


class _Clock:
    """Seconds by stage; a stage that comes twice adds up."""

    def __init__(self, device: torch.device) -> None:
        self.laps: dict[str, float] = {}
        self._device = device
        self._last = self._now()

    def lap(self, stage: str) -> None:
        now = self._now()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


# Tips, those that save most first


def _tips(call: Call, size: int, times: Mapping[str, float]) -> Iterator[Tip | None]:
    yield _repeated(call)
    yield _unchanging(call, size)
    yield _engine(call)
    yield _deployed(call)
    yield _single(call, size, times)
    yield _converted(call)


def _repeated(call: Call) -> Tip | None:
    """Inputs of which every item is the same memory."""
    tensors = {name: value for name, value in call.given.items() if isinstance(value, Tensor)}
    batched = {name: value for name, value in tensors.items() if value.dim() >= call.bound.tensors[name].dim()}
    names = [name for name, value in batched.items() if value.shape[0] > 1 and not value.stride(0)]
    if not names:
        return None
    text = f"One item, expanded to a batch: {listed(names)}. Without the batch, what it makes is worked out once for all items."
    return Tip("Pass what is shared without a batch.", text)


def _unchanging(call: Call, size: int) -> Tip | None:
    """Matrices that only depend on inputs which are shared and have no gradient."""
    shared = {
        name
        for name, value in call.given.items()
        if call.bound.tensors[name].shape[0] == 1 and not (isinstance(value, Tensor) and value.requires_grad)
    }
    if size == 1 or not shared:
        return None
    by = {letter: {name for name, part in pattern.by.items() if part.nnz} for letter, pattern in patterns(call.qp).items()}
    letters = [letter for letter in ("Q", "G", "A") if by.get(letter) and by[letter] <= shared]
    if not letters:
        return None
    names = sorted(set().union(*(by[letter] for letter in letters)))
    values = ", ".join(f"{name}=..." for name in names)
    text = (
        f"What {listed(letters)} depend{'s' if len(letters) == 1 else ''} on, {listed(names)}, is shared by all items of this "
        f"call, without a gradient. If the values stay, layer.bind({values}) computes {'it' if len(letters) == 1 else 'them'} once."
    )
    return Tip("Bind what does not change.", text)


def _engine(call: Call) -> Tip | None:
    """Why the torch engine serves this, where the compiled one would be faster."""
    like, n = call.bound.like, call.qp.n
    if asked(call.qp, call.options, like, math.prod(call.bound.batch)):
        return None
    if call.options.smoothing:
        why = "smoothing is its own: without it the compiled engine is asked"
    elif call.options.backend == "torch":
        why = 'backend="torch" asks for it: with "auto" the compiled engine goes first on a CPU'
    elif like.device.type != "cpu":
        why = f"the inputs are on {like.device.type}: small batches may be faster on the CPU, where solves are compiled"
    elif n > LARGEST:
        why = f"n = {n} is more than {LARGEST}, beyond which its blocked factorizations win"
    else:
        return None
    if n > LARGEST and call.options.backend == "torch":
        return None
    return Tip("The torch engine serves this.", f"It does so because {why}.")


def _deployed(call: Call) -> Tip | None:
    weights = list(call.weights)
    trained = call.training and torch.is_grad_enabled() and any(value.requires_grad for value in call.weights.values())
    if not weights or trained:
        return None
    text = f"Nothing is trained here, and every call makes coefficients of {listed(weights)} anew: layer.bind() does it once."
    return Tip("Bind the weights for deployment.", text)


def _single(call: Call, size: int, times: Mapping[str, float]) -> Tip | None:
    """What several items cost beside one, measured."""
    if size != 1 or not call.given:
        return None
    several = {name: value.detach().expand(TOGETHER, *value.shape[1:]) for name, value in call.bound.tensors.items()}
    ratio = sum(_timed(call, several).values()) / sum(times.values())
    if ratio > TOGETHER / 2:
        return None
    share = times["solve"] / sum(times.values())
    text = (
        f"The solve is {100 * share:.0f} % of this call. {TOGETHER} such items in one batch take {ratio:.1f} times as long as one: "
        "collect them, if they need not be solved one after the other."
    )
    return Tip("A batch of one.", text)


def _converted(call: Call) -> Tip | None:
    inner = call.bound.like.dtype
    tensors = {name: value for name, value in call.given.items() if isinstance(value, Tensor) and value.is_floating_point()}
    names = [name for name, value in tensors.items() if value.dtype != inner]
    if not names:
        return None
    came = " and ".join(dict.fromkeys(_name(call.given[name].dtype) for name in names))
    text = f"{listed(names)}: {came}, made {_name(inner)} in every call, and the results back. Pass {_name(inner)} if you have it."
    return Tip("Inputs are converted.", text)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _size(bound: Bound) -> int:
    size = 1
    for length in bound.batch:
        size *= length
    return size
