"""The first seconds of a process, each measured in a process of its own: import, the first solve of a size, memory.

    import        of karush where torch is imported already, and of each peer likewise
    first solve   of problems (n, m, k), 128 of them, forward and backward, where the process has solved others before: *cold* makes
                  the code of this number of variables, *warm* finds it on the disk. *later* is the median of a few calls of the
                  same size after it: so much of the first is the solve itself
    memory        the most that the process held (on Linux), after importing torch, then karush, and then after the first solve

`python -m benchmarks.cold_start`
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.timing import shown

PROCESSES = 3
SIZES = ((10, 20, 5), (37, 40, 7), (100, 100, 20))
PEERS = ("karush", "qpth.qp", "cvxpylayers.torch", "moreau.torch", "proxsuite.torch.qplayer", "qpax")

IMPORT = """
import json, sys, time, torch
start = time.perf_counter()
__import__(sys.argv[1])
print(json.dumps({"seconds": time.perf_counter() - start}))
"""

FIRST = """
import json, sys, time, torch
from statistics import median
from benchmarks.timing import most_memory as used
memory = [used()]
import karush as kr
from benchmarks.random_qps import random_qps
memory.append(used())
n, m, k, batch = map(int, sys.argv[1:])
def solve(size, number):
    tensors = [tensor.requires_grad_() for tensor in random_qps(number, *size)]
    start = time.perf_counter()
    x = kr.solve_qp(*tensors).x
    middle = time.perf_counter()
    x.sum().backward()
    return 1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)
solve((3, 2, 1), batch)
first = solve((n, m, k), batch)
memory.append(used())
later = [median(part) for part in zip(*(solve((n, m, k), batch) for _ in range(5)))]
print(json.dumps({"forward": first[0], "backward": first[1], "later": later[0], "later back": later[1], "memory": memory}))
"""


def fresh(program: str, *arguments: object, cache: str | None = None) -> Any:
    """What a process of its own prints last, as JSON."""
    environment = {**os.environ, **({} if cache is None else {"KARUSH_CACHE": cache})}
    command = [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(found.stdout.splitlines()[-1])


def imports() -> None:
    print(f"\nimport where torch is imported already, milliseconds (quartiles) of {PROCESSES} processes")
    for name in PEERS:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            print(f"  {name:<26}not installed")
            continue
        fresh(IMPORT, name)  # the files are in the memory of the system from here on
        print(f"  {name:<26}{shown([1e3 * fresh(IMPORT, name)['seconds'] for _ in range(PROCESSES)], 0):>20}", flush=True)


def solves(batch: int) -> None:
    print(f"\nthe first solve of a size, batch {batch}, milliseconds (quartiles) of {PROCESSES} processes; memory in MiB")
    heads = f"{'forward':>21}{'later':>17}{'backward':>21}{'later':>17}{'torch':>8}{'+ karush':>9}{'at most':>9}"
    print(f"  {'(n, m, k)':<16}{'code':<6}{heads}")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            cold = []
            for i in range(PROCESSES):
                own = os.path.join(folder, str(i))
                os.mkdir(own)
                cold.append(fresh(FIRST, *size, batch, cache=own))
            warm = [fresh(FIRST, *size, batch, cache=os.path.join(folder, "0")) for _ in range(PROCESSES)]
        for kind, runs in (("cold", cold), ("warm", warm)):
            widths = {"forward": 21, "later": 17, "backward": 21, "later back": 17}
            columns = "".join(f"{shown([run[part] for run in runs], 1):>{width}}" for part, width in widths.items())
            memory = [max(run["memory"][i] for run in runs) for i in range(3)]
            print(f"  {size!s:<16}{kind:<6}{columns}{memory[0]:8.0f}{memory[1]:9.0f}{memory[2]:9.0f}", flush=True)


def main() -> None:
    imports()
    solves(128)


if __name__ == "__main__":
    main()
