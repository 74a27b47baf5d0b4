"""What was compiled, and what follows from it: the facts as a frozen object, and one telling of them for text and for notebooks."""

from __future__ import annotations

import html
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from ..canon.blocks import Block, is_view
from ..canon.factors import Entries
from ..canon.param_qp import ParamQP
from ..canon.structure import Pattern, expansion_labels, inputs_of, patterns, rank_bound, separate, without_curvature
from .cpu import machine
from .cpu.engine import LARGE, LARGEST, dual_pays
from .find import CACHE, part_size
from .measure import Measured
from .options import Options
from .plan import plan_of
from .rows import all_rows
from .sparse.choose import FEW, Choice, choice
from .sparse.tables import counted

LONGEST = 44  # characters of an expression of parameters in a table
WIDTH = 100  # of running text
STEPS = 30  # lines of the program of derived parameters that are shown


@dataclass(frozen=True)
class Sizes:
    """How many variables, inequalities and equalities: as the user wrote them, and in the canonical problem.

    ``lower`` and ``upper`` are variables with a bound of their own, which are not rows of G.
    """

    variables: int
    inequalities: int
    equalities: int
    n: int
    m: int
    k: int
    lower: int
    upper: int


@dataclass(frozen=True)
class BlockFacts:
    """A block: its shape, how many entries may differ from zero, and the parameters that it depends on (none: it is constant)."""

    letter: str
    shape: tuple[int, int]
    entries: int
    parameters: tuple[str, ...]
    diagonal: bool


@dataclass(frozen=True)
class Entry:
    """Where a parameter enters: how many entries of a block it can change, by which routes, through which expressions of it."""

    letter: str
    entries: int
    routes: tuple[str, ...]
    through: tuple[str, ...]


@dataclass(frozen=True)
class ParameterFacts:
    """A parameter as declared, whether it is a weight of the layer, and where it enters."""

    name: str
    shape: tuple[int, ...]
    attributes: tuple[str, ...]
    weight: bool
    enters: tuple[Entry, ...]


@dataclass(frozen=True)
class Note:
    """Something that the structure implies, and what can be done about it."""

    title: str
    text: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What ``layer.explain()`` returns: facts to read in code, that print as text and show as tables in notebooks.

    ``places``: variables and constraints, and the columns, rows and bounds where they are. ``program``: the derived parameters,
    computed once a call. ``rank``: a number that the rank of Q never exceeds. ``separable``: number of independent problems.
    ``measured``: times and tips, where inputs were given.
    """

    problem: str
    sizes: Sizes
    places: tuple[tuple[str, str, str], ...]
    blocks: tuple[BlockFacts, ...]
    parameters: tuple[ParameterFacts, ...]
    program: tuple[str, ...]
    rank: int
    separable: int
    notes: tuple[Note, ...]
    engine: tuple[str, ...]
    measured: Measured | None = None

    def __str__(self) -> str:
        lines = [self.problem]
        for title, head, rows in self._tables():
            lines += ["", title, *_aligned(([head] if head else []) + rows)]
        for tip in self.measured.tips if self.measured else ():
            lines += ["", tip.title, *_wrapped(tip.text, "  ")]
        for note in self.notes:
            lines += ["", f"{note.title}", *_wrapped(note.text, "  ")]
            for number, remedy in enumerate(note.remedies, 1):
                lines += _wrapped(f"{number}. {remedy}", "  ")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f'<{tag} style="text-align:left">{html.escape(cell)}</{tag}>' for cell in cells) + "</tr>"

        parts = [f"<pre>{html.escape(self.problem)}</pre>"]
        for title, head, rows in self._tables():
            body = (row(head, "th") if head else "") + "".join(row(cells, "td") for cells in rows)
            parts.append(f"<p><b>{html.escape(title)}</b></p><table>{body}</table>")
        tips = self.measured.tips if self.measured else ()
        parts += [f"<p><b>{html.escape(tip.title)}</b> {html.escape(tip.text)}</p>" for tip in tips]
        for note in self.notes:
            remedies = "".join(f"<li>{html.escape(remedy)}</li>" for remedy in note.remedies)
            parts.append(f"<p><b>{html.escape(note.title)}</b> {html.escape(note.text)}</p><ol>{remedies}</ol>")
        return "".join(parts)

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, head and rows of every table."""
        s = self.sizes
        bounds = " and ".join(f"{count} {side} bounds" for count, side in ((s.lower, "lower"), (s.upper, "upper")) if count)
        sizes = [
            ["variables", str(s.variables), f"n = {s.n}"],
            ["inequalities", str(s.inequalities), f"m = {s.m} rows of G" + (f", {bounds}" if bounds else "")],
            ["equalities", str(s.equalities), f"k = {s.k} rows of A"],
        ]
        blocks = []
        for block in self.blocks:
            rows, cols = block.shape
            size = str(rows) if cols == 1 else f"{rows} x {cols}"
            filled = f"{block.entries} of {rows * cols}" + (", diagonal" if block.diagonal else "") if block.entries else "zero"
            depends = ", ".join(block.parameters) or "constant: computed once, shared by all items"
            blocks.append([block.letter, size, filled, depends])
        parameters = []
        for item in self.parameters:
            declared = " ".join([*item.attributes, *(["weight"] if item.weight else [])])
            head = [item.name, str(item.shape), declared]
            told = [[e.letter, _entries(e.entries), ", ".join(e.routes) + _through(e)] for e in item.enters]
            parameters += [
                (head if not i else ["", "", ""]) + line for i, line in enumerate(told or [["", "", "reaches no block"]])
            ]
        tables: list[tuple[str, list[str], list[list[str]]]] = [
            ("Sizes", ["", "as written", "canonical"], sizes),
            ("Where things are", [], [list(place) for place in self.places]),
            ("Blocks", ["", "size", "entries", "depends on"], blocks),
        ]
        if parameters:
            tables.append(("Parameters", ["", "shape", "", "enters", "", "by"], parameters))
        if self.program:
            shown = [[line] for line in self.program[:STEPS]]
            more = len(self.program) - STEPS
            tables.append(("Computed once a call", [], shown + ([[f"... and {more} more"]] if more > 0 else [])))
        tables.append(("Engine", [], [[line] for line in self.engine]))
        if self.measured:
            times = [[time.stage, f"{time.ms:.3g} ms", f"{100 * time.share:.0f} %"] for time in self.measured.stages]
            tables.append((f"Measured: {self.measured.what}", [], times))
        return tables


