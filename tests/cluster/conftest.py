"""The table of faults, printed when the tests are over."""

from __future__ import annotations

import harness
import pytest


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> harness.Job:
    """The job that faults happen to, and its undisturbed result."""
    return harness.Job(tmp_path_factory.mktemp("faults"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, where there is one."""
    if harness.TABLE:
        terminalreporter.section("faults")
        for line in harness.table():
            terminalreporter.write_line(line)
