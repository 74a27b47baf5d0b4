"""How a finding is drawn: the user's lines with what is at fault underlined, and what belongs to it.

    a coefficient of unknown sign  [D02]
      --> portfolio.py:6
    3 | gamma = kr.Parameter(name="gamma")
      |         -------------------------- gamma is declared without a sign
      ...
    6 | cost = gamma * kr.sum_squares(x)
      |        ^^^^^ scales a convex expression
      why   ...
      mend  ...

Carets stand in the column in which a terminal shows the text: wide characters take two, combining marks none, tabs go to the next
stop. Indentation that all shown lines share is dropped; of long expressions the middle is.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from .span import Place

WIDTH = 100  # columns of a message; source lines beyond it are cut around what is underlined
LINES = 4  # of an expression over more, the middle is left out
TAB = 4


@dataclass(frozen=True)
class Mark:
    """Something to underline."""

    place: Place
    label: str
    stroke: str


def message(title: str, code: str, marks: Sequence[Mark], printed: str, why: str, mend: str) -> str:
    """The whole finding. Where no source can be read, ``printed`` is underlined, with the label of the first mark."""
    lines = [f"{title}  [{code}]"]
    shown = [mark for mark in marks if mark.place.lines]
    if marks and marks[0].place.lines:
        lines += _source(shown)
    else:
        if marks and marks[0].place.file:
            lines.append(f"  --> {_name(marks[0].place.file)}:{marks[0].place.line}")
        label = marks[0].label if marks else ""
        if printed:
            short = printed if len(printed) <= WIDTH - 8 else f"{printed[: WIDTH - 12]} ..."
            lines += [f"  | {short}", *_underlined("  | ", 0, len(short), "^", label)]
        elif label:
            lines.append(f"  | {label}")
    for heads, body in ((("why", ""), why), (("mend", "or"), mend)):
        for index, paragraph in enumerate(body.splitlines()):
            wrapped = textwrap.wrap(paragraph, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
            head = f"  {heads[0]:<4}" if index == 0 else f"{heads[1]:>6}"
            lines += [f"{head}  {wrapped[0]}", *(" " * 8 + line for line in wrapped[1:])]
    return "\n".join(lines)


def _source(marks: Sequence[Mark]) -> list[str]:
    """The marked lines, file by file; the file of the first mark comes first and is named with its line."""
    width = max(len(str(mark.place.end_line)) for mark in marks)
    lines: list[str] = []
    for file in dict.fromkeys(mark.place.file for mark in marks):
        inside = [mark for mark in marks if mark.place.file == file]
        lines.append(f"  --> {_name(file)}:{inside[0].place.line}")
        previous = None
        for mark in sorted(inside, key=lambda mark: (mark.place.line, -mark.place.column)):
            if previous is not None and mark.place.line > previous.end_line + 1:
                lines.append(f"{'':>{width}} ...")
            drawn = _marked(mark, width)
            again = previous is not None and previous.line == previous.end_line == mark.place.line and drawn[0] in lines
            lines += drawn[again:]
            previous = mark.place
    return lines


def _marked(mark: Mark, width: int) -> list[str]:
    place = mark.place
    texts = [text.expandtabs(TAB) for text in place.lines]
    indent = min(len(text) - len(text.lstrip()) for text in texts if text.strip())
    count = len(texts)
    lines = []
    for index, text in enumerate(texts):
        if count > LINES and 2 <= index < count - 1:
            if index == 2:
                lines.append(f"{'':>{width}} ...")
            continue
        raw = place.lines[index]
        own = len(text) - len(text.lstrip())
        start = len(raw[: place.column].expandtabs(TAB)) if index == 0 else own
        end = len(raw[: place.end_column].expandtabs(TAB)) if index == count - 1 else len(text.rstrip())
        text, start, end = _window(text[indent:], start - indent, max(end, start + 1) - indent)
        lines.append(f"{place.line + index:>{width}} | {text}")
        gutter = f"{'':>{width}} | "
        label = mark.label if index == count - 1 else ""
        lines += _underlined(gutter, _width(text[:start]), _width(text[start:end]) or 1, mark.stroke, label)
    return lines


def _underlined(gutter: str, start: int, size: int, stroke: str, label: str) -> list[str]:
    under = gutter + " " * start + stroke * size
    if len(under) + 1 + len(label) <= WIDTH or not label:
        return [f"{under} {label}".rstrip()]
    wrapped = textwrap.wrap(label, WIDTH - len(gutter))
    left = gutter + " " * max(0, min(start, WIDTH - len(gutter) - len(wrapped[0])))
    return [under, *(left + line for line in wrapped)]


def _window(text: str, start: int, end: int) -> tuple[str, int, int]:
    """A long line cut around what is underlined."""
    room = WIDTH - 8
    if len(text) <= room:
        return text, start, end
    left = 0 if end <= room - 8 else max(0, min(start - 16, len(text) + 12 - room))
    left += len(text[left:]) - len(text[left:].lstrip())
    right = min(len(text), left + room - 8)
    head, tail = "... " if left else "", " ..." if right < len(text) else ""
    start, end = start - left + len(head), min(end, right) - left + len(head)
    return head + text[left:right] + tail, start, end


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _name(file: str) -> str:
    """A file by its name; a cell of a notebook has none that its user would know."""
    if re.search(r"[/\\]ipykernel_\d+[/\\]", file):
        return "this notebook"
    if found := re.fullmatch(r"<ipython-input-(\d+)-\w+>", file):
        return f"In [{found.group(1)}]"
    return file if file.startswith("<") else PurePath(file).name


def listed(items: Iterable[str], word: str = "and") -> str:
    """a, b and c."""
    *rest, last = list(items) or ["none"]
    return f"{', '.join(rest)} {word} {last}" if rest else last
