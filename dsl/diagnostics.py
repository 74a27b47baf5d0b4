"""What is wrong with a model, where, why, and how to mend it.

A ``Diagnostic`` is one finding; an error carries all findings of one check and renders them together. Every message answers
four questions: what (the title), where (the smallest expression at fault, underlined), why (the rule and the facts that break
it), and how to mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from .span import Span, here


@dataclass(frozen=True)
class Diagnostic:
    """One finding. ``text`` is the expression printed by us, shown where the user's source cannot be read."""

    code: str
    title: str
    span: Span | None
    text: str
    label: str
    why: str
    mend: str

    def render(self) -> str:
        lines = [f"{self.title}  [{self.code}]"]
        place = self.span.resolve() if self.span is not None else None
        if place is not None:
            gutter = f"{place.line} | "
            underline = "^" * max(1, place.end_column - place.column)
            lines.append(f"  --> {PurePath(place.file).name}:{place.line}")
            lines.append(gutter + place.text)
            lines.append(" " * (len(gutter) - 2) + "| " + _blank(place.text[: place.column]) + f"{underline} {self.label}")
        elif self.text:
            lines += [f"  | {self.text}", f"  | {'^' * len(self.text)} {self.label}"]
        for head, body in (("why", self.why), ("mend", self.mend)):
            if body:
                lines.append(f"  {head:<5} " + body.replace("\n", "\n        "))
        return "\n".join(lines)


class KarushError(Exception):
    """Base of every error that karush raises on purpose."""


class ModelError(KarushError, ValueError):
    """The model as written cannot be used. ``diagnostics`` holds every finding."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("\n\n".join(finding.render() for finding in diagnostics))
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.diagnostics


class ShapeError(ModelError):
    """Shapes that do not fit together."""


class DefinitionError(ModelError):
    """A leaf, name, attribute, constant or option that cannot be accepted."""


class UsageError(ModelError, TypeError):
    """Python syntax that cannot mean what it seems to mean for a model."""


class DCPError(ModelError):
    """The problem is not a convex quadratic program by the rules of the language."""


class InternalError(KarushError, RuntimeError):
    """A fault of karush, not of the user's model: names the pass and attaches the text of its input."""


class Shaped(Protocol):
    """What an error of construction tells of an expression."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def shape_error(title: str, why: str, mend: str, *parts: Shaped) -> ShapeError:
    """Shapes that do not fit, at the user's line."""
    return ShapeError(Diagnostic("S01", title, here(), "", " and ".join(str(part.shape) for part in parts), why, mend))


def usage_error(title: str, part: Shaped, why: str, mend: str) -> UsageError:
    """An operation that has no meaning here, at the user's line."""
    return UsageError(Diagnostic("U02", title, here(), "", f"shape {part.shape}", why, mend))


def definition_error(code: str, title: str, why: str, mend: str = "") -> DefinitionError:
    """Something that cannot be accepted as given, at the user's line."""
    return DefinitionError(Diagnostic(code, title, here(), "", "here", why, mend))


def _blank(text: str) -> str:
    """Whitespace of the same width; tabs stay tabs so that carets keep their column."""
    return "".join("\t" if character == "\t" else " " for character in text)
