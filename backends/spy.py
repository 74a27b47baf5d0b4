"""A picture of Q p G h A b and the bounds: which entries there are, and which parameter changes them. Needs matplotlib.

Everything stands where it would on paper, in one coordinate system with a unit square per entry:

    minimize    1/2 x' Q x + p' x
                       G x <= h
                       A x  = b
                 lb <= x <= ub

The columns of Q, G, A and of the bounds are those of x, one below the other. Cells are drawn as paths, a rectangle for every
horizontal run, so that pictures stay sharp and small in SVG and PDF.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

from ..canon.factors import Index
from ..canon.param_qp import ParamQP
from ..canon.structure import Names, Pattern, expansion_labels, patterns

# Told apart by people who see colours differently (Okabe and Ito); then paler ones for the rare model that mixes more.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7A5195",
    "#8C564B",
    "#A6CEE3",
    "#FDBF6F",
    "#B2DF8A",
    "#CAB2D6",
)
CONSTANT, LINE, INK = "0.72", "0.55", "0.15"
SMALL, LARGE = 8.0, 14.0  # points
WIDTH, TALLEST, WIDEST = 5.0, 8.0, 0.3  # inches of the matrices, and of a cell
THICK = 0.2  # inches across vectors and bounds: enough to be seen beside the matrices
GAP = 0.24  # inches between blocks: room for the letter of a vector
FINE = 0.045  # inches of a cell from which on cells are set apart by white lines


class Picture(Figure):
    """A figure that notebooks show by itself, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=144)
        return stream.getvalue()


@dataclass(frozen=True)
class Strip:
    """A block with its upper left corner at (x, y), y downwards; vectors are drawn ``width`` wide."""

    letter: str
    pattern: Pattern
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Span:
    """Neighbouring rows or columns of one name."""

    name: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


def spy(qp: ParamQP) -> Picture:
    """Draw the canonical matrices of a problem."""
    found = patterns(qp)
    n = qp.n
    inch = min(WIDTH / max(n, 1), TALLEST / max(n + qp.m + qp.k, 1), WIDEST)  # of a square cell
    stretched = inch < WIDEST and inch * n < WIDTH / 3  # much taller than wide: cells become oblong
    across = min(WIDTH / 2 / n, WIDEST) if stretched else inch
    thick = THICK / across
    strips, height = _placed(qp, found, thick, THICK / inch, GAP / inch)
    longest = max([len("declared"), *(len(m.name) for m in qp.multipliers)])
    size = across * (n + 3.2 * thick) + 0.075 * longest + 0.75, inch * height + 0.75
    figure = Picture(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    rim = 0.02 / inch  # frames are drawn half outside
    axes.set(xlim=(-rim, n + 3.2 * thick), ylim=(height + rim, -rim), aspect="auto" if stretched else "equal")
    axes.axis("off")
    colours = _colours(qp, found)
    for strip in strips:
        _draw(axes, strip, colours, min(inch, across))
    _names(axes, qp, found, strips, thick, SMALL / 72 / inch, SMALL / 72 / across)
    shown = {names: colour for names, colour in colours.items() if any(names in strip.pattern.groups() for strip in strips)}
    patches = [Patch(facecolor=colour, label=", ".join(names) or "constant") for names, colour in shown.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 4) or 1, frameon=False, fontsize=SMALL + 1)
    return figure


def _placed(qp: ParamQP, found: Mapping[str, Pattern], wide: float, high: float, gap: float) -> tuple[list[Strip], float]:
    """All blocks that are not empty, and the height of the whole; vectors are ``wide``, bounds ``high``."""
    n = qp.n
    strips, y = [], 0.0
    for matrix, vector in (("Q", "p"), ("G", "h"), ("A", "b")):
        rows = found[matrix].every.shape[0]
        if rows:
            strips.append(Strip(matrix, found[matrix], 0.0, y, n, rows))
            strips.append(Strip(vector, found[vector], n + 2 * wide, y, wide, rows))
            y += rows + gap
    for bound in ("lb", "ub"):
        if bound in found:
            strips.append(Strip(bound, found[bound].T, 0.0, y, n, high))
            y += 1.5 * high
    return strips, max(strip.y + strip.height for strip in strips)


