"""Events of a run: its start and end, notes, checkpoints, exceptions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from foreshock_service.domain.runs import RunEvent
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import event
from foreshock_service.store.writing import Rows, insert


def insert_events(session: WriteSession, rows: Rows) -> None:
    """Append events; each row is one of table `event` without its key."""
    insert(session, event, rows)


def list_events(
    session: ReadSession,
    run_id: str,
    *,
    kinds: Sequence[str] | None = None,
    after: int = 0,
    limit: int = 1000,
) -> list[RunEvent]:
    """The newest `limit` events of a run with a key above `after`, oldest first."""
    query = (
        select(event)
        .where(event.c.run_id == run_id, event.c.event_id > after)
        .order_by(event.c.event_id.desc())
        .limit(limit)
    )
    if kinds is not None:
        query = query.where(event.c.kind.in_(kinds))
    rows = session.connection.execute(query).all()
    return [
        RunEvent(
            event_id=row.event_id,
            rank=row.rank,
            attempt=row.attempt,
            kind=row.kind,
            step=row.step,
            wall_time=row.wall_time,
            data=row.data,
        )
        for row in reversed(rows)
    ]
