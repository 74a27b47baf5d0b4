"""Every block of Python in the README and on the pages of the documentation runs, page by page, from top to bottom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import karush as kr
import messages

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Code, and the line of the page on which it begins."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)), found.group(1)) for found in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page) and page != messages.PAGE], ids=lambda page: page.name)
def test_the_page_runs(page: Path) -> None:
    names: dict[str, object] = {"__name__": page.stem}
    for line, code in blocks(page):
        # Blank lines in front: tracebacks, and karush's own errors, point into the page.
        exec(compile("\n" * line + code, page, "exec"), names)


@pytest.mark.parametrize("example", messages.examples(), ids=lambda example: example.code)
def test_the_program_says_what_the_page_of_errors_shows(example: messages.Example) -> None:
    assert str(messages.told(example.program)) == example.message


def test_the_readme_is_a_first_look() -> None:
    ((_, code),) = blocks(ROOT / "README.md")
    statements = [line for line in code.splitlines() if line.strip() and not line.startswith("import")]
    assert len(statements) <= 15


def test_the_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^\.\. auto\w+:: karush\.(\w+)(?:\(\))?$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    public = [name for name in vars(kr) if not name.startswith("_") and name not in ("dsl", "canon", "backends", "compat")]
    assert sorted(listed) == sorted(public)


def test_the_conventions_list_every_status() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d) \|", (ROOT / "docs" / "conventions.md").read_text(), re.MULTILINE)
    assert rows == [(status.name, str(status.value)) for status in kr.Status]


def test_the_conventions_list_every_gradient_flag() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", (ROOT / "docs" / "conventions.md").read_text(), re.MULTILINE)
    assert rows == [(flag.name, str(flag.value)) for flag in kr.GradientFlag]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