def _colours(qp: ParamQP, found: Mapping[str, Pattern]) -> dict[Names, str]:
    """A colour for each set of parameters that shares an entry: first single ones in the order of the inputs, then mixtures."""
    order = {item.name: place for place, item in enumerate(qp.inputs)}
    sets = {names for letter, pattern in found.items() if letter != "constant" for names in pattern.groups() if names}
    ordered = sorted(sets, key=lambda names: (len(names), [order[name] for name in names]))
    return {names: COLOURS[place % len(COLOURS)] for place, names in enumerate(ordered)} | {(): CONSTANT}


def _draw(axes: Any, strip: Strip, colours: Mapping[Names, str], inch: float) -> None:
    rows, cols = strip.pattern.every.shape
    dx, dy = strip.width / max(cols, 1), strip.height / max(rows, 1)
    for names, (row, col) in strip.pattern.groups().items():
        path = _path(*_runs(row, col), strip.x, strip.y, dx, dy)
        axes.add_patch(PathPatch(path, facecolor=colours[names], edgecolor="none", linewidth=0))
    if not strip.pattern.every.nnz:
        axes.text(strip.x + strip.width / 2, strip.y + strip.height / 2, "0", ha="center", va="center", color=LINE, fontsize=SMALL)
    if inch >= FINE:
        ends = strip.y, strip.y + strip.height
        style = {"color": "white", "linewidth": 0.07 * 72 * min(inch, 0.12), "zorder": 2}
        if cols > 1:
            axes.vlines(strip.x + dx * np.arange(1, cols), *ends, **style)
        if rows > 1:
            axes.hlines(strip.y + dy * np.arange(1, rows), strip.x, strip.x + strip.width, **style)
    axes.add_patch(Rectangle((strip.x, strip.y), strip.width, strip.height, fill=False, edgecolor=LINE, linewidth=0.6, zorder=3))


def _runs(row: Index, col: Index) -> tuple[Index, Index, Index]:
    """Horizontal runs of cells in C order: row, first column, column after the last."""
    new = np.ones(len(row), dtype=bool)
    new[1:] = (np.diff(row) != 0) | (np.diff(col) != 1)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(row)) - 1
    return row[first], col[first], col[last] + 1


def _path(row: Index, start: Index, end: Index, x: float, y: float, dx: float, dy: float) -> Path:
    """A rectangle for every run."""
    left, right, top = x + dx * start, x + dx * end, y + dy * row
    bottom = top + dy
    corners: NDArray[np.float64] = np.stack([left, top, right, top, right, bottom, left, bottom, left, top], 1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY], len(row))
    return Path(corners, codes)


def _names(
    axes: Any, qp: ParamQP, found: Mapping[str, Pattern], strips: Sequence[Strip], thick: float, line: float, wide: float
) -> None:
    """Letters on the left, signs of relations, variables on top, constraints on the right. ``line``, ``wide``: a line of text in
    cells, down and across."""
    n = qp.n
    relation = {"Q": "", "G": r"$\leq$", "A": "$=$"}
    for strip in strips:
        middle = strip.y + strip.height / 2
        if strip.letter in relation:
            axes.text(
                -0.8 * wide, middle, f"${strip.letter}$", ha="right", va="center", fontsize=LARGE, color=INK, math_fontfamily="cm"
            )
            axes.text(
                n + thick, middle, relation[strip.letter], ha="center", va="center", fontsize=LARGE, color=INK, math_fontfamily="cm"
            )
        elif strip.letter in ("lb", "ub"):
            axes.text(
                -0.8 * wide,
                middle,
                f"${strip.letter}$",
                ha="right",
                va="center",
                fontsize=SMALL + 3,
                color=INK,
                math_fontfamily="cm",
            )
        else:
            axes.text(
                strip.x + thick / 2,
                strip.y - 0.3 * line,
                f"${strip.letter}$",
                ha="center",
                va="bottom",
                fontsize=SMALL + 4,
                math_fontfamily="cm",
            )
    _columns(axes, qp, line, wide)
    right = n + 3 * thick
    for letter, spans in _row_spans(qp, found).items():
        strip = next(strip for strip in strips if strip.letter == letter)
        scale = strip.height if letter in ("lb", "ub") else 1.0
        moved = [Span(span.name, strip.y + scale * span.start, strip.y + scale * span.end) for span in spans]
        _labels(axes, moved, n if letter in ("lb", "ub") else right, wide, line, expansion_labels(qp))


