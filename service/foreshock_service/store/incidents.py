"""Incidents as rows; `version` is compared and set, since detection and people both change them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Row, and_, func, or_, select, update

from foreshock_service.domain.incident_documents import incident_from_json, incident_to_json
from foreshock_service.domain.incidents import Incident, State
from foreshock_service.errors import Conflict, NotFound
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import incident as incident_table
from foreshock_service.store.tables import run


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIncident:
    """An incident with the sentence it was last told by and the version it was read at."""

    run_id: str
    rank: int
    number: int
    version: int
    incident: Incident
    sentence: str
    opened_at: float
    updated_at: float


def list_incidents(
    session: ReadSession, run_id: str, *, state: State | None = None, limit: int = 1000
) -> list[StoredIncident]:
    """A run's incidents, the newest first."""
    query = (
        select(incident_table)
        .where(incident_table.c.run_id == run_id)
        .order_by(incident_table.c.number.desc())
        .limit(limit)
    )
    if state is not None:
        query = query.where(incident_table.c.state == str(state))
    return [_stored(row) for row in session.connection.execute(query)]


def versions(session: ReadSession, run_id: str) -> dict[int, int]:
    """The version of each of a run's incidents: equal as long as nothing changed."""
    query = (
        select(incident_table.c.number, incident_table.c.version)
        .where(incident_table.c.run_id == run_id)
        .order_by(incident_table.c.number)
    )
    return {row.number: row.version for row in session.connection.execute(query)}


def incidents_of(session: ReadSession, run_ids: Sequence[str]) -> dict[str, list[StoredIncident]]:
    """The incidents of each run, the newest first; an empty list for one without any."""
    query = (
        select(incident_table)
        .where(incident_table.c.run_id.in_(run_ids))
        .order_by(incident_table.c.run_id, incident_table.c.number.desc())
    )
    found: dict[str, list[StoredIncident]] = {run_id: [] for run_id in run_ids}
    for row in session.connection.execute(query):
        found[row.run_id].append(_stored(row))
    return found


def open_of_kind(
    session: ReadSession, kind: str, *, heard_after: float, or_overtaken: bool = False
) -> list[StoredIncident]:
    """The open incidents of a kind in the runs that were heard after a time, or also in those that
    were heard, or ended, since their incident was last changed."""
    wanted = run.c.heard_at > heard_after
    if or_overtaken:
        overtaken = run.c.heard_at > incident_table.c.updated_at
        wanted = or_(wanted, overtaken, run.c.finished_at.is_not(None))
    query = (
        select(incident_table)
        .join(run, run.c.run_id == incident_table.c.run_id)
        .where(incident_table.c.kind == kind, incident_table.c.state == str(State.OPEN), wanted)
        .order_by(incident_table.c.run_id, incident_table.c.number)
    )
    return [_stored(row) for row in session.connection.execute(query)]


def of_kind(
    session: ReadSession, run_id: str, kind: str, *, limit: int = 100
) -> list[StoredIncident]:
    """A run's incidents of a kind in any state, the newest first."""
    query = (
        select(incident_table)
        .where(incident_table.c.run_id == run_id, incident_table.c.kind == kind)
        .order_by(incident_table.c.number.desc())
        .limit(limit)
    )
    return [_stored(row) for row in session.connection.execute(query)]


def newest_of_kind(
    session: ReadSession, run_ids: Sequence[str], kind: str
) -> dict[str, StoredIncident]:
    """The newest incident of a kind of each run that has one, in any state."""
    newest = (
        select(incident_table.c.run_id, func.max(incident_table.c.number).label("number"))
        .where(incident_table.c.run_id.in_(run_ids), incident_table.c.kind == kind)
        .group_by(incident_table.c.run_id)
        .subquery()
    )
    query = select(incident_table).join(
        newest,
        and_(
            incident_table.c.run_id == newest.c.run_id,
            incident_table.c.number == newest.c.number,
        ),
    )
    return {row.run_id: _stored(row) for row in session.connection.execute(query)}


def get_incident(session: ReadSession, run_id: str, number: int) -> StoredIncident:
    """One incident.

    Raises:
        NotFound: the run has no incident of that number.
    """
    query = select(incident_table).where(
        incident_table.c.run_id == run_id, incident_table.c.number == number
    )
    row = session.connection.execute(query).first()
    if row is None:
        raise NotFound(
            f"run {run_id!r} has no incident {number}: GET /api/v1/runs/{run_id}/incidents lists "
            "them"
        )
    return _stored(row)


def get_incidents(
    session: ReadSession, run_id: str, numbers: Iterable[int]
) -> dict[int, StoredIncident]:
    """Those of `numbers` that exist."""
    wanted = sorted(set(numbers))
    if not wanted:
        return {}
    query = select(incident_table).where(
        incident_table.c.run_id == run_id, incident_table.c.number.in_(wanted)
    )
    return {row.number: _stored(row) for row in session.connection.execute(query)}


def open_counts(session: ReadSession, run_ids: Iterable[str]) -> dict[str, int]:
    """How many incidents of each run are open; runs without any are left out."""
    query = (
        select(incident_table.c.run_id, func.count())
        .where(
            incident_table.c.run_id.in_(sorted(set(run_ids))),
            incident_table.c.state == str(State.OPEN),
        )
        .group_by(incident_table.c.run_id)
    )
    return {str(row[0]): int(row[1]) for row in session.connection.execute(query)}


def next_number(session: ReadSession, run_id: str) -> int:
    """The number of the run's next incident, over all its ranks."""
    query = select(func.max(incident_table.c.number)).where(incident_table.c.run_id == run_id)
    return int(session.connection.scalar(query) or 0) + 1


def insert_incident(
    session: WriteSession, run_id: str, rank: int, incident: Incident, *, sentence: str, now: float
) -> int:
    """Store a new incident; its version."""
    session.connection.execute(
        incident_table.insert().values(
            run_id=run_id,
            rank=rank,
            number=incident.number,
            version=1,
            opened_at=now,
            **_columns(incident, sentence, now),
        )
    )
    return 1


def update_incident(
    session: WriteSession,
    run_id: str,
    incident: Incident,
    *,
    version: int,
    sentence: str,
    now: float,
) -> int:
    """Replace an incident that still has `version`; the new version.

    Raises:
        Conflict: somebody changed it meanwhile (`incident_changed`): read it again.
    """
    statement = (
        update(incident_table)
        .where(
            incident_table.c.run_id == run_id,
            incident_table.c.number == incident.number,
            incident_table.c.version == version,
        )
        .values(version=version + 1, **_columns(incident, sentence, now))
    )
    if session.connection.execute(statement).rowcount != 1:
        raise Conflict(
            f"incident {incident.number} of run {run_id!r} changed meanwhile: read it again",
            code="incident_changed",
        )
    return version + 1


def _columns(incident: Incident, sentence: str, now: float) -> dict[str, object]:
    return {
        "kind": incident.kind,
        "severity": str(incident.severity),
        "state": str(incident.state),
        "onset_step": incident.onset_step,
        "loss_step": incident.loss_step,
        "sentence": sentence,
        "document": incident_to_json(incident),
        "acknowledged": incident.acknowledged_by is not None,
        "updated_at": now,
    }


def _stored(row: Row[tuple[object, ...]]) -> StoredIncident:
    return StoredIncident(
        run_id=row.run_id,
        rank=row.rank,
        number=row.number,
        version=row.version,
        incident=incident_from_json(row.document),
        sentence=row.sentence,
        opened_at=row.opened_at,
        updated_at=row.updated_at,
    )
