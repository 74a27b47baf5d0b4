"""The tests are tested: each listed mistake, made in a copy of the package, must make its test fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import karush as kr
from robustness.mutants import MUTANTS, Mutant

PACKAGE = Path(str(kr.__file__)).parent
TESTS = Path(__file__).resolve().parents[1]
PASSED, FAILED = 0, 1  # exit codes of pytest; all others mean that it did not get that far


def of(mutant: Mutant) -> str:
    return mutant.what


@pytest.mark.parametrize("mutant", MUTANTS, ids=of)
def test_the_table_is_up_to_date(mutant: Mutant) -> None:
    source = (PACKAGE / mutant.file).read_text()
    assert source.count(mutant.old) == 1, f"{mutant.file} has {mutant.old!r} {source.count(mutant.old)} times: mend the table"
    assert mutant.new != mutant.old
    path, _, name = mutant.test.partition("::")
    assert f"def {name}(" in (TESTS / path).read_text() or not name


def run(site: Path, test: str) -> subprocess.CompletedProcess[str]:
    """One test against the package in ``site``, in a process of its own."""
    probe = f"import karush, sys; sys.exit(not karush.__file__.startswith({str(site)!r}))"
    environment = os.environ | {"PYTHONPATH": str(site)}
    subprocess.run([sys.executable, "-P", "-c", probe], env=environment, check=True)
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(TESTS / test)]
    return subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, check=False, timeout=300)


def copied(folder: Path) -> Path:
    """The package in a folder of its own, links followed."""
    shutil.copytree(PACKAGE, folder / "karush", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@cache
def _holds(test: str, site: Path) -> bool:
    return run(site, test).returncode == PASSED


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("untouched"))


@pytest.mark.stress
@pytest.mark.parametrize("mutant", MUTANTS, ids=of)
def test_the_mistake_is_noticed(mutant: Mutant, tmp_path: Path, untouched: Path) -> None:
    assert _holds(mutant.test, untouched), f"{mutant.test} fails without any mistake"
    path = copied(tmp_path) / "karush" / mutant.file
    path.write_text(path.read_text().replace(mutant.old, mutant.new))
    found = run(tmp_path, mutant.test)
    assert found.returncode == FAILED, f"{mutant.test} did not notice: {mutant.what}\n{found.stdout[-2000:]}"
