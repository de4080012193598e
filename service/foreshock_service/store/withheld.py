"""Changes of incidents that a silence kept from being told, until it ends."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select, update

from foreshock_service.domain.incidents import Transition
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import withheld
from foreshock_service.store.writing import upsert


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """What was not told of one incident, since when."""

    transitions: tuple[Transition, ...]
    since: float


def take(session: WriteSession, run_id: str, number: int) -> Withheld | None:
    """What is withheld of an incident; its row is ours until the transaction ends."""
    query = (
        select(withheld.c.transitions, withheld.c.since)
        .where(withheld.c.run_id == run_id, withheld.c.incident_number == number)
        .with_for_update()
    )
    row = session.connection.execute(query).first()
    if row is None:
        return None
    return Withheld(transitions=tuple(Transition(t) for t in row.transitions), since=row.since)


def keep(
    session: WriteSession,
    run_id: str,
    number: int,
    what: Withheld,
    *,
    look_at: float,
) -> None:
    """Withhold this, and look again at `look_at` whether it may be told."""
    row = {
        "run_id": run_id,
        "incident_number": number,
        "transitions": [str(t) for t in dict.fromkeys(what.transitions)],
        "since": what.since,
        "look_at": look_at,
    }
    upsert(session, withheld, [row], update=["transitions", "look_at"])


def drop(session: WriteSession, run_id: str, number: int) -> None:
    """Forget what was withheld of an incident: it is told, or no news any more."""
    session.connection.execute(
        delete(withheld).where(withheld.c.run_id == run_id, withheld.c.incident_number == number)
    )


def due(session: ReadSession, *, now: float, limit: int) -> list[tuple[str, int]]:
    """Run and number of incidents to look at again, the longest due first."""
    query = (
        select(withheld.c.run_id, withheld.c.incident_number)
        .where(withheld.c.look_at <= now)
        .order_by(withheld.c.look_at, withheld.c.run_id, withheld.c.incident_number)
        .limit(limit)
    )
    return [(row.run_id, row.incident_number) for row in session.connection.execute(query)]


def look_now(session: WriteSession, *, now: float) -> None:
    """Look at all of them again: a silence was ended before its time.

    Rows are locked in their order, so that two that do so at once wait and do not deadlock.
    """
    later = withheld.c.look_at > now
    rows = (
        select(withheld.c.run_id, withheld.c.incident_number)
        .where(later)
        .order_by(withheld.c.run_id, withheld.c.incident_number)
        .with_for_update()
    )
    session.connection.execute(rows).all()
    session.connection.execute(update(withheld).where(later).values(look_at=now))
