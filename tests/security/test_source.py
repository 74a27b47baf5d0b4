"""What the package never does: run text, unpickle, import what it was given, open a connection, start a program.

The scan reads the syntax tree of every file that is shipped. What it allows is listed with its reason, and must still be there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import karush as kr

PACKAGE = Path(str(kr.__file__)).parent
FILES = [
    path
    for folder in ("", "compat", "dsl", "canon", "backends", "backends/cpu")
    for path in sorted((PACKAGE / folder).glob("*.py"))
]

CALLS = {
    "eval", "exec", "compile", "__import__", "import_module", "run_path", "run_module", "sympify", "parse_expr", "lambdify",
    "popen", "Popen", "spawnl", "spawnv", "execv", "execvp", "check_output", "startfile",
    "loads", "Unpickler", "urlopen", "urlretrieve", "create_connection", "CDLL", "LoadLibrary", "CodeType",
}  # fmt: skip
MODULES = {
    "pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "codeop", "runpy", "pty", "subprocess",
    "socket", "ssl", "http", "urllib", "ftplib", "smtplib", "telnetlib", "xmlrpc", "requests", "httpx", "aiohttp", "asyncio",
    "webbrowser", "logging",
}  # fmt: skip
# torch.load and np.load unpickle; ``loaded`` and the like are other names.
LOADERS = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("jit", "load"), ("os", "system"), ("os", "popen")}

ALLOWED = {
    ("dsl/diagnostics.py", "import_module"): "an optional package; its name stands in our own code at each call, which is tested",
    ("dsl/span.py", "compile"): "compared with the code of ``python -c``, to quote the user's line; never run",
    ("dsl/sympy_matrices.py", "sympify"): "a size of a matrix of sympy's own; never text",
    ("backends/problem.py", "compile"): "our own: kr.compile",
    ("compat/cvxpylayers.py", "compile"): "our own: kr.compile",
}


def found(path: Path) -> Iterator[tuple[str, int]]:
    """Forbidden names that a file calls or imports, and their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            target = node.func
            name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
            owner = target.value if isinstance(target, ast.Attribute) else None
            base = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            regular = base == "re" and name == "compile"
            strict = name == "sympify" and any(k.arg == "strict" and ast.unparse(k.value) == "True" for k in node.keywords)
            if (name in CALLS and not regular and not strict) or (base, name) in LOADERS:
                yield name, node.lineno
            if any(keyword.arg in ("shell", "allow_pickle") for keyword in node.keywords):
                yield "shell or allow_pickle", node.lineno
        elif isinstance(node, ast.Import):
            yield from ((name.name, node.lineno) for name in node.names if name.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in MODULES:
            yield str(node.module), node.lineno


def test_nothing_runs_text_or_speaks_to_the_world() -> None:
    assert len(FILES) > 100
    places = [(path.relative_to(PACKAGE).as_posix(), name, line) for path in FILES for name, line in found(path)]
    assert [place for place in places if place[:2] not in ALLOWED] == []
    assert {place[:2] for place in places} == set(ALLOWED)


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')", "import builtins\nbuiltins.exec('1')", "import pickle", "from pickle import loads", "import subprocess",
        "import importlib\nimportlib.import_module(x)", "import os\nos.system('ls')", "import sympy\nsympy.sympify(s)",
        "import torch\ntorch.load(p)", "import numpy as np\nnp.load(p, allow_pickle=True)", "import urllib.request",
        "builtins.compile(s, '', 'exec')", "import socket",
    ],
)  # fmt: skip
def test_the_scan_finds(text: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(text)
    assert list(found(planted))


def test_optional_packages_are_named_in_our_own_code() -> None:
    """``require`` imports by name: every call of it has the name as a literal."""
    calls = 0
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                calls += 1
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
    assert calls >= 3


def test_nothing_is_built_from_the_users_text() -> None:
    """Names and file paths of the user's program never come near the generator of code."""
    words = {"name", "names", "text", "span", "latex", "repr"}
    for path in (PACKAGE / "backends" / "cpu").glob("*.py"):
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("dsl", "canon", "layer", "problem")
            for alias in node.names
            if node.level == 2
        }
        assert not imported & words
        assert not imported, f"{path.name}: what is compiled depends on sizes alone"


