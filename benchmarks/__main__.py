"""`python -m benchmarks`: every benchmark of this folder, or those that are named, such as `python -m benchmarks real overhead`."""

import sys

from benchmarks import (
    archive,
    batches,
    cold_start,
    first_call,
    killers,
    language,
    layers,
    overhead,
    plans,
    qp_vs_peers,
    real,
    sizes,
    sparse,
    verdicts,
)

EVERY = {
    "qp_vs_peers": qp_vs_peers.main,
    "batches": batches.main,
    "real": real.main,
    "layers": layers.main,
    "killers": killers.main,
    "archive": archive.main,
    "verdicts": verdicts.main,
    "language": lambda: language.main(15),
    "overhead": overhead.main,
    "plans": plans.main,
    "first_call": lambda: first_call.main(9),
    "cold_start": cold_start.main,
    "sizes": sizes.main,
    "sparse": sparse.main,
}

if __name__ == "__main__":
    named = sys.argv[1:]
    sys.argv[1:] = []  # the rest of it is nobody's
    unknown = [name for name in named if name not in EVERY]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; there are {', '.join(EVERY)}")
    for name in named or EVERY:
        print(f"\n== {name}", flush=True)
        EVERY[name]()
