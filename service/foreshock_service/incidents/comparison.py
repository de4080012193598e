"""Two accounts of one run: which incidents are in both, and what changed between them.

Incidents of one rank that overlap in time may be the same: those of one kind first, then those that
opened closest to each other. Each is used once; what is left over was gained or lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foreshock_service.domain.incidents import Incident, State
from foreshock_service.incidents.verdict import sentence


@dataclass(frozen=True, slots=True)
class RankedIncident:
    """An incident and the rank whose frames it is about."""

    rank: int
    incident: Incident


@dataclass(frozen=True, slots=True)
class Comparison:
    """`changed` are pairs of the same incident before and after, `same` those without a change."""

    gained: tuple[RankedIncident, ...]
    lost: tuple[RankedIncident, ...]
    changed: tuple[tuple[RankedIncident, RankedIncident], ...]
    same: tuple[RankedIncident, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both accounts say the same."""
        return not (self.gained or self.lost or self.changed)

    def sentences(self) -> list[str]:
        """The differences, one a line, in the order of their steps."""
        found = [(i.incident.opened_step, f"Gained: {_told(i)}") for i in self.gained]
        found += [(i.incident.opened_step, f"Lost: {_told(i)}") for i in self.lost]
        found += [(old.incident.opened_step, _change(old, new)) for old, new in self.changed]
        return [text for _, text in sorted(found, key=lambda item: item[0])]


def compare(before: Sequence[RankedIncident], after: Sequence[RankedIncident]) -> Comparison:
    """What became of the incidents `before`, and what is new `after`."""
    candidates = sorted(
        (_distance(old.incident, new.incident), i, j)
        for i, old in enumerate(before)
        for j, new in enumerate(after)
        if old.rank == new.rank and _overlap(old.incident, new.incident)
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in candidates:
        if i not in partner and j not in taken:
            partner[i] = j
            taken.add(j)
    pairs = [(before[i], after[j]) for i, j in sorted(partner.items())]
    return Comparison(
        gained=tuple(new for j, new in enumerate(after) if j not in taken),
        lost=tuple(old for i, old in enumerate(before) if i not in partner),
        changed=tuple((old, new) for old, new in pairs if _differences(old, new)),
        same=tuple(new for old, new in pairs if not _differences(old, new)),
    )


def _distance(old: Incident, new: Incident) -> tuple[bool, int, int]:
    kinds_differ = old.kind != new.kind
    return kinds_differ, abs(old.opened_ord - new.opened_ord), abs(old.onset_step - new.onset_step)


def _overlap(old: Incident, new: Incident) -> bool:
    return _begins_before_end(old, new) and _begins_before_end(new, old)


def _begins_before_end(one: Incident, other: Incident) -> bool:
    if other.state is State.OPEN:
        return True
    end = other.updated_step if other.recovered_step is None else other.recovered_step
    return one.onset_step <= max(end, other.opened_step)


def _differences(old: RankedIncident, new: RankedIncident) -> list[str]:
    was, now = old.incident, new.incident
    found = []
    if was.kind != now.kind:
        found.append(f"its kind is {now.kind} and was {was.kind}")
    if was.severity != now.severity:
        found.append(f"it is {now.severity} and was {was.severity}")
    if was.onset_step != now.onset_step:
        found.append(f"its onset is step {now.onset_step} and was {was.onset_step}")
    if was.opened_step != now.opened_step:
        found.append(f"it opens at step {now.opened_step} and did at {was.opened_step}")
    if was.group != now.group:
        found.append(f"it names {now.group or 'nobody'} and named {was.group or 'nobody'}")
    return found


def _change(old: RankedIncident, new: RankedIncident) -> str:
    incident = old.incident
    who = f"{incident.kind} of step {incident.opened_step}{_on(old.rank)}"
    return f"Changed: {who}: {'; '.join(_differences(old, new))}."


def _told(ranked: RankedIncident) -> str:
    incident = ranked.incident
    return (
        f"{incident.severity} {incident.kind} of step {incident.opened_step}{_on(ranked.rank)}: "
        f"{sentence(incident)}."
    )


def _on(rank: int) -> str:
    return f" on rank {rank}" if rank else ""
