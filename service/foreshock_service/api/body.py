"""Request bodies, read with a bound on every size before it can hurt."""

from __future__ import annotations

import json
from typing import Any, Final, TypeVar

import numpy as np
import zstandard
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from foreshock_service.errors import BadRequest, TooLarge, Unsupported
from foreshock_service.settings import ServiceSettings

SLICE_BYTES: Final = 1024
"""Compressed bytes fed at once: 4 can become a block of 128 KiB, so 1 KiB gives at most 32 MiB."""
MAX_WINDOW_BYTES: Final = 1 << 25
"""Memory that a sender can make the decompressor allocate before the first byte comes out."""
DEPTH_SLICE_BYTES: Final = 1 << 20
MAX_JSON_DEPTH: Final = 32
"""Brackets inside brackets; our deepest document has 6."""

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, settings: ServiceSettings) -> bytes:
    """The whole body, decompressed.

    Raises:
        TooLarge: it is over its limit, as sent or decompressed.
        Unsupported: its Content-Encoding is not `zstd`.
        BadRequest: it is cut off or damaged.
    """
    limit = settings.max_body_bytes
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise _too_large(limit)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return bytes(body)
    if encoding == "zstd":
        return await run_in_threadpool(decompress, bytes(body), limit=settings.max_decoded_bytes)
    raise Unsupported(
        f"Content-Encoding {encoding!r}: send the body as it is, or with zstd",
        code="unsupported_encoding",
    )


def decompress(body: bytes, *, limit: int) -> bytes:
    """One zstd frame, decompressed in slices so that a bomb is refused before it is unpacked.

    Raises:
        TooLarge: more than `limit` bytes come out.
        BadRequest: the frame is damaged, cut off, or followed by something else.
    """
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
    view, decoded = memoryview(body), bytearray()
    try:
        for start in range(0, len(view), SLICE_BYTES):
            decoded += reader.decompress(view[start : start + SLICE_BYTES])
            if len(decoded) > limit:
                raise TooLarge(f"the body is over {limit} bytes decompressed: send fewer frames")
            if reader.eof and start + SLICE_BYTES < len(view):
                raise BadRequest("there are bytes after the zstd frame: send exactly one frame")
    except zstandard.ZstdError as error:
        raise BadRequest(f"the body is not zstd, or it was damaged on the way: {error}") from error
    if not reader.eof or reader.unused_data:
        raise BadRequest("the zstd frame is cut off, or followed by other bytes")
    return bytes(decoded)


def parse_document(body: bytes) -> dict[str, Any]:
    """A JSON object, refused when it is nested deeper than any document of ours.

    Raises:
        BadRequest: it is not JSON, not an object, too deep, or names a number JSON does not have.
    """
    if _is_too_deep(body):
        raise BadRequest(f"the JSON body is nested deeper than {MAX_JSON_DEPTH} levels")
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def validated(model: type[Model], document: dict[str, Any]) -> Model:
    """The document as a model; 422 says which field is wrong, as for a parameter.

    Raises:
        RequestValidationError: it does not fit.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        places = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise RequestValidationError(places) from error


def _is_too_deep(body: bytes) -> bool:
    # Brackets inside strings are counted as well: names hold few, and the bound only guards the
    # parser's stack. In slices, so that a body of nothing but brackets is refused at its start.
    depth = 0
    for start in range(0, len(body), DEPTH_SLICE_BYTES):
        text = body[start : start + DEPTH_SLICE_BYTES].translate(None, _NOT_BRACKETS)
        brackets = np.frombuffer(text, np.uint8)
        opens = (brackets == ord("[")) | (brackets == ord("{"))
        depths = depth + np.cumsum(np.where(opens, 1, -1))
        if depths.max(initial=0) > MAX_JSON_DEPTH:
            return True
        depth = int(depths[-1]) if depths.size else depth
    return False


_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number: write it as a string")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"the body is over {limit} bytes: send fewer frames a batch, or raise "
        "FORESHOCK_MAX_BODY_BYTES"
    )
