"""What an alert says: the message built from one change of one incident, as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.domain.runs import Run

MAX_DEPARTURES = 8
"""Series listed in a message: enough to see the direction of the spread, short enough for chat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRun:
    """The run that an alert is about, as people call it."""

    run_id: str
    name: str
    project: str = "default"

    @classmethod
    def of(cls, run: Run) -> Self:
        """The run as alerts call it."""
        return cls(run_id=run.run_id, name=run.name, project=run.project)


def alert_message(
    change: IncidentChange, run: AlertRun, *, withheld_since: float | None = None
) -> dict[str, Any]:
    """The message of a change; `path` is completed to a link by whoever knows our address.

    Numbers that JSON cannot carry are written as the strings `nan`, `inf` and `-inf`.
    `withheld_since` is when a silence first kept news of this incident back, in seconds since the
    epoch.
    """
    incident = change.incident
    return {
        "type": f"incident.{change.transition}",
        "path": f"/runs/{run.run_id}/incidents/{incident.number}",
        "run": {"id": run.run_id, "name": run.name, "project": run.project},
        "step": change.step,
        "sentence": change.sentence,
        "withheld_since": withheld_since,
        "incident": {
            "number": incident.number,
            "kind": incident.kind,
            "severity": str(incident.severity),
            "state": str(incident.state),
            "group": incident.group,
            "root_series": incident.root_series,
            "confidence": plain(incident.confidence),
            "onset_step": incident.onset_step,
            "loss_step": incident.loss_step,
            "lead_steps": incident.lead_steps,
            "num_affected": incident.num_affected,
            "num_series": incident.num_series,
            "evidence": _plain_values(incident.evidence),
            "departures": [
                {
                    "series": departure.series,
                    "step": departure.step,
                    "statistic": departure.statistic,
                    "ratio": plain(departure.ratio),
                }
                for departure in incident.departures[:MAX_DEPARTURES]
            ],
        },
    }


def plain(value: float | int | str | None) -> float | int | str | None:
    """The value as JSON can carry it: what is not finite becomes its name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value


def _plain_values(values: Mapping[str, float | int | str]) -> dict[str, float | int | str | None]:
    return {key: plain(value) for key, value in values.items()}
