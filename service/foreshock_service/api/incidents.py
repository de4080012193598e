"""Incidents as JSON, and what a person may do to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from foreshock_service.api.access import MayRead
from foreshock_service.api.context import Context, InContext
from foreshock_service.api.parameters import Number, RunId
from foreshock_service.api.silences import SilenceView
from foreshock_service.api.silences import view as silence_view
from foreshock_service.domain.alerts import AlertRun, plain
from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import State
from foreshock_service.domain.silences import silence_over
from foreshock_service.pipeline import triage
from foreshock_service.store import runs, silences
from foreshock_service.store.audit import record
from foreshock_service.store.incidents import StoredIncident, get_incident, list_incidents
from foreshock_service.store.session import ReadSession

router = APIRouter(tags=["incidents"])

Plain = float | int | str | None
"""A number; what JSON cannot carry is `nan`, `inf` or `-inf`."""


class DepartureView(BaseModel):
    """A series at the step at which it left its baseline."""

    series: str
    step: int
    statistic: str
    ratio: Plain


class IncidentView(BaseModel):
    """Findings that share a cause, with the sentence that tells them; departures in their order.

    `silence` is the one that keeps it from being told, None where people are alerted.
    """

    run_id: str
    rank: int
    number: int
    kind: str
    severity: Severity
    state: State
    sentence: str
    group: str | None
    root_series: str | None
    confidence: Plain
    onset_step: int
    opened_step: int
    opened_ord: int
    updated_step: int
    loss_step: int | None
    lead_steps: int | None
    recovered_step: int | None
    num_affected: int
    num_series: int
    kinds: list[str]
    departures: list[DepartureView]
    evidence: dict[str, Plain]
    acknowledged_by: str | None
    silence: SilenceView | None
    version: int
    opened_at: float
    updated_at: float


class IncidentList(BaseModel):
    """A run's incidents, the newest first."""

    incidents: list[IncidentView]


@router.get("/runs/{run}/incidents", summary="The incidents of a run")
def get_incidents(
    run: RunId,
    context: InContext,
    _actor: MayRead,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> IncidentList:
    """The newest incidents, or those in one state."""
    with context.store.read() as session:
        found = list_incidents(session, run, state=state, limit=limit)
        return IncidentList(incidents=_views(session, run, found, now=context.clock()))


@router.get("/runs/{run}/incidents/{number}", summary="One incident")
def get_one(run: RunId, number: Number, context: InContext, _actor: MayRead) -> IncidentView:
    """One incident with its departures and evidence."""
    with context.store.read() as session:
        found = get_incident(session, run, number)
        return _views(session, run, [found], now=context.clock())[0]


@router.post("/runs/{run}/incidents/{number}/acknowledge", summary="Acknowledge an incident")
def post_acknowledge(
    run: RunId, number: Number, context: InContext, actor: MayRead
) -> IncidentView:
    """Mark an incident as seen by whoever holds the token; 409 once it is resolved."""
    stored = triage.acknowledge(context.store, context.settings, run, number, by=actor)
    return _told(context, stored, actor, "incident.acknowledge")


@router.post("/runs/{run}/incidents/{number}/resolve", summary="Resolve an incident")
def post_resolve(run: RunId, number: Number, context: InContext, actor: MayRead) -> IncidentView:
    """Close an incident; 409 when it is closed already."""
    stored = triage.resolve(context.store, context.settings, run, number, by=actor)
    return _told(context, stored, actor, "incident.resolve")


def _told(context: Context, stored: StoredIncident, actor: str, action: str) -> IncidentView:
    target = f"{stored.run_id}/{stored.number}"
    now = context.clock()
    with context.store.write() as session:
        record(session, actor=actor, action=action, target=target, now=now)
        (told,) = _views(session, stored.run_id, [stored], now=now)
    context.hub.publish(stored.run_id)
    return told


def _views(
    session: ReadSession, run: str, found: Sequence[StoredIncident], *, now: float
) -> list[IncidentView]:
    about = AlertRun.of(runs.get(session, run))
    live = silences.live(session, now=now)
    over = [silence_over(live, item.incident, about, now=now) for item in found]
    return [
        _view(item, None if silence is None else silence_view(silence, now=now))
        for item, silence in zip(found, over, strict=True)
    ]


def _view(stored: StoredIncident, silence: SilenceView | None) -> IncidentView:
    item = stored.incident
    return IncidentView(
        run_id=stored.run_id,
        rank=stored.rank,
        number=stored.number,
        kind=item.kind,
        severity=item.severity,
        state=item.state,
        sentence=stored.sentence,
        group=item.group,
        root_series=item.root_series,
        confidence=plain(item.confidence),
        onset_step=item.onset_step,
        opened_step=item.opened_step,
        opened_ord=item.opened_ord,
        updated_step=item.updated_step,
        loss_step=item.loss_step,
        lead_steps=item.lead_steps,
        recovered_step=item.recovered_step,
        num_affected=item.num_affected,
        num_series=item.num_series,
        kinds=list(item.kinds),
        departures=[
            DepartureView(
                series=departure.series,
                step=departure.step,
                statistic=departure.statistic,
                ratio=plain(departure.ratio),
            )
            for departure in item.departures
        ],
        evidence={key: plain(value) for key, value in item.evidence.items()},
        acknowledged_by=item.acknowledged_by,
        silence=silence,
        version=stored.version,
        opened_at=stored.opened_at,
        updated_at=stored.updated_at,
    )