def explain(qp: ParamQP, text: str, weights: tuple[str, ...], options: Options) -> Explanation:
    """Gather the facts of a canonical problem. ``text``: the problem as the user wrote it."""
    found = patterns(qp)
    sizes = _sizes(qp, found)
    there = {
        letter: pattern
        for letter, pattern in found.items()
        if pattern.every.shape[0] and (letter != "constant" or pattern.every.nnz)
    }
    blocks = tuple(_block_facts(letter, pattern) for letter, pattern in there.items())
    rank, separable = rank_bound(qp, found["Q"]), separate(found)
    columns = [(v.name, str(v.shape), f"x[{v.start}:{v.start + v.size}]") for v in qp.variables]
    labels = expansion_labels(qp)
    columns += [(labels[v.name], str(v.shape), f"x[{v.start}:{v.start + v.size}], in place of an atom") for v in qp.expansions]
    rows = [(rows.name, str(rows.shape), rows.describe()) for rows in all_rows(qp) if len(rows)]
    rows += [(fact.name, "", "no variable in it: checked at every call") for fact in qp.assumptions]
    return Explanation(
        text,
        sizes,
        (*columns, *rows),
        blocks,
        _parameters(qp, found, weights),
        _program(qp),
        rank,
        separable,
        tuple(_notes(qp, found, sizes, rank, separable, options)),
        _engine(qp, options, any(block.letter == "Q" and block.diagonal and not block.parameters for block in blocks)),
    )


def _program(qp: ParamQP) -> tuple[str, ...]:
    """The steps that compute something, with parameters by name."""
    names = {str(slot): dict(step.data)["name"] for slot, step in enumerate(qp.program.steps) if step.op == "input"}
    steps = (f"%{slot} = {step}" for slot, step in enumerate(qp.program.steps) if step.op != "input")
    return tuple(re.sub(r"%(\d+)", lambda found: str(names.get(found[1], found[0])), step) for step in steps)


def _sizes(qp: ParamQP, found: Mapping[str, Pattern]) -> Sizes:
    written = sum(v.size for v in qp.variables)
    equalities = sum(len(m.source.array) for m in qp.multipliers if (m.source.array < qp.k).all())
    inequalities = sum(len(m.source.array) for m in qp.multipliers) - equalities
    lower, upper = (int(found[side].every.nnz) if side in found else 0 for side in ("lb", "ub"))
    return Sizes(written, inequalities, equalities, qp.n, qp.m, qp.k, lower, upper)


