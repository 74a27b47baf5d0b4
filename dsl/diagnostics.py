"""What is wrong with a model, where, why, and how to mend it.

A ``Diagnostic`` is one finding; an error carries all findings of one check and renders them together. Every message answers
four questions: what (the title), where (the smallest expression at fault, underlined, and where its parts were declared), why (the
rule and the facts that break it), and how to mend it (likeliest first). Codes are stable; ``codes`` lists them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .printing import text
from .render import Mark, message
from .source import argument, bracketed, names, sides, spoken
from .span import Place, Span, here

if TYPE_CHECKING:  # expressions complain with this module
    from .expression import Expression

NEAR = 2  # declarations shown beside an expression at fault


@dataclass(frozen=True)
class Note:
    """A place that belongs to a finding: where something was declared."""

    span: Span | Place | None
    label: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding. ``text`` is the expression printed by us, shown where the user's source cannot be read.

    ``why`` and ``mend`` are plain text; each line of ``mend`` is one way, likeliest first.
    """

    code: str
    title: str
    span: Span | Place | None
    text: str
    label: str
    why: str
    mend: str
    notes: tuple[Note, ...] = ()

    def render(self) -> str:
        """The message."""
        first = _resolved(self.span) or Place("", 0, 0, 0, 0, ())
        marks = [Mark(first, self.label, "^")]
        for note in self.notes:
            place = _resolved(note.span)
            if place is not None and not first.holds(place):  # what is underlined already needs no second line
                marks.append(Mark(place, note.label, "-"))
        return message(self.title, self.code, marks, self.text, self.why, self.mend)


def _resolved(span: Span | Place | None) -> Place | None:
    return span.resolve() if isinstance(span, Span) else span


class KarushError(Exception):
    """Base of every error that karush raises on purpose. ``diagnostics`` holds every finding."""

    __module__ = "karush"  # where users find it; a traceback says so
    diagnostics: tuple[Diagnostic, ...] = ()


class DiagnosedError(KarushError):
    """An error made of findings."""

    __module__ = "karush"

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("\n\n".join(finding.render() for finding in diagnostics))
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.diagnostics


class ModelError(DiagnosedError, ValueError):
    """The model as written cannot be used. ``diagnostics`` holds every finding."""

    __module__ = "karush"


class ShapeError(ModelError):
    """Shapes that do not fit together."""

    __module__ = "karush"


class DefinitionError(ModelError):
    """A leaf, name, attribute, constant or option that cannot be accepted."""

    __module__ = "karush"


class UsageError(ModelError, TypeError):
    """Python syntax that cannot mean what it seems to mean for a model."""

    __module__ = "karush"


class MissingError(UsageError, AttributeError):
    """An attribute that expressions do not have, and where it is to be found."""

    __module__ = "karush"


class DCPError(ModelError):
    """The problem is not a convex quadratic program by the rules of the language."""

    __module__ = "karush"


class InternalError(KarushError, RuntimeError):
    """A fault of karush, not of the user's model: names the pass and attaches the text of its input."""

    __module__ = "karush"

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"a fault of karush, not of your model; please report it with the text below\n{self.what}"


FAMILIES: dict[str, type[ModelError]] = {"S": ShapeError, "N": DefinitionError, "U": UsageError, "D": DCPError}


def together(findings: Sequence[Diagnostic]) -> ModelError:
    """One error for all findings: of their family, or a ModelError where families meet."""
    families = {FAMILIES.get(finding.code[0], DefinitionError) for finding in findings}
    return (families.pop() if len(families) == 1 else ModelError)(*findings)


# Errors at the user's running line


def shape_error(title: str, why: str, mend: str, *parts: Expression, code: str = "S01") -> ShapeError:
    """Shapes that do not fit: what each part is, and where it was declared. ``{0}``, ``{1}`` in ``mend`` stand for the parts."""
    span = here()
    said = sides(span, *parts)
    for index, name in enumerate(said):
        slot, tight = f"{{{index}}}", bracketed(name)
        mend = mend.replace(f"{slot}.T", name[:-2] if name.endswith(".T") else f"{tight}.T")
        mend = mend.replace(f"{slot} @", f"{tight} @").replace(f"@ {slot}", f"@ {tight}")
        mend = mend.replace(f"{slot}[", f"{tight}[").replace(slot, name)
    label = ", ".join(f"{_brief(name)} has shape {part.shape}" for name, part in zip(said, parts, strict=True))
    return ShapeError(Diagnostic(code, title, span, "", label, why, mend, declarations(parts, span)))


def usage_error(title: str, part: Expression, why: str, mend: str, *, code: str = "U10", label: str = "") -> UsageError:
    """An operation that has no meaning here."""
    span = here()
    (said,) = spoken(part, at=span)
    return UsageError(Diagnostic(code, title, span, said, label or nature(part, said), why, mend))


def definition_error(
    code: str, title: str, why: str, mend: str = "", *, at: Sequence[str | int] = (), label: str = ""
) -> DefinitionError:
    """Something that cannot be accepted as given. ``at``: keyword or position of the argument at fault; the first found counts."""
    span = here()
    place = next((found for which in at if (found := argument(span, which)) is not None), span)
    return DefinitionError(Diagnostic(code, title, place, "", label, why, mend))


def require(package: str, what: str, extra: str) -> None:
    """Refuse to go on without an optional package."""
    try:
        importlib.import_module(package)
    except ImportError as missing:
        why = f"{package} is not installed" if isinstance(missing, ModuleNotFoundError) else f"{package} fails on import: {missing}"
        raise definition_error("X02", f"{what} needs {package}", why, f"pip install '{extra}'") from None


# Words and places


def declarations(parts: Iterable[Expression], span: Span | None = None, say: str = "{name} is declared here") -> tuple[Note, ...]:
    """Where the leaves among ``parts`` were declared, if that is not the line of the error itself."""
    line = None if span is None or (place := span.resolve()) is None else (place.file, place.line)
    notes = []
    for part in dict.fromkeys(part for part in parts if hasattr(part, "key")):
        place = None if part.span is None else part.span.resolve()
        if place is not None and (place.file, place.line) != line:
            (name,) = spoken(part)
            notes.append(Note(place, say.format(name=name, shape=part.shape)))
    return tuple(notes[:NEAR])


def nature(part: Expression, said: str) -> str:
    """What an expression is, in a few words."""
    kind = type(part).__name__.lower()
    if kind in ("variable", "parameter"):
        return f"{said} is a {kind}" if said != kind else f"this is a {kind}"
    inside = _leaf_names(part)
    return f"depends on {', '.join(inside)}" if inside else "an expression without variables"


def _leaf_names(part: Expression) -> list[str]:
    """Names of the variables of an expression, else of its parameters; a few of them."""
    known = names(part)
    found: dict[str, dict[str, None]] = {"Variable": {}, "Parameter": {}}
    seen: set[int] = set()
    stack = [part]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            stack.extend(reversed(node.args))
            if type(node).__name__ in found:
                found[type(node).__name__][text(node, known)] = None
    chosen = list(found["Variable"] or found["Parameter"])
    return chosen if len(chosen) <= 3 else [*chosen[:3], "..."]


def _brief(said: str) -> str:
    return f"the {said}" if said in ("variable", "parameter") else said if len(said) <= 40 else "a part"
