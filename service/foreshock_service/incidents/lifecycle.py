"""What may happen to an incident: pure steps from one `Incident` to the next.

open -> recovered, after 25 rows without a finding and with the loss back (hysteresis); a finding of
its kind within 100 rows takes the same incident up again, since it is the same cause, and tells so,
as of an escalation, if it does damage or something graver joins it; a later one is told anew, and
so after 25 rows is an acute one that is critical or of other series;
open | recovered -> resolved, by a person, for good. Acknowledging is a mark, not a state.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Incident, IncidentChange, State, Transition
from foreshock_service.incidents.verdict import sentence

QUIET_ROWS: Final = 25
NEAR_ROWS: Final = 50
COOLDOWN_ROWS: Final = 125
"""Quiet rows, those before the recovery among them: beyond the first an acute kind is a relapse
only as a warning of a series that the incident had named, beyond the second nothing is."""

KIND_RANK: Final = {
    "dead_units": 0,
    "saturation": 0,
    "plateau": 0,
    "update_too_small": 0,
    "precision_underflow": 0,
    "massive_activation": 0,
    "loss_of_plasticity": 1,
    "output_logit_drift": 1,
    "bad_batch": 1,
    "gradient_spike": 1,
    "loss_spike": 2,
    "vanishing_gradient": 2,
    "update_too_large": 2,
    "attention_logit_growth": 2,
    "precision_overflow": 2,
    "representation_collapse": 2,
    "silent_client": 2,
    "weight_corruption": 6,
    "replica_divergence": 6,
    "explosion": 3,
    "divergence": 4,
    "non_finite": 5,
}
"""How grave a kind is among others, and 0 what is mild."""
SYMPTOMS: Final = frozenset({"gradient_spike", "loss_spike"})
"""Kinds that say that something happened, and not what."""
CAUSES: Final = frozenset({"weight_corruption", "update_too_large"})
"""Kinds that say what was done to the network, and not what came of it."""
OUTCOMES: Final = frozenset(
    {
        "dead_units",
        "saturation",
        "representation_collapse",
        "vanishing_gradient",
        "massive_activation",
        "attention_logit_growth",
        "output_logit_drift",
        "explosion",
        "divergence",
        "non_finite",
    }
)
"""Kinds that say what has become of it."""


def rank_of(kind: str) -> int:
    """How grave a kind is among others; a kind without a rank is taken for a middling one."""
    return KIND_RANK.get(kind, 2)


def is_news(kind: str, shown: Collection[str]) -> bool:
    """Whether a kind that joins is told: it is graver than all that the incident has shown; or the
    first, of those that are no mild ones, to explain what were nothing but symptoms; or, where a
    cause is known, graver than all that had come of it."""
    if kind in OUTCOMES and not CAUSES.isdisjoint(shown):
        shown = OUTCOMES.intersection(shown)
    elif kind not in SYMPTOMS and rank_of(kind) > 0 and SYMPTOMS.issuperset(shown):
        return True
    return rank_of(kind) > max((rank_of(other) for other in shown), default=-1)


def change(incident: Incident, transition: Transition, *, step: int) -> IncidentChange:
    """The next transition of an incident, which counts it, with its sentence."""
    counted = replace(incident, num_changes=incident.num_changes + 1)
    return as_told(counted, transition, step=step)


def as_told(incident: Incident, transition: Transition, *, step: int) -> IncidentChange:
    """A transition that lies behind, with its sentence, as the incident stands now."""
    return IncidentChange(
        incident=incident,
        transition=transition,
        step=step,
        sentence=sentence(incident, transition),
    )


def graver(a: Severity, b: Severity) -> Severity:
    """The graver of two severities."""
    return Severity.CRITICAL if Severity.CRITICAL in (a, b) else Severity.WARNING


def acknowledge(incident: Incident, *, by: str) -> IncidentChange:
    """A person has seen it.

    Raises:
        ValueError: it is resolved.
    """
    if incident.state is State.RESOLVED:
        raise ValueError(f"incident {incident.number} is resolved and needs no acknowledging")
    marked = replace(incident, acknowledged_by=by)
    return change(marked, Transition.ACKNOWLEDGED, step=incident.updated_step)


def resolve(incident: Incident, *, by: str) -> IncidentChange:
    """A person closes it; detection will not open it again while its cause goes on.

    Raises:
        ValueError: it is resolved already.
    """
    if incident.state is State.RESOLVED:
        raise ValueError(f"incident {incident.number} is resolved already")
    closed = replace(incident, state=State.RESOLVED, acknowledged_by=incident.acknowledged_by or by)
    return change(closed, Transition.RESOLVED, step=incident.updated_step)
