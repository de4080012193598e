"""Silences: which incidents nobody is alerted of for a while, and what is told when that ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.incidents import Incident, State, Transition

MAX_SECONDS: Final = 90 * 86_400.0
"""A silence that is forgotten must end by itself."""
MATCHERS: Final = ("project", "run", "kind", "group")


class SilenceState(StrEnum):
    """Where a silence stands at a moment."""

    PENDING = "pending"
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Each matcher is an exact value, a glob (`*`, `?`, `[ab]`), or None for anything; case counts.

    `run` is the run's id or its name, `group` the layer or family that the incident names.
    """

    silence_id: int
    project: str | None
    run: str | None
    kind: str | None
    group: str | None
    starts_at: float
    ends_at: float
    created_at: float
    created_by: str
    reason: str

    def state(self, now: float) -> SilenceState:
        """Live from `starts_at` on, and no longer at `ends_at`."""
        if now >= self.ends_at:
            return SilenceState.ENDED
        return SilenceState.LIVE if now >= self.starts_at else SilenceState.PENDING

    def matches(self, incident: Incident, run: AlertRun) -> bool:
        """Whether every matcher fits.

        All kinds that the incident has shown must fit: what was silenced as a spike is told once it
        is more than that.
        """
        kinds = incident.kinds or (incident.kind,)
        return (
            _fits(self.project, run.project)
            and (_fits(self.run, run.run_id) or _fits(self.run, run.name))
            and all(_fits(self.kind, kind) for kind in kinds)
            and _fits(self.group, incident.group)
        )


def silence_over(
    silences: Iterable[Silence], incident: Incident, run: AlertRun, *, now: float
) -> Silence | None:
    """Of the live silences that match, the one that lasts longest; None where nothing is silenced.

    All of them have to end before the incident is told.
    """
    over = [s for s in silences if s.state(now) is SilenceState.LIVE and s.matches(incident, run)]
    return max(over, key=lambda silence: (silence.ends_at, silence.silence_id), default=None)


def told_after(withheld: Sequence[Transition], incident: Incident) -> Transition | None:
    """Which of the transitions that were withheld is still news, given how the incident stands now.

    One message stands for all of them. An incident whose opening was withheld is told as opened
    while it is open, and never when it has ended by itself meanwhile. Of an incident that was told
    before the silence, its end is told, or the last that happened to it.
    """
    if Transition.OPENED in withheld:
        return Transition.OPENED if incident.state is State.OPEN else None
    for state, transition in (
        (State.RESOLVED, Transition.RESOLVED),
        (State.RECOVERED, Transition.RECOVERED),
    ):
        if incident.state is state and transition in withheld:
            return transition
    going_on = [t for t in withheld if t not in (Transition.RECOVERED, Transition.RESOLVED)]
    if Transition.ESCALATED in going_on:
        return Transition.ESCALATED
    return going_on[-1] if going_on else None


def _fits(pattern: str | None, value: str | None) -> bool:
    if pattern is None:
        return True
    # A name may itself hold the characters of a glob, so the exact value comes first.
    return value is not None and (value == pattern or fnmatchcase(value, pattern))
