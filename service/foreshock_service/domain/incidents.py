"""An incident: findings that share a cause, from the first sign to the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from foreshock_service.domain.findings import Severity


class State(StrEnum):
    """`open` until the run is back inside its baselines (`recovered`) or somebody closes it
    (`resolved`). Acknowledging is no state: it is a mark on an open or recovered incident."""

    OPEN = "open"
    RECOVERED = "recovered"
    RESOLVED = "resolved"


class Transition(StrEnum):
    """What happened to an incident; each is told once to every notifier."""

    OPENED = "opened"
    ESCALATED = "escalated"
    NAMED = "named"
    """The first layer became known after the incident had opened."""
    LOSS_MOVED = "loss_moved"
    RECOVERED = "recovered"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


TIE_STEPS: Final = 2
TIE_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A series at the step at which it left its baseline, in the order of leaving."""

    series: str
    """`kind:name`, as in `gradient:blocks.3.attn.qkv.weight`."""
    step: int
    statistic: str
    ratio: float
    """Value over baseline at the newest step, inf where the value is not finite."""


def latest_together(first: int, now: int) -> int:
    """The last step at which a series may have left to have left together with one that left at
    step `first`, as it looks at step `now`: noise delays the sight of slow growth, of one series
    more than of another, by as much as half of the time that has passed."""
    return first + max(TIE_STEPS, int(TIE_SHARE * max(now - first, 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """The whole state of an incident; `number` counts those of a run from 1.

    `group` is what the sentence claims: a module, or a family of modules such as `attn.qkv`
    when several blocks left together; None for a cause that is nobody's (a learning rate).
    `lead_steps` is `loss_step - onset_step`, known only once the loss has moved.
    """

    number: int
    kind: str
    severity: Severity
    state: State
    onset_step: int
    opened_step: int
    opened_ord: int
    updated_step: int
    group: str | None
    root_series: str | None
    confidence: float
    loss_step: int | None = None
    recovered_step: int | None = None
    num_affected: int = 0
    num_series: int = 0
    kinds: tuple[str, ...] = ()
    departures: tuple[Departure, ...] = ()
    evidence: Mapping[str, float | int | str] = field(default_factory=dict)
    acknowledged_by: str | None = None
    num_changes: int = 0
    """Transitions so far. It tells them apart, and is the same when detection repeats its work."""

    @property
    def lead_steps(self) -> int | None:
        """Steps between the first sign and the loss; None while the loss has not moved."""
        return None if self.loss_step is None else self.loss_step - self.onset_step


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentChange:
    """One transition of one incident at one step, with the sentence that tells it."""

    incident: Incident
    transition: Transition
    step: int
    sentence: str
