"""Interleaved measurement: contestants take turns, so that whatever else the machine does falls on all alike. And memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import torch
from torch import Tensor

MANY = 5  # times the patience: then the first call has to do
FAST_MS = 50.0  # steps below which it shows what others have left in the caches
Outputs = Tensor | tuple[Tensor, ...]


def now() -> float:
    """Seconds: by one thread those of the processor, which pass on an idle machine and leave the neighbours out on a shared one."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def told() -> str:
    """What ``now`` tells, for the head of a table."""
    threads = torch.get_num_threads()
    return "one thread, processor time" if threads == 1 else f"{threads} threads"


class Step(NamedTuple):
    """Milliseconds of a forward and a backward pass."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        return self.forward + self.backward


def step(call: Callable[[], Outputs], gradients: bool = True) -> Step:
    """One forward pass, and one backward of the sum of all outputs."""
    start = now()
    found = call()
    middle = now()
    if gradients:
        several = found if isinstance(found, tuple) else (found,)
        torch.stack([part.sum() for part in several]).sum().backward()
    return Step(1e3 * (middle - start), 1e3 * (now() - middle) if gradients else 0.0)


def interleaved(
    calls: Mapping[str, Callable[[], Step]], repeats: int, patience_s: float, say: Callable[[str, Exception], None]
) -> dict[str, list[Step]]:
    """Steps of every contestant, after two to warm up. Who is slow goes fewer rounds, down to one; who raises is named, and left
    out. Who is fast goes each round twice, and the second time counts: a training loop does not call others in between.
    """
    steps: dict[str, list[Step]] = {}
    rounds: dict[str, int] = {}
    fast: set[str] = set()
    for name, call in calls.items():
        try:
            only = call()
            again = only if only.total > MANY * 1e3 * patience_s else call()
        except Exception as error:  # whatever a peer raises, the others go on
            say(name, error)
            continue
        rounds[name] = min(repeats, int(1e3 * patience_s / max(again.total, 1e-3)))
        steps[name] = [] if rounds[name] else [again]
        if again.total < FAST_MS:
            fast.add(name)
    for turn in range(repeats):
        for name, number in rounds.items():
            if turn < number:
                if name in fast:
                    calls[name]()
                steps[name].append(calls[name]())
    return steps


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return middle, low, high


def shown(values: list[float], digits: int = 2) -> str:
    """Median and quartiles, as tables have them."""
    middle, low, high = spread(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def ratio(others: list[float], own: list[float]) -> float:
    """How many times longer the others take: the median over rounds that both went."""
    return median(other / mine for other, mine in zip(others, own, strict=False))


def most_memory() -> float:
    """The most MiB that this program held, NaN but on Linux; getrusage begins with the memory of the process that started it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return math.nan
    return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
