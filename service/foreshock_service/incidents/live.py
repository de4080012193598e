"""An incident that may still change, and what the tracker remembers of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incident_documents import incident_from_json, incident_to_json
from foreshock_service.domain.incidents import Incident, State
from foreshock_service.incidents.loss_moved import LossWatch

ACCEPTED_ROWS: Final = 128
"""So long must what left have stayed away and done no harm to be a new normal."""


@dataclass(slots=True)
class Live:
    """`key` says which findings join it. `opened_row` and `last_row` are those of its first and its
    newest finding, `begun_row` that on which it opened, was taken up again or got graver."""

    incident: Incident
    key: str
    watch: LossWatch
    opened_row: int
    last_row: int
    last_step: int
    begun_row: int
    accepted: bool = False
    """Whether the levels of what left have become normal."""
    told: set[tuple[str, str]] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    """Kinds since it opened, or since it was taken up again: what joins these is news."""

    @classmethod
    def begin(cls, incident: Incident, key: str, watch: LossWatch, *, row: int, step: int) -> Self:
        """One that opens on a row."""
        return cls(incident, key, watch, row, row, step, row, shown=set(incident.kinds))

    def begin_anew(self, row: int) -> None:
        """It was taken up again or got graver: what it does is not accepted any more."""
        self.begun_row, self.accepted = row, False

    def is_harmless(self, row: int) -> bool:
        """Whether it is a warning that has stood for long while the loss is where it was."""
        if self.accepted or row - self.begun_row < ACCEPTED_ROWS:
            return False
        if self.incident.state is not State.OPEN or self.incident.severity is not Severity.WARNING:
            return False
        return self.incident.loss_step is None or self.watch.has_returned

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "incident": incident_to_json(self.incident),
            "key": self.key,
            "watch": self.watch.state(),
            "rows": [self.opened_row, self.last_row, self.last_step, self.begun_row],
            "accepted": self.accepted,
            "told": sorted(list(pair) for pair in self.told),
            "shown": sorted(self.shown),
        }

    @classmethod
    def from_json(cls, item: dict[str, Any]) -> Self:
        """From what `to_json` made, now or in an earlier version."""
        opened_row, last_row, last_step, *begun_row = (int(n) for n in item["rows"])
        return cls(
            incident=incident_from_json(item["incident"]),
            key=str(item["key"]),
            watch=LossWatch.from_state(item["watch"]),
            opened_row=opened_row,
            last_step=last_step,
            last_row=last_row,
            begun_row=begun_row[0] if begun_row else opened_row,
            accepted=bool(item.get("accepted", False)),
            told={(kind, series) for kind, series in item["told"]},
            shown=set(item["shown"]),
        )
