"""Arrows point one way: dsl <- canon <- backends <- karush. The walk sees imports inside functions too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from house.tree import FOLDERS, ROOT, Import, imports, package_of, sources

ABOVE = {folder: FOLDERS[place + 1 :] for place, folder in enumerate(FOLDERS)}

# What each folder may know of the world beside the standard library: the language and the compiler are free of torch.
LIBRARIES = {"dsl": {"numpy"}, "canon": {"numpy", "scipy"}, "backends": {"numpy", "torch", "llvmlite"}}

# A front end or an exporter is the one file that knows the foreign library it speaks to.
EXCEPTIONS = {"backends/spy.py": {"matplotlib"}, "backends/oracle.py": {"clarabel", "scipy"}, "dsl/cvxpy_export.py": {"cvxpy"}}
EXCEPTIONS |= {f"backends/sparse/{part}.py": {"scipy"} for part in ("item", "symbolic")}
SYMPY = ("coefficients", "export", "import", "leaves", "matrices", "quadratic", "terms")
EXCEPTIONS |= {f"dsl/sympy_{part}.py": {"sympy"} for part in SYMPY}


def found(folder: str) -> list[Import]:
    files = sources(ROOT / folder)
    assert files, f"{folder}/ has no Python files"
    return [arrow for path in files for arrow in imports(path, package_of(path))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_import_points_up(folder: str) -> None:
    up = tuple(f"karush.{name}" for name in ABOVE[folder])
    assert [str(arrow) for arrow in found(folder) if arrow.module.startswith(up)] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_import_of_the_facade_from_below(folder: str) -> None:
    inside = tuple(f"karush.{name}" for name in FOLDERS)
    facade = [a for a in found(folder) if a.module.split(".")[0] == "karush" and not a.module.startswith(inside)]
    assert [str(arrow) for arrow in facade] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_only_the_libraries_of_the_folder(folder: str) -> None:
    foreign = []
    for arrow in found(folder):
        library = arrow.module.split(".")[0]
        name = arrow.path.relative_to(ROOT).as_posix()
        known = LIBRARIES[folder] | EXCEPTIONS.get(name, set()) | {"karush"} | set(sys.stdlib_module_names)
        if library not in known:
            foreign.append(str(arrow))
    assert foreign == []


def test_exceptions_name_files_that_exist() -> None:
    assert [name for name in EXCEPTIONS if not (ROOT / name).is_file()] == []


def test_nobody_imports_a_root_folder_by_its_own_name() -> None:
    wrong = [
        str(arrow)
        for name in (*FOLDERS, "src", "tests", "examples", "benchmarks", "docs")
        for path in sources(ROOT / name)
        for arrow in imports(path, package_of(path))
        if arrow.module.split(".")[0] in FOLDERS
    ]
    assert wrong == []


def test_the_walk_sees_an_arrow_that_points_up(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def f():\n    from ..canon import ir\n\n\nfrom .. import backends\n")
    assert [arrow.module for arrow in imports(planted, "karush.dsl")] == ["karush.backends", "karush.canon.ir"]
