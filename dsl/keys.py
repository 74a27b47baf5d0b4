"""Static data of nodes that must compare, hash and pickle by value: arrays and index keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frozen:
    """A read-only array compared by its content."""

    array: NDArray[Any]

    def __post_init__(self) -> None:
        self.array.setflags(write=False)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self.array.dtype == other.array.dtype and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash((self.array.shape, self.array.tobytes()))


@dataclass(frozen=True)
class Key:
    """A NumPy index: integers, slices, ``...``, None, boolean masks and integer arrays."""

    entries: tuple[Any, ...]

    @staticmethod
    def of(key: Any) -> Key:
        return Key(tuple(_entry(part) for part in (key if isinstance(key, tuple) else (key,))))

    @property
    def value(self) -> Any:
        """What NumPy takes between brackets."""
        return tuple(part.array if isinstance(part, Frozen) else part for part in self.entries)

    @property
    def basic(self) -> bool:
        """Whether the result is a view: no arrays inside."""
        return not any(isinstance(part, Frozen) for part in self.entries)

    def __hash__(self) -> int:
        return hash(repr(self.entries))

    def __str__(self) -> str:
        return ", ".join(_text(part) for part in self.entries)


def _entry(part: Any) -> Any:
    if part is None or part is Ellipsis:
        return part
    if isinstance(part, slice):
        return slice(*(None if bound is None else int(bound) for bound in (part.start, part.stop, part.step)))
    if isinstance(part, int | np.integer) and not isinstance(part, bool):
        return int(part)
    array = np.asarray(part.tolist() if hasattr(part, "tolist") else part)
    if array.dtype == bool:
        return Frozen(array.copy())
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"an index must be made of integers, slices or booleans, not {array.dtype}")
    return Frozen(array.astype(np.int64))


def _text(part: Any) -> str:
    if part is Ellipsis:
        return "..."
    if isinstance(part, slice):
        step = "" if part.step is None else f":{part.step}"
        return f"{'' if part.start is None else part.start}:{'' if part.stop is None else part.stop}{step}"
    return f"array{part.array.shape}" if isinstance(part, Frozen) else str(part)
