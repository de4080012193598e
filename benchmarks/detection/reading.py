"""Reads a recorded run as `foreshock scan` does."""

from __future__ import annotations

from pathlib import Path

from foreshock_service.errors import Unreadable
from foreshock_service.importers.discovery import discover

from benchmarks.detection.recordings import Recording, recording_of


def read(path: Path) -> Recording:
    """The run that a file of it (`.json`, `.npz`, `.csv`) stands for.

    Raises:
        Unreadable: it cannot be read.
    """
    found = discover([path])
    for failure in found.failures:
        raise Unreadable(f"{failure.path}: {failure.reason}")
    (run,) = found.runs
    return recording_of(run.name, run.frames(), run.facts)
