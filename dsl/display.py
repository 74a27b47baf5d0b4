r"""What notebooks show: problems, constraints and expressions in LaTeX.

\underset{x}{\text{minimize}}  & \gamma \Vert L^\top x \Vert_2^2 - \mu^\top x
\text{subject to}              & \mathbf{1}^\top x = 1        && \text{budget}
                               & x \geq 0                     && \text{long only}
\text{variable}                & x \in \mathbb{R}^{20}
\text{parameters}              & L \in \mathbb{R}^{20 \times 5}, \gamma \in \mathbb{R}_{+}
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .idioms import Phrase, compose, sides
from .latex import latex
from .printing import ROWS, bare
from .symbols import array, sizes, symbol, words

if TYPE_CHECKING:  # problems and constraints show themselves with this module
    from .constraint import Constraint
    from .problem import Problem

Names = Mapping[str, str]
RELATIONS = {"==": "=", "<=": r"\leq", ">=": r"\geq"}
STATED = {"nonneg": r"\geq 0", "nonpos": r"\leq 0", "PSD": r"\succeq 0", "NSD": r"\preceq 0", "pos": "> 0", "neg": "< 0"}
CONES = {"nonneg": "_{+}", "nonpos": "_{-}", "pos": "_{++}", "neg": "_{--}"}
WIDTH = 110  # characters of names in a row of declarations


class Shown:
    """What prints as text and in LaTeX."""

    __slots__ = ()

    def latex(self) -> str:
        """In LaTeX, without delimiters."""
        raise NotImplementedError

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _repr_html_(self) -> str:
        """LaTeX that the notebook typesets; the plain text shows on hovering."""
        return f'<div title="{html.escape(repr(self))}">$$\n{html.escape(self.latex(), quote=False)}\n$$</div>'


def constraint_latex(constraint: Constraint, names: Names | None = None) -> str:
    """left relation right, then where it holds, and what it costs."""
    left, right = sides(constraint)
    weight = getattr(constraint, "weight", None)
    told = "" if weight is None else rf"\ \ \text{{softly at}}\ \ {latex(bare(weight), names)}"
    told += "" if constraint.active is None else rf"\ \ \text{{where}}\ \ {latex(bare(constraint.active), names)}"
    return f"{latex(left, names)} {RELATIONS[constraint.op]} {latex(right, names)}{told}"


def leaf_latex(leaf: Any, names: Names | None = None) -> str:
    """A leaf and the set it is declared in."""
    facts, shape = leaf.attributes, leaf.shape
    written = latex(leaf, names)
    low, high = _limits(leaf, names)
    bounded = low or high
    cone = "" if bounded else next((mark for name, mark in CONES.items() if getattr(facts, name)), "")
    power = f"^{{{sizes(shape)}}}" if shape else ""
    space = rf"\{{0, 1\}}{power}" if facts.boolean else rf"\mathbb{{R}}{power}{cone}"
    if facts.square:
        letter = "D" if facts.diag else "S"
        mark = "_{+}" if facts.PSD else "_{-}" if facts.NSD else ""
        square = rf"\mathbb{{{letter}}}^{{{shape[0]}}}{mark}"
        space = rf"{square} \cap {space}" if cone else square
    told = rf"{written} \in {space}" + (r"\ \text{(sparse)}" if facts.sparsity is not None else "")
    left, right = rf"{low} \leq " if low else "", rf" \leq {high}" if high else ""
    return rf"{told},\ \ {left}{written}{right}" if bounded else told


def _limits(leaf: Any, names: Names | None) -> tuple[str, str]:
    """Bounds: expressions of a variable, arrays of a parameter."""
    if hasattr(leaf, "lower"):
        low, high = ("" if side is None else latex(bare(side), names) for side in (leaf.lower, leaf.upper))
        sign = leaf.attributes.sign  # a declared sign says itself that 0 is the bound
        return "" if low == "0" and sign.nonneg else low, "" if high == "0" and sign.nonpos else high
    both = leaf.attributes.bounds
    sides_of = (None, None) if both is None else (both.low, both.high)
    low, high = ("" if side is None else array(side.array) for side in sides_of)
    return low, high


def problem_latex(problem: Problem) -> str:
    """The problem as an aligned display, without delimiters."""
    names, verb = problem.names, "minimize" if problem.objective.sign > 0 else "maximize"
    chosen = ", ".join(symbol(name) for name in problem.variables)
    head = rf"\underset{{{chosen}}}{{\text{{{verb}}}}}" if chosen else rf"\text{{{verb}}}"
    rows = [(head, latex(problem.objective.expression, names), "")]
    for index, (name, constraint) in enumerate(list(problem.constraints.items())[:ROWS]):
        side = "" if name in problem.unnamed else words(name)
        rows.append((words("subject to") if index == 0 else "", constraint_latex(constraint, names), side))
    if len(problem.constraints) > ROWS:
        rows.append(("", rf"\cdots\ {words(f'{len(problem.constraints) - ROWS} more')}", ""))
    assumed = dict.fromkeys(_assumptions(problem, names))
    rows += _declarations("assuming", assumed)
    rows += _declarations("variable", [leaf_latex(leaf, names) for leaf in problem.variables.values()])
    rows += _declarations("parameter", [leaf_latex(leaf, names) for leaf in problem.parameters.values()])
    lines = [(rf"{head}\quad & {body}" if head else f"& {body}") + (rf" && {side}" if side else "") for head, body, side in rows]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _assumptions(problem: Problem, names: Names) -> Iterable[str]:
    """What the user stated of coefficients with assume."""
    stated: list[Phrase] = []
    for root in problem.expressions:
        compose(root, lambda phrase, inner: stated.append(phrase) if phrase.word == "assume" else None)
    for phrase in stated:
        for fact in (fact for fact in phrase.data["attributes"].declared if fact != "boolean"):  # conditions say what they are
            yield f"{latex(phrase.args[0], names)} {STATED.get(fact, words(f' {fact}'))}"


def _declarations(word: str, told: Iterable[str]) -> list[tuple[str, str, str]]:
    """Rows of facts, as many in a row as fit."""
    facts, rows = list(told), [""]
    for fact in facts:
        joined = rf"{rows[-1]},\ \ {fact}" if rows[-1] else fact
        if len(joined) <= WIDTH or not rows[-1]:
            rows[-1] = joined
        else:
            rows.append(fact)
    several = f"{word}s" if len(facts) > 1 and word != "assuming" else word
    return [(words(several) if index == 0 else "", row, "") for index, row in enumerate(rows) if row]
