"""Silences as rows. They are ended, never deleted: who silenced what stays readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Row, func, insert, select, update

from foreshock_service.domain.silences import Silence, SilenceState
from foreshock_service.errors import Conflict, NotFound
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import silence

MAX_STANDING: Final = 1000
"""Silences that have not ended; every alert is held against each."""


def add(session: WriteSession, values: Mapping[str, Any], *, by: str, now: float) -> Silence:
    """Store a silence; `values` are its matchers, times and reason.

    Raises:
        Conflict: there are too many that have not ended (`too_many_silences`).
    """
    standing = select(func.count()).select_from(silence).where(silence.c.ends_at > now)
    if (session.connection.scalar(standing) or 0) >= MAX_STANDING:
        raise Conflict(
            f"{MAX_STANDING} silences have not ended: end some, or match more with one",
            code="too_many_silences",
        )
    row = {_COLUMNS.get(name, name): value for name, value in values.items()}
    statement = (
        insert(silence).values(created_at=now, created_by=by[:128], **row).returning(*silence.c)
    )
    return _silence(session.connection.execute(statement).one())


def get(session: ReadSession, silence_id: int) -> Silence:
    """One silence.

    Raises:
        NotFound: there is no such silence.
    """
    query = select(silence).where(silence.c.silence_id == silence_id)
    row = session.connection.execute(query).first()
    if row is None:
        raise NotFound(f"there is no silence {silence_id}: GET /api/v1/silences lists them")
    return _silence(row)


def listed(
    session: ReadSession, *, now: float, state: SilenceState | None = None, limit: int = 200
) -> list[Silence]:
    """Silences, the newest first."""
    query = select(silence).order_by(silence.c.silence_id.desc()).limit(limit)
    if state is SilenceState.ENDED:
        query = query.where(silence.c.ends_at <= now)
    elif state is SilenceState.LIVE:
        query = query.where(silence.c.starts_at <= now, silence.c.ends_at > now)
    elif state is SilenceState.PENDING:
        query = query.where(silence.c.starts_at > now)
    return [_silence(row) for row in session.connection.execute(query)]


def live(session: ReadSession, *, now: float) -> list[Silence]:
    """Every silence that is in force at `now`."""
    return listed(session, now=now, state=SilenceState.LIVE, limit=MAX_STANDING)


def live_held(session: WriteSession, *, now: float) -> list[Silence]:
    """Every silence that is in force at `now`, kept from being ended until the transaction does.

    Whoever ends one then sees, and may look at again, what was withheld because of it.
    """
    query = (
        select(silence)
        .where(silence.c.starts_at <= now, silence.c.ends_at > now)
        .order_by(silence.c.silence_id.desc())
        .limit(MAX_STANDING)
        .with_for_update(read=True)
    )
    return [_silence(row) for row in session.connection.execute(query)]


def end(session: WriteSession, silence_id: int, *, now: float) -> Silence:
    """End a silence now.

    Raises:
        NotFound: there is no such silence.
        Conflict: it has ended already (`silence_ended`).
    """
    get(session, silence_id)
    statement = (
        update(silence)
        .where(silence.c.silence_id == silence_id, silence.c.ends_at > now)
        .values(ends_at=now)
        .returning(*silence.c)
    )
    row = session.connection.execute(statement).first()
    if row is None:
        raise Conflict(f"silence {silence_id} has ended already", code="silence_ended")
    return _silence(row)


_COLUMNS: Final = {"group": "module_group"}


def _silence(row: Row[Any]) -> Silence:
    return Silence(
        silence_id=row.silence_id,
        project=row.project,
        run=row.run,
        kind=row.kind,
        group=row.module_group,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        created_at=row.created_at,
        created_by=row.created_by,
        reason=row.reason,
    )
