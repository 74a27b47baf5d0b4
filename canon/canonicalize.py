"""The pipeline: expand, extract, stuff, simplify; each stage verified before the next.

Problem -> Expanded -> Extracted -> ParamQP -> ParamQP with native bounds
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..dsl.expression import Expression
from ..dsl.later import Text
from ..dsl.printing import constraint_text
from ..dsl.problem import Problem
from .expand import expand
from .extract import extract
from .param_qp import ParamQP
from .program import Functions
from .signature import Names, Signature, Structure, lasting, outline, renamed, signature
from .simplify import simplify
from .soften import shift
from .specialize import Array, specialize
from .stuff import stuff


@dataclass(frozen=True)
class Canonical:
    """The canonical problem; the user's functions by the names its program uses, and these names by key.

    ``stuffed``: the problem before its rows became bounds, which is where constants are put in. ``shifts``: what the multipliers of
    some soft constraints hold besides those of their rows, by constraint. ``text``: the problem, printed.
    """

    qp: ParamQP
    stuffed: ParamQP
    functions: Functions
    function_names: dict[str, str]
    shifts: dict[str, Expression]
    text: Text


def canonicalize(problem: Problem) -> Canonical:
    """Compile a problem to its parametric QP; one of a structure that was met lately takes the form that it has already."""
    seen, names = outline(problem), Names.of(problem)
    alike = REMEMBERED.alike(seen)
    if not alike and lasting(problem):
        made = _canonicalize(problem)
        REMEMBERED.put(Entry(seen, names, _bare(made), problem=problem))
        return made
    try:
        own = signature(problem)
    except TypeError:  # something in it cannot be compared
        return _canonicalize(problem)
    found = REMEMBERED.get(own, alike)
    if found is None:
        made = _canonicalize(problem)
        entry = _entry(seen, own, names, made)
        if entry is not None:
            REMEMBERED.put(entry)
        return made
    functions = {name: own.functions[place][1] for place, name in found.functions}
    keys = {own.functions[place][0]: name for place, name in found.functions}
    shifts = _shifts(problem)
    if names == found.names:
        return replace(found.canonical, functions=functions, function_names=keys, shifts=shifts)
    said = _said(problem)
    qp, stuffed = (renamed(one, found.names, names, said) for one in (found.canonical.qp, found.canonical.stuffed))
    return Canonical(qp, stuffed, functions, keys, shifts, Text(partial(repr, problem)))


def _canonicalize(problem: Problem) -> Canonical:
    expanded = expand(problem)
    expanded.verify()
    names = problem.names
    extracted = extract(expanded, names)
    extracted.verify()
    stuffed = stuff(extracted, problem, _said(problem))
    stuffed.verify("stuff")
    simplified = simplify(stuffed)
    simplified.verify("simplify", stuffed)
    text = Text(partial(repr, problem))
    return Canonical(simplified, stuffed, extracted.functions, extracted.function_names, _shifts(problem), text)


def _said(problem: Problem) -> Callable[[str], Text]:
    """How the constraint of a name is printed."""
    names, constraints = problem.names, problem.constraints
    return lambda name: Text(partial(constraint_text, constraints[name], names))


def _shifts(problem: Problem) -> dict[str, Expression]:
    return {name: part for name, constraint in problem.constraints.items() if (part := shift(constraint)) is not None}


@dataclass(eq=False)
class Entry:
    """A canonical form and the names in it. Functions of the user's are held by no strong reference: ``alive`` finds them.

    ``functions``: which of the signature's has which name in the program, in the order of the program. ``problem``: whose structure
    it is, which is looked at when another problem has the same outline, and not before: most of them never meet one.
    """

    outline: int
    names: Names
    canonical: Canonical
    functions: tuple[tuple[int, str], ...] = ()
    alive: tuple[weakref.ref[Callable[..., Any]], ...] = ()
    structure: Structure | None = None
    problem: Problem | None = None

    def serves(self, own: Signature) -> bool:
        """Whether it is of this structure, and its functions are the very ones: an identity may have been given away again."""
        problem = self.problem  # another thread may be looking at it, too
        if problem is not None:
            with suppress(TypeError):  # something in it cannot be compared: then it serves none
                self.structure = signature(problem).structure
            self.problem = None
        if self.structure is None or self.structure != own.structure:
            return False
        return all(ref() is f for ref, (_, f) in zip(self.alive, own.functions, strict=True))


def _bare(made: Canonical) -> Canonical:
    """Without what is one problem's own."""
    return replace(made, functions={}, function_names={}, shifts={})


def _entry(seen: int, own: Signature, names: Names, made: Canonical) -> Entry | None:
    """What to remember; nothing, where a function cannot be referred to weakly."""
    try:
        alive = tuple(weakref.ref(function) for _, function in own.functions)
    except TypeError:
        return None
    if own.functions:  # what writes a text holds expressions, which hold functions
        made.text.write()
        for multiplier in (*made.qp.multipliers, *made.stuffed.multipliers):
            multiplier.said.write()
    places = {key: place for place, (key, _) in enumerate(own.functions)}
    known = tuple((places[key], name) for key, name in made.function_names.items())
    return Entry(seen, names, _bare(made), known, alive, own.structure)


class Remembered:
    """Canonical forms by structure, the latest ones; for several threads."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._entries: list[Entry] = []  # the latest last

    def alike(self, outline: int) -> list[Entry]:
        """Those with this outline, the latest first."""
        with self._lock:
            return [entry for entry in reversed(self._entries) if entry.outline == outline]

    def get(self, own: Signature, alike: list[Entry]) -> Entry | None:
        """The one among them that has this structure."""
        found = next((entry for entry in alike if entry.serves(own)), None)
        with self._lock:
            if found in self._entries:
                self._entries.remove(found)
                self._entries.append(found)
        return found

    def put(self, entry: Entry) -> None:
        """Remember a form; those whose functions are gone serve no longer."""
        with self._lock:
            living = [one for one in self._entries if None not in [ref() for ref in one.alive]]
            self._entries = [*living, entry][-self._size :]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries = []

    def __len__(self) -> int:
        return len(self._entries)


REMEMBERED = Remembered(64)


def specialized(canonical: Canonical, constants: Mapping[str, Array], known: Mapping[int, Array]) -> Canonical:
    """The same with some inputs made constants: see ``specialize``."""
    stuffed = specialize(canonical.stuffed, constants, known)
    stuffed.verify("specialize")
    stuffed.program.verify()
    simplified = simplify(stuffed)
    simplified.verify("simplify", stuffed)
    return replace(canonical, qp=simplified, stuffed=stuffed)
