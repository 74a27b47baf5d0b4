r"""Expressions in LaTeX, as a paper would print them: transposes, norms, sums and squares for the atoms behind them.

Vectors are columns. A product keeps the transpose of what it says beside it, so that x @ P @ x, which is (x @ P) @ x, reads
x^\top P x. ``LATEX`` has an entry for every word that has notation of its own; ``PLAIN`` names the atoms that are printed as
\operatorname{name}(...), and so is any other word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .curvature import Form
from .idioms import Phrase, compose, is_constant, read, shown
from .printing import NAMES, called, index_text, options, uniform
from .symbols import array, by_shape, number, sizes, symbol

if TYPE_CHECKING:  # expressions print themselves with this module
    from .expression import Expression

# How tightly a text binds. SIGNED: a term with a minus in front. CIRCLE: elementwise product. UPPER: has a superscript;
# LOWER: has a subscript only.
SUM, SIGNED, CIRCLE, PRODUCT, UPPER, LOWER, TIGHT = range(1, 8)
LONGEST = 900  # characters of an expression; what grows beyond is cut at a node
DEEPEST = 12  # groups inside each other
GROUPS = re.compile(r"\\left\W|\\right\W|[{(\[})\]]")
SHORT = 40  # of a numerator that is still written over its denominator


@dataclass(frozen=True)
class Piece:
    """LaTeX of a node. ``turned`` is its transpose where that is more than a superscript."""

    text: str
    binds: int
    turned: tuple[str, int] | None = None
    uniform: str = ""  # how a constant of equal entries reads in a matrix product

    def at(self, least: int) -> str:
        """The text, in parentheses where it binds less."""
        return self.text if self.binds >= least else parentheses(self.text)

    @property
    def transposed(self) -> Piece:
        """The transpose."""
        if self.turned is not None:
            return Piece(*self.turned, (self.text, self.binds))
        return Piece(rf"{self.at(LOWER)}^\top", UPPER, (self.text, self.binds))


Inner = Callable[[Any], Piece]
WORDY = re.compile(r"\\(mathrm|text)\{[^{}]*\}(_\{[^{}]*\})?$")  # ends in a word of several letters


class Talk:
    """A phrase with the pieces of its arguments: what an entry of ``LATEX`` gets."""

    def __init__(self, phrase: Phrase, inner: Inner, names: Mapping[str, str]) -> None:
        self.phrase, self.inner, self.names, self.data = phrase, inner, names, phrase.data
        self.args = [inner(part) for part in phrase.args]
        self.shapes = [part.shape for part in phrase.args]

    def __getitem__(self, index: int) -> Piece:
        return self.args[index]

    @property
    def listed(self) -> str:
        return ", ".join(piece.text for piece in self.args)


def latex(expression: Expression, names: Mapping[str, str] | None = None) -> str:
    """The expression in LaTeX, without delimiters; what grows long is cut at a term."""

    def say(phrase: Phrase, inner: Inner) -> Piece:
        talk = Talk(phrase, inner, {} if names is None else names)
        piece = LATEX.get(phrase.word, _named)(talk)
        return _cut(talk) if len(piece.text) > LONGEST or _nested(piece.text) > DEEPEST else piece

    return compose(expression, say).text


def _nested(text: str) -> int:
    """How many groups stand inside each other; typesetters give up on many."""
    if text.count("{") + text.count("(") + text.count(r"\left") <= DEEPEST:
        return 0
    level = deepest = 0
    for mark in GROUPS.findall(text):
        level += 1 if mark in "{([" or mark.startswith(r"\left") else -1
        deepest = max(deepest, level)
    return deepest


def parentheses(text: str) -> str:
    """Around a text, as high as it is."""
    return rf"\left({text}\right)" if r"\frac" in text or r"\left" in text else f"({text})"


def _cut(talk: Talk) -> Piece:
    if talk.phrase.word in ("add", "subtract"):
        head = talk[0].text
        return Piece(head if head.endswith(r" + \cdots") else rf"{head} + \cdots", SUM)
    return Piece(rf"\operatorname{{{_safe(talk.phrase.word)}}}(\cdots)", TIGHT)


def _safe(name: str) -> str:
    return name.replace("_", r"\_")


def _axis(talk: Talk) -> str:
    """The axis of a reduction as a subscript."""
    axis = talk.data.get("axis")
    return "" if axis is None else rf"_{{\mathrm{{axis}}\,{', '.join(map(str, axis))}}}"


def _named(talk: Talk) -> Piece:
    r"""\operatorname{name}(...), with static arguments in the subscript."""
    word = talk.phrase.word
    told = options(talk.phrase).removeprefix(", ").replace("axis=", r"\mathrm{axis}\,")
    under = f"_{{{told}}}" if told else ""
    name = called(talk.phrase).strip("<>") if word == "function" else NAMES.get(word, word)
    return Piece(rf"\operatorname{{{_safe(name)}}}{under}({talk.listed})", TIGHT)


# Leaves


def _constant(talk: Talk) -> Piece:
    value = shown(talk.phrase.node)
    if value is None:
        return Piece(by_shape(talk.phrase.shape), LOWER)
    text, in_product = array(value), array(value, matrix_product=True)
    binds = SIGNED if text.startswith("-") else PRODUCT if r"\cdot" in text else UPPER if "^" in text else TIGHT
    itself = (text, TIGHT) if text == "I" or text.startswith(r"\operatorname{diag}") else None
    return Piece(text, LOWER if text.startswith(r"\mathrm") else binds, itself, in_product if in_product != text else "")


def _leaf(talk: Talk) -> Piece:
    text = symbol(talk.phrase.node.label(talk.names))
    facts = talk.phrase.node.attributes
    itself = (text, LOWER if "_" in text else TIGHT) if any(getattr(facts, name, False) for name in SYMMETRIC) else None
    return Piece(text, LOWER if "_" in text else TIGHT, itself)


SYMMETRIC = ("PSD", "NSD", "symmetric", "diag")

# Sums and products


def _add(talk: Talk) -> Piece:
    right = talk[1]
    joined = f"- {right.text[1:]}" if right.binds == SIGNED and right.text.startswith("-") else f"+ {right.text}"
    return Piece(f"{talk[0].text} {joined}", SUM)


def _subtract(talk: Talk) -> Piece:
    return Piece(f"{talk[0].text} - {talk[1].at(CIRCLE)}", SUM)


def _negate(talk: Talk) -> Piece:
    return Piece(f"-{talk[0].at(CIRCLE)}", SIGNED)


def _beside(left: Piece, right: Piece, least: int = PRODUCT) -> Piece:
    """A product without a sign between its factors, unless they would run together."""
    before = left.text if left.binds == SIGNED else left.at(least)
    after = right.at(PRODUCT)
    numeric = after[:1].isdigit() or after.startswith(r"\frac")
    if left.text[-1:].isdigit() and (numeric or after.startswith(r"\infty")):
        joint = r" \cdot "
    else:
        after = f"({after})" if numeric else after
        wordy = WORDY.search(before) or after.startswith((r"\mathrm", r"\text"))
        joint = r" \, " if wordy else " "
    return Piece(f"{before}{joint}{after}", SIGNED if before.startswith("-") else PRODUCT)


def _multiply(talk: Talk) -> Piece:
    left, right = talk.args
    if all(shape and not _scalar(part) for part, shape in zip(talk.phrase.args, talk.shapes, strict=True)):
        circled = f"{left.text if left.binds in (CIRCLE, SIGNED) else left.at(PRODUCT)} \\circ {right.at(PRODUCT)}"
        return Piece(circled, SIGNED if left.binds == SIGNED else CIRCLE)
    first, second = talk.phrase.args
    if _rank(second, talk.shapes[1]) < _rank(first, talk.shapes[0]):
        left, right = right, left
    return _beside(left, right)


def _scalar(part: Any) -> bool:
    """Whether a constant acts as a number."""
    value = shown(part)
    return value is not None and uniform(value)


def _rank(part: Any, shape: tuple[int, ...]) -> int:
    """Numbers stand first, then scalars free of variables, then other scalars, then the rest."""
    if is_constant(part):
        return 0 if _scalar(part) else 4
    return (1 if part.form is Form.CONSTANT else 2) if not shape else 3


def _matmul(talk: Talk) -> Piece:
    left, right = (Piece(p.uniform, TIGHT if p.uniform.startswith(r"\math") else PRODUCT) if p.uniform else p for p in talk.args)
    first, second = len(talk.shapes[0]), len(talk.shapes[1])
    if max(first, second) > 2:
        return _named(talk)
    if first == 1 and second == 1:
        return _beside(left.transposed, right)
    if first == 1:  # a row; as a column it is the transposed matrix times the vector
        row = _beside(left.transposed, right)
        column = _beside(right.transposed, left)
        return Piece(column.text, column.binds, (row.text, row.binds))
    return _beside(left, right)


def _divide(talk: Talk) -> Piece:
    over, under = talk.args
    if talk.shapes[1] and talk.phrase.shape:
        return Piece(rf"{over.at(CIRCLE)} \oslash {under.at(PRODUCT)}", CIRCLE)
    if len(over.text) <= SHORT:
        return Piece(rf"\frac{{{over.text}}}{{{under.text}}}", PRODUCT)
    return _beside(Piece(rf"\frac{{1}}{{{under.text}}}", PRODUCT), over)


def _reciprocal(talk: Talk) -> Piece:
    if talk.phrase.shape:
        return Piece(rf"1 \oslash {talk[0].at(PRODUCT)}", CIRCLE)
    return Piece(rf"\frac{{1}}{{{talk[0].text}}}", PRODUCT)


def _power(talk: Talk) -> Piece:
    """Elementwise powers of arrays carry a circle."""
    exponent = number(talk.data["exponent"]) if "exponent" in talk.data else "2"
    circle = r"\circ " if talk.phrase.shape else ""
    return Piece(f"{talk[0].at(LOWER)}^{{{circle}{exponent}}}", UPPER)


def _quad_form(talk: Talk) -> Piece:
    x, P = talk.args
    return Piece(f"{x.transposed.at(PRODUCT)} {P.at(PRODUCT)} {x.at(PRODUCT)}", PRODUCT)


# Reductions


def _sum(talk: Talk) -> Piece:
    inner, ndim, axis = talk[0], len(talk.shapes[0]), talk.data["axis"]
    ones = Piece(r"\mathbf{1}", TIGHT)
    if ndim == 0:
        return inner
    if ndim == 1:
        terms = read(talk.phrase.args[0])
        if terms.word == "multiply" and all(len(factor.shape) == 1 for factor in terms.args):
            first, second = (talk.inner(factor) for factor in terms.args)
            return _beside(first.transposed, second)
        return _beside(ones.transposed, inner)
    if ndim == 2 and axis == (1,):
        return _beside(inner, ones)
    if ndim == 2 and axis == (0,):
        row, column = _beside(ones.transposed, inner), _beside(inner.transposed, ones)
        return row if talk.data["keepdims"] else Piece(column.text, column.binds, (row.text, row.binds))
    if ndim == 2 and axis in (None, (0, 1)):
        return _beside(_beside(ones.transposed, inner), ones)
    return Piece(rf"\operatorname{{sum}}{_axis(talk)}({inner.text})", TIGHT)


def _norm(kind: str, matrix: str) -> Callable[[Talk], Piece]:
    """A norm of all entries; matrices are told apart, for their norms of the same name are other ones."""

    def say(talk: Talk) -> Piece:
        ndim, axis = len(talk.shapes[0]), talk.data["axis"]
        if axis is not None and len(axis) < ndim:
            return Piece(rf"\operatorname{{{_safe(talk.phrase.word)}}}{_axis(talk)}({talk.listed})", TIGHT)
        if ndim == 0:
            return Piece(rf"{talk[0].at(LOWER)}^{{2}}", UPPER) if "^" in kind else _abs(talk)
        inside = talk[0].text if ndim == 1 or "F" in matrix else rf"\operatorname{{vec}}({talk.listed})"
        return Piece(rf"\left\Vert {inside} \right\Vert{kind if ndim == 1 else matrix}", UPPER if "^" in kind else LOWER)

    return say


def _abs(talk: Talk) -> Piece:
    return Piece(rf"\left| {talk[0].text} \right|", TIGHT)


def _extreme(name: str) -> Callable[[Talk], Piece]:
    return lambda talk: Piece(rf"\{name}{_axis(talk)}({talk.listed})", TIGHT)


def _part(sign: str) -> Callable[[Talk], Piece]:
    return lambda talk: Piece(f"({talk.listed})_{{{sign}}}", LOWER)


# Shapes


def _index(talk: Talk) -> Piece:
    key = index_text(talk.data["key"]).replace("array", r"\mathrm{array}")
    return Piece(f"{talk[0].at(TIGHT)}_{{{key}}}", LOWER)


def _transpose(talk: Talk) -> Piece:
    axes = talk.data["axes"]
    if axes == (1, 0):
        return talk[0].transposed
    return talk[0] if axes == tuple(range(len(axes))) else Piece(rf"\operatorname{{transpose}}_{{{axes}}}({talk.listed})", TIGHT)


def _reshape(talk: Talk) -> Piece:
    """Between a vector and a matrix of one row or column only the orientation changes."""
    before, after = talk.shapes[0], talk.phrase.shape
    if talk.phrase.node.size == 1:
        return talk[0]
    if len(before) == 1 and len(after) == 2 and 1 in after:
        return talk[0].transposed if after[0] == 1 else talk[0]
    if len(after) == 1 and len(before) == 2 and 1 in before:
        return talk[0].transposed if before[0] == 1 else talk[0]
    if len(after) == 1:
        return Piece(rf"\operatorname{{flatten}}({talk.listed})", TIGHT)
    return Piece(rf"\operatorname{{reshape}}_{{{sizes(after)}}}({talk.listed})", TIGHT)


def _joined(talk: Talk) -> Piece:
    """Parts one below the other are separated by semicolons, parts side by side by commas."""
    axis, stacked = talk.data["axis"], talk.phrase.word == "stack"
    if axis > 1 or len(talk.phrase.shape) > 2:
        return _named(talk)
    rows = stacked and len(talk.shapes[0]) == 1 and axis == 0
    parts = [piece.transposed.text if rows else piece.text for piece in talk.args]
    joint = r";\ " if axis == 0 else r",\ "
    return Piece(rf"\left[ {joint.join(parts)} \right]", TIGHT)


def _huber(talk: Talk) -> Piece:
    return Piece(rf"\operatorname{{huber}}_{{{talk[1].text}}}({talk[0].text})", TIGHT)


def _indicator(talk: Talk) -> Piece:
    pairs = zip(talk.args, talk.shapes, (r"\leq", "="), strict=True)
    rows = [f"{piece.text} {relation} 0" for piece, shape, relation in pairs if shape != (0,)]
    joint = r",\ "
    return Piece(rf"\mathcal{{I}}({joint.join(rows)})", TIGHT)


def _exp(name: str) -> Callable[[Talk], Piece]:
    return lambda talk: Piece(rf"\{name}({talk.listed})", TIGHT)


LATEX: dict[str, Callable[[Talk], Piece]] = {
    "constant": _constant,
    "leaf": _leaf,
    "add": _add,
    "subtract": _subtract,
    "negate": _negate,
    "multiply": _multiply,
    "matmul": _matmul,
    "divide": _divide,
    "reciprocal": _reciprocal,
    "square": _power,
    "power": _power,
    "quad_form": _quad_form,
    "huber": _huber,
    "sum": _sum,
    "norm1": _norm("_{1}", "_{1}"),
    "norm2": _norm("_{2}", "_{F}"),
    "norm_inf": _norm(r"_{\infty}", r"_{\infty}"),
    "sum_squares": _norm("_{2}^{2}", "_{F}^{2}"),
    "abs": _abs,
    "max": _extreme("max"),
    "min": _extreme("min"),
    "maximum": _extreme("max"),
    "minimum": _extreme("min"),
    "pos": _part("+"),
    "neg": _part("-"),
    "index": _index,
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast_to": lambda talk: talk[0],
    "concatenate": _joined,
    "stack": _joined,
    "trace": lambda talk: Piece(rf"\operatorname{{tr}}({talk.listed})", TIGHT),
    "exp": _exp("exp"),
    "log": _exp("log"),
    "sin": _exp("sin"),
    "cos": _exp("cos"),
    "tanh": _exp("tanh"),
    "sqrt": lambda talk: Piece(rf"\sqrt{{{talk.listed}}}", TIGHT),
    "solve": lambda talk: _beside(Piece(f"{talk[0].at(LOWER)}^{{-1}}", UPPER), talk[1]),
    "sum_largest": lambda talk: Piece(rf"\operatorname{{sum\_largest}}_{{{talk[1].text}}}({talk[0].text})", TIGHT),
    "inv": lambda talk: Piece(f"{talk[0].at(LOWER)}^{{-1}}", UPPER),
    "indicator": _indicator,
    "suppfunc": lambda talk: Piece(rf"\sigma({talk[0].text})", TIGHT),
    "assume": lambda talk: talk[0],
}

# Atoms whose name says it best.
PLAIN = frozenset({"diag", "diagonal", "cumsum", "cummax", "ptp", "dotsort", "cholesky", "sigmoid", "softplus", "function"})
