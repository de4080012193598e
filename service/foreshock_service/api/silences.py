"""Silences as JSON: who wants to hear nothing of what, until when."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from foreshock_service.api.access import MayRead
from foreshock_service.api.body import parse_document, read_body, validated
from foreshock_service.api.context import InContext
from foreshock_service.domain.silences import Silence, SilenceState
from foreshock_service.pipeline import silencing
from foreshock_service.store import silences

router = APIRouter(tags=["silences"])

_PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"


def _matcher(longest: int, what: str) -> Any:
    return Field(
        default=None,
        min_length=1,
        max_length=longest,
        pattern=_PRINTABLE,
        description=f"{what}: exact, or a glob with `*`, `?` and `[ab]`; left out: any.",
    )


class SilenceRequest(BaseModel):
    """What to silence, until when; at least one of `project`, `run`, `kind` and `group`."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = _matcher(128, "The run's project")
    run: str | None = _matcher(256, "The run's id or name")
    kind: str | None = _matcher(64, "The incident's kind, and every further one it has shown")
    group: str | None = _matcher(600, "The layer or family that the incident names")
    starts_at: Annotated[
        float | None, Field(ge=0, description="Seconds since the epoch; left out: now.")
    ] = None
    ends_at: Annotated[float, Field(ge=0, description="Seconds since the epoch.")]
    reason: Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")] = ""


class SilenceView(BaseModel):
    """One silence; times are seconds since the epoch."""

    silence_id: int
    state: SilenceState
    project: str | None
    run: str | None
    kind: str | None
    group: str | None
    starts_at: float
    ends_at: float
    created_at: float
    created_by: str
    reason: str


class SilenceList(BaseModel):
    """Silences, the newest first."""

    silences: list[SilenceView]


SilenceId = Annotated[int, Path(alias="silence", ge=1, le=(1 << 31) - 1)]


@router.get("/silences", summary="List silences")
def get_silences(
    context: InContext,
    _actor: MayRead,
    state: SilenceState | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> SilenceList:
    """The newest silences, or those in one state; ended ones are kept."""
    now = context.clock()
    with context.store.read() as session:
        found = silences.listed(session, now=now, state=state, limit=limit)
    return SilenceList(silences=[view(item, now=now) for item in found])


@router.post(
    "/silences",
    summary="Silence incidents for a while",
    status_code=201,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": SilenceRequest.model_json_schema()}},
        }
    },
)
async def post_silence(request: Request, context: InContext, actor: MayRead) -> SilenceView:
    """Incidents that match are recorded and shown, and nobody is alerted of them, for 90 days at
    most. What is open when the last silence over it ends is told then."""
    body = await read_body(request, context.settings)
    asked = validated(SilenceRequest, parse_document(body))
    now = context.clock()

    def add() -> Silence:
        return silencing.add(context.store, asked.model_dump(), by=actor, now=now)

    return view(await run_in_threadpool(add), now=now)


@router.delete("/silences/{silence}", summary="End a silence")
def delete_silence(silence: SilenceId, context: InContext, actor: MayRead) -> SilenceView:
    """End a silence before its time; 409 when it has ended already."""
    now = context.clock()
    return view(silencing.end(context.store, silence, by=actor, now=now), now=now)


def view(item: Silence, *, now: float) -> SilenceView:
    """A silence as JSON."""
    return SilenceView(
        silence_id=item.silence_id,
        state=item.state(now),
        project=item.project,
        run=item.run,
        kind=item.kind,
        group=item.group,
        starts_at=item.starts_at,
        ends_at=item.ends_at,
        created_at=item.created_at,
        created_by=item.created_by,
        reason=item.reason,
    )
