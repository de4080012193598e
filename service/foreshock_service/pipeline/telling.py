"""How a change of an incident reaches the outbox, or is withheld while a silence is over it.

Both happen in the transaction of the change. What is withheld is told by the stage `unsilence` when
the last silence over the incident has ended, so that an alert is late and never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.incidents import Incident, IncidentChange, State, Transition
from foreshock_service.domain.silences import Silence, silence_over, told_after
from foreshock_service.incidents import lifecycle
from foreshock_service.store import deliveries, incidents, silences, withheld
from foreshock_service.store.session import WriteSession
from foreshock_service.store.withheld import Withheld

RELAPSE_LOOK_SECONDS: Final = 60.0
"""An incident that recovered before it was told may be taken up again, and is then told so soon."""
RELAPSE_SECONDS: Final = 86_400.0
"""One that recovered and did not change for so long is let go: it will not be taken up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Whom a run's changes are told, and when."""

    run: AlertRun
    channels: Sequence[str]
    now: float


def tell(session: WriteSession, change: IncidentChange, *, to: Audience) -> None:
    """Put a change into the outbox, together with what was withheld before it, or withhold it."""
    if not to.channels:
        return
    # Silences before what they withhold, as whoever ends one locks them.
    live = silences.live_held(session, now=to.now)
    earlier = withheld.take(session, to.run.run_id, change.incident.number)
    kept = Withheld(
        transitions=(*(earlier.transitions if earlier else ()), change.transition),
        since=earlier.since if earlier else to.now,
    )
    if _is_silenced(session, change.incident, kept, live, to=to):
        return
    if earlier is None:
        deliveries.enqueue(session, change, run=to.run, channels=to.channels, now=to.now)
    else:
        _release(session, change.incident, kept, changed_at=to.now, to=to)


def look_again(session: WriteSession, number: int, *, to: Audience) -> None:
    """Tell what was withheld of an incident, unless a silence is over it still."""
    run_id = to.run.run_id
    live = silences.live_held(session, now=to.now)
    # Locked first, then read: what changes the incident meanwhile waits, and tells it by itself.
    kept = withheld.take(session, run_id, number)
    if kept is None:
        return
    stored = incidents.get_incidents(session, run_id, [number]).get(number)
    if stored is None:
        withheld.drop(session, run_id, number)
    elif not _is_silenced(session, stored.incident, kept, live, to=to):
        _release(session, stored.incident, kept, changed_at=stored.updated_at, to=to)


def _is_silenced(
    session: WriteSession,
    incident: Incident,
    kept: Withheld,
    live: Sequence[Silence],
    *,
    to: Audience,
) -> bool:
    over = silence_over(live, incident, to.run, now=to.now)
    if over is None:
        return False
    withheld.keep(session, to.run.run_id, incident.number, kept, look_at=over.ends_at)
    return True


def _release(
    session: WriteSession,
    incident: Incident,
    kept: Withheld,
    *,
    changed_at: float,
    to: Audience,
) -> None:
    run_id, number = to.run.run_id, incident.number
    transition = told_after(kept.transitions, incident)
    may_relapse = to.now - changed_at < RELAPSE_SECONDS and incident.state is State.RECOVERED
    if transition is None and may_relapse:
        withheld.keep(session, run_id, number, kept, look_at=to.now + RELAPSE_LOOK_SECONDS)
        return
    withheld.drop(session, run_id, number)
    if transition is None:
        return
    step = incident.updated_step
    if transition is Transition.OPENED:
        step = incident.opened_step
    deliveries.enqueue(
        session,
        lifecycle.as_told(incident, transition, step=step),
        run=to.run,
        channels=to.channels,
        now=to.now,
        withheld_since=kept.since,
    )
