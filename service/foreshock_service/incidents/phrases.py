"""Parts of sentences: names and numbers of an incident, written as a person would."""

from __future__ import annotations

import math

from foreshock_service.domain.incidents import Incident


def subject(incident: Incident) -> str:
    """Who it is about: a layer, or the run."""
    return incident.group or "The run"


def number(incident: Incident, name: str) -> float | None:
    """A finite number of the evidence; None where there is none."""
    value = incident.evidence.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def times(ratio: float) -> str:
    """A ratio, as a person would write it."""
    if ratio < 100:
        return f"{ratio:.1f}x"
    # Three digits are known; beyond a million they say no more than that it is far too much.
    return f"{float(f'{ratio:.3g}'):,.0f}x" if ratio < 1e6 else "over 1,000,000x"


def plain(value: float) -> str:
    """A number with the three digits that are known."""
    return f"{value:.3g}"


def place(incident: Incident, what: str) -> str:
    """A tensor that left its place among its peers: how far it moved itself nobody says."""
    ratio, side = number(incident, "ratio"), "above"
    if ratio is not None and 0 < ratio < 1:
        ratio, side = 1 / ratio, "below"
    size = "" if ratio is None else f" {times(ratio)}"
    return (
        f"The {what} of {incident.group or 'one layer'} stands{size} {side} its usual place "
        f"among the others from step {incident.onset_step}"
    )


def pair(incident: Incident) -> str:
    """From what it was to what it is."""
    start, value = number(incident, "baseline"), number(incident, "value")
    if start is None or value is None:
        return "its level"
    return f"{plain(start)} to {plain(value)}"
