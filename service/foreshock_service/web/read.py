"""What the pages read from the store, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.domain.alerts import AlertRun
from foreshock_service.domain.detection_rules import DetectionRule
from foreshock_service.domain.runs import Attempt, Run, RunEvent, RunHead
from foreshock_service.domain.silences import Silence, silence_over
from foreshock_service.errors import NotFound
from foreshock_service.store import (
    detection_rules,
    events,
    head,
    incidents,
    runs,
    schemas,
    silences,
)
from foreshock_service.store.incidents import StoredIncident
from foreshock_service.store.overview import scalar_overview
from foreshock_service.store.session import ReadSession
from foreshock_service.store.windows import ScalarWindow, heatmap_window
from foreshock_service.web.health import foremost
from foreshock_service.web.pictures import Spark, spark, thumbnail
from foreshock_service.web.run_list import RunFacts

LISTED_RUNS: Final = 200
SPARK_COLUMNS: Final = 75
THUMBNAIL_COLUMNS: Final = 168
THUMBNAIL_KINDS: Final = ("gradient", "activation", "activation_grad", "weight", "update")
"""The kind that a thumbnail shows is the first of these that the run measures."""
TOLD_EVENTS: Final = ("checkpoint", "exception", "finished")
TOLD_CHANGES: Final = 8
"""Announced changes, the newest: a loop may announce more than a page can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRead:
    """One run with what its page tells; `chosen` is the incident to speak of."""

    run: Run
    head: RunHead | None
    attempts: Sequence[Attempt]
    events: Sequence[RunEvent]
    incidents: Sequence[StoredIncident]
    chosen: StoredIncident | None
    num_series: int
    of_project: DetectionRule | None
    of_run: DetectionRule | None


def read_list(session: ReadSession) -> list[RunFacts]:
    """The runs last heard of, with all that a row shows; as many statements for many as for one."""
    listed = runs.list_runs(session, limit=LISTED_RUNS)
    run_ids = [item.run.run_id for item in listed]
    attempts = runs.attempts_of(session, run_ids)
    told = incidents.incidents_of(session, run_ids)
    losses = scalar_overview(
        session,
        [item.head for item in listed if item.head is not None],
        "loss",
        max_columns=SPARK_COLUMNS,
    )
    return [
        RunFacts(
            run=item.run,
            head=item.head,
            attempts=attempts[item.run.run_id],
            incidents=[(stored.incident, stored.sentence) for stored in told[item.run.run_id]],
            spark=None
            if item.head is None
            else _spark(losses[item.run.run_id], told[item.run.run_id]),
            has_series=item.head is not None and item.head.schema_hash is not None,
        )
        for item in listed
    ]


def read_run(session: ReadSession, run_id: str, number: int | None) -> RunRead:
    """One run; `number` chooses the incident, None the one that matters most.

    Raises:
        NotFound: there is no such run, or it has no incident of that number.
    """
    run = runs.get(session, run_id)
    told = incidents.list_incidents(session, run_id)
    by_number = {stored.number: stored for stored in told}
    if number is None:
        first = foremost([stored.incident for stored in told])
        chosen = None if first is None else by_number[first.number]
    else:
        chosen = by_number.get(number) or incidents.get_incident(session, run_id, number)
    newest = head.first_heads(session, [run_id]).get(run_id)
    of_project, of_run = detection_rules.of_run(session, run)
    return RunRead(
        run=run,
        head=newest,
        attempts=runs.attempts(session, run_id),
        events=[
            *events.list_events(session, run_id, kinds=TOLD_EVENTS),
            *events.list_events(session, run_id, kinds=["change"], limit=TOLD_CHANGES),
        ],
        incidents=told,
        chosen=chosen,
        num_series=len(read_depths(session, newest)),
        of_project=of_project,
        of_run=of_run,
    )


def read_depths(session: ReadSession, newest: RunHead | None) -> Mapping[str, int]:
    """The depth of each series, named `kind:name`."""
    if newest is None or newest.schema_hash is None:
        return {}
    schema = schemas.load(session, newest.schema_hash)
    return {f"{item.kind}:{item.name}": item.depth for item in schema.series}


def read_silence(session: ReadSession, told: RunRead, *, now: float) -> Silence | None:
    """The silence that keeps the chosen incident from being told."""
    if told.chosen is None:
        return None
    live = silences.live(session, now=now)
    return silence_over(live, told.chosen.incident, AlertRun.of(told.run), now=now)


def read_thumbnail(session: ReadSession, run_id: str) -> bytes:
    """A PNG of the whole run: each series against the median of its own columns.

    Raises:
        NotFound: there is no such run, or it has no statistics.
    """
    runs.get(session, run_id)
    newest = head.first_heads(session, [run_id]).get(run_id)
    kinds = {name.partition(":")[0] for name in read_depths(session, newest)}
    if newest is None or not kinds:
        raise NotFound(f"run {run_id!r} has scalars only: no series were measured")
    window = heatmap_window(
        session,
        run_id,
        newest.rank,
        kind=next(kind for kind in THUMBNAIL_KINDS if kind in kinds),
        statistic="rms",
        max_columns=THUMBNAIL_COLUMNS,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        exponents = np.log10(np.where(window.high > 0, window.high, np.nan).astype(np.float64))
    normal = np.full(len(exponents), np.nan)
    measured = np.isfinite(exponents).any(axis=1)
    # A series that was never measured has no median, and stays blank.
    normal[measured] = np.nanmedian(exponents[measured], axis=1)
    return thumbnail(exponents - normal[:, None], window.nonfinite)


def _spark(window: ScalarWindow, told: Sequence[StoredIncident]) -> Spark | None:
    first = foremost([stored.incident for stored in told])
    mark = None
    if first is not None and len(window.axis.step):
        # The last column that begins at or before the onset: a resumed run passes steps twice.
        before = np.flatnonzero(window.axis.step <= first.onset_step)
        mark = float(before[-1] / len(window.axis.step)) if before.size else 0.0
    return spark(window.mean[0], window.nonfinite[0], mark=mark)
