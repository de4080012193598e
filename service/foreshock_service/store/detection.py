"""What detection keeps: leases, cursors with their state, findings, baseline snapshots.

A run is read by the holder of its lease. The lease's epoch grows with every change of hands, and
`commit_cursor` demands it, so that a worker that was suspended past its lease cannot write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from foreshock.wire import SeriesSchema
from sqlalchemy import and_, func, select, update

from foreshock_service.domain.findings import Finding
from foreshock_service.domain.incident_documents import finding_to_json
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import (
    baseline_snapshot,
    detector_state,
    finding,
    run_head,
    run_lease,
)
from foreshock_service.store.writing import insert, insert_new, upsert


@dataclass(frozen=True, slots=True)
class Backlog:
    """A rank of a run with frames that detection has not read."""

    run_id: str
    rank: int
    next_ord: int


def backlogs(session: ReadSession, *, limit: int = 256) -> list[Backlog]:
    """Ranks that are behind, by run and rank."""
    cursor = func.coalesce(detector_state.c.next_ord, 0)
    query = (
        select(run_head.c.run_id, run_head.c.rank, cursor)
        .outerjoin(
            detector_state,
            and_(
                detector_state.c.run_id == run_head.c.run_id,
                detector_state.c.rank == run_head.c.rank,
            ),
        )
        .where(cursor < run_head.c.next_ord)
        .order_by(run_head.c.run_id, run_head.c.rank)
        .limit(limit)
    )
    return [Backlog(row[0], row[1], row[2]) for row in session.connection.execute(query)]


def next_ord(session: ReadSession, run_id: str, rank: int) -> int:
    """The first frame that detection has not read; those before it may be compacted."""
    query = select(detector_state.c.next_ord).where(
        detector_state.c.run_id == run_id, detector_state.c.rank == rank
    )
    return int(session.connection.scalar(query) or 0)


def claim_lease(
    session: WriteSession, run_id: str, *, owner: str, now: float, seconds: float
) -> int | None:
    """Take or keep a run's lease: its epoch, or None while somebody else holds it."""
    row = {"run_id": run_id, "owner": owner, "epoch": 0, "expires_at": 0.0}
    insert_new(session, run_lease, [row])
    held = select(run_lease.c.epoch).where(
        run_lease.c.run_id == run_id, run_lease.c.owner == owner, run_lease.c.expires_at > now
    )
    epoch = session.connection.scalar(held)
    if epoch is not None:
        return int(epoch)
    take = (
        update(run_lease)
        .where(run_lease.c.run_id == run_id, run_lease.c.expires_at <= now)
        .values(owner=owner, epoch=run_lease.c.epoch + 1, expires_at=now + seconds)
        .returning(run_lease.c.epoch)
    )
    taken = session.connection.execute(take).scalar_one_or_none()
    return None if taken is None else int(taken)


def renew_lease(
    session: WriteSession, run_id: str, *, owner: str, epoch: int, now: float, seconds: float
) -> bool:
    """Prolong a lease that is still ours; False when it changed hands. Locks the row."""
    statement = (
        update(run_lease)
        .where(
            run_lease.c.run_id == run_id,
            run_lease.c.owner == owner,
            run_lease.c.epoch == epoch,
        )
        .values(expires_at=now + seconds)
    )
    return session.connection.execute(statement).rowcount == 1


def interrupt_lease(session: WriteSession, run_id: str) -> None:
    """Have whoever reads the run begin its unit of work again, and lock the lease's row until the
    end of this transaction.

    Another stage that opens an incident calls it first: the numbers of a run's incidents are given
    out under its lease, and detection may have taken the next one already.
    """
    row = {"run_id": run_id, "owner": "", "epoch": 0, "expires_at": 0.0}
    insert_new(session, run_lease, [row])
    session.connection.execute(
        update(run_lease).where(run_lease.c.run_id == run_id).values(epoch=run_lease.c.epoch + 1)
    )


def release_leases(session: WriteSession, *, owner: str) -> None:
    """Give back all leases of an owner, so that the next one need not wait for them to run out."""
    session.connection.execute(
        update(run_lease).where(run_lease.c.owner == owner).values(expires_at=0.0)
    )


def load_state(session: ReadSession, run_id: str, rank: int) -> tuple[int, bytes] | None:
    """The cursor and the state of a rank; None before its first frame was read."""
    query = select(detector_state.c.next_ord, detector_state.c.state).where(
        detector_state.c.run_id == run_id, detector_state.c.rank == rank
    )
    row = session.connection.execute(query).first()
    return None if row is None else (int(row[0]), bytes(row[1]))


def commit_cursor(
    session: WriteSession,
    run_id: str,
    rank: int,
    *,
    epoch: int,
    from_ord: int,
    to_ord: int,
    state: bytes,
) -> bool:
    """Move the cursor from `from_ord` to `to_ord`; False when it is not at `from_ord`."""
    values = {"epoch": epoch, "next_ord": to_ord, "state": state}
    key = {"run_id": run_id, "rank": rank}
    if from_ord == 0:
        start = {**key, "epoch": epoch, "next_ord": 0, "state": b""}
        insert_new(session, detector_state, [start])
    statement = (
        update(detector_state)
        .where(
            detector_state.c.run_id == run_id,
            detector_state.c.rank == rank,
            detector_state.c.next_ord == from_ord,
            detector_state.c.epoch <= epoch,
        )
        .values(**values)
    )
    return session.connection.execute(statement).rowcount == 1


def insert_findings(
    session: WriteSession,
    run_id: str,
    rank: int,
    findings: Sequence[tuple[Finding, int, SeriesSchema]],
) -> None:
    """Store findings with the number of the incident that each belongs to."""
    insert(
        session,
        finding,
        [
            {
                "run_id": run_id,
                "rank": rank,
                "incident_number": number,
                "ord": item.ord,
                "step": item.step,
                "detector": item.detector,
                "kind": item.kind,
                "severity": str(item.severity),
                "series": _series_name(item, schema),
                "document": finding_to_json(item),
            }
            for item, number, schema in findings
        ],
    )


def save_snapshot(
    session: WriteSession,
    run_id: str,
    rank: int,
    ord_: int,
    *,
    schema_hash: str,
    pairs: npt.NDArray[np.float32],
) -> None:
    """Store float32 [series, 2] (centre and scale of log2 rms) as known after frame `ord_`."""
    row = {
        "run_id": run_id,
        "rank": rank,
        "ord": ord_,
        "schema_hash": schema_hash,
        "data": pairs.astype("<f4").tobytes(),
    }
    upsert(session, baseline_snapshot, [row], update=["schema_hash", "data"])


def _series_name(item: Finding, schema: SeriesSchema) -> str | None:
    if item.series is None:
        return None
    series = schema.series[item.series]
    return f"{series.kind}:{series.name}"
