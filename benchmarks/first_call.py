"""How long until a model is ready, and until its first answer: writing it and building its layer, and calling that once.

karush beside cvxpylayers, in one process where everything is imported and other models have run. The compiled engine keeps the
machine code of a size on the disk: *warm* finds it there, *cold* makes it anew at the first call. Nothing else that a process would
remember is left between repetitions, which are interleaved. One thread, for a single item has no work for a second; and processor
time, which is the time that passes on an idle machine and leaves the neighbours out on a shared one.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.models import MODELS
from benchmarks.timing import shown
from karush.backends.cpu import engine, machine
from karush.backends.plan import plan_of
from karush.backends.sparse import choose, lanes, tables
from karush.canon.canonicalize import REMEMBERED

WARMING = ("lqr", "relu")
OURS = ("warm", "cold")


Stages = Iterator[None]  # what a contestant does: until the layer is ready, then until its first answer


def karush(name: str, cache: str) -> Stages:
    os.environ["KARUSH_CACHE"] = cache
    model = MODELS[name]
    layer = model.build()
    yield
    layer(**model.inputs)


def forget() -> None:
    """What karush remembers of earlier models, other than on the disk."""
    REMEMBERED.clear()
    plan_of.cache_clear()
    choose._counted.cache_clear()
    for made in (engine._solve, engine._derive, engine._work, lanes._work, tables.counted, tables.tables):
        made.cache_clear()
    machine._kernels.clear()


def cvxpylayers(solver: str | None) -> Callable[[str], Callable[[], Stages]]:
    """For each model, what writes it, builds the layer and calls it."""
    from cvxpylayers.torch import CvxpyLayer

    from benchmarks.cvxpy_models import STATEMENTS, values

    def ready(state: Callable[[], Any], given: list[Any]) -> Stages:
        problem, parameters, variables = state()
        layer = CvxpyLayer(problem, parameters=parameters, variables=variables, solver=solver)
        yield
        layer(*given)

    return lambda name: partial(ready, STATEMENTS[name], values(name))


def contestants(folder: str) -> dict[str, Callable[[str], Callable[[], Stages]]]:
    """Ours first; peers that are absent are named and left out."""
    found: dict[str, Callable[[str], Callable[[], Stages]]] = {
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


def milliseconds(run: Callable[[], Stages]) -> tuple[float, float]:
    """Until the layer is ready, and until its first answer."""
    start = time.process_time()
    stages = run()
    next(stages)
    ready = time.process_time()
    next(stages, None)
    return 1e3 * (ready - start), 1e3 * (time.process_time() - start)


def main(repeats: int) -> None:
    warnings.filterwarnings("ignore", module="moreau")  # on which of its solvers it takes
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        several = contestants(folder)
        for name in (*WARMING, *MODELS):
            for make in several.values():
                forget()
                list(make(name)())
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for name in tqdm(MODELS, "models", leave=False):
            runs = {who: make(name) for who, make in several.items()}
            # What compiles for half a second leaves no cache as it was: it has rounds of its own.
            found[name] = {who: [] for who in runs}
            for who in ("cold", *("" for _ in range(repeats))):
                for other, run in runs.items():
                    if (other == "cold") == (who == "cold"):
                        forget()
                        found[name][other].append(milliseconds(run))
    for stage, title in enumerate(("until the layer is ready", "until its first answer")):
        print(
            f"\n{title}, one item, median (quartiles) of {repeats}: milliseconds, and how many times faster karush is, kernels warm"
        )
        listed = [who for who in several if stage or who != "cold"]
        print(f"{'':<14}{''.join(f'{who:>26}' + (9 * ' ' if who not in OURS else '') for who in listed)}")
        for name, times in found.items():
            print(f"{name:<14}{''.join(_column(who, stage, times) for who in listed)}")


def _column(who: str, stage: int, times: dict[str, list[tuple[float, float]]]) -> str:
    own = [run[stage] for run in times[who]]
    written = f"{shown(own):>26}"
    if who in OURS:
        return written
    return written + f"{median(peer / run[stage] for peer, run in zip(own, times['warm'], strict=True)):8.2f}x"


if __name__ == "__main__":
    main(9)
