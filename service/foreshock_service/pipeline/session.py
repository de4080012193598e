"""A detection session: engine and tracker of one run and rank, one pure step from row to change."""

from __future__ import annotations

from dataclasses import dataclass

from foreshock.wire import SeriesSchema

from foreshock_service.detectors.codec import UNREADABLE, decode_state, encode_state
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.engine import Engine
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import Incident, IncidentChange
from foreshock_service.incidents.tracker import IncidentTracker

STATE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """What one row brought: findings to keep with their incident's number, and changes to tell."""

    findings: list[tuple[Finding, int]]
    changes: list[IncidentChange]


class DetectionSession:
    """Feeds rows to the detectors and their findings to the tracker; no clock, store or network.

    A session that is saved and taken up again at any row goes on as if nothing had happened.
    """

    def __init__(self, config: EngineConfig | None = None, facts: RunFacts | None = None) -> None:
        self.engine = Engine(config, facts)
        self.tracker = IncidentTracker()

    def push(self, frame: Frame) -> RowOutcome:
        """Take the next row in."""
        findings = self.engine.push(frame)
        busy = bool(findings)
        departures = self.engine.departures(frame.step) if busy else ()
        changes = self.tracker.push(frame, findings, departures)
        self.engine.freeze(run=self.tracker.frozen_run, series=self.tracker.frozen_series)
        if self.tracker.accepted:
            self.engine.accept(self.tracker.accepted)
        return RowOutcome(self.tracker.kept, changes)

    @property
    def schema(self) -> SeriesSchema:
        """The schema that the newest row's findings count their series in."""
        return self.engine.baselines.layout.schema

    def newest(self, incident: Incident) -> Incident:
        """The incident as it stands now, or as given when it cannot change any more."""
        same = (i for i in self.tracker.incidents if i.number == incident.number)
        return next(same, incident)

    def incidents(self) -> list[Incident]:
        """Incidents that may still change."""
        return self.tracker.incidents

    def state(self) -> bytes:
        """Everything that `restore` needs."""
        return encode_state(
            {
                "format": STATE_FORMAT,
                "engine": self.engine.state(),
                "tracker": self.tracker.state(),
            }
        )

    def restore(self, data: bytes) -> list[str]:
        """Take up a state; the names of detectors that cannot read their part and start fresh.

        Raises:
            ValueError: the bytes are no state, or one of another version. The session is spoilt.
        """
        try:
            state = decode_state(data)
            if state["format"] != STATE_FORMAT:
                raise ValueError(f"its format is {state['format']!r}, expected {STATE_FORMAT}")
            unread = self.engine.restore(state["engine"])
            self.tracker.restore(state["tracker"])
        except UNREADABLE as error:
            raise ValueError(f"detector state of another version: {error!r}") from error
        return unread
