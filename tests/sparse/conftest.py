"""Every test of this folder runs twice: with problems side by side in the compiled programs, and item by item."""

from __future__ import annotations

import pytest

from karush.backends.sparse import lanes


@pytest.fixture(params=["side by side", "item by item"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two; each is as it would be if the other did not exist."""
    if request.param == "item by item":
        monkeypatch.setattr(lanes, "find", lambda *arguments: None)
    else:
        monkeypatch.setattr(lanes, "LEAST_ALONE", 1e18)
    return str(request.param)