def _block_facts(letter: str, pattern: Pattern) -> BlockFacts:
    coo = pattern.every.tocoo()
    names = tuple(sorted(name for name, part in pattern.by.items() if part.nnz))
    rows, cols = pattern.every.shape
    return BlockFacts(letter, (rows, cols), int(coo.nnz), names, bool(coo.nnz and rows == cols > 1 and (coo.row == coo.col).all()))


def _parameters(qp: ParamQP, found: Mapping[str, Pattern], weights: tuple[str, ...]) -> tuple[ParameterFacts, ...]:
    inputs = inputs_of(qp.program)
    routes: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def add(letter: str, slot: int, route: str) -> None:
        through = "" if qp.program.steps[slot].op == "input" else qp.program.text(slot)
        for name in inputs[slot]:
            if name in found[letter].by and found[letter].by[name].nnz:
                told = routes.setdefault((name, letter), [])
                told += [(route, through)] if (route, through) not in told else []

    for letter, block in qp.blocks.items():
        for entries in block.entries:
            add(letter, entries.slot, _route(entries, block, qp.program.sizes[entries.slot]))
        for placed in block.products:
            for factor in placed.term:
                if isinstance(factor, Entries):
                    add(letter, factor.slot, "product")
    for gram in qp.grams:
        middle = [gram.P.slot] if isinstance(gram.P, Entries) else []
        slots = dict.fromkeys([*gram.E.slots, *gram.e.slots, *gram.weight.slots, *middle])
        for letter in ("Q", "p", "constant"):
            for slot in slots:
                add(letter, slot, "Gram product")
    for letter, block in qp.gates.blocks.items():
        for slot in block.slots:
            for target in {"G": ("G", "h"), "A": ("A", "b")}.get(letter, (letter,)):
                add(target, slot, "switching rows on and off")
    facts = []
    for item in qp.inputs:
        enters = [
            Entry(
                letter,
                int(pattern.by[item.name].nnz),
                tuple(dict.fromkeys(route for route, _ in routes[item.name, letter])),
                tuple(dict.fromkeys(through for _, through in routes[item.name, letter] if through)),
            )
            for letter, pattern in found.items()
            if (item.name, letter) in routes
        ]
        facts.append(ParameterFacts(item.name, item.shape, item.attributes.declared, item.name in weights, tuple(enters)))
    return tuple(facts)


def _route(entries: Entries, block: Block, size: int) -> str:
    uniform = len(entries.weight) > 0 and np.ptp(entries.weight) == 0
    if not uniform or not is_view(entries, block.shape, size):
        return "gather"
    return "view" if entries.weight[0] == 1 else f"scale by {entries.weight[0]:g}"


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _through(entry: Entry) -> str:
    texts = [text if len(text) <= LONGEST else f"{text[:LONGEST]} ..." for text in entry.through]
    return f" of {', '.join(texts)}" if texts else ""


def _notes(qp: ParamQP, found: Mapping[str, Pattern], sizes: Sizes, rank: int, separable: int, options: Options) -> list[Note]:
    """What the structure implies for speed, uniqueness and gradients."""
    notes = []
    if qp.bound:
        names = ", ".join(item.name for item in qp.bound)
        notes.append(Note("Bound.", f"Constants by layer.bind: {names}. What depends on them alone was computed then."))
    flat = _flat(qp, found, sizes, rank)
    if options.regularize:
        notes.append(Note("Regularized.", f"{options.regularize:g}/2 |x|² is added to the objective: Q is positive definite."))
    elif flat:
        notes.append(Note(*flat, _remedies()))
    if separable > 1:
        notes.append(Note("Separable.", f"{separable} groups of variables share no term and no row: independent problems."))
    if qp.grams:
        rows = ", ".join(str(gram.E.shape[0]) for gram in qp.grams)
        text = (
            f"The squares of E x + e ({rows} rows), where E depends on parameters, add 2 E'E to Q by a product at each call. "
            "Lifting them, with new variables and equality rows, would keep Q sparse; a dense engine gains nothing by that."
        )
        notes.append(Note("Gram, not lifted.", text))
    if not qp.m and not sizes.lower and not sizes.upper:
        notes.append(Note("No inequalities.", "One factorization solves it; there is no iteration."))
    elif not qp.m and not qp.k:
        notes.append(Note("A box.", "Bounds are the only constraints; they are kept on the diagonal and never become rows."))
    return notes


