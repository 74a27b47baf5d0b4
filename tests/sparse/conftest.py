"""Every test of this folder runs twice: with problems side by side in the compiled programs, and item by item."""

from __future__ import annotations

from typing import Any

import pytest

from karush.backends.sparse import find, lanes, solve


@pytest.fixture
def hands_over() -> None:
    """Allows the programs to leave items unproved."""


@pytest.fixture(params=["side by side", "item by item"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two; ``held_to_it`` sees that side by side nothing is left to the other."""
    if request.param == "item by item":
        monkeypatch.setattr(lanes, "find", lambda *arguments: None)
    else:
        monkeypatch.setattr(lanes, "_pays", lambda data, options: data.batch > 0)
    return str(request.param)


@pytest.fixture(autouse=True)
def held_to_it(way: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "item by item" or "hands_over" in request.fixturenames:
        return

    def told(*arguments: Any) -> Any:
        *_, items = arguments
        assert not items, f"items {list(items)} are left to the other way"
        return find.find(*arguments)

    monkeypatch.setattr(solve, "find", told)
