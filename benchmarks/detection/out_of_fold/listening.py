"""What detectors with other thresholds would have found in a run, many of them in one pass.

They read the baselines of a session whose thresholds stand at the middle of the grid. What they
would have changed there is left out: baselines rest while an incident is open, and other thresholds
open other incidents. The search is led by this approximation; the fold is scored without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.protocol import Detector
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.detectors.row import Row
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Departure
from foreshock_service.incidents.tracker import IncidentTracker
from foreshock_service.pipeline.session import DetectionSession

from benchmarks.detection.out_of_fold.grid import Values
from benchmarks.detection.reading import read
from benchmarks.detection.told import Alert, alerts_from

Request = tuple[str, Values]
"""A detector and its thresholds."""
Table = tuple[tuple[int, tuple[Finding, ...]], ...]
"""Findings by row, rows without any left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One run's findings by request, and which series had left when there was one, by row."""

    tables: Mapping[Request, Table]
    departures: Mapping[int, tuple[Departure, ...]]


class Listening(Baselines):
    """Baselines that more detectors look at, between a row's reading and its learning."""

    def __init__(self, facts: RunFacts, detectors: Sequence[Detector]) -> None:
        super().__init__(facts)
        self._detectors = detectors
        self.found: list[list[tuple[int, tuple[Finding, ...]]]] = [[] for _ in detectors]
        self.any_found = False

    def read(self, frame: Frame) -> Row:
        """As the baselines do."""
        row = super().read(frame)
        self.any_found = False
        for found, detector in zip(self.found, self._detectors, strict=True):
            findings = tuple(detector.observe(frame, self))
            if findings:
                found.append((frame.ord, findings))
                self.any_found = True
        return row


def listen(
    path: Path, max_rows: int, document: Mapping[str, Any], requests: Sequence[Request]
) -> Heard:
    """Findings of the first rows of a run under each request; `document` is the session's."""
    recording = read(path)
    session = DetectionSession(EngineConfig.from_document(document), recording.facts)
    made = [
        DETECTORS[name](EngineConfig(thresholds={name: dict(values)}).limits(name))
        for name, values in requests
    ]
    listening = Listening(recording.facts, made)
    session.engine.baselines = listening
    departures = {}
    for frame in recording.frames():
        if frame.ord >= max_rows:
            break
        session.push(frame)
        if listening.any_found:
            departures[frame.ord] = session.engine.departures(frame.step)
    tables = {r: tuple(found) for r, found in zip(requests, listening.found, strict=True)}
    return Heard(tables=_shared(tables), departures=departures)


def _shared(tables: Mapping[Request, Table]) -> dict[Request, Table]:
    """Equal tables as one object, which is then sent once."""
    known: dict[tuple[Any, ...], Table] = {}
    return {request: known.setdefault(key_of(table), table) for request, table in tables.items()}


def key_of(table: Table) -> tuple[Any, ...]:
    """What of findings decides on alerts, and can be compared."""
    return tuple(
        (row, f.detector, f.kind, f.severity, f.series, f.onset_step)
        for row, findings in table
        for f in findings
    )


def rows_without_statistics(path: Path, max_rows: int) -> list[Frame]:
    """A run's frames as incidents need them: steps, scalars, and names of series."""
    recording = read(path)
    nothing = np.zeros((0, 0), np.float32)
    return [
        Frame(
            ord=frame.ord,
            attempt=frame.attempt,
            step=frame.step,
            wall_time=frame.wall_time,
            flags=frame.flags,
            scalars=frame.scalars,
            stats=nothing,
            schema=frame.schema,
        )
        for frame in recording.frames()
        if frame.ord < max_rows
    ]


def retell(
    run_id: str,
    frames: Sequence[Frame],
    tables: Sequence[Table],
    departures: Mapping[int, tuple[Departure, ...]],
) -> list[Alert]:
    """The alerts that come of findings, `tables` being in the order of the registry."""
    by_row: dict[int, list[Finding]] = {}
    for table in tables:
        for row, findings in table:
            by_row.setdefault(row, []).extend(findings)
    tracker, alerts = IncidentTracker(), []
    for frame in frames:
        told = by_row.get(frame.ord, [])
        left = departures.get(frame.ord, ()) if told else ()
        alerts += alerts_from(run_id, tracker.push(frame, told, left))
    return alerts
