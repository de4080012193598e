"""A finding: one detector, one series (or the run as a whole), one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """`warning`: training goes on usefully. `critical`: it is lost or on its way there."""

    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a detector saw.

    `kind` is the incident kind it speaks for (`explosion`, `dead_units`, ...). `series` is the
    series' index in the frame's schema, or None for the run as a whole. `onset_step` is the step
    of the data at which the departure began, `step` that of the newest data seen. `value` and
    `baseline` are in the unit that `statistic` names; `evidence` holds every further number that a
    sentence may quote.
    """

    detector: str
    kind: str
    severity: Severity
    series: int | None
    ord: int
    step: int
    onset_step: int
    statistic: str
    value: float
    baseline: float | None = None
    score: float = 0.0
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
