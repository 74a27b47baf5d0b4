"""The page of errors: for every code a program that meets it, and what karush says. Read here, run here, compared by the tests."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import NamedTuple

import karush as kr
from karush.dsl.codes import CODES, FAMILIES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
GOLDEN = Path(__file__).resolve().parent / "language" / "golden"
SECTION = re.compile(r"^### ([A-Z]\d\d): .*?$(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
BLOCKS = re.compile(r"```python\n(.*?)```\n+```text\n(.*?)```", re.DOTALL)

HEAD = """# Errors

Every error says what is wrong, where, why, and how to mend it: likeliest first, and in your own names. All violations of a problem
come in one exception, whose `diagnostics` holds them one by one; each has a `code`. Codes are stable. `KarushError` is the base of
all errors; `ModelError` (with `ShapeError`, `UsageError`, `DefinitionError`, `DCPError`) is about what was written, `InputError`
about what was passed in, `SolveError` about how a solve ended.

Each program below is run by the tests, and says exactly what stands under it.
"""


class Example(NamedTuple):
    """A program, as a file ``model.py``, and its message."""

    code: str
    program: str
    message: str


def examples(text: str | None = None) -> list[Example]:
    """The programs of the page, several for some codes."""
    text = PAGE.read_text(encoding="utf-8") if text is None else text
    return [
        Example(code, program, message.rstrip("\n"))
        for code, body in SECTION.findall(text)
        for program, message in BLOCKS.findall(body)
    ]


def told(program: str, file: str = "model.py") -> kr.KarushError:
    """The error that a program ends in."""
    linecache.cache[file] = len(program), None, program.splitlines(keepends=True), file
    try:
        exec(compile(program, file, "exec"), {"__name__": "__main__"})
    except kr.KarushError as error:
        return error
    raise AssertionError(f"no error came:\n{program}")


def page(text: str) -> str:
    """The page anew: its programs with what they say now, under the titles and rules of the table."""
    found = examples(text)
    lines = [HEAD]
    for letter, family in FAMILIES.items():
        codes = [code for code in CODES if code[0] == letter]
        lines += [f"## {family}\n", "| code | what | for example |\n|---|---|---|"]
        lines += [f"| [{code}](#{anchor(code)}) | {CODES[code].title} | `{CODES[code].wrong}` |" for code in codes]
        lines.append("")
        for code in codes:
            lines.append(f"### {code}: {CODES[code].title}\n\n{CODES[code].rule}\n")
            lines += [f"```python\n{one.program}```\n\n```text\n{told(one.program)}\n```\n" for one in found if one.code == code]
    return "\n".join(lines)


def anchor(code: str) -> str:
    """Where the page speaks of a code: the heading as the renderer turns it into an anchor."""
    kept = re.sub(r"[^\w\s-]", "", f"{code}: {CODES[code].title}".lower())
    return re.sub(r"\s", "-", kept)


def golden(index: int, found: list[Example]) -> Path:
    """The file of an example: its code, and a number where the code has several."""
    code = found[index].code
    before = sum(one.code == code for one in found[:index])
    return GOLDEN / f"{code}{f'-{before + 1}' if before else ''}.txt"
