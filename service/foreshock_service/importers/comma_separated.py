"""CSV: a line of names, then a line a row; an empty cell was not logged."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.lines import lines_of
from foreshock_service.importers.names import LOSS, Binding, ours
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.records import Records
from foreshock_service.importers.rows import LoggedRow, frames_from

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}


class CommaSeparated:
    """`.csv`, and `.tsv` with tabs."""

    format = "CSV"

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """The file alone."""
        return (path,) if path.suffix.lower() in DELIMITERS else ()

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run; its names are read at once.

        Raises:
            Unreadable: the first line is none of names, or names no loss.
        """
        (path,) = files
        _columns(next(_cells(path)))
        return ImportedRun(name=path.stem, files=files, frames=lambda: frames_from(_rows(path)))


def _rows(path: Path) -> Iterator[LoggedRow]:
    lines = _cells(path)
    columns = _columns(next(lines))
    records = Records()
    for number, cells in enumerate(lines, 1):
        if any(cells[len(columns) :]):
            raise Unreadable(f"row {number} has {len(cells)} cells under {len(columns)} names")
        # A line that was cut off while it was written has fewer: what is missing is absent.
        record = {name: cell for name, cell in zip(columns, cells, strict=False) if name}
        row = records.row(record, f"row {number}")
        if row is not None:
            yield row


def _cells(path: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines_of(path), delimiter=DELIMITERS[path.suffix.lower()])
    except csv.Error as error:
        raise Unreadable(f"it is no CSV: {error}") from error


def _columns(cells: list[str]) -> list[str]:
    """The names of the columns, empty for one that is a repetition."""
    columns = [_short(cell.strip()) for cell in cells]
    binding = Binding()
    binding.bind(columns)
    if not binding.has(LOSS):
        shown = ", ".join(column[:40] for column in columns[:8] if column)
        raise NoRun(f"no column is a loss; there are: {shown or 'none'}")
    return [name if name not in columns[:index] else "" for index, name in enumerate(columns)]


def _short(column: str) -> str:
    """W&B's own export writes `run - train/loss` and adds the range as `...__MIN`, `...__MAX`."""
    _, dash, tail = column.rpartition(" - ")
    return tail if dash and ours(tail) else column
