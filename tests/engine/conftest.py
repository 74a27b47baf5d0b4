"""Every test of this folder runs once for each engine."""

from __future__ import annotations

from typing import Any

import pytest

from karush.backends.cpu import engine as cpu


@pytest.fixture(params=["cpu", "torch"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine's name. The compiled engine hands what it cannot prove to the torch engine; "torch" does all of it there."""
    name: str = request.param
    if name == "torch":

        def refuses(*_: Any) -> bool:
            return False

        monkeypatch.setattr(cpu, "serves", refuses)
    return name
