"""What `foreshock scan` writes: sentences, a line of JSON a notification, a bar on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from tqdm import tqdm

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.incidents.notification import NOTIFIED, notification
from foreshock_service.pipeline.scan import Tally

BAR_ROWS: Final = 64
"""The bar is brought up to date after so many rows."""


class Output:
    """Where the words of a scan go: to `lines`, and notifications as JSON to `jsonl`."""

    def __init__(self, lines: TextIO, jsonl: TextIO | None) -> None:
        self._lines = lines
        self._jsonl = jsonl
        self._bar: tqdm[Any] | None = None

    @classmethod
    @contextmanager
    def to(cls, jsonl: str | None) -> Iterator[Output]:
        """Sentences on stdout, but on stderr where stdout carries the JSON.

        Raises:
            OSError: the file cannot be written.
        """
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal's encoding lacks must not end the scan.
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")
        with ExitStack() as stack:
            if jsonl is None:
                output = cls(sys.stdout, None)
            elif jsonl == "-":
                output = cls(sys.stderr, sys.stdout)
            else:
                file = stack.enter_context(Path(jsonl).open("w", encoding="utf-8"))
                output = cls(sys.stdout, file)
            yield output
            output.flush()

    def progress(self, num_runs: int) -> Self:
        """Begin the bar; nothing is drawn where stderr is no terminal."""
        self._bar = tqdm(total=num_runs, unit="run", file=sys.stderr, disable=None, leave=False)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def flush(self) -> None:
        """Hand everything on."""
        self._lines.flush()
        if self._jsonl is not None:
            self._jsonl.flush()

    def at(self, run: str, num_rows: int) -> None:
        """Where the scan is."""
        if self._bar is not None and num_rows % BAR_ROWS == 0:
            self._bar.set_postfix_str(f"{_shown(run)}, row {num_rows}")

    def told(self, run: str, change: IncidentChange) -> None:
        """One change of one incident."""
        self._say(
            f"{run}: step {change.step}, {change.incident.severity}, "
            f"{change.transition.replace('_', ' ')}: {change.sentence}"
        )
        if self._jsonl is not None and change.transition in NOTIFIED:
            self._jsonl.write(json.dumps(notification(run, change), allow_nan=False) + "\n")
        self.flush()

    def finished(self, run: str, tally: Tally) -> None:
        """What a run came to."""
        self._say(f"{run}: {_count(tally.num_rows, 'row')}, {_incidents(tally)}.")
        self.flush()
        if self._bar is not None:
            self._bar.update()

    def failed(self, what: str, reason: str) -> None:
        """A file that could not be read, and why; always on stderr."""
        tqdm.write(f"foreshock scan: {_shown(what)}: {_shown(reason)}", file=sys.stderr)

    def summary(self, tallies: list[Tally], *, num_failed: int, num_skipped: int) -> None:
        """The line at the end."""
        total = Tally()
        for tally in tallies:
            offset = len(total.severities)
            total.severities |= {offset + i: s for i, s in enumerate(tally.severities.values())}
        sick = sum(bool(tally.severities) for tally in tallies)
        said = f"{_count(len(tallies), 'run')} scanned, {sick} with incidents: {_incidents(total)}."
        if num_failed:
            said += f" {_count(num_failed, 'file')} could not be read."
        if num_skipped:
            said += f" {_count(num_skipped, 'other file')} passed over."
        self._say(said)

    def _say(self, text: str) -> None:
        tqdm.write(_shown(text), file=self._lines)


def _incidents(tally: Tally) -> str:
    if not tally.severities:
        return "no incident"
    critical, warning = (tally.count(s) for s in (Severity.CRITICAL, Severity.WARNING))
    return f"{_count(len(tally.severities), 'incident')} ({critical} critical, {warning} warning)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(text: str) -> str:
    """On one line, and without what would steer a terminal: names come from people's files."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
