"""What a person would be told of a run, in the form that scorers read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.incidents import IncidentChange, Transition
from foreshock_service.incidents.names import module_of
from foreshock_service.pipeline.session import DetectionSession

from benchmarks.detection.recordings import Recording

Alert = dict[str, Any]

TOLD: Final = (Transition.OPENED, Transition.ESCALATED, Transition.NAMED)
NUM_NAMES: Final = 5


def alerts_of(recording: Recording, config: EngineConfig | None = None) -> list[Alert]:
    """Every alert of our detectors, row by row."""
    session = DetectionSession(config, recording.facts)
    return [
        alert
        for frame in recording.frames()
        for alert in alerts_from(recording.id, session.push(frame).changes)
    ]


def alerts_from(run_id: str, changes: Iterable[IncidentChange]) -> Iterator[Alert]:
    """The changes of one row that are told at once, as alerts."""
    for change in changes:
        if change.transition in TOLD:
            yield _alert(run_id, change)


def _alert(run_id: str, change: IncidentChange) -> Alert:
    incident = change.incident
    names = [incident.root_series] if incident.root_series else []
    names += [d.series for d in incident.departures if d.series not in names]
    modules = list(dict.fromkeys(module_of(name) for name in names))
    escalated = change.transition is Transition.ESCALATED
    return {
        "run": run_id,
        "step": change.step,
        "kind": incident.kinds[-1] if escalated else incident.kind,
        "severity": str(incident.severity),
        "series": modules[:NUM_NAMES] if incident.group else [],
        "opened_step": incident.opened_step,
    }
