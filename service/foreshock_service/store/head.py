"""The newest frame of every rank, kept in the transaction that stored it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sqlalchemy import Row, func, select, tuple_, update

from foreshock_service.domain.runs import RunHead
from foreshock_service.store import schemas
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import run_head
from foreshock_service.store.writing import insert_new, upsert

_WITHOUT_STATS: Final = [column for column in run_head.c if column.name != "stats"]
_UPDATED: Final = [
    column.name for column in run_head.c if column.name not in ("run_id", "rank", "compacted_ord")
]


def get(session: ReadSession, run_id: str, rank: int = 0) -> RunHead | None:
    """The head of one rank with its statistics; None before its first batch."""
    query = select(run_head).where(run_head.c.run_id == run_id, run_head.c.rank == rank)
    row = session.connection.execute(query).first()
    return None if row is None else _head(session, row)


def ranks(session: ReadSession, run_id: str) -> list[int]:
    """The ranks that a run has heads for, in order."""
    query = select(run_head.c.rank).where(run_head.c.run_id == run_id)
    return sorted(session.connection.scalars(query))


def host_among_others(session: ReadSession, run_id: str, rank: int) -> str | None:
    """The host of a rank, empty where it was not told; None for the only rank of a run."""
    others = select(run_head.c.rank).where(run_head.c.run_id == run_id, run_head.c.rank != rank)
    query = select(run_head.c.host).where(
        run_head.c.run_id == run_id, run_head.c.rank == rank, others.exists()
    )
    return session.connection.scalar(query)


def end_ord(session: ReadSession, run_id: str) -> int:
    """The ord below which every frame of every rank can be fetched; 0 before the first batch."""
    query = select(func.max(run_head.c.next_ord)).where(run_head.c.run_id == run_id)
    return session.connection.scalar(query) or 0


def first_heads(session: ReadSession, run_ids: Sequence[str]) -> dict[str, RunHead]:
    """The head of the lowest rank of each run, without statistics."""
    query = (
        select(*_WITHOUT_STATS)
        .where(run_head.c.run_id.in_(run_ids))
        .order_by(run_head.c.run_id, run_head.c.rank.desc())
    )
    # The lowest rank comes last, and so it stays.
    return {row.run_id: _head(session, row) for row in session.connection.execute(query)}


def rank_heads(session: ReadSession, run_ids: Sequence[str]) -> dict[str, list[RunHead]]:
    """Every rank's head of each run, without statistics, in order of rank."""
    query = (
        select(*_WITHOUT_STATS)
        .where(run_head.c.run_id.in_(run_ids))
        .order_by(run_head.c.run_id, run_head.c.rank)
    )
    found: dict[str, list[RunHead]] = {run_id: [] for run_id in run_ids}
    for row in session.connection.execute(query):
        found[row.run_id].append(_head(session, row))
    return found


def heads(session: ReadSession, run_ids: Sequence[str]) -> list[RunHead]:
    """Every rank's head of the runs, with statistics, ordered by run and rank."""
    query = (
        select(run_head)
        .where(run_head.c.run_id.in_(run_ids))
        .order_by(run_head.c.run_id, run_head.c.rank)
    )
    return [_head(session, row) for row in session.connection.execute(query)]


def lock(
    session: WriteSession, origins: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], RunHead]:
    """Take the heads of (run, rank) -> attempt for this transaction, making those that miss.

    Whoever holds a head is alone in giving out its ords: replicas wait here, in key order.
    """
    keys = sorted(origins)
    insert_new(
        session,
        run_head,
        [
            {
                "run_id": run_id,
                "rank": rank,
                "next_ord": 0,
                "attempt": origins[run_id, rank],
                "host": "",
                "device": "",
                "scalars": {},
                "counters": {},
            }
            for run_id, rank in keys
        ],
    )
    query = (
        select(run_head)
        .where(tuple_(run_head.c.run_id, run_head.c.rank).in_(keys))
        .order_by(run_head.c.run_id, run_head.c.rank)
        .with_for_update()
    )
    rows = session.connection.execute(query).all()
    return {(row.run_id, row.rank): _head(session, row) for row in rows}


def save(session: WriteSession, changed: Iterable[RunHead]) -> None:
    """Write heads back, all but their `compacted_ord`, which is compaction's."""
    rows = [
        {
            "run_id": head.run_id,
            "rank": head.rank,
            "next_ord": head.next_ord,
            "attempt": head.attempt,
            "step": head.step,
            "wall_time": head.wall_time,
            "schema_hash": head.schema_hash,
            "host": head.host,
            "device": head.device,
            "scalars": numbers_to_json(head.scalars),
            "counters": dict(head.counters),
            "stats": None if head.stats is None else head.stats.astype("<f4").tobytes(),
        }
        for head in changed
    ]
    upsert(session, run_head, rows, update=_UPDATED)


def set_compacted(session: WriteSession, run_id: str, rank: int, compacted_ord: int) -> None:
    """Note that every frame below `compacted_ord` is in blocks."""
    session.connection.execute(
        update(run_head)
        .where(run_head.c.run_id == run_id, run_head.c.rank == rank)
        .values(compacted_ord=compacted_ord)
    )


def numbers_to_json(numbers: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers with NaN and the infinities as the strings `NaN`, `Infinity`, `-Infinity`."""
    return {
        name: value
        if math.isfinite(value)
        else ("NaN" if value != value else "Infinity" if value > 0 else "-Infinity")
        for name, value in numbers.items()
    }


def numbers_from_json(document: Mapping[str, float | str]) -> dict[str, float]:
    """The numbers that `numbers_to_json` wrote."""
    return {name: float(value) for name, value in document.items()}


def _head(session: ReadSession, row: Row[Any]) -> RunHead:
    blob = row._mapping.get("stats")
    stats: npt.NDArray[np.float32] | None = None
    if blob is not None and row.schema_hash is not None:
        num_statistics = len(schemas.load(session, row.schema_hash).statistics)
        stats = np.frombuffer(blob, "<f4").reshape(-1, num_statistics)
    return RunHead(
        run_id=row.run_id,
        rank=row.rank,
        next_ord=row.next_ord,
        compacted_ord=row.compacted_ord,
        attempt=row.attempt,
        step=row.step,
        wall_time=row.wall_time,
        schema_hash=row.schema_hash,
        host=row.host,
        device=row.device,
        scalars=numbers_from_json(row.scalars),
        counters=row.counters,
        stats=stats,
    )