@pytest.mark.parametrize(
    "name", ["__class__", "__init__", "_hidden", "a b", "a.b", "a;b", "1a", "", "lambda", "a" * 65, "a\n", "x'; import os", "é b"]
)
def test_names_that_are_refused(name: str) -> None:
    kr.Variable(2, name="a" * 64)
    for kind in (kr.Variable, kr.Parameter):
        with pytest.raises(kr.KarushError):
            kind(2, name=name)


@pytest.mark.parametrize("place", ["objective", "side", "variable", "parameter", "list", "array"])
@pytest.mark.filterwarnings("ignore")
def test_text_given_to_the_sympy_front_end_is_not_run(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """sympy evaluates strings as Python; none may get that far."""
    sympy = pytest.importorskip("sympy")
    x, bad = sympy.Symbol("x"), "__import__('os').getcwdb()"
    ran: list[int] = []
    monkeypatch.setattr("os.getcwdb", lambda: ran.append(1))
    objective: Any = x**2
    rows: list[Any] = [(x, "<=", 1)]
    variables: list[Any] = [x]
    parameters: list[Any] = []
    if place == "objective":
        objective = bad
    elif place in ("side", "list", "array"):
        rows = [({"side": bad, "list": [bad], "array": np.array([bad])}[place], "<=", 1)]
    elif place == "variable":
        variables = [bad]
    else:
        parameters = [bad]
    try:
        with pytest.raises(kr.KarushError):
            kr.from_sympy(objective, rows, variables=variables, parameters=parameters)
    finally:
        assert not ran


SECRET = 123456.0625  # a value that no message has reason to print; exact in binary


@pytest.mark.parametrize(
    "kind", ["infeasible", "not finite", "wrong sign", "not definite", "unbounded", "shape", "batch", "complex"]
)
def test_errors_print_no_values(kind: str) -> None:
    x = kr.Variable(2, name="x")
    q, M = kr.Parameter(2, name="q"), kr.Parameter((2, 2), name="M", PSD=True)
    t = kr.Parameter(name="t", nonneg=True)
    cost = kr.quad_form(x, M) + q @ x + t * kr.norm1(x)
    layer = kr.compile(kr.Problem(kr.Minimize(cost), {"low": x >= t, "high": kr.sum(x) <= kr.sum(q)}))
    eye, secret = torch.eye(2).double() * SECRET, torch.full((2,), SECRET).double()
    given = {"q": 5 * secret, "M": eye, "t": torch.tensor(SECRET / 2).double()}
    changes: dict[str, dict[str, torch.Tensor]] = {
        "infeasible": {"q": -secret},
        "not finite": {"q": secret / torch.tensor([0.0, 1.0])},
        "wrong sign": {"t": torch.tensor(-SECRET).double()},
        "not definite": {"M": -eye},
        "unbounded": {"M": 0 * eye, "q": -secret, "t": torch.tensor(0.0).double()},
        "shape": {"q": torch.full((3,), SECRET).double()},
        "batch": {"q": secret.expand(4, 1, 2), "t": given["t"].expand(3)},
        "complex": {"q": secret + 1j},
    }
    if kind == "unbounded":
        layer = kr.compile(kr.Problem(kr.Minimize(kr.quad_form(x, M) + q @ x + t)))
    layer(given)
    with pytest.raises(kr.KarushError) as caught:
        layer(given | changes[kind])
    told = str(caught.value).replace(",", "")
    assert not any(digits in told for digits in ("123456", "246912", "617280", "61728", "12345"))
