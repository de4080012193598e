"""The seam between a file of any format and those who read its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.frames import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRun:
    """One run as it lies on the disk; nothing of its rows has been read yet.

    `files` are what it is made of, in the order of reading. `frames` reads them anew each time it
    is called, and holds a row at a time where the format allows it. It raises `Unreadable` at the
    first thing that cannot be read: the frames before it stand.
    """

    name: str
    files: tuple[Path, ...]
    frames: Callable[[], Iterator[Frame]]
    facts: RunFacts = field(default_factory=RunFacts)


class Importer(Protocol):
    """A format."""

    @property
    def format(self) -> str:
        """What people call it."""
        ...

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """The files of the run that `path` is a part of; empty if it is not of this format.

        Looks at names, and into the file only where a name says too little. Each file of a run
        gives the same answer, so that a run is found once.
        """
        ...

    def open(self, files: tuple[Path, ...]) -> ImportedRun:
        """The run that these files are.

        Raises:
            Unreadable: they cannot be read, or hold no training.
        """
        ...
