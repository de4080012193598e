"""The sentences of a silent client; every number in them is taken from the incident's evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from foreshock_service.domain.incidents import Incident, State, Transition

SILENT_CLIENT: Final = "silent_client"
MAX_LISTED: Final = 8
"""Ranks named in a sentence; the evidence has them all."""
Evidence = Mapping[str, float | int | str]


def told(incident: Incident, transition: Transition | None = None) -> str:
    """What is told of a silent client now, or on the given transition."""
    evidence = incident.evidence
    nothing = f"nothing {_since(incident)}"
    if transition is Transition.ACKNOWLEDGED:
        return f"Acknowledged by {incident.acknowledged_by}: {_story(incident)}"
    if "ended" in evidence:
        return f"The run {evidence['ended']} after {length(evidence)} in which it sent {nothing}"
    if incident.state is State.RESOLVED:
        return f"Resolved by {incident.acknowledged_by}: {_story(incident)}"
    if incident.state is State.RECOVERED:
        verb = "send again" if _is_many(evidence) else "sends again"
        if "restarted" in evidence:
            verb = "started again"
        return f"{_who(evidence)} {verb} after {length(evidence)} in which it sent {nothing}"
    return _story(incident)


def span(seconds: float) -> dict[str, float | int | str]:
    """A length of time as evidence: `value` in the `unit` that a person would use."""
    if seconds < 120:
        return {"value": round(seconds), "unit": "seconds"}
    if seconds < 3 * 3600:
        return {"value": round(seconds / 60), "unit": "minutes"}
    return {"value": round(seconds / 3600, 1), "unit": "hours"}


def length(evidence: Evidence) -> str:
    """How long it lasted, or has lasted so far."""
    value, unit = evidence.get("value"), str(evidence.get("unit", "seconds"))
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "some time"
    return f"{value:g} {unit.removesuffix('s') if value == 1 else unit}"


def _story(incident: Incident) -> str:
    evidence = incident.evidence
    usual = evidence.get("usual_seconds")
    often = f"; usually every {usual:g} s" if isinstance(usual, int | float) else ""
    have = "have" if _is_many(evidence) else "has"
    others = " while the other ranks go on" if "ranks" in evidence else ""
    long = f"({length(evidence)}{often})"
    return f"{_who(evidence)} {have} sent nothing {_since(incident)} {long}{others}"


def _who(evidence: Evidence) -> str:
    if "ranks" not in evidence:
        return "The run"
    hosts = f" on {evidence['host']}" if evidence.get("host") else ""
    ranks = str(evidence["ranks"]).split(", ")
    more = f" and {len(ranks) - MAX_LISTED} more" if len(ranks) > MAX_LISTED else ""
    return (
        f"{'Ranks' if _is_many(evidence) else 'Rank'} {', '.join(ranks[:MAX_LISTED])}{more}{hosts}"
    )


def _is_many(evidence: Evidence) -> bool:
    return "," in str(evidence.get("ranks", ""))


def _since(incident: Incident) -> str:
    step = incident.evidence.get("last_step")
    return "since it started" if step is None else f"since step {step}"
