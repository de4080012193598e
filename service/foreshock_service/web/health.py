"""How a run is, in one word with one tone, from its incidents and from when it was last heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Incident, State
from foreshock_service.domain.runs import Run, RunStatus
from foreshock_service.incidents.silent_client_words import SILENT_CLIENT

SILENT_SECONDS: Final = 600.0
"""A running run that sends nothing for this long hangs, or its connection is gone."""


class Group(StrEnum):
    """The groups of the Runs page, in their order."""

    ATTENTION = "Needs attention"
    RUNNING = "Running normally"
    FINISHED = "Finished"

    @property
    def is_alive(self) -> bool:
        """Whether runs of this group still step."""
        return self is not Group.FINISHED


@dataclass(frozen=True, slots=True)
class Health:
    """`tone` is `critical`, `warning`, `good` or `ended`; it picks the shape and the colour."""

    word: str
    tone: str
    group: Group


def health_of(run: Run, incidents: Sequence[Incident], *, now: float) -> Health:
    """The worst that is true of a run; an incident that a person has resolved no longer counts."""
    if run.status is RunStatus.CRASHED:
        return Health("Crashed", "ended", Group.FINISHED)
    if run.status is RunStatus.FINISHED:
        return Health("Done", "ended", Group.FINISHED)
    alive = [incident for incident in incidents if incident.state is State.OPEN]
    critical = any(incident.severity is Severity.CRITICAL for incident in alive)
    if alive:
        word = "Critical" if critical else "Warning"
        if all(incident.kind == SILENT_CLIENT for incident in alive):
            word = "Silent"
        return Health(word, "critical" if critical else "warning", Group.ATTENTION)
    if now - run.heard_at > SILENT_SECONDS:
        return Health("Silent", "warning", Group.ATTENTION)
    if any(incident.state is State.RECOVERED for incident in incidents):
        return Health("Recovered", "good", Group.RUNNING)
    return Health("Steady", "good", Group.RUNNING)


def foremost(incidents: Sequence[Incident]) -> Incident | None:
    """The incident to speak of: open before closed, critical before warning, then the newest."""
    return max(
        incidents,
        key=lambda incident: (
            incident.state is State.OPEN,
            incident.severity is Severity.CRITICAL,
            incident.number,
        ),
        default=None,
    )
