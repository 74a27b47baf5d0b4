"""`python -m karush` says what a bug report needs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args, get_type_hints

import numpy as np
import torch

import karush as kr
from house.tree import project


def test_the_command_reports_versions_devices_and_engines() -> None:
    run = subprocess.run([sys.executable, "-m", "karush"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    told = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert told["karush"] == project()["project"]["version"]
    assert told["torch"].startswith(torch.__version__)
    assert told["numpy"] == np.__version__
    assert re.fullmatch(r"cpu \(\d+ lanes\), sparse, torch", told["engines"])
    asked = {name for name in get_args(get_type_hints(kr.solve_qp)["backend"]) if name != "auto"}
    assert set(re.findall("[a-z]+", told["engines"])) - {"lanes"} == asked
    assert told["cache"].endswith("MiB") or told["cache"] == "off"
    assert "cpu" in told["devices"]
