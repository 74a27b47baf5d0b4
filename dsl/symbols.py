"""Names, numbers and arrays in LaTeX: the words of ``latex``.

The subset is what KaTeX, MathJax and matplotlib's mathtext all read.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .printing import FEW, is_identity, uniform

GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega"
    "|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)
ACCENTS = {"hat": r"\hat", "bar": r"\bar", "tilde": r"\tilde", "dot": r"\dot"}
OUTSIDE = {"\\": r"\backslash", "^": r"\wedge", "~": r"\sim"}  # what must not stand in \text


def symbol(name: str) -> str:
    """A leaf's name: x_max has a subscript, x_hat an accent, x1 an index, gamma is Greek, longer words stand upright."""
    base, *rest = [part for part in name.split("_") if part] or [name]
    if (found := re.fullmatch(r"([^\W\d]+)(\d+)", base)) and (len(found[1]) == 1 or not rest):
        base, rest = found[1], [found[2], *rest]
    written = _word(base)
    while rest and rest[0] in ACCENTS:
        written = f"{ACCENTS[rest.pop(0)]}{{{written}}}"
    return f"{written}_{{{', '.join(_word(part) for part in rest)}}}" if rest else written


def _word(part: str) -> str:
    if GREEK.fullmatch(part):
        return rf"\{part}"
    return part if len(part) == 1 or part.isdigit() else rf"\mathrm{{{part}}}" if part.isascii() else words(part)


def words(text: str) -> str:
    """Any text, upright."""
    escaped = "".join(rf"\{c}" if c in "$%#&_{}" else rf"}}{OUTSIDE[c]}\text{{" if c in OUTSIDE else c for c in text)
    return rf"\text{{{escaped}}}".replace(r"\text{}", "")


def sizes(shape: tuple[int, ...]) -> str:
    """3 \\times 4."""
    return r" \times ".join(map(str, shape))


def number(value: float) -> str:
    """Six digits, powers of ten written out."""
    if np.isinf(value):
        return r"\infty" if value > 0 else r"-\infty"
    digits, _, power = f"{value:g}".partition("e")
    if not power:
        return digits
    return rf"10^{{{int(power)}}}" if digits == "1" else rf"{digits} \cdot 10^{{{int(power)}}}"


def array(value: NDArray[Any], *, matrix_product: bool = False) -> str:
    """A number, a named matrix, a few entries, or only the shape. In a matrix product a uniform array is no scalar."""
    if uniform(value) and not (matrix_product and value.ndim):
        return number(float(value.flat[0]))
    if uniform(value) and value.flat[0] in (0.0, 1.0):
        bold = rf"\mathbf{{{value.flat[0]:g}}}"
        return bold if value.ndim == 1 else f"{bold}_{{{sizes(value.shape)}}}"
    if uniform(value) and value.ndim == 1:
        return rf"{number(float(value.flat[0]))} \, \mathbf{{1}}"
    if is_identity(value):
        return "I"
    if value.ndim == 1 and value.size <= FEW:
        return f"({', '.join(number(float(v)) for v in value)})"
    small = value.ndim == 2 and value.shape[0] == value.shape[1] <= FEW
    if small and bool((value == np.diag(np.diag(value))).all()):
        return rf"\operatorname{{diag}}({', '.join(number(float(v)) for v in np.diag(value))})"
    return by_shape(value.shape)


def by_shape(shape: tuple[int, ...]) -> str:
    """An array of which only the shape is told."""
    return rf"\mathrm{{const}}_{{{sizes(shape)}}}"
