"""What another configuration of detection would have told of a run."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from foreshock_service.api.access import MayRead
from foreshock_service.api.body import parse_document, read_body
from foreshock_service.api.context import Context, InContext
from foreshock_service.api.parameters import RunId
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.errors import Busy, TooLarge, Unprocessable
from foreshock_service.incidents.comparison import compare
from foreshock_service.pipeline.replay import config_in_force, replay_run

router = APIRouter(tags=["replay"])

MAX_VALUES: Final = 4_000_000
"""Statistics that one replay reads: seconds of work, and not minutes."""
MAX_CONFIG_BYTES: Final = 1 << 16
_EXAMPLE: Final[dict[str, Any]] = {
    "sensitivity": "low",
    "disabled": ["plateau"],
    "thresholds": {"loss": {"sigmas": 8}},
}


class AlertsView(BaseModel):
    """Incidents that open under one configuration."""

    num_alerts: int
    alerts_per_1000: float


class ReplayReport(BaseModel):
    """A run under the configuration in force (`before`) and under the one that was sent (`after`).

    Frames from the first on were read, and `num_unread` left.
    """

    num_steps: int
    num_frames: int
    num_unread: int
    before: AlertsView
    after: AlertsView
    num_gained: int
    num_lost: int
    num_changed: int
    sentences: list[str]


@router.post(
    "/runs/{run}/replay",
    summary="A run under another configuration",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}},
        }
    },
)
async def post_replay(
    run: RunId, request: Request, context: InContext, _actor: MayRead
) -> ReplayReport:
    """Read the run again with the configuration in the body; nothing is stored.

    The body is a configuration as JSON, with the keys of the file of `foreshock replay --config`.
    One replay runs at a time; others are told to come back.
    """
    body = await read_body(request, context.settings)
    if len(body) > MAX_CONFIG_BYTES:
        raise TooLarge(f"the body is over {MAX_CONFIG_BYTES} bytes: no configuration is")
    try:
        config = EngineConfig.from_document(parse_document(body))
    except ValueError as error:
        raise Unprocessable(str(error)) from error
    if not context.replays.acquire(blocking=False):
        raise Busy("another replay is being computed: ask again in a moment")
    try:
        return await run_in_threadpool(_report, context, run, config)
    finally:
        context.replays.release()


def _report(context: Context, run: str, config: EngineConfig) -> ReplayReport:
    replay = replay_run(
        context.store,
        run,
        [config_in_force(context.store, run), config],
        max_values=MAX_VALUES,
    )
    before, after = replay.replayed
    difference = compare(before.incidents, after.incidents)
    return ReplayReport(
        num_steps=before.num_steps,
        num_frames=replay.num_frames,
        num_unread=replay.num_unread,
        before=AlertsView(num_alerts=len(before.incidents), alerts_per_1000=before.alerts_per_1000),
        after=AlertsView(num_alerts=len(after.incidents), alerts_per_1000=after.alerts_per_1000),
        num_gained=len(difference.gained),
        num_lost=len(difference.lost),
        num_changed=len(difference.changed),
        sentences=difference.sentences(),
    )
