"""When something last came from a run and from each of its ranks, and how fast they step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlalchemy import func, select

from foreshock_service.domain.runs import Run, RunHead, RunStatus
from foreshock_service.store import runs
from foreshock_service.store.extent import Range
from foreshock_service.store.session import ReadSession
from foreshock_service.store.tables import block, frame_batch, run, run_head
from foreshock_service.store.windows import scalar_window

MAX_RUNS: Final = 4096
"""Runs looked at in a round, the last heard of first."""
PACE_FRAMES: Final = 65
"""Frames that tell a rank's pace: 64 times between two."""

RankKey = tuple[str, int, int]
"""Run, rank, attempt."""


def unfinished(session: ReadSession, *, heard_after: float) -> list[Run]:
    """Runs that have not said that they ended and were heard after a time."""
    query = (
        select(run.c.run_id)
        .where(run.c.status == RunStatus.RUNNING, run.c.finished_at.is_(None))
        .where(run.c.heard_at > heard_after)
        .order_by(run.c.heard_at.desc(), run.c.run_id)
        .limit(MAX_RUNS)
    )
    return runs.get_many(session, list(session.connection.scalars(query)))


def runs_of_several_ranks(session: ReadSession, *, heard_after: float) -> list[Run]:
    """Runs heard after a time that have more than one rank, by id."""
    query = (
        select(run_head.c.run_id)
        .join(run, run.c.run_id == run_head.c.run_id)
        .where(run.c.heard_at > heard_after)
        .group_by(run_head.c.run_id)
        .having(func.count() > 1)
        .order_by(run_head.c.run_id)
        .limit(MAX_RUNS)
    )
    return runs.get_many(session, list(session.connection.scalars(query)))


def frame_arrivals(session: ReadSession, run_ids: Sequence[str]) -> dict[RankKey, float]:
    """When the newest frame of each rank and attempt came, by the service's clock."""
    newest: dict[RankKey, float] = {}
    for table in (block, frame_batch):
        query = (
            select(table.c.run_id, table.c.rank, table.c.attempt, func.max(table.c.received_at))
            .where(table.c.run_id.in_(run_ids))
            .group_by(table.c.run_id, table.c.rank, table.c.attempt)
        )
        if table is block:
            query = query.where(block.c.tier == 1)
        for run_id, rank, attempt, at in session.connection.execute(query):
            key = (run_id, rank, attempt)
            newest[key] = max(at, newest.get(key, at))
    return newest


def first_after(session: ReadSession, run_id: str, attempt: int, *, at: float) -> float | None:
    """When the first frame of an attempt came after a time, by the service's clock.

    Of frames that were compacted meanwhile, the newest of their block counts.
    """
    found: list[float] = []
    for table in (block, frame_batch):
        query = select(func.min(table.c.received_at)).where(
            table.c.run_id == run_id, table.c.attempt == attempt, table.c.received_at > at
        )
        if table is block:
            query = query.where(block.c.tier == 1)
        first: float | None = session.connection.scalar(query)
        if first is not None:
            found.append(first)
    return min(found, default=None)


def step_seconds(session: ReadSession, newest: RunHead) -> list[float]:
    """Seconds between the last frames of a rank in its newest attempt, by its own clock."""
    if not newest.next_ord:
        return []
    axis = scalar_window(
        session,
        newest.run_id,
        newest.rank,
        names=(),
        wanted=Range(from_ord=max(0, newest.next_ord - PACE_FRAMES), to_ord=newest.next_ord),
        max_columns=PACE_FRAMES,
    ).axis
    times = axis.wall_time[axis.attempt == newest.attempt]
    between = np.diff(times)
    return [float(seconds) for seconds in between[np.isfinite(between) & (between >= 0)]]
