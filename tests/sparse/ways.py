"""The two ways through the sparse engine, for tests that are of one of them, or of both at once."""

from __future__ import annotations

import pytest

SIDE_BY_SIDE = pytest.mark.parametrize("way", ["side by side"], indirect=True)
HANDS_OVER = pytest.mark.usefixtures("hands_over")  # some items are left to the other way
