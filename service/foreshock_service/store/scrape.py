"""What a metrics scrape reads: few queries, bounded rows, no statistics."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select

from foreshock_service.domain.incidents import State
from foreshock_service.domain.runs import RunHead
from foreshock_service.store import head
from foreshock_service.store.session import ReadSession
from foreshock_service.store.tables import incident, run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSample:
    """One run at the moment of a scrape."""

    run_id: str
    project: str
    status: str
    heard_at: float
    head: RunHead | None
    open_incidents: dict[str, int]
    """By severity; a severity without open incidents is not in it."""


def sample_runs(session: ReadSession, *, ended_after: float, limit: int) -> list[RunSample]:
    """Running runs and those that ended after `ended_after`, newest first."""
    statement = (
        select(run.c.run_id, run.c.project, run.c.status, run.c.heard_at)
        .where(
            or_(
                and_(run.c.status == "running", run.c.finished_at.is_(None)),
                func.coalesce(run.c.finished_at, run.c.heard_at) > ended_after,
            )
        )
        .order_by(run.c.heard_at.desc(), run.c.run_id)
        .limit(limit)
    )
    rows = session.connection.execute(statement).all()
    run_ids = [row.run_id for row in rows]
    heads = head.first_heads(session, run_ids)
    counts = _open_incidents(session, run_ids)
    return [
        RunSample(**row._mapping, head=heads.get(row.run_id), open_incidents=counts[row.run_id])
        for row in rows
    ]


def _open_incidents(session: ReadSession, run_ids: list[str]) -> dict[str, dict[str, int]]:
    statement = (
        select(incident.c.run_id, incident.c.severity, func.count())
        .where(incident.c.run_id.in_(run_ids), incident.c.state == State.OPEN.value)
        .group_by(incident.c.run_id, incident.c.severity)
    )
    counts: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    for run_id, severity, count in session.connection.execute(statement):
        counts[run_id][severity] = count
    return counts
