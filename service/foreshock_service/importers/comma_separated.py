"""CSV: a line of names, then a line a row; an empty cell was not logged."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from foreshock_service.domain.frames import Frame
from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.lines import lines_of
from foreshock_service.importers.names import ALIASES, LOSS, STEP, WALL_TIME, Binding, ours
from foreshock_service.importers.protocol import ImportedRun
from foreshock_service.importers.rows import LoggedRow, frames_from
from foreshock_service.importers.values import number, whole_step

DELIMITERS: Final = {".csv": ",", ".tsv": "\t"}
MAX_COLUMNS: Final = 4096


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
        _names(path, next(_cells(path)))
        return ImportedRun(name=path.stem, files=files, frames=lambda: _frames(path))


def _frames(path: Path) -> Iterator[Frame]:
    return frames_from(_rows(path))


def _rows(path: Path) -> Iterator[LoggedRow]:
    lines = _cells(path)
    names = _names(path, next(lines))
    counted = STEP not in names
    for index, cells in enumerate(lines):
        if not any(cells):
            continue
        where = f"row {index + 1}"
        if len(cells) > len(names):
            raise Unreadable(f"{where} has {len(cells)} cells under {len(names)} names")
        step = index if counted else None
        wall_time = None
        values: dict[str, float] = {}
        # A line that was cut off while it was written has fewer cells: what is missing is absent.
        for name, cell in zip(names, cells, strict=False):
            if name == STEP:
                step = whole_step(cell, where)
            elif name is not None:
                value = _value(name, cell, where)
                if name == WALL_TIME:
                    wall_time = value
                elif value is not None:
                    values[name] = value
        if step is None:
            if values:
                raise Unreadable(f"{where} has no step")
            continue
        yield LoggedRow(step=step, values=values, wall_time=wall_time)


def _value(name: str, cell: str, where: str) -> float | None:
    try:
        return number(cell)
    except ValueError as error:
        if name in ALIASES and name != WALL_TIME:
            raise Unreadable(f"{where}: {name} {cell[:40]!r} is no number") from error
        return None


def _cells(path: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines_of(path), delimiter=DELIMITERS[path.suffix.lower()])
    except csv.Error as error:
        raise Unreadable(f"it is no CSV: {error}") from error


def _names(path: Path, cells: list[str]) -> list[str | None]:
    if len(cells) > MAX_COLUMNS:
        raise Unreadable(f"{len(cells)} columns, at most {MAX_COLUMNS} are read")
    columns = [cell.strip() for cell in cells]
    columns = [_short(column) for column in columns]
    binding = Binding()
    binding.bind(column for column in columns if column)
    if not binding.has(LOSS):
        shown = ", ".join(column[:40] for column in columns[:8])
        raise NoRun(f"no column is a loss; there are: {shown or 'none'}")
    seen: set[str] = set()
    names: list[str | None] = []
    for column in columns:
        name = binding.name(column) if column else None
        names.append(None if name is None or name in seen else name)
        seen.add(name or "")
    return names


def _short(column: str) -> str:
    """W&B's own export writes `run - train/loss` and adds the range as `...__MIN`, `...__MAX`."""
    _, dash, tail = column.rpartition(" - ")
    return tail if dash and ours(tail) else column
