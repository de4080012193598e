"""Runs as JSON: the list, one run, and the series that it measures."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from foreshock_service.api.access import MayRead
from foreshock_service.api.context import InContext
from foreshock_service.api.parameters import Rank, RunId
from foreshock_service.domain.runs import Run, RunHead, RunStatus
from foreshock_service.store import detection, events, head, runs, schemas
from foreshock_service.store.monitoring import Monitoring, monitoring_of
from foreshock_service.store.session import ReadSession

router = APIRouter(tags=["runs"])

MAX_EVENTS = 1000


class HeadView(BaseModel):
    """The newest frame of a rank. Scalars that JSON cannot carry are `NaN` or `Infinity` texts."""

    rank: int
    next_ord: int
    attempt: int
    step: int | None
    wall_time: float | None
    host: str
    device: str
    scalars: dict[str, float | str]
    counters: dict[str, Any]


class RunView(BaseModel):
    """One run in a list; times are seconds since the epoch."""

    run_id: str
    name: str
    project: str
    status: RunStatus
    created_at: float
    heard_at: float
    finished_at: float | None
    head: HeadView | None


class RunList(BaseModel):
    """Runs, the last heard of first; `total` counts those on every page."""

    total: int
    runs: list[RunView]


class AttemptView(BaseModel):
    """One start of the run."""

    attempt: int
    started_at: float
    first_step: int | None


class SchemaSummary(BaseModel):
    """What the run measures; `GET /runs/{run}/series` has it in full."""

    hash: str
    num_series: int
    num_by_kind: dict[str, int]
    statistics: list[str]


class EventView(BaseModel):
    """Something that happened: a note, a checkpoint, an exception."""

    event_id: int
    rank: int
    attempt: int
    kind: str
    step: int | None
    wall_time: float
    data: dict[str, Any]


class MonitorView(BaseModel):
    """What the monitor costs the newest attempt of the lowest rank, and what it lost.

    Shares are of the training's wall time, `recent_share` of the newest 64 frames; seconds and
    counts are of the whole attempt. While `thinned` the client measures less often than it was set,
    to stay within its budget; `thinned_why` says how often and why.
    """

    share: float | None
    recent_share: float | None
    overhead_seconds: float
    background_seconds: float
    training_seconds: float
    bytes_sent: int
    frames_measured: int
    frames_dropped: int
    frames_thinned: int
    batches_rejected: int
    errors: int
    thinned: bool
    thinned_since: int | None
    thinned_why: str
    client_errors: list[EventView]


class RunDetail(RunView):
    """One run with all that is small about it.

    Detection has read the head's frames before `detected_ord`: all of them once it is `next_ord`.
    """

    info: dict[str, Any]
    detected_ord: int
    ranks: list[int]
    attempts: list[AttemptView]
    schema_summary: SchemaSummary | None
    monitor: MonitorView | None
    events: list[EventView]


class SeriesView(BaseModel):
    """One row of the frames' table; `index` is its place."""

    index: int
    name: str
    kind: str
    module_type: str
    depth: int
    numel: int
    dtype: str
    shape: list[int]


class SeriesList(BaseModel):
    """The series in table order; empty for a run without statistics."""

    hash: str | None
    statistics: list[str]
    series: list[SeriesView]


@router.get("/runs", summary="List runs")
def get_runs(
    context: InContext,
    _actor: MayRead,
    project: Annotated[str | None, Query(max_length=128)] = None,
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
) -> RunList:
    """Runs with their newest frame, the last heard of first."""
    with context.store.read() as session:
        found = runs.list_runs(session, project=project, status=status, limit=limit, offset=offset)
        total = runs.count_runs(session, project=project, status=status)
    return RunList(total=total, runs=[RunView(**_fields(item.run, item.head)) for item in found])


