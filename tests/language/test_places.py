"""Where the source is: a script, a console, a notebook, a zipped package, text given to exec, code without any source."""

from __future__ import annotations

import importlib
import linecache
import py_compile
import subprocess
import sys
import textwrap
import time
import timeit
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import karush as kr
from karush.dsl import expression as built
from karush.dsl import span as span_module
from karush.dsl.span import Span, here

MODEL = """\
import karush as kr

def build():
    x = kr.Variable(3, name="x")
    p = kr.Parameter(3, name="p")
    return kr.Problem(kr.Minimize(p @ kr.abs(x)))
"""
SHOWN = """\
a coefficient of unknown sign  [D02]
  --> {file}:6
5 | p = kr.Parameter(3, name="p")
  |     ------------------------- p is declared without a sign
6 | return kr.Problem(kr.Minimize(p @ kr.abs(x)))
  |                               ^^^^^^^^^^^^^ kr.abs(x) is convex, the sign of p is unknown
"""


def said(build: Any) -> str:
    with pytest.raises(kr.KarushError) as caught:
        build()
    return str(caught.value)


def run(*command: str, given: str = "", cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-q", *command], input=given, capture_output=True, text=True, cwd=cwd, timeout=120)
    return done.stderr


def test_a_plain_script(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(f"{MODEL}\nbuild()\n", encoding="utf-8")
    told = run("model.py", cwd=tmp_path)
    assert f"karush.DCPError: {SHOWN.format(file='model.py')}" in told
    assert "During handling" not in told
    assert "direct cause" not in told


def test_python_c_shows_its_own_text(tmp_path: Path) -> None:
    told = run("-c", f"{MODEL}\nbuild()\n", cwd=tmp_path)
    assert SHOWN.format(file="<string>") in told


def test_text_for_exec_is_not_mistaken_for_python_c(tmp_path: Path) -> None:
    told = run(
        "-c", "import karush as kr\nx = kr.Variable(3, name='x')\nexec('''\n\n\n\nkr.square(x) @ x\nx + [1, 2]''')", cwd=tmp_path
    )
    assert "[S01]\n  --> <string>:6\n  | x has shape (3,), const(2,) has shape (2,)\n" in told.replace("[1, 2]", "const(2,)")


def test_the_console_without_source_prints_the_expression(tmp_path: Path) -> None:
    told = run("-i", given=f"{MODEL}\nbuild()\n", cwd=tmp_path)
    if sys.version_info >= (3, 13):
        assert "^^^^^^^^^^^^^ kr.abs(x) is convex" in told
    else:
        assert "  --> <stdin>:4\n  | p @ kr.abs(x)\n  | ^^^^^^^^^^^^^ kr.abs(x) is convex, the sign of p is unknown\n" in told
    assert 'mend  declare the sign: p = kr.Parameter(3, name="p", nonneg=True)' in told


@pytest.mark.parametrize(
    ("file", "name"),
    [("<ipython-input-3-0a1b2c>", "In [3]"), (f"{Path(__file__).anchor}x/ipykernel_77/123.py", "this notebook")],
)
def test_cells_of_a_notebook(file: str, name: str) -> None:
    scope: dict[str, Any] = {"__name__": "__main__"}
    lines = MODEL.splitlines(keepends=True)
    linecache.cache[file] = len(MODEL), None, lines, file  # as IPython registers a cell
    exec(compile(MODEL, file, "exec"), scope)
    assert said(scope["build"]).startswith(SHOWN.format(file=name))


def test_a_cell_in_ipython_itself() -> None:
    shell: Any = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    result = shell.run_cell(f"{MODEL}\nbuild()")
    assert "^^^^^^^^^^^^^ kr.abs(x) is convex" in str(result.error_in_exec)


def test_a_zipped_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "lib.zip", "w") as archive:
        archive.writestr("zipped_model.py", MODEL)
    monkeypatch.syspath_prepend(str(tmp_path / "lib.zip"))
    module = importlib.import_module("zipped_model")
    try:
        assert said(module.build).startswith(SHOWN.format(file="zipped_model.py"))
    finally:
        del sys.modules["zipped_model"]


def test_compiled_code_without_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "bare_model.py"
    source.write_text(MODEL, encoding="utf-8")
    py_compile.compile(str(source), cfile=str(tmp_path / "bare_model.pyc"), doraise=True)
    source.unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("bare_model")
    try:
        assert said(module.build).startswith(
            "a coefficient of unknown sign  [D02]\n  --> bare_model.py:6\n"
            "  | p @ kr.abs(x)\n  | ^^^^^^^^^^^^^ kr.abs(x) is convex, the sign of p is unknown\n"
        )
    finally:
        del sys.modules["bare_model"]


def test_text_that_no_file_holds() -> None:
    scope: dict[str, Any] = {}
    exec(compile(MODEL, "<nowhere>", "exec"), scope)
    assert "  --> <nowhere>:6\n  | p @ kr.abs(x)\n  | ^^^^^^^^^^^^^ " in said(scope["build"])


def test_a_file_that_changed_since_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "changing_model.py"
    source.write_text(MODEL, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("changing_model")
    source.write_text("# a\n" * 5 + "x = 1\n", encoding="utf-8")
    try:
        assert "  --> changing_model.py:6\n  | p @ kr.abs(x)\n" in said(module.build)
    finally:
        del sys.modules["changing_model"]


# The shape of what is shown


def shown(source: str) -> str:
    """The message of a program, from its first source line to the reason."""
    file = "shape.py"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("import karush as kr; x, y = kr.Variable(3, name='x'), kr.Variable(2, name='y')", scope)
    message = said(lambda: exec(compile(source, file, "exec"), scope))
    return message.partition(f"{file}:")[2].partition("\n")[2].partition("\n  why")[0]


X, Y = kr.Variable(3, name="x"), kr.Variable(2, name="y")


def test_expressions_over_several_lines_are_underlined_line_by_line() -> None:
    source = """
        total = (
            x
            + y
        )
    """
    assert shown(textwrap.dedent(source)).splitlines() == [
        "3 | x",
        "  | ^",
        "4 | + y",
        "  | ^^^ x has shape (3,), y has shape (2,)",
    ]


def test_the_middle_of_a_long_expression_is_left_out() -> None:
    source = "kr.sum(\n" + "".join(f"    x[{i % 3}] +\n" for i in range(8)) + "    x[0],\n    axis=1,\n)"
    assert shown(source).splitlines() == [
        " 1 | kr.sum(",
        "   | ^^^^^^^",
        " 2 |     x[0] +",
        "   |     ^^^^^^",
        "   ...",
        "12 | )",
        "   | ^ a part has shape ()",
    ]


def test_wide_characters_and_tabs_keep_the_caret_in_its_column() -> None:
    assert shown("日本 = 'ｗ'; é = x + y").splitlines() == [
        "1 | 日本 = 'ｗ'; é = x + y",
        "  |                  ^^^^^ x has shape (3,), y has shape (2,)",
    ]
    assert shown("if 1:\n\tz =\t(x +\ty)").splitlines() == [
        "2 | z = (x +    y)",
        "  |      ^^^^^^^^ x has shape (3,), y has shape (2,)",
    ]
    assert shown("z = 'e\u0301' and x + y").splitlines()[1].index("^") == len("2 | z = 'e' and ")


def test_long_lines_are_cut_around_what_is_underlined() -> None:
    before = "a = 1; " * 30
    source, caret = shown(f"{before}z = x + y; {before}").splitlines()
    assert max(len(source), len(caret)) <= 100
    assert source[caret.index("^") : caret.rindex("^") + 1] == "x + y"
    assert source.startswith("1 | ... ")
    assert source.endswith(" ...")


def test_two_marks_on_one_line_share_it() -> None:
    source = 'q = kr.Parameter(name="q"); problem = kr.Problem(kr.Minimize(q * kr.norm1(x)))'
    line, far, label, near = shown(source).splitlines()
    assert "kr.Minimize(q * kr.norm1(x))" in line
    assert label.endswith("kr.norm1(x) is convex, the sign of q is unknown")
    assert far[line.index("q * kr")] == "^"
    assert near[line.index("kr.Parameter")] == "-"


def test_a_place_in_another_file_has_its_own_heading() -> None:
    file = "leaves.py"
    source = "import karush as kr\n\nq = kr.Parameter()\n"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    scope: dict[str, Any] = {}
    exec(compile(source, file, "exec"), scope)
    with pytest.raises(kr.DCPError) as caught:
        kr.Problem(kr.Minimize(scope["q"] * kr.norm1(X)))
    lines = str(caught.value).splitlines()
    assert lines[1].startswith("  --> test_places.py:")
    assert "  --> leaves.py:3" in lines
    assert "  3 | q = kr.Parameter()" in lines
    assert "  mend  declare the sign: q = kr.Parameter(nonneg=True)" in lines


def test_the_frames_of_libraries_in_between_are_not_the_users() -> None:
    from scipy.sparse import eye_array

    with pytest.raises(kr.KarushError) as caught:
        eye_array(2) @ X
    assert "  --> test_places.py:" in str(caught.value)
    layer = kr.compile(kr.Problem(kr.Minimize(kr.sum_squares(X))))
    with pytest.raises(kr.InputError) as given:
        layer(z=1)
    assert "layer(z=1)\n" in str(given.value)
    assert str(given.value).count("^") == len("z=1")


# What it costs


def test_a_span_is_captured_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(span_module, "_place", lambda code, instruction: asked.append(code))
    kr.Problem(kr.Minimize(kr.sum_squares(X + 1) + kr.norm1(X)), [X >= 0])
    assert asked == []
    said(lambda: X + Y)
    assert asked != []


def test_a_span_costs_little_beside_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """About a sixth of a node; the bound leaves room for a busy machine."""
    best = {"with": float("inf"), "without": float("inf")}
    for _ in range(20):  # in turns, so that both meet the same machine
        for name, capture in (("with", here), ("without", lambda: None)):
            monkeypatch.setattr(built, "here", capture)
            best[name] = min(best[name], timeit.timeit(lambda: X + X, timer=time.process_time, number=500))
    assert best["with"] < 2 * best["without"]


def test_pickled_places_need_no_code() -> None:
    import pickle

    span: Span | None = here()
    assert span is not None
    again = pickle.loads(pickle.dumps(span))
    assert again.resolve() == span.resolve()
    assert again.resolve().text == "here()"


def test_modules_that_raise_when_looked_at_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Prickly(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

    monkeypatch.setitem(sys.modules, "prickly", Prickly("prickly"))
    scope: dict[str, Any] = {}
    exec(compile(MODEL, "gone.py", "exec"), scope)
    assert "  --> gone.py:6\n" in said(scope["build"])
