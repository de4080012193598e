"""Scans an imported run: its frames through a detection session, and what a person would be told.

No store, no service: the same frames give the same notifications as they would if they arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.pipeline.session import DetectionSession


@dataclass(slots=True)
class Tally:
    """What a run came to: its rows, its newest step, and its incidents by their final severity."""

    num_rows: int = 0
    last_step: int | None = None
    severities: dict[int, Severity] = field(default_factory=dict)

    def count(self, severity: Severity) -> int:
        """Incidents of this severity."""
        return Counter(self.severities.values())[severity]


class Scan:
    """One run on its way through the detectors."""

    def __init__(self, facts: RunFacts, config: EngineConfig | None = None) -> None:
        self._session = DetectionSession(config, facts)
        self.tally = Tally()

    def push(self, frame: Frame) -> Iterator[IncidentChange]:
        """What the next row changed."""
        self.tally.num_rows += 1
        self.tally.last_step = frame.step
        for change in self._session.push(frame).changes:
            self.tally.severities[change.incident.number] = change.incident.severity
            yield change
