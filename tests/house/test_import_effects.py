"""Importing karush defines names, and does nothing else beyond what its dependencies do; seen in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROBE = """
import json, random, sys, warnings
import numpy as np
import scipy.sparse
import torch
import torch.export

def state():
    return {
        "default dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "determinism": torch.are_deterministic_algorithms_enabled(),
        "gradient mode": torch.is_grad_enabled(),
        "warnings' filters": list(map(str, warnings.filters)),
        "random state": str(random.getstate()),
        "numpy's random state": str(np.random.get_state()[1].tolist()),
        "torch's random state": torch.get_rng_state().tolist(),
        "cuda": torch.cuda.is_initialized(),
    }

before, known = state(), set(sys.modules)
import karush
after, loaded = state(), set(sys.modules) - known
print(json.dumps({"changed": [name for name in after if after[name] != before[name]], "loaded": sorted(loaded)}))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, list[str]]:
    run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    answer: dict[str, list[str]] = json.loads(run.stdout)
    return answer


def test_import_changes_no_global_state(told: dict[str, list[str]]) -> None:
    assert told["changed"] == []


def test_import_loads_no_optional_library(told: dict[str, list[str]]) -> None:
    optional = {"cvxpy", "clarabel", "sympy", "matplotlib", "tqdm", "qpth", "hypothesis", "pytest"}
    assert optional & {name.split(".")[0] for name in told["loaded"]} == set()
    assert "karush.dsl" in told["loaded"]
