"""Everything ships: the list of packages is the tree, the links lead home, the wheel holds the package."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from house.tree import FOLDERS, ROOT, project, sources


def declared() -> dict[str, Path]:
    """Folder of each package in pyproject.toml."""
    table = project()["tool"]["setuptools"]
    return {name: ROOT / table["package-dir"][name] for name in table["packages"]}


def shipped() -> dict[str, Path]:
    """Every module that must reach the user: its place in the wheel, its file here."""
    return {
        f"{package.replace('.', '/')}/{path.name}": path
        for package, folder in declared().items()
        for path in sources(folder)
        if path.parent == folder
    }


def test_every_package_in_the_tree_is_declared_and_the_reverse() -> None:
    roots = {"karush": ROOT / "src" / "karush", **{f"karush.{name}": ROOT / name for name in FOLDERS}}
    present = {
        ".".join((name, *path.parent.relative_to(root).parts)): path.parent
        for name, root in roots.items()
        for path in sources(root)
    }
    assert declared() == present


def test_every_package_has_an_init() -> None:
    assert [name for name, folder in declared().items() if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_links_are_relative_and_lead_to_the_root_folders(folder: str) -> None:
    link = ROOT / "src" / "karush" / folder
    assert link.is_symlink()
    assert os.readlink(link) == f"../../{folder}"
    assert link.resolve() == ROOT / folder


def test_the_version_is_stated_once() -> None:
    assert importlib.metadata.version("karush") == project()["project"]["version"]


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "copy"  # building leaves traces, which must not lie in the checkout
    for relative in ("pyproject.toml", "README.md", "LICENSE"):
        target = copy / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / relative).read_bytes())
    for source in shipped().values():
        target = copy / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    (copy / "src" / "karush" / "py.typed").touch()
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(tmp_path),
        ".",
    ]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        licence = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert inside == {*shipped(), "karush/py.typed"}
    assert licence
