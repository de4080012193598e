"""Runs and their attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, bindparam, case, delete, func, or_, select, update

from foreshock_service.domain.detection_rules import RuleScope
from foreshock_service.domain.runs import Attempt, Run, RunHead, RunStatus
from foreshock_service.errors import Conflict, NotFound
from foreshock_service.store import head
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import attempt, detection_rule, run
from foreshock_service.store.writing import Rows, insert_new

MAX_NAMED: Final = 5
"""Runs of one name that are listed, so that a person can choose."""


@dataclass(frozen=True, slots=True)
class RunWithHead:
    """A run and the newest frame of its lowest rank; None before the first batch."""

    run: Run
    head: RunHead | None


def list_runs(
    session: ReadSession,
    *,
    project: str | None = None,
    status: RunStatus | None = None,
    limit: int = 200,
    offset: int = 0,
) -> list[RunWithHead]:
    """Runs, the last heard of first, with their heads (without statistics)."""
    query = select(run).order_by(run.c.heard_at.desc(), run.c.run_id).limit(limit).offset(offset)
    if project is not None:
        query = query.where(run.c.project == project)
    if status is not None:
        query = query.where(run.c.status == status)
    runs = [_run(row) for row in session.connection.execute(query)]
    heads = head.first_heads(session, [item.run_id for item in runs])
    return [RunWithHead(item, heads.get(item.run_id)) for item in runs]


def count_runs(
    session: ReadSession, *, project: str | None = None, status: RunStatus | None = None
) -> int:
    """How many runs `list_runs` has on all its pages."""
    query = select(func.count()).select_from(run)
    if project is not None:
        query = query.where(run.c.project == project)
    if status is not None:
        query = query.where(run.c.status == status)
    return session.connection.scalar(query) or 0


def get(session: ReadSession, run_id: str) -> Run:
    """One run.

    Raises:
        NotFound: there is no such run.
    """
    row = session.connection.execute(select(run).where(run.c.run_id == run_id)).first()
    if row is None:
        raise NotFound(f"there is no run {run_id!r}: GET /api/v1/runs lists them")
    return _run(row)


def get_many(session: ReadSession, run_ids: Sequence[str]) -> list[Run]:
    """Those of the runs that there are, by id."""
    query = select(run).where(run.c.run_id.in_(run_ids)).order_by(run.c.run_id)
    return [_run(row) for row in session.connection.execute(query)]


def find(session: ReadSession, text: str) -> Run:
    """The run of this id, else the only one of this name.

    Raises:
        NotFound: there is none.
        Conflict: several runs have the name.
    """
    row = session.connection.execute(select(run).where(run.c.run_id == text)).first()
    if row is not None:
        return _run(row)
    query = select(run).where(run.c.name == text).order_by(run.c.heard_at.desc()).limit(MAX_NAMED)
    named = [_run(row) for row in session.connection.execute(query)]
    if not named:
        raise NotFound(f"there is no run with the id or name {text!r}")
    if len(named) > 1:
        ids = ", ".join(item.run_id for item in named)
        raise Conflict(f"several runs are called {text!r}: give an id, such as {ids}")
    return named[0]


def attempts(session: ReadSession, run_id: str) -> list[Attempt]:
    """The attempts of a run, the first start first."""
    query = select(attempt).where(attempt.c.run_id == run_id).order_by(attempt.c.attempt)
    return [_attempt(row) for row in session.connection.execute(query)]


def attempts_of(session: ReadSession, run_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """The attempts of each run, the first start first; an empty list for one without any."""
    query = (
        select(attempt)
        .where(attempt.c.run_id.in_(run_ids))
        .order_by(attempt.c.run_id, attempt.c.attempt)
    )
    found: dict[str, list[Attempt]] = {run_id: [] for run_id in run_ids}
    for row in session.connection.execute(query):
        found[row.run_id].append(_attempt(row))
    return found


def newest_attempts(session: ReadSession, run_ids: Sequence[str]) -> dict[str, int]:
    """The newest attempt of each run that has one."""
    query = (
        select(attempt.c.run_id, func.max(attempt.c.attempt).label("newest"))
        .where(attempt.c.run_id.in_(run_ids))
        .group_by(attempt.c.run_id)
    )
    return {row.run_id: row.newest for row in session.connection.execute(query)}


def insert_runs(session: WriteSession, rows: Rows) -> None:
    """Make the runs that are not there yet, `running`; rows in order of `run_id`."""
    insert_new(session, run, [{"status": RunStatus.RUNNING, **row} for row in rows])


def insert_attempts(session: WriteSession, rows: Rows) -> None:
    """Make the attempts that are not there yet, and lower `first_step` where a row has less."""
    insert_new(session, attempt, rows)
    known = [
        {"b_run_id": row["run_id"], "b_attempt": row["attempt"], "b_step": row["first_step"]}
        for row in rows
        if row["first_step"] is not None
    ]
    if known:
        session.connection.execute(
            update(attempt)
            .where(attempt.c.run_id == bindparam("b_run_id"))
            .where(attempt.c.attempt == bindparam("b_attempt"))
            .where(
                or_(
                    attempt.c.first_step.is_(None),
                    attempt.c.first_step > bindparam("b_step"),
                )
            )
            .values(first_step=bindparam("b_step")),
            known,
        )


def heard(session: WriteSession, run_ids: Sequence[str], *, now: float) -> None:
    """Note that the runs sent something: a run that was only silent is running again."""
    session.connection.execute(
        update(run)
        .where(run.c.run_id.in_(run_ids))
        .values(
            heard_at=now,
            status=case((run.c.finished_at.is_(None), RunStatus.RUNNING), else_=run.c.status),
        )
    )


def describe(
    session: WriteSession, run_id: str, *, name: str, project: str, info: dict[str, Any]
) -> None:
    """Take up what the newest start of a run says about it."""
    session.connection.execute(
        update(run).where(run.c.run_id == run_id).values(name=name, project=project, info=info)
    )


def set_status(
    session: WriteSession, run_id: str, status: RunStatus, *, finished_at: float | None = None
) -> None:
    """Change a run's status; `finished_at` only where the client itself said that it ended."""
    session.connection.execute(
        update(run).where(run.c.run_id == run_id).values(status=status, finished_at=finished_at)
    )


def delete_run(session: WriteSession, run_id: str) -> None:
    """Delete a run and everything that belongs to it.

    Raises:
        NotFound: there is no such run.
    """
    rule = (detection_rule.c.scope == str(RuleScope.RUN)) & (detection_rule.c.name == run_id)
    session.connection.execute(delete(detection_rule).where(rule))
    if session.connection.execute(delete(run).where(run.c.run_id == run_id)).rowcount == 0:
        raise NotFound(f"there is no run {run_id!r}: GET /api/v1/runs lists them")


def _run(row: Row[Any]) -> Run:
    return Run(
        run_id=row.run_id,
        name=row.name,
        project=row.project,
        status=RunStatus(row.status),
        created_at=row.created_at,
        heard_at=row.heard_at,
        finished_at=row.finished_at,
        info=row.info,
    )


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(attempt=row.attempt, started_at=row.started_at, first_step=row.first_step)
