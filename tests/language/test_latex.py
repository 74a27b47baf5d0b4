"""LaTeX that typesets: every model of the catalogue, line by line, and a few whole displays as they should read."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser

import catalogue
import karush as kr
from karush.dsl.latex import latex
from karush.dsl.symbols import symbol, words
from language import models

# Beyond mathtext, which lacks environments: commands that KaTeX and MathJax know as well.
KNOWN = re.compile(
    "aligned|underset|text|left|right|Vert|mathbf|mathbb|mathrm|operatorname|top|circ|oslash|cdot|cdots|times|frac|sqrt|leq|geq|succeq"
    "|preceq|in|max|min|exp|log|sin|cos|tanh|quad|infty|hat|bar|tilde|dot|gamma|mu|theta|sigma|Sigma|mathcal|begin|end"
)
SHOWN = {
    **catalogue.CASES,
    **{f"a whole model: {build.__name__}": build for build in models.SHOWN},
}


def typeset(text: str) -> None:
    assert MathTextParser("path").parse(f"${text}$").width > 0


def cells(display: str) -> list[str]:
    begin, *lines, end = display.splitlines()
    assert (begin, end) == (r"\begin{aligned}", r"\end{aligned}")
    assert all(line.endswith(r"\\") for line in lines[:-1])
    pieces = [cell.strip() for line in lines for cell in re.split(r"(?<!\\)&", line.removesuffix(r"\\"))]
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("name", SHOWN)
def test_every_model_typesets(name: str) -> None:
    problem = SHOWN[name]()
    display = problem.latex()
    for cell in cells(display):
        typeset(cell)
    assert [command for command in re.findall(r"\\([a-zA-Z]+)", display) if not KNOWN.fullmatch(command)] == []
    assert display.count(r"\left") == display.count(r"\right")
    for constraint in problem.constraints.values():
        typeset(constraint.latex())
    for leaf in [*problem.variables.values(), *problem.parameters.values()]:
        typeset(leaf.latex())
        assert leaf._repr_latex_() == f"$\\displaystyle {leaf.latex()}$"


@pytest.mark.parametrize("name", SHOWN)
def test_notebooks_get_the_same(name: str) -> None:
    problem = SHOWN[name]()
    page = html.unescape(problem._repr_html_())
    assert problem.latex() in page
    assert repr(problem) in page
    assert "&&" not in problem._repr_html_()  # ampersands of LaTeX are escaped


x, y = kr.Variable(4, name="x"), kr.Variable(4, name="y")
X = kr.Variable((3, 4), name="X")
a, B, P = kr.Parameter(4, name="a"), kr.Parameter((4, 4), name="B"), kr.Parameter((4, 4), name="P", PSD=True)
s = kr.Parameter(name="s", nonneg=True)
k = kr.Parameter(name="kappa_max", nonneg=True)

READS: list[tuple[kr.Expression, str]] = [
    (x @ P @ x, r"x^\top P x"),
    (a @ B @ x, r"a^\top B x"),
    (x @ B, r"B^\top x"),
    (x @ B.T, r"B x"),
    (a @ (B @ x), r"a^\top B x"),
    ((B @ x) @ a, r"(B x)^\top a"),
    ((x - a) @ a, r"(x - a)^\top a"),
    (2 * x, "2 x"),
    (x * 2, "2 x"),
    (x * s, "s x"),
    (2 * (3 * s) * x, r"2 \cdot 3 s x"),
    (k * x, r"\kappa_{\mathrm{max}} x"),
    (a * x, r"a \circ x"),
    (-(a * x), r"-a \circ x"),
    (x - (y - a), "x - (y - a)"),
    (x - 2 * y, "x - 2 y"),
    (x + (-2) * y, "x - 2 y"),
    (x - 1, "x - 1"),
    (kr.sum(x), r"\mathbf{1}^\top x"),
    (kr.sum(a * x), r"a^\top x"),
    (kr.sum(X), r"\mathbf{1}^\top X \mathbf{1}"),
    (kr.sum(X, axis=0), r"X^\top \mathbf{1}"),
    (kr.sum(X, axis=1), r"X \mathbf{1}"),
    (kr.norm1(x - a), r"\left\Vert x - a \right\Vert_{1}"),
    (kr.norm_inf(x), r"\left\Vert x \right\Vert_{\infty}"),
    (kr.sum_squares(X), r"\left\Vert X \right\Vert_{F}^{2}"),
    (kr.square(kr.norm1(x)), r"\left\Vert x \right\Vert_{1}^{2}"),
    (kr.square(x), r"x^{\circ 2}"),
    (kr.square(x[0] - 1), "(x_{0} - 1)^{2}"),
    (kr.min(x), r"\min(x)"),
    (kr.minimum(x, a, 1), r"\min(x, a, 1)"),
    (kr.max(X, axis=1), r"\max_{\mathrm{axis}\,1}(X)"),
    (kr.pos(x), "(x)_{+}"),
    (kr.mean(x), r"\operatorname{mean}(x)"),
    (kr.trace(X[:, :3]), r"\operatorname{tr}(X_{:, :3})"),
    (x[1:3], "x_{1:3}"),
    ((B @ x)[0], "(B x)_{0}"),
    (x / s, r"\frac{x}{s}"),
    (a / (1 + s), r"\frac{a}{1 + s}"),
    (x / a, r"x \oslash a"),
    (kr.inv(P) @ x, r"P^{-1} x"),
    (P.T @ x, "P x"),
    (kr.exp(s) * x, r"\exp(s) x"),
    (1e-7 * x, r"10^{-7} x"),
    (2.5e8 * x, r"2.5 \cdot 10^{8} x"),
    (x @ np.ones(4), r"x^\top \mathbf{1}"),
    (kr.matmul(np.eye(4), x), "I x"),
    (kr.stack([x, a]), r"\left[ x^\top;\ a^\top \right]"),
    (kr.hstack([x, a]), r"\left[ x;\ a \right]"),
    (kr.quad_form(x - a, B @ B.T), r"(x - a)^\top B B^\top (x - a)"),
]


@pytest.mark.parametrize(("expression", "expected"), READS, ids=[case[1] for case in READS])
def test_it_reads_as_on_paper(expression: kr.Expression, expected: str) -> None:
    assert latex(expression) == expected
    typeset(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x", "x"),
        ("x1", "x_{1}"),
        ("gamma", r"\gamma"),
        ("x_max", r"x_{\mathrm{max}}"),
        ("x_hat", r"\hat{x}"),
        ("mu_hat_0", r"\hat{\mu}_{0}"),
        ("scale", r"\mathrm{scale}"),
        ("x_t_1", "x_{t, 1}"),
        ("größe", r"\text{größe}"),
        ("theta2", r"\theta_{2}"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert symbol(name) == expected
    typeset(expected)


@pytest.mark.parametrize("text", ["long only", "50% & more", "a_b{c}$d#", r"back\slash ^ ~", "rows[0].x"])
def test_any_text_can_name_a_constraint(text: str) -> None:
    typeset(words(text))


@pytest.mark.parametrize("build", models.SHOWN, ids=lambda build: build.__name__)
def test_whole_models_are_golden(build: Callable[[], kr.Problem], request: pytest.FixtureRequest) -> None:
    """``--update-golden`` writes what karush says now; look at it."""
    file, said = models.FOLDER / f"{build.__name__}.tex", f"{build().latex()}\n"
    if request.config.getoption("--update-golden"):
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


def test_conditions_prices_bounds_and_statements_are_shown() -> None:
    display = models.everything().latex()
    for part in (
        r"\text{maximize}",
        r"x_{\mathrm{max}} \geq g\ \ \text{where}\ \ w && \text{50\% of \{a\_b\}}",
        r"\leq 1\ \ \text{softly at}\ \ g",
        r"x_{\mathrm{max}} \leq u",
        r"\text{assuming}\quad & 1 - \theta \geq 0",
        r"\Sigma \in \mathbb{S}^{2}",
        r"w \in \{0, 1\}^{3}",
        r"0 \leq \hat{p} \leq 1",
    ):
        assert part in display


def test_long_and_deep_expressions_are_cut_where_they_still_typeset() -> None:
    long: kr.Expression = x
    for i in range(3000):
        long = long + i * x
    deep: kr.Expression = x
    for _ in range(3000):
        deep = kr.abs(deep) + x
    shared: kr.Expression = x
    for _ in range(200):
        shared = shared + shared  # 2**200 terms as a tree
    for expression in (long, deep, shared):
        written = latex(expression)
        assert len(written) < 2000
        assert r"\cdots" in written
        typeset(written)
    many = kr.Problem(kr.Minimize(kr.sum_squares(x)), [x >= i for i in range(500)])
    assert "440 more" in many.latex()
    assert len(many.latex()) < 5000


def test_an_unknown_word_is_printed_by_its_name() -> None:
    assert latex(kr.cumsum(X, 1)) == r"\operatorname{cumsum}_{\mathrm{axis}\,1}(X)"
