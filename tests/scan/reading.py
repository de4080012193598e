"""Reads files as the command does, within the test."""

from __future__ import annotations

from pathlib import Path

from foreshock_service.domain.frames import Frame
from foreshock_service.importers.discovery import discover
from foreshock_service.importers.protocol import ImportedRun


def only_run(path: Path) -> ImportedRun:
    """The one run that a path is."""
    found = discover([path])
    assert found.failures == []
    (run,) = found.runs
    return run


def frames(path: Path) -> list[Frame]:
    """Its frames."""
    return list(only_run(path).frames())


def rows(path: Path) -> list[tuple[int, int, dict[str, float]]]:
    """Attempt, step and scalars of each."""
    return [(frame.attempt, frame.step, dict(frame.scalars)) for frame in frames(path)]


def written(path: Path, text: str) -> Path:
    """The file with this text."""
    path.write_text(text)
    return path
