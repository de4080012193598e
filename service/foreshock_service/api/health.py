"""Liveness and readiness, for whoever restarts or balances this process."""

from __future__ import annotations

import logging

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from sqlalchemy.exc import SQLAlchemyError

from foreshock_service.api.context import InContext
from foreshock_service.api.problems import Problem
from foreshock_service.store.deliveries import next_due_at

logger = logging.getLogger(__name__)
router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse, summary="Liveness")
async def healthz() -> str:
    """`ok` as long as the process answers: restarting it would not mend a failing database."""
    return "ok"


@router.get("/readyz", response_class=PlainTextResponse, summary="Readiness")
def readyz(context: InContext) -> Response:
    """`ok` when the database answers and every background stage runs; 503 says what does not."""
    try:
        with context.store.read() as session:
            next_due_at(session)
    except SQLAlchemyError as error:
        logger.error("readiness: the database does not answer: %s", error)
        return Problem(503, "database_unreachable", "the database does not answer; see the log")
    stopped = context.stopped_stages()
    if stopped:
        return Problem(503, "stage_stopped", f"not running: {', '.join(stopped)}")
    return PlainTextResponse("ok")
