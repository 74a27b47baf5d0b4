"""The checkers bite: a bug planted in a copy of the sources is reported. One that reads nothing reports nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from house.tree import FOLDERS, ROOT

BUG = '\n\ndef planted(x: int) -> str:\n    """Returns what it should not."""\n    return x\n'


def copy_of_the_sources(target: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", target)
    (target / "tests").mkdir()
    shutil.copytree(ROOT / "src", target / "src", symlinks=True, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.slow
def test_the_type_checker_reads_every_root_folder(tmp_path: Path) -> None:
    copy_of_the_sources(tmp_path)
    for folder in FOLDERS:
        with (tmp_path / folder / "__init__.py").open("a") as file:
            file.write(BUG)
    # What torch's own types say is not at stake here, and reading them takes a minute.
    command = [sys.executable, "-m", "mypy", "--follow-imports=skip", "--cache-dir=cache", "src/karush"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    for folder in FOLDERS:
        bite = rf"^src/karush/{folder}/__init__\.py:\d+: error: Incompatible return value type"
        assert re.search(bite, told, re.MULTILINE), told


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_linter_refuses_a_root_folder_by_its_own_name(folder: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "planted.py").write_text(f'"""A second copy of every class."""\n\nimport {folder} as used\n\nprint(used)\n')
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "planted.py"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert "TID251" in told
