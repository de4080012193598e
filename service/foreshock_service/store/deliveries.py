"""The outbox: alerts committed with their incident, and claimed one by one by whoever sends them.

A row is `pending` until it is due, `sending` while somebody holds it, then `delivered` or `failed`.
`next_attempt_at` is when a pending row is due, and when the claim on a sending row runs out: a
sender that was killed leaves a row that the next one takes over.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from foreshock_service.domain.alerts import AlertRun, alert_message
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import delivery

MAX_ERROR_LENGTH = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One alert to one place; `attempts` counts this one too once it is claimed."""

    delivery_id: int
    run_id: str
    channel: str
    payload: dict[str, Any]
    attempts: int


def enqueue(
    session: WriteSession,
    change: IncidentChange,
    *,
    run: AlertRun,
    channels: Sequence[str],
    now: float,
    withheld_since: float | None = None,
) -> int:
    """Put one alert a channel into the outbox, in the caller's transaction; how many were new.

    The same change for the same channel is kept once, so that detection may repeat its work: the
    number of a change within its incident says which one it is. Its message carries `id`, which
    receivers can use to recognise a message that is sent again.
    `withheld_since` is when a silence first withheld it.
    """
    if not channels:
        return 0
    message = alert_message(change, run, withheld_since=withheld_since)
    rows = [
        {
            "run_id": run.run_id,
            "incident_number": change.incident.number,
            "change_number": change.incident.num_changes,
            "transition": str(change.transition),
            "step": change.step,
            "severity": str(change.incident.severity),
            "channel": channel,
            "payload": {"id": f"msg_{uuid.uuid4().hex}", "created_at": now, **message},
            "status": "pending",
            "attempts": 0,
            "next_attempt_at": now,
            "created_at": now,
        }
        for channel in dict.fromkeys(channels)
    ]
    insert = sqlite.insert if session.dialect == "sqlite" else postgresql.insert
    new = 0
    for row in rows:
        statement = insert(delivery).values(row).on_conflict_do_nothing()
        stored = session.connection.execute(statement.returning(delivery.c.delivery_id)).first()
        new += stored is not None
    return new


def due(session: ReadSession, *, now: float, limit: int) -> list[int]:
    """Ids of the deliveries that may be claimed, the longest due first."""
    statement = (
        select(delivery.c.delivery_id)
        .where(_claimable(now))
        .order_by(delivery.c.next_attempt_at, delivery.c.delivery_id)
        .limit(limit)
    )
    return list(session.connection.execute(statement).scalars())


def claim(
    session: WriteSession, delivery_id: int, *, owner: str, now: float, lease_seconds: float
) -> Delivery | None:
    """Take a delivery for `lease_seconds`; None when somebody else was faster.

    The attempt is counted here, not afterwards, so that a message that kills its sender cannot be
    tried for ever.
    """
    statement = (
        update(delivery)
        .where(delivery.c.delivery_id == delivery_id, _claimable(now))
        .values(
            status="sending",
            claimed_by=owner,
            attempts=delivery.c.attempts + 1,
            next_attempt_at=now + lease_seconds,
        )
        .returning(
            delivery.c.delivery_id,
            delivery.c.run_id,
            delivery.c.channel,
            delivery.c.payload,
            delivery.c.attempts,
        )
    )
    row = session.connection.execute(statement).one_or_none()
    return None if row is None else Delivery(**row._mapping)


def mark_delivered(session: WriteSession, delivery_id: int, *, owner: str, now: float) -> bool:
    """Close a delivery that was received; False when the claim had run out meanwhile."""
    return _settle(session, delivery_id, owner, status="delivered", delivered_at=now)


def mark_pending(
    session: WriteSession, delivery_id: int, *, owner: str, next_attempt_at: float, error: str
) -> bool:
    """Give a delivery back for another attempt later; False when the claim had run out."""
    return _settle(
        session,
        delivery_id,
        owner,
        status="pending",
        next_attempt_at=next_attempt_at,
        last_error=error[:MAX_ERROR_LENGTH],
    )


def mark_failed(session: WriteSession, delivery_id: int, *, owner: str, error: str) -> bool:
    """Give a delivery up for good, with the reason; False when the claim had run out."""
    return _settle(
        session, delivery_id, owner, status="failed", last_error=error[:MAX_ERROR_LENGTH]
    )


def count_by_status(session: ReadSession) -> dict[str, int]:
    """How many deliveries are in each status."""
    statement = select(delivery.c.status, func.count()).group_by(delivery.c.status)
    rows = session.connection.execute(statement).all()
    return {str(row[0]): int(row[1]) for row in rows}


def next_due_at(session: ReadSession) -> float | None:
    """When the next delivery may be claimed, in seconds since the epoch; None: nothing waits."""
    statement = select(func.min(delivery.c.next_attempt_at)).where(
        delivery.c.status.in_(("pending", "sending"))
    )
    earliest: float | None = session.connection.execute(statement).scalar_one()
    return earliest


def _claimable(now: float) -> Any:
    return and_(
        or_(delivery.c.status == "pending", delivery.c.status == "sending"),
        delivery.c.next_attempt_at <= now,
    )


def _settle(session: WriteSession, delivery_id: int, owner: str, **values: Any) -> bool:
    statement = (
        update(delivery)
        .where(
            delivery.c.delivery_id == delivery_id,
            delivery.c.status == "sending",
            delivery.c.claimed_by == owner,
        )
        .values(claimed_by=None, **values)
    )
    return session.connection.execute(statement).rowcount == 1