@router.get("/runs/{run}", summary="One run")
def get_run(run: RunId, context: InContext, _actor: MayRead) -> RunDetail:
    """One run with its head, attempts, schema summary and newest events, oldest first."""
    with context.store.read() as session:
        found = runs.get(session, run)
        ranks = head.ranks(session, run)
        newest = head.get(session, run, ranks[0]) if ranks else None
        attempts = runs.attempts(session, run)
        told = events.list_events(session, run, limit=MAX_EVENTS)
        summary = _summary(session, newest)
        account = None if newest is None else monitoring_of(session, newest)
        detected = 0 if newest is None else detection.next_ord(session, run, newest.rank)
    return RunDetail(
        **_fields(found, newest),
        info=dict(found.info),
        detected_ord=detected,
        ranks=ranks,
        attempts=[AttemptView.model_validate(item, from_attributes=True) for item in attempts],
        schema_summary=summary,
        monitor=None if account is None else _monitor_view(account),
        events=[EventView.model_validate(item, from_attributes=True) for item in told],
    )


@router.get("/runs/{run}/series", summary="The series of a run")
def get_series(run: RunId, context: InContext, _actor: MayRead, rank: Rank = 0) -> SeriesList:
    """What each row of the run's newest frames is: a tensor of one kind, in table order."""
    with context.store.read() as session:
        runs.get(session, run)
        newest = head.get(session, run, rank)
        if newest is None or newest.schema_hash is None:
            return SeriesList(hash=None, statistics=[], series=[])
        schema = schemas.load(session, newest.schema_hash)
    return SeriesList(
        hash=newest.schema_hash,
        statistics=list(schema.statistics),
        series=[
            SeriesView(
                index=index,
                name=item.name,
                kind=item.kind,
                module_type=item.module_type,
                depth=item.depth,
                numel=item.numel,
                dtype=item.dtype,
                shape=list(item.shape),
            )
            for index, item in enumerate(schema.series)
        ],
    )


def _fields(run: Run, newest: RunHead | None) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "name": run.name,
        "project": run.project,
        "status": run.status,
        "created_at": run.created_at,
        "heard_at": run.heard_at,
        "finished_at": run.finished_at,
        "head": None if newest is None else _head_view(newest),
    }


def _head_view(newest: RunHead) -> HeadView:
    return HeadView(
        rank=newest.rank,
        next_ord=newest.next_ord,
        attempt=newest.attempt,
        step=newest.step,
        wall_time=newest.wall_time,
        host=newest.host,
        device=newest.device,
        scalars=head.numbers_to_json(newest.scalars),
        counters=dict(newest.counters),
    )


def _monitor_view(account: Monitoring) -> MonitorView:
    def count(name: str) -> int:
        return int(account.counters.get(name, 0))

    def seconds(name: str) -> float:
        return float(account.counters.get(name, 0.0))

    thinned = account.thinned
    return MonitorView(
        share=account.share,
        recent_share=account.recent_share,
        overhead_seconds=seconds("overhead_seconds"),
        background_seconds=seconds("background_seconds"),
        training_seconds=seconds("training_seconds"),
        bytes_sent=count("bytes_sent"),
        frames_measured=count("frames_measured"),
        frames_dropped=count("frames_dropped"),
        frames_thinned=count("frames_thinned"),
        batches_rejected=count("batches_rejected"),
        errors=count("errors"),
        thinned=thinned is not None,
        thinned_since=account.thinned_since,
        thinned_why="" if thinned is None else str(thinned.data.get("message", ""))[:1000],
        client_errors=[
            EventView.model_validate(item, from_attributes=True) for item in account.errors
        ],
    )


def _summary(session: ReadSession, newest: RunHead | None) -> SchemaSummary | None:
    if newest is None or newest.schema_hash is None:
        return None
    schema = schemas.load(session, newest.schema_hash)
    return SchemaSummary(
        hash=newest.schema_hash,
        num_series=len(schema.series),
        num_by_kind=dict(Counter(item.kind for item in schema.series)),
        statistics=list(schema.statistics),
    )
