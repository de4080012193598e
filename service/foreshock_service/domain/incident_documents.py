"""Incidents and findings as JSON documents: their `document` columns, and the tracker's state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.incidents import Departure, Incident, State


def incident_to_json(incident: Incident) -> dict[str, Any]:
    """Plain JSON values; NaN and Inf become strings, which JSON can carry."""
    document = asdict(incident)
    document["evidence"] = {k: _safe(v) for k, v in incident.evidence.items()}
    document["departures"] = [{**asdict(d), "ratio": _safe(d.ratio)} for d in incident.departures]
    document["kinds"] = list(incident.kinds)
    return {key: str(v) if isinstance(v, State | Severity) else v for key, v in document.items()}


def incident_from_json(document: Mapping[str, Any]) -> Incident:
    """The incident that `incident_to_json` was given."""
    fields = dict(document)
    fields["severity"] = Severity(fields["severity"])
    fields["state"] = State(fields["state"])
    fields["kinds"] = tuple(fields["kinds"])
    fields["departures"] = tuple(
        Departure(**{**d, "ratio": _number(d["ratio"])}) for d in fields["departures"]
    )
    fields["evidence"] = {k: _number(v) for k, v in fields["evidence"].items()}
    return Incident(**fields)


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Plain JSON values; NaN and Inf become strings."""
    document = {key: _safe(value) for key, value in asdict(finding).items()}
    document["severity"] = str(finding.severity)
    document["evidence"] = {k: _safe(v) for k, v in finding.evidence.items()}
    return document


def _safe(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf", "nan") else value