def _columns(axes: Any, qp: ParamQP, line: float, wide: float) -> None:
    """Braces and names of variables above Q, those in place of atoms in grey; on end where they would run into each other."""
    groups = [(v, INK) for v in qp.variables] + [(v, LINE) for v in qp.expansions]
    groups = [(v, colour) for v, colour in groups if v.size]
    names = {v.name: v.name for v in qp.variables} | expansion_labels(qp)
    upright = any(0.62 * wide * len(names[v.name]) > v.size for v, _ in groups) and len(groups) > 1
    middles = [v.start + v.size / 2 for v, _ in groups]
    places = _spread(middles, 1.25 * wide) if upright else middles
    for (v, colour), middle, place in zip(groups, middles, places, strict=True):
        inset = min(0.15 * wide, v.size / 4)
        y = -0.45 * line
        axes.plot([v.start + inset, v.start + v.size - inset], [y, y], color=colour, linewidth=1.2, clip_on=False)
        if upright:
            axes.plot([middle, place], [y, -1.3 * line], color=LINE, linewidth=0.5, clip_on=False)
        angle = {"rotation": 90} if upright else {}
        axes.text(
            place,
            -1.5 * line if upright else -0.8 * line,
            names[v.name],
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=colour,
            **angle,
        )


def _labels(axes: Any, spans: Sequence[Span], x: float, wide: float, line: float, atoms: Mapping[str, str]) -> None:
    """Braces and names of row groups on the right, moved apart where they are crowded."""
    places = _spread([span.middle for span in spans], 1.3 * line)
    for span, place in zip(spans, places, strict=True):
        inset = min(0.15 * line, (span.end - span.start) / 4)
        left = x + 0.6 * wide
        axes.plot([left, left], [span.start + inset, span.end - inset], color=INK, linewidth=1.2, clip_on=False)
        axes.plot([left, left + 0.9 * wide], [span.middle, place], color=LINE, linewidth=0.5, clip_on=False)
        colour = LINE if span.name in atoms else INK
        axes.text(left + 1.2 * wide, place, atoms.get(span.name, span.name), ha="left", va="center", fontsize=SMALL, color=colour)


def _row_spans(qp: ParamQP, found: Mapping[str, Pattern]) -> dict[str, list[Span]]:
    """Names of the rows of G and A, and of the bounds. A row of no constraint belongs to the last expansion that it touches."""
    n, m, k = qp.n, qp.m, qp.k
    owner = [""] * (k + m)
    sides: dict[str, list[str]] = {"lb": [], "ub": []}
    declared = {side: set(found[side].every.nonzero()[0].tolist()) if side in found else set() for side in sides}
    for multiplier in qp.multipliers:
        source = multiplier.source.array
        for place in source[source < k + m]:
            owner[place] = multiplier.name
        for side, first in (("lb", k + m), ("ub", k + m + n)):
            moved = source[(source >= first) & (source < first + n)] - first
            if len(moved):
                sides[side].append(multiplier.name)
                declared[side] -= set(moved.tolist())
    for side, left in declared.items():
        sides[side] += ["declared"] if left else []
    for place in range(k, k + m):
        owner[place] = owner[place] or _expansion(qp, place - k)
    spans = {"A": _grouped(owner[:k]), "G": _grouped(owner[k:])}
    spans |= {side: [Span(", ".join(names), 0.0, 1.0)] for side, names in sides.items() if names}
    return {letter: some for letter, some in spans.items() if some}


def _expansion(qp: ParamQP, row: int) -> str:
    G = qp.G.constant
    touched = G.indices[G.indptr[row] : G.indptr[row + 1]].max(initial=-1)
    return next((v.name for v in qp.expansions if v.start <= touched < v.start + v.size), "")


def _grouped(owner: Sequence[str]) -> list[Span]:
    spans, start = [], 0
    for name, run in groupby(owner):
        end = start + len(list(run))
        spans += [Span(name, start, end)] if name else []
        start = end
    return spans


def _spread(middles: Sequence[float], gap: float) -> list[float]:
    """Places at least ``gap`` apart, in order, as near to ``middles`` as a pool of pushed neighbours allows."""
    pools: list[tuple[float, int]] = []  # mean of middle - rank * gap, and how many
    for rank, middle in enumerate(middles):
        mean, count = middle - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, size = pools.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        pools.append((mean, count))
    return [mean + rank * gap for rank, mean in enumerate(mean for mean, count in pools for _ in range(count))]
