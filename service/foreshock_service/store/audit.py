"""The audit trail: who changed what, kept apart from the things that were changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select

from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import audit


def record(
    session: WriteSession,
    *,
    actor: str,
    action: str,
    target: str,
    now: float,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add one line, in the transaction of the change it tells of."""
    session.connection.execute(
        insert(audit).values(
            at=now, actor=actor[:128], action=action, target=target[:256], detail=detail or {}
        )
    )


def recent(session: ReadSession, *, limit: int = 100) -> list[dict[str, Any]]:
    """The newest lines, newest first."""
    statement = select(audit).order_by(audit.c.audit_id.desc()).limit(limit)
    return [dict(row._mapping) for row in session.connection.execute(statement)]
