"""The repository as data: its root, its files, its packages, and who imports whom."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("dsl", "canon", "backends")  # an arrow may point to the left only


@cache
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def tracked() -> tuple[Path, ...]:
    """Files of the checkout that are not ignored; a link counts as itself, not as what it points to."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file() and not path.is_symlink()))


def sources(folder: Path) -> list[Path]:
    """Python files under a folder, without what links lead to."""
    return sorted(path for path in folder.rglob("*.py") if not any(part.is_symlink() for part in (path, *path.parents)))


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, and where it is written."""

    module: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def package_of(path: Path) -> str:
    """The package a file belongs to: that of its folder."""
    place = path.relative_to(ROOT)
    parts = place.parts[1:-1] if place.parts[0] == "src" else place.parts[:-1]
    return ".".join(("karush", *parts) if place.parts[0] in FOLDERS else parts)


def imports(path: Path, package: str) -> Iterator[Import]:
    """Every import of a file, also in functions and under TYPE_CHECKING; relative ones resolved in ``package``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, path, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for name in node.names:
                # `from .. import canon` and `from ..canon import ir` both name the package in their first three parts
                yield Import(f"{module}.{name.name}", path, node.lineno)
