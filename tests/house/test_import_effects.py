"""Importing karush defines names, and does nothing else; each check runs in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROBE = """
import json, random, sys, warnings
import numpy as np
import torch

def state():
    return [str(torch.get_default_dtype()), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
            torch.is_grad_enabled(), len(warnings.filters), hash(random.getstate()),
            hash(np.random.get_state()[1].tobytes()), hash(torch.get_rng_state().numpy().tobytes()),
            torch.cuda.is_initialized()]

before = state()
import karush
print(json.dumps({"same": before == state(), "loaded": sorted({name.split(".")[0] for name in sys.modules})}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, object]:
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    answer: dict[str, object] = json.loads(run.stdout)
    return answer


def test_import_changes_no_global_state(told: dict[str, object]) -> None:
    assert told["same"]


@pytest.mark.parametrize("library", ["cvxpy", "clarabel", "matplotlib", "tqdm", "qpth", "hypothesis"])
def test_import_loads_no_optional_library(told: dict[str, object], library: str) -> None:
    loaded = told["loaded"]
    assert isinstance(loaded, list)
    assert library not in loaded
