"""Finds the runs below what people name: each once, in an order that does not change."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from foreshock_service.errors import NoRun, Unreadable
from foreshock_service.importers.protocol import ImportedRun, Importer
from foreshock_service.importers.registry import IMPORTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a file could not be read."""

    path: Path
    reason: str


@dataclass(slots=True)
class Found:
    """The runs, what is wrong with others, and how many files of folders are of no format.

    `named` are the files of the runs that somebody asked for by name.
    """

    runs: list[ImportedRun]
    failures: list[Failure]
    num_skipped: int = 0
    named: set[tuple[Path, ...]] = field(default_factory=set)


def discover(paths: Iterable[Path], *, leave_out: Path | None = None) -> Found:
    """Look at each path; folders are searched with all that they contain, links to folders not.

    What is no run is an error where it was named, and passed over within a folder. `leave_out` is
    the file that is being written: found in a folder, it is nothing at all.
    """
    found = Found([], [])
    written = None if leave_out is None else leave_out.resolve()
    seen: set[tuple[Path, ...]] = set()
    for path in paths:
        if path.is_dir():
            for file in _files_below(path, found):
                if file.resolve() != written:
                    _take(found, file, seen, named=False)
        else:
            _take(found, path, seen, named=True)
    found.runs = _apart(found.runs)
    return found


def _files_below(folder: Path, found: Found) -> Iterator[Path]:
    def locked(error: OSError) -> None:
        place = Path(error.filename or folder)
        found.failures.append(Failure(path=place, reason=error.strerror or str(error)))

    for parent, folders, files in os.walk(folder, onerror=locked):
        folders.sort()
        for name in sorted(files):
            yield Path(parent, name)


def _take(found: Found, path: Path, seen: set[tuple[Path, ...]], *, named: bool) -> None:
    try:
        if not path.is_file():
            raise NoRun("it is no file" if path.exists() else "there is no such file")
        importer, files = _format_of(path)
        # A run of several files, named by each of them, is one run.
        key = tuple(file.resolve() for file in files)
        if named:
            found.named.add(files)
        if key in seen:
            return
        seen.add(key)
        found.runs.append(importer.open(files))
    except NoRun as error:
        if named:
            found.failures.append(Failure(path=path, reason=str(error)))
        else:
            found.num_skipped += 1
    except Unreadable as error:
        found.failures.append(Failure(path=path, reason=str(error)))
    except OSError as error:
        found.failures.append(Failure(path=path, reason=error.strerror or str(error)))


def _format_of(path: Path) -> tuple[Importer, tuple[Path, ...]]:
    for importer in IMPORTERS:
        files = importer.files_of(path)
        if files:
            return importer, files
    formats = ", ".join(importer.format for importer in IMPORTERS)
    raise NoRun(f"it is of no format that is read: {formats}")


def _apart(runs: list[ImportedRun]) -> list[ImportedRun]:
    """Runs that would share a name get the names of their folders before it, as many as it takes,
    and at last the whole path."""
    groups: dict[str, list[ImportedRun]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    names: dict[tuple[Path, ...], str] = {}
    for name, group in groups.items():
        choices = [_longer_names(run) for run in group] if len(group) > 1 else [[name]]
        for alike in zip(*choices, strict=False):
            if len(set(alike)) == len(group):
                break
        else:
            alike = tuple(str(run.files[0]) for run in group)
        names |= {run.files: chosen for run, chosen in zip(group, alike, strict=True)}
    return [replace(run, name=names[run.files]) for run in runs]


def _longer_names(run: ImportedRun) -> list[str]:
    folders = [*run.files[0].resolve().parent.parts[1:]]
    if folders and folders[-1] == run.name:
        folders.pop()
    return ["/".join([*folders[-depth:], run.name]) for depth in range(1, len(folders) + 1)]
