"""The report of a run: worst figures, oracles, and what the rules refused."""

from __future__ import annotations

from typing import Any

import pytest

from fuzz.judge import REPORT


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Where it was asked for: ``make fuzz``, or ``pytest -v``."""
    if REPORT.statuses and (config.getoption("markexpr") == "fuzz" or config.getoption("verbose") > 0):
        terminalreporter.section("random models")
        for line in REPORT.lines():
            terminalreporter.write_line(line)
