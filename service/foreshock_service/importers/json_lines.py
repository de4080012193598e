"""JSON lines: one object a line, its names and values a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from foreshock_service.errors import Unreadable
from foreshock_service.importers.lines import lines_of
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.records import Records
from foreshock_service.importers.rows import LoggedRow, frames_from

SUFFIXES: Final = (".jsonl", ".ndjson")


class JsonLines:
    """`.jsonl` and `.ndjson`."""

    format = "JSON lines"

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """The file alone."""
        return (path,) if path.suffix.lower() in SUFFIXES else ()

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run.

        Raises:
            Unreadable: the first line is no object.
        """
        (path,) = files
        next(_objects(path), None)
        return ImportedRun(name=path.stem, files=files, frames=lambda: frames_from(_rows(path)))


def _rows(path: Path) -> Iterator[LoggedRow]:
    records = Records()
    for number, record in _objects(path):
        row = records.row(record, f"line {number}")
        if row is not None:
            yield row


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines_of(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            cut_off = "" if line.endswith("\n") else ", and cut off"
            raise Unreadable(f"line {number} is no JSON{cut_off}: {str(error)[:60]}") from error
        if not isinstance(record, dict):
            raise Unreadable(f"line {number} is no JSON object")
        yield number, record
