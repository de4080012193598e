"""The way in: series schemas, and batches of frames."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from foreshock.wire import CONTENT_TYPE, FORMAT, FrameBatch, schema_from_json
from pydantic import BaseModel

from foreshock_service import __version__
from foreshock_service.api.access import MayIngest
from foreshock_service.api.body import parse_document, read_body
from foreshock_service.api.context import InContext
from foreshock_service.errors import ServiceError, Unsupported
from foreshock_service.pipeline.header import parse_json, parse_message
from foreshock_service.store import schemas

router = APIRouter(tags=["ingest"])

JSON_TYPE: Final = "application/json"
_SCHEMA_EXAMPLE: Final[dict[str, Any]] = {
    "statistics": ["count", "mean", "std"],
    "series": [
        {
            "name": "blocks.0.mlp",
            "kind": "activation",
            "module_type": "Linear",
            "depth": 3,
            "numel": 4096,
            "dtype": "float32",
            "shape": [8, 512],
        }
    ],
}
_FRAMES_EXAMPLE: Final[dict[str, Any]] = {
    "origin": {"run": "by-hand"},
    "scalar_names": ["loss", "lr"],
    "arrays": {"steps": [100, 101], "scalars": [[2.31, 3e-4], ["NaN", 3e-4]]},
}


class Registered(BaseModel):
    """The name under which frames refer to a schema: equal content has an equal hash."""

    hash: str


class Stored(BaseModel):
    """A batch that is committed; `duplicate`: it was sent before, and is stored once."""

    status: Literal["stored", "duplicate"]
    seq: int
    ord0: int | None


class Door(BaseModel):
    """What answers here, and which wire format it takes."""

    service: Literal["foreshock"]
    version: str
    format: int


@router.get("/ingest", summary="May this token send frames?")
async def get_ingest(_actor: MayIngest) -> Door:
    """The question of `foreshock doctor`: it stores nothing, and an answer says that the address is
    that of a Foreshock service and the token has the scope ingest."""
    return Door(service="foreshock", version=__version__, format=FORMAT)


@router.post(
    "/schemas",
    summary="Register a series schema",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {JSON_TYPE: {"schema": {"type": "object"}, "example": _SCHEMA_EXAMPLE}},
        }
    },
)
async def post_schema(request: Request, context: InContext, _actor: MayIngest) -> Registered:
    """Name the tensors that a run measures, in the order of its frames' rows.

    Registering the same schema again is harmless and gives the same hash.
    """
    _content_type(request, JSON_TYPE)
    body = await read_body(request, context.settings)

    def register() -> str:
        schema = schema_from_json(parse_document(body))
        with context.store.write() as session:
            return schemas.register(session, schema, now=context.clock())

    return Registered(hash=await run_in_threadpool(register))


@router.post(
    "/frames",
    summary="Send one batch of frames",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}},
                JSON_TYPE: {"schema": {"type": "object"}, "example": _FRAMES_EXAMPLE},
            },
        }
    },
)
async def post_frames(request: Request, context: InContext, _actor: MayIngest) -> Stored:
    """Store a batch; the answer comes after the commit, so an answered batch is never lost.

    The body is a binary message of wire format 1, or the same as JSON, with arrays as lists or as
    base64, and what JSON lacks as "NaN", "Infinity" or "-Infinity". `Content-Encoding: zstd` is
    understood. 409 `unknown_schema` asks the sender to register its schema and send again; 429
    asks it to come back later.
    """
    content_type = _content_type(request, CONTENT_TYPE, JSON_TYPE)
    body = await read_body(request, context.settings)

    def parse() -> FrameBatch:
        return (
            parse_json(parse_document(body)) if content_type == JSON_TYPE else parse_message(body)
        )

    batch = await run_in_threadpool(parse)
    metrics, begun = context.metrics, time.monotonic()
    try:
        receipt = await run_in_threadpool(context.ingest.submit, batch)
        # Shielded: a sender that hangs up must not cancel what the writer has in its hands.
        done = await asyncio.shield(asyncio.wrap_future(receipt))
    except ServiceError:
        metrics.batches.labels("refused").inc()
        raise
    metrics.commit_seconds.observe(time.monotonic() - begun)
    metrics.batches.labels(done.status).inc()
    return Stored(status=done.status, seq=done.seq, ord0=done.ord0)


def _content_type(request: Request, *allowed: str) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in allowed:
        raise Unsupported(f"Content-Type {given or 'none'!r}: send {' or '.join(allowed)}")
    return given
