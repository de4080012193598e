"""Live news of a run, as server-sent events that say only that there is something to fetch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse, ServerSentEvent

from foreshock_service.api.access import MayRead
from foreshock_service.api.context import Context, InContext
from foreshock_service.api.parameters import RunId
from foreshock_service.errors import Busy
from foreshock_service.store import head, incidents, runs
from foreshock_service.stream.hub import Waiter

router = APIRouter(tags=["runs"])

POLL_SECONDS: Final = 2.0
"""News that another process stored is noticed after this long at most."""
PING_SECONDS: Final = 15
"""Proxies commonly cut a stream that is silent for a minute."""


async def _place(run: RunId, context: InContext, _actor: MayRead) -> AsyncIterator[Waiter]:
    """A place among the streams, held until the answer has ended, also one that never began.

    Taken before the answer starts, so that the one too many is told 429 and not cut off.
    """
    await run_in_threadpool(_check_run, context, run)
    with ExitStack() as held:
        try:
            waiter = held.enter_context(context.hub.waiter(run))
        except OverflowError as error:
            raise Busy(f"{error}: close a page, or come back later") from error
        yield waiter


@router.get(
    "/runs/{run}/live",
    summary="Live news of a run",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def get_live(
    run: RunId, context: InContext, waiter: Annotated[Waiter, Depends(_place)]
) -> EventSourceResponse:
    """Messages `{"upto": ord}` (frames below it can be fetched), `{"incident": number}` and
    `{"status": word}`.

    The first message tells the present `upto`. A stream that breaks may simply be opened again.
    """
    return EventSourceResponse(_news(context, run, waiter), ping=PING_SECONDS)


async def _news(context: Context, run: str, waiter: Waiter) -> AsyncIterator[ServerSentEvent]:
    upto, known, status = await run_in_threadpool(_look, context, run)
    yield _message({"upto": upto})
    while not waiter.closed:
        await waiter.wait(at_most_seconds=POLL_SECONDS)
        newest, present, now = await run_in_threadpool(_look, context, run)
        if newest != upto:
            yield _message({"upto": newest})
        if now != status:
            yield _message({"status": now})
        for number, version in present.items():
            if known.get(number) != version:
                yield _message({"incident": number})
        upto, known, status = newest, present, now


def _message(content: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(data=json.dumps(content))


def _check_run(context: Context, run: str) -> None:
    with context.store.read() as session:
        runs.get(session, run)


def _look(context: Context, run: str) -> tuple[int, dict[int, int], str]:
    """The ord below which every frame can be fetched, each incident's version, and the status."""
    with context.store.read() as session:
        status = str(runs.get(session, run).status)
        return head.end_ord(session, run), incidents.versions(session, run), status
