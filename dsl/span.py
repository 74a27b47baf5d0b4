"""Where in the user's source a node was written.

Python 3.11 keeps line and column ranges for every instruction. Remembering the running instruction of the user's frame costs
about a microsecond; turning it into a line and columns is done only when an error has to be shown.
"""

from __future__ import annotations

import linecache
import sys
from dataclasses import dataclass
from itertools import islice
from types import CodeType, FrameType


@dataclass(frozen=True)
class Place:
    """A range of one source line: 1-based line, 0-based columns counted in characters, end exclusive."""

    file: str
    line: int
    column: int
    end_column: int
    text: str


class Span:
    """A lazily resolved place. Pickling and copying resolve it, because code objects do not travel."""

    __slots__ = ("_code", "_instruction", "_place")

    def __init__(self, code: CodeType | None, instruction: int, place: Place | None = None) -> None:
        self._code = code
        self._instruction = instruction
        self._place = place

    def resolve(self) -> Place | None:
        """The place, or None where Python kept no columns or the source cannot be read (a REPL, a stripped package)."""
        if self._place is None and self._code is not None:
            self._place = _place(self._code, self._instruction)
            self._code = None
        return self._place

    def __reduce__(self) -> tuple[object, ...]:
        return Span, (None, 0, self.resolve())


def here() -> Span | None:
    """The span of the innermost running expression outside this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != "karush" and not module.startswith("karush."):
            linecache.lazycache(frame.f_code.co_filename, frame.f_globals)  # sources inside zipped packages
            return Span(frame.f_code, frame.f_lasti)
        frame = frame.f_back
    return None


def _place(code: CodeType, instruction: int) -> Place | None:
    line, end_line, start, end = next(islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    if line is None or start is None or end is None:
        return None
    text = linecache.getline(code.co_filename, line).rstrip("\n")
    if not text:
        return None
    raw = text.encode()
    first = len(raw[:start].decode(errors="replace"))
    last = len(raw[:end].decode(errors="replace")) if end_line == line else len(text)
    return Place(code.co_filename, line, first, last, text)
