"""docs/scan.md tells of every format, name, exit status and field that there is."""

from __future__ import annotations

import re

from foreshock_service.commands import arguments, scan
from foreshock_service.domain.facts import RunFacts
from foreshock_service.importers.names import ALIASES
from foreshock_service.importers.registry import IMPORTERS
from foreshock_service.importers.rows import LoggedRow, frames_from
from foreshock_service.incidents.notification import notification
from foreshock_service.pipeline.scan import Scan

from tests.docs.markdown import ROOT, rows, section

PAGE = ROOT / "docs" / "scan.md"


def test_formats_have_a_row_each() -> None:
    """As the registry calls them, in its order."""
    assert rows(section(PAGE, "Formats")) == [importer.format for importer in IMPORTERS]


def test_names_are_those_that_are_known() -> None:
    """Each row lists exactly the aliases, in their order."""
    lines = [line for line in section(PAGE, "Names").splitlines() if line.startswith("| `")]
    told = {line.split("`")[1]: tuple(re.findall(r"`([^`]+)`", line)[1:]) for line in lines}

    assert told == ALIASES


def test_exit_statuses_are_those_of_the_command() -> None:
    """Each constant has a row."""
    statuses = (
        scan.QUIET,
        scan.INCIDENTS,
        scan.UNREADABLE,
        arguments.INTERRUPTED,
        arguments.CLOSED,
    )

    assert rows(section(PAGE, "Exit status")) == [str(status) for status in statuses]


def test_fields_are_those_that_are_written() -> None:
    """Of a real notification."""
    losses = [1.0] * 40 + [float("inf")] * 3
    frames = frames_from(LoggedRow(step=i, values={"loss": x}) for i, x in enumerate(losses))
    session = Scan(RunFacts())
    (change,) = (change for frame in frames for change in session.push(frame))

    assert rows(section(PAGE, "Lines of JSON")) == list(notification("run", change))
