"""Where in the user's source a node was written.

Python 3.11 keeps line and column ranges for every instruction. Remembering the running instruction of the user's frame costs
about a microsecond; turning it into lines and columns, and finding the source text, is done only when an error has to be shown.
"""

from __future__ import annotations

import ast
import linecache
import sys
from dataclasses import dataclass
from itertools import islice
from types import CodeType, FrameType

# Frames of these packages stand between the user's expression and us: S @ x of SciPy, layer(x) through nn.Module.
BETWEEN = frozenset({"karush", "numpy", "scipy", "torch", "dataclasses", "functools"})
_between: set[str] = set()  # modules of theirs that were met


@dataclass(frozen=True)
class Place:
    """A range of source text. Lines count from 1; columns from 0, in characters, the last one exclusive.

    ``lines`` are the whole source lines from ``line`` to ``end_line``; none where no source can be read.
    """

    file: str
    line: int
    end_line: int
    column: int
    end_column: int
    lines: tuple[str, ...]
    scope: str = ""  # the function that it stands in

    @property
    def text(self) -> str:
        """The expression itself, as written."""
        if not self.lines:
            return ""
        *before, last = self.lines
        return "\n".join([*before, last[: self.end_column]])[self.column :]

    def holds(self, other: Place) -> bool:
        """Whether the other place is a part of this one."""
        start, end = (self.line, self.column), (self.end_line, self.end_column)
        return self.file == other.file and start <= (other.line, other.column) and (other.end_line, other.end_column) <= end

    def inside(self, line: int, end_line: int, column: int, end_column: int) -> Place:
        """A part of this place, by absolute lines and columns."""
        kept = self.lines[line - self.line : end_line - self.line + 1]
        return Place(self.file, line, end_line, column, end_column, kept, self.scope)


class Span:
    """A lazily resolved place. Pickling and copying resolve it, because code objects do not travel."""

    __slots__ = ("_code", "_instruction", "_place")

    def __init__(self, code: CodeType | None, instruction: int, place: Place | None = None) -> None:
        self._code = code
        self._instruction = instruction
        self._place = place

    def resolve(self) -> Place | None:
        """The place; without lines where the source cannot be read, None where Python did not even keep positions."""
        code = self._code  # another thread may be resolving it, too
        if self._place is None and code is not None:
            self._place = _place(code, self._instruction)
            self._code = None
        return self._place

    def __reduce__(self) -> tuple[object, ...]:
        return Span, (None, 0, self.resolve())


def here() -> Span | None:
    """The span of the innermost running expression outside this package and the libraries that call it."""
    frame: FrameType | None = sys._getframe(1)
    between = _between
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module not in between:
            if module.partition(".")[0] not in BETWEEN:
                return Span(frame.f_code, frame.f_lasti)
            _between.add(module)
        frame = frame.f_back
    return None


def asked_by(package: str) -> bool:
    """Whether the function that called the running one stands in a package."""
    name = str(sys._getframe(2).f_globals.get("__name__") or "")
    return name == package or name.startswith(f"{package}.")


def calling() -> Place | None:
    """The user's running line, without its text: for what is at fault in a model of another library."""
    span = here()
    place = None if span is None else span.resolve()
    return place and Place(place.file, place.line, place.end_line, 0, 0, (), place.scope)


def _place(code: CodeType, instruction: int) -> Place | None:
    line, end_line, start, end = next(islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    if line is None:
        return None
    source = _source(code)
    end_line = line if end_line is None else end_line
    lines = tuple(text.rstrip("\r\n") for text in source[line - 1 : end_line])
    bare = Place(code.co_filename, line, end_line, 0, 0, (), code.co_qualname)
    if start is None or end is None:  # Python was told to keep no columns
        return bare
    if (
        len(lines) <= end_line - line or len(lines[-1].encode()) < end or not lines[0].encode()[start:].strip()
    ):  # the file has changed since
        return bare
    column, end_column = _characters(lines[0], start), _characters(lines[-1], end)
    return _checked(Place(code.co_filename, line, end_line, column, end_column, lines, code.co_qualname)) or bare


def _characters(line: str, count: int) -> int:
    """Python counts columns in bytes of UTF-8."""
    return len(line.encode()[:count].decode(errors="replace"))


def _checked(place: Place) -> Place | None:
    """The place, if the text there can be what ran: files change while programs run, and names of sources repeat.

    A condition is asked by its whole statement; what is shown of that is the condition.
    """
    text = place.text
    try:
        ast.parse(f"({text}\n)", mode="eval")
        return place
    except (SyntaxError, ValueError):
        pass
    lines = " " * place.column + text.replace("elif", "  if", 1) if text.startswith("elif") else " " * place.column + text
    try:
        statement: ast.stmt | None = ast.parse(f"if 1:\n {lines}").body[0]
    except (SyntaxError, ValueError):
        return None
    inner = statement.body[0] if isinstance(statement, ast.If) else None
    if not isinstance(inner, ast.If | ast.While | ast.Assert) or inner.test.end_lineno is None or inner.test.end_col_offset is None:
        return None
    first, last = inner.test.lineno - 2, inner.test.end_lineno - 2
    source = lines.splitlines()
    start = _characters(source[first], inner.test.col_offset - (first == 0))
    end = _characters(source[last], inner.test.end_col_offset - (last == 0))
    return place.inside(place.line + first, place.line + last, start, end)


def _source(code: CodeType) -> list[str]:
    """The lines of the source that the code was compiled from: a file, what a notebook or console registered, a zipped package."""
    name = code.co_filename
    if name == "<string>" and (command := _command(code)):
        return command
    lines = linecache.getlines(name)
    if not lines:  # a copy, for other threads may import while we look
        for module in list(sys.modules.values()):
            scope = getattr(module, "__dict__", {})
            if scope.get("__file__") == name:
                return linecache.getlines(name, scope)
    return lines


def _command(code: CodeType) -> list[str]:
    """What stands behind ``python -c``, if the code comes from there: text given to exec has the same name."""
    arguments = sys.orig_argv
    if "-c" not in arguments[:-1]:
        return []
    source = arguments[arguments.index("-c") + 1]
    try:
        known = [compile(source, code.co_filename, "exec", dont_inherit=True)]
    except (SyntaxError, ValueError):
        return []
    for one in known:  # grows while it is read: functions are constants of the code around them
        known.extend(constant for constant in one.co_consts if isinstance(constant, CodeType))
    return source.splitlines() if code in known else []
