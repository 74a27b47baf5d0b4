"""Texts that are written when somebody reads them: most of what could be said of a model never is."""

from __future__ import annotations

from collections.abc import Callable


class Text:
    """A text, or what writes it. Pickling and copying write it, so that nothing but the text travels."""

    __slots__ = ("_said", "_write")

    def __init__(self, said: str | Callable[[], str]) -> None:
        self._said = said if isinstance(said, str) else None
        self._write = None if isinstance(said, str) else said

    def write(self) -> str:
        """The text; what it is made of is let go."""
        write = self._write  # another thread may be writing it, too
        if self._said is None and write is not None:
            self._said = write()
            self._write = None
        return self._said or ""

    def __str__(self) -> str:
        return self.write()

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Text) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return Text, (str(self),)
