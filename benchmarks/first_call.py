"""How long until a model is ready: from writing its first variable to the end of the first call, on one item.

karush beside cvxpylayers, in one process where everything is imported and other models have run. The compiled engine keeps the
machine code of a size on the disk: *warm* finds it there, *cold* makes it anew. Nothing else that a process would remember is
left between repetitions, which are interleaved. One thread, for a single item has no work for a second; and processor time, which
is the time that passes on an idle machine and leaves the neighbours out on a shared one.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch

from benchmarks.models import MODELS
from karush.backends.cpu import engine, machine
from karush.backends.plan import plan_of
from karush.backends.sparse import choose
from karush.canon.canonicalize import REMEMBERED

WARMING = ("lqr", "relu")
OURS = ("warm", "cold")


def karush(name: str, cache: str) -> None:
    os.environ["KARUSH_CACHE"] = cache
    model = MODELS[name]
    model.build()(**model.inputs)


def forget() -> None:
    """What karush remembers of earlier models, other than on the disk."""
    REMEMBERED.clear()
    plan_of.cache_clear()
    choose._counted.cache_clear()
    engine._work.cache_clear()
    machine._kernels.clear()


def cvxpylayers(solver: str | None) -> Callable[[str], Callable[[], None]]:
    """For each model, a function that writes it, builds the layer and calls it."""
    from cvxpylayers.torch import CvxpyLayer

    from benchmarks.cvxpy_models import STATEMENTS, values

    def ready(state: Callable[[], Any], given: list[Any]) -> None:
        problem, parameters, variables = state()
        CvxpyLayer(problem, parameters=parameters, variables=variables, solver=solver)(*given)

    return lambda name: partial(ready, STATEMENTS[name], values(name))


def contestants(folder: str) -> dict[str, Callable[[str], Callable[[], None]]]:
    """Ours first; peers that are absent are named and left out."""
    found: dict[str, Callable[[str], Callable[[], None]]] = {
        "warm": lambda name: partial(karush, name, folder),
        "cold": lambda name: partial(karush, name, "off"),
    }
    if not importlib.util.find_spec("cvxpylayers"):
        print("cvxpylayers is not installed, and left out")
        return found
    found["cvxpylayers"] = cvxpylayers(None)
    if importlib.util.find_spec("moreau"):
        found["with Moreau"] = cvxpylayers("MOREAU")
    else:
        print("moreau is not installed, and left out")
    return found


def milliseconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def main(repeats: int) -> None:
    warnings.filterwarnings("ignore", module="moreau")  # on which of its solvers it takes
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        several = contestants(folder)
        print(f"\nmodel to first call, one item, median of {repeats}: milliseconds, and how many times faster warm and cold are")
        heads = (f"{who:>14}" if who in OURS else f"{who:>14}   warm   cold" for who in several)
        print(f"{'':<14}{''.join(heads)}")
        for name in (*WARMING, *MODELS):
            runs = {who: make(name) for who, make in several.items()}
            for run in runs.values():
                forget()
                run()
        for name in MODELS:
            runs = {who: make(name) for who, make in several.items()}
            times: dict[str, list[float]] = {who: [] for who in runs}
            for _ in range(repeats):
                for who, run in runs.items():
                    forget()
                    times[who].append(milliseconds(run))
            print(f"{name:<14}{''.join(_columns(who, times) for who in runs)}", flush=True)


def _columns(who: str, times: dict[str, list[float]]) -> str:
    written = f"{median(times[who]):14.1f}"
    if who in OURS:
        return written
    for ours in OURS:
        written += f"{median(peer / own for peer, own in zip(times[who], times[ours], strict=True)):6.2f}x"
    return written


if __name__ == "__main__":
    main(7)
