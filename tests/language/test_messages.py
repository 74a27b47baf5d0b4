"""Messages as text: every code has a golden message and a program on the page of errors, and nothing speaks without a code.

``--update-golden`` writes both anew from what karush says now; the difference is to be reviewed as text.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import karush as kr
import messages
from karush.dsl import usage
from karush.dsl.codes import CODES

ROOT = Path(__file__).resolve().parents[2]
FOUND = messages.examples()
CODE = re.compile(r"[A-Z]\d\d")
INTERNAL = re.compile(r"karush\.\w+\.|<class|Operation|_Leaf|MismatchError|Builder|ParamQP|object at 0x|const\(|broadcast_to\(")


@pytest.mark.parametrize("index", range(len(FOUND)), ids=[example.code for example in FOUND])
def test_the_message_is_golden(index: int, request: pytest.FixtureRequest) -> None:
    said = f"{messages.told(FOUND[index].program)}\n"
    file = messages.golden(index, FOUND)
    if request.config.getoption("--update-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


def test_the_page_is_made_of_the_table(request: pytest.FixtureRequest) -> None:
    written = messages.PAGE.read_text(encoding="utf-8")
    made = messages.page(written)
    if request.config.getoption("--update-golden"):
        messages.PAGE.write_text(made, encoding="utf-8")
        written = made
    assert made == written


def test_every_code_has_a_program_and_a_golden_message() -> None:
    files = {messages.golden(index, FOUND) for index in range(len(FOUND))}
    assert {example.code for example in FOUND} == set(CODES)
    assert files == set(messages.GOLDEN.iterdir())


def test_every_code_in_the_sources_is_in_the_table() -> None:
    spoken: dict[str, list[str]] = {}
    for folder in ("dsl", "canon", "backends", "src/karush"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name != "codes.py":
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
                        spoken.setdefault(node.value, []).append(file.name)
    assert spoken.keys() - CODES.keys() == set(), spoken
    assert CODES.keys() - spoken.keys() == set()


@pytest.mark.parametrize("example", FOUND, ids=[example.code for example in FOUND])
def test_the_message_answers_four_questions(example: messages.Example) -> None:
    error = messages.told(example.program)
    assert example.code in [finding.code for finding in error.diagnostics]
    lines = str(error).splitlines()
    assert re.fullmatch(rf".*\S  \[{example.code}\]", lines[0])
    assert lines[1].startswith("  --> model.py:")
    assert any(re.fullmatch(r" *\| +\^+.*", line) for line in lines)
    assert sum(line.startswith("  why   ") for line in lines) == len(error.diagnostics)
    assert sum(line.startswith("  mend  ") for line in lines) == len(error.diagnostics)
    assert max(map(len, lines)) <= 100
    assert all(line == line.rstrip() for line in lines)
    assert not INTERNAL.search(str(error))


@pytest.mark.parametrize("example", FOUND, ids=[example.code for example in FOUND])
def test_one_message_and_no_chain(example: messages.Example) -> None:
    error = messages.told(example.program)
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


WAYS = {"definition_error": 3, "usage_error": 3, "shape_error": 2, "input_error": 3, "Diagnostic": 6, "MismatchError": 1}


def test_every_place_that_complains_says_how_to_mend_it() -> None:
    silent = []
    for folder in ("dsl", "canon", "backends", "src/karush/compat"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
                if name in WAYS and isinstance(node, ast.Call) and not any(isinstance(given, ast.Starred) for given in node.args):
                    mend = node.args[WAYS[name]] if len(node.args) > WAYS[name] else None
                    if mend is None or (isinstance(mend, ast.Constant) and not mend.value):
                        silent.append(f"{file.name}:{node.lineno}")
    assert silent == []


def test_every_rewrite_exists() -> None:
    """What messages offer by name is there to be used."""
    offered = set()
    for folder in ("dsl", "canon", "backends"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.name != "codes.py":
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        offered |= set(re.findall(r"\bkr\.([A-Za-z_]\w*)", node.value))
    offered |= {*usage.SAME.split(), *usage.OTHER.values(), *usage.BUILTINS, *usage.BUILTINS.values()}
    assert {name for name in offered if not hasattr(kr, name)} == set()
