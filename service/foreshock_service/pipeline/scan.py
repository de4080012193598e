"""Scans an imported run: its frames through a detection session, and what a person would be told.

No store, no service: the same frames give the same notifications as they would if they arrived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.alerts import plain
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.frames import Frame
from foreshock_service.domain.incidents import IncidentChange, Transition
from foreshock_service.incidents.names import module_of
from foreshock_service.pipeline.session import DetectionSession

NOTIFIED: Final = frozenset({Transition.OPENED, Transition.ESCALATED, Transition.NAMED})
"""Transitions that call a person; that the loss moved or a run recovered is told, and calls no
one."""
MAX_SERIES: Final = 5


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


def notification(run: str, change: IncidentChange) -> dict[str, Any]:
    """One change as a line of plain JSON, in the form that scorers of detection read.

    `kind` of an escalation is the kind that joined last; `series` are the modules, root first.
    """
    incident = change.incident
    names = [incident.root_series] if incident.root_series else []
    names += [d.series for d in incident.departures if d.series not in names]
    modules = list(dict.fromkeys(module_of(name) for name in names))
    escalated = change.transition is Transition.ESCALATED
    return {
        "run": run,
        "step": change.step,
        "kind": incident.kinds[-1] if escalated else incident.kind,
        "severity": str(incident.severity),
        "series": modules[:MAX_SERIES] if incident.group else [],
        "opened_step": incident.opened_step,
        "transition": str(change.transition),
        "onset_step": incident.onset_step,
        "loss_step": incident.loss_step,
        "number": incident.number,
        "group": incident.group,
        "confidence": plain(incident.confidence),
        "sentence": change.sentence,
    }