def _flat(qp: ParamQP, found: Mapping[str, Pattern], sizes: Sizes, rank: int) -> tuple[str, str] | None:
    """Title and text where Q leaves directions without curvature for all values of the parameters."""
    moves = (
        "its derivative with respect to the cost is zero almost everywhere. Where the optimum is not unique, x is one optimal "
        "point and its gradient the one of least norm; solution.gradient_flags marks these items."
    )
    corner = f"A unique optimum is a corner of the feasible set and stays there while the cost turns a little: {moves}"
    partly = f"Along directions without curvature x is held by constraints alone, and stays while the cost turns a little: {moves}"
    named = ", ".join(
        name if count == next(v.size for v in qp.variables if v.name == name) else f"{_entries(count)} of {name}"
        for name, count in without_curvature(found["Q"], qp.variables)
    )
    if not found["Q"].every.nnz:
        return "Q is structurally zero: this is a linear program.", corner
    if named:
        return f"Q is structurally singular: this is a linear program in {named}.", partly
    if rank < sizes.variables:
        few = f"Q has rank {rank} at most, for {sizes.variables} variables as written: it is structurally singular."
        return few, partly
    return None


def _remedies() -> tuple[str, ...]:
    smooth = "smoothing" in [field.name for field in fields(Options)]
    return (
        "regularize=delta in kr.compile adds delta/2 |x|²: a unique x that moves with the cost, the same forward and backward",
        *(
            ("smoothing=mu in kr.compile stops on the central path: x moves with the cost and stays inside the constraints",)
            if smooth
            else ()
        ),
        "differentiate solution.objective instead of x: the envelope theorem makes its gradient exact for linear programs too",
    )


def _engine(qp: ParamQP, options: Options, weights: bool) -> tuple[str, ...]:
    """Which engine is asked, why, and how much at a time. ``weights``: Q is constant and diagonal."""
    size, chosen = (qp.n, qp.m, qp.k), choice(qp, options)
    dual, system = (
        weights and not options.batch_invariant and dual_pays(qp.n, qp.m + qp.k),
        f"one {qp.n} x {qp.n} system per problem",
    )
    # With batch_invariant it is decided once, for every batch.
    least = (1 if chosen.least <= FEW else math.inf) if options.batch_invariant else chosen.least
    sparse = _sparse_engine(qp, chosen, least) if chosen.sparse and least < math.inf else ()
    if chosen.only:
        return (*sparse, "others no other engine takes matrices of this size")
    if sparse and least == 1:
        return (*sparse, "others solve what is not float64 on a CPU, smoothed or under torch.func: dense")
    if options.backend == "torch":
        compiled = "not asked, because backend='torch'"
    elif qp.n > LARGEST:
        compiled = f"not asked: beyond n = {LARGEST} the blocked factorizations of torch win"
    else:
        few = machine.lanes().W * qp.n // LARGE
        beside = "one problem at a time, its rows in vector registers"
        if dual:
            system = f"{system}; with a diagonal Q on a CPU, {qp.m + qp.k} x {qp.m + qp.k}"
        elif qp.n < LARGE:
            beside = (
                f"one problem per vector lane; in batches up to {few}, one at a time" if few > 1 else "one problem per vector lane"
            )
        compiled = (
            f"asked for float64 on a CPU: {beside}; on several threads where there is work for them; it keeps what it can prove"
        )
    return (
        *sparse,
        f"cpu    {compiled}",
        f"torch  solves all the rest: dense, any device; {part_size(size, 8, CACHE)} problems at a time on a CPU",
        f"both   eliminate rows and bounds into {system}",
        *((f"sparse not asked: {chosen.why}",) if chosen.why and not chosen.sparse else ()),
    )


def _sparse_engine(qp: ParamQP, chosen: Choice, least: float) -> tuple[str, ...]:
    """What it works on, and what else there is."""
    structure = plan_of(qp).structure
    analysis, system = structure.analysis, counted(structure)
    together = []
    if system is not None:
        apart = f", {int(system.apart.sum())} long rows set apart" if system.apart.any() else ""
        together = [f"batches  side by side, {system.products:,} products for {system.stored:,} entries of each factor{apart}"]
    asked = f"asked for float64 on a CPU{f', in batches from {least} on' if least > 1 else ''}"
    return (
        f"sparse {asked}: {chosen.why}",
        *(f"       {line}" for line in together),
        f"       {'few      ' if together else ''}one by one, {analysis.N:,} rows, {analysis.stored:,} entries of the factor, "
        f"fronts up to {analysis.largest}",
    )


def _aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width, two blanks between; the last is as long as it likes."""
    widths = [max((len(row[i]) for row in rows if i < len(row) - 1), default=0) for i in range(max(map(len, rows), default=0))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
