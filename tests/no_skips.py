"""A pytest plugin for continuous integration: a test that was skipped was not checked.

Loaded with `-p tests.no_skips`. Tests marked `gpu` may be skipped, because most machines have none;
every other skip fails the session and is named.
"""

from __future__ import annotations

import pytest


class NoSkips:
    """Collects skips as they are reported and fails the session for those not allowed."""

    def __init__(self) -> None:
        self.forbidden: list[str] = []

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a skip in any phase of a test that does not carry the marker `gpu`."""
        if report.skipped and not hasattr(report, "wasxfail") and "gpu" not in report.keywords:
            self.forbidden.append(report.nodeid)

    @pytest.hookimpl
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that skipped itself while it was imported."""
        if report.skipped:
            self.forbidden.append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn a session that passed but skipped into one that failed."""
        if self.forbidden and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name every forbidden skip above the summary line."""
        for nodeid in self.forbidden:
            terminalreporter.write_line(f"NOT CHECKED: {nodeid} was skipped", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Register with pytest."""
    config.pluginmanager.register(NoSkips(), "foreshock-no-skips")
