"""Facts about the text of the repository: what must be in a file, and what must be in none."""

from __future__ import annotations

import re
import subprocess
import warnings
from pathlib import Path

import pytest

from house.tree import ROOT, project, tracked

LONGEST = 450  # lines of a source file: one idea a file

# Written in pieces, so that this file does not find itself.
FORBIDDEN = {
    "an absolute path of somebody's machine": r"(?<![\w.~-])/(?:" + "|".join(("work", "home", "root", "Users", "tmp")) + r")/\w",
    "a package registry's host": "|".join((r"pypi\.o" + "rg", "pythonho" + "sted", r"download\.pyt" + "orch")),
    "a note to do it later": r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b",
    "a number of the tracker": r"\bissue" + r" #?\d",
    "an ignore without its code": r"#\s*(?:type:\s*ig" + r"nore(?!\[)|no" + r"qa(?!:))",
    "an ignore without its reason": r"#\s*(?:type:\s*ig" + r"nore\[[^\]]*\]\s*$|no" + r"qa:[\s\w,]*$)",
}


def text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    places = []
    for path in tracked():
        content = text(path)
        places += [f"{path.relative_to(ROOT)}:{content.count(chr(10), 0, hit.start()) + 1}" for hit in pattern.finditer(content)]
    assert places == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_pattern_finds(what: str) -> None:
    planted = {
        "an absolute path of somebody's machine": "open('/ho" + "me/someone/data')",
        "a package registry's host": "https://py" + "pi.org/simple",
        "a note to do it later": "# TO" + "DO: later",
        "a number of the tracker": "see iss" + "ue 7",
        "an ignore without its code": "x = 1  # type: ig" + "nore",
        "an ignore without its reason": "x = 1  # type: ig" + "nore[misc]",
    }
    assert re.search(FORBIDDEN[what], planted[what], re.MULTILINE)


def test_no_source_file_is_long() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(text(path).splitlines()) for path in tracked() if path.suffix == ".py"}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [p.relative_to(ROOT).as_posix() for p in tracked() if p.suffix == ".py" and not text(p).startswith(('"""', 'r"""'))]
    assert silent == []


def test_the_changelog_is_open_for_the_next_change() -> None:
    headings = re.findall(r"^## (.+)$", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_the_citation_names_this_version() -> None:
    assert f"version: {project()['project']['version']}\n" in text(ROOT / "CITATION.cff")


def test_the_constraints_pin_every_direct_dependency() -> None:
    table = project()["project"]
    wanted = [*table["dependencies"], *(entry for extra in table["optional-dependencies"].values() for entry in extra)]
    names = {re.split(r"[^\w-]", entry)[0].lower() for entry in wanted}
    files = ROOT / "constraints.txt", ROOT / "benchmarks" / "constraints.txt"
    pinned = {line.split("==")[0].lower() for file in files for line in text(file).splitlines() if "==" in line}
    assert names - pinned == set()


def test_make_lists_its_targets() -> None:
    try:
        told = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("make is not installed")
    listed = {line.split()[1] for line in told.splitlines() if line.startswith("make ")}
    assert {"demo", "test", "check", "bench", "docs"} <= listed


def test_the_readme_names_the_two_commands() -> None:
    readme = text(ROOT / "README.md")
    assert "make demo" in readme
    assert "make test" in readme


def test_warnings_are_errors_here() -> None:
    with pytest.raises(UserWarning):
        warnings.warn("a test that warns must fail", UserWarning, stacklevel=1)
