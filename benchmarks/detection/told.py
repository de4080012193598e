"""What a person would be told of a run, in the form that scorers read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.incidents.notification import NOTIFIED, notification
from foreshock_service.pipeline.session import DetectionSession

from benchmarks.detection.recordings import Recording

Alert = dict[str, Any]


def alerts_of(recording: Recording, config: EngineConfig | None = None) -> list[Alert]:
    """Every alert of our detectors, row by row."""
    session = DetectionSession(config, recording.facts)
    return [
        alert
        for frame in recording.frames()
        for alert in alerts_from(recording.id, session.push(frame).changes)
    ]


def alerts_from(run_id: str, changes: Iterable[IncidentChange]) -> list[Alert]:
    """The changes that call a person, as alerts."""
    return [notification(run_id, change) for change in changes if change.transition in NOTIFIED]
