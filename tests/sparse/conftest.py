"""Every test of this folder runs twice: with problems side by side in the compiled programs, and item by item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from karush.backends.sparse import find, lanes, solve


@pytest.fixture
def hands_over() -> None:
    """Allows the programs to leave items unproved."""


@pytest.fixture(params=["side by side", "item by item"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two. Side by side no item may be left to the other way, unless the test hands over."""
    name: str = request.param
    if name == "item by item":
        monkeypatch.setattr(lanes, "find", lambda *arguments: None)
        return name
    monkeypatch.setattr(lanes, "BY_ITEM", 2**40)
    if "hands_over" not in request.fixturenames:

        def told(data: Any, options: Any, rejected: Any, warm: Any, items: Sequence[int]) -> Any:
            assert not items, f"items {list(items)} are left to the other way"
            return find.find(data, options, rejected, warm, items)

        monkeypatch.setattr(solve, "find", told)
    return name
