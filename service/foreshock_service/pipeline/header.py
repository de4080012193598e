"""The wire header, checked field by field before anything is built from it.

A strict mirror of the dataclasses in `foreshock.wire`, which trust their sender; a contract test
holds the two equal.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final, Literal

import numpy as np
from foreshock.errors import WireError
from foreshock.wire import (
    EVENT_KINDS,
    FORMAT,
    MAX_FRAMES,
    MAX_SERIES,
    RUN_ID,
    FrameBatch,
    batch_from_parts,
    split_message,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from foreshock_service.errors import BadRequest, Unprocessable
from foreshock_service.pipeline.posted import MAX_STATISTICS, binary_parts

MAX_ERRORS: Final = 3
MAX_EVENTS: Final = 1024
MAX_SCALARS: Final = 1024
MAX_TABLES: Final = 64
MAX_TABLE_WIDTH: Final = 65_536

Whole = Annotated[int, Field(ge=0, lt=1 << 53)]
"""A whole number that JSON carries exactly."""
Size = Annotated[int, Field(ge=0, lt=1 << 31)]
Rank = Annotated[int, Field(ge=0, lt=1 << 31)]
Step = Annotated[int, Field(ge=0, lt=1 << 63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Place = Annotated[str, Field(max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OriginHeader(_Strict):
    """Mirror of `foreshock.wire.Origin`."""

    run: Annotated[str, Field(pattern=f"^(?:{RUN_ID.pattern})$")]
    attempt: Whole
    rank: Rank = 0
    world: Annotated[int, Field(ge=1, lt=1 << 31)] = 1
    host: Place = ""
    device: Place = ""

    @model_validator(mode="after")
    def _rank_inside_world(self) -> OriginHeader:
        if self.rank >= self.world:
            raise ValueError(f"rank {self.rank} needs a `world` larger than it, got {self.world}")
        return self


class EventHeader(_Strict):
    """Mirror of `foreshock.wire.Event`."""

    kind: Annotated[str, Field(pattern="^(?:" + "|".join(EVENT_KINDS) + ")$")]
    wall_time: Finite
    step: Step | None = None
    data: dict[str, Any] = {}


class CountersHeader(_Strict):
    """Mirror of `foreshock.wire.ClientCounters`."""

    frames_measured: Whole = 0
    frames_thinned: Whole = 0
    frames_dropped: Whole = 0
    batches_rejected: Whole = 0
    bytes_sent: Whole = 0
    errors: Whole = 0
    overhead_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    background_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    training_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class TableHeader(_Strict):
    """Name and sizes of one `foreshock.wire.Table`."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    rows: Size
    width: Annotated[int, Field(ge=1, le=MAX_TABLE_WIDTH)]


class Header(_Strict):
    """The JSON header of a binary message."""

    format: Literal[1]
    origin: OriginHeader
    seq: Whole
    stream: Literal["main", "ring"]
    # `schema` is a method of pydantic's models.
    schema_hash: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = Field(alias="schema")
    num_frames: Annotated[int, Field(ge=0, le=MAX_FRAMES)]
    num_series: Annotated[int, Field(ge=0, le=MAX_SERIES)]
    num_statistics: Annotated[int, Field(ge=0, le=MAX_STATISTICS)]
    scalar_names: Annotated[list[Name], Field(max_length=MAX_SCALARS)]
    batch_ids: Annotated[list[Place | None], Field(max_length=MAX_FRAMES)]
    events: Annotated[list[EventHeader], Field(max_length=MAX_EVENTS)]
    counters: CountersHeader
    tables: Annotated[list[TableHeader], Field(max_length=MAX_TABLES)]
    crc32: Annotated[int, Field(ge=0, lt=1 << 32)]

    @model_validator(mode="after")
    def _fields_fit_one_another(self) -> Header:
        if len(set(self.scalar_names)) != len(self.scalar_names):
            raise ValueError("`scalar_names` lists a name twice")
        if len({table.name for table in self.tables}) != len(self.tables):
            raise ValueError("`tables` lists a name twice")
        if self.batch_ids and len(self.batch_ids) != self.num_frames:
            raise ValueError(f"{len(self.batch_ids)} `batch_ids` for {self.num_frames} frames")
        if self.schema_hash is None and (self.num_series or self.tables):
            raise ValueError("statistics and tables need a `schema`: POST /schemas registers one")
        return self


def parse_message(message: bytes | memoryview) -> FrameBatch:
    """The batch of a binary message.

    Raises:
        BadRequest: the bytes are no message, are cut off, or were damaged on the way.
        Unprocessable: a field has a value that is not allowed.
    """
    try:
        header, payload = split_message(message)
    except WireError as error:
        raise BadRequest(str(error)) from error
    return build_batch(header, payload)


def parse_json(document: Any, *, now: float | None = None) -> FrameBatch:
    """The batch of a JSON document; frames without a wall time are taken to be of `now`.

    Raises:
        BadRequest: the checksum, if there is one, does not match.
        Unprocessable: a field or an array has a value that is not allowed.
    """
    return build_batch(*binary_parts(document, now=time.time() if now is None else now))


def build_batch(header: dict[str, Any], payload: bytes | memoryview) -> FrameBatch:
    """The batch of a header and its payload, both checked.

    Raises:
        BadRequest: the payload does not have the size or checksum that the header tells.
        Unprocessable: a field has a value that is not allowed.
    """
    _check_text(header)
    checked = check_header(header)
    try:
        batch = batch_from_parts(checked.model_dump(by_alias=True), payload)
    except WireError as error:
        raise BadRequest(str(error)) from error
    if not np.isfinite(batch.wall_times).all():
        raise Unprocessable("`wall_times` must be finite seconds since the epoch")
    if batch.steps.size and batch.steps.min() < 0:
        raise Unprocessable("`steps` must be whole numbers from 0 up")
    return batch


def check_header(header: dict[str, Any]) -> Header:
    """The header as a checked value.

    Raises:
        Unprocessable: naming each field that is wrong, and what it may be.
    """
    if header.get("format") != FORMAT:
        raise Unprocessable(
            f"`format` is {str(header.get('format'))[:32]!r}, and this service reads format "
            f"{FORMAT}: use a client of the same version"
        )
    try:
        return Header.model_validate(header)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        text = "; ".join(
            f"`{'.'.join(map(str, item['loc'])) or 'header'}`: "
            f"{item['msg'].removeprefix('Value error, ')}"
            for item in found[:MAX_ERRORS]
        )
        more = f"; and {len(found) - MAX_ERRORS} more" if len(found) > MAX_ERRORS else ""
        raise Unprocessable(f"the header is wrong at {text}{more}") from error


def _check_text(header: dict[str, Any]) -> None:
    """Refuse what a header can say and a database cannot hold."""
    try:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        raise Unprocessable(
            "the header holds NaN, Infinity or half a character: write such numbers as strings"
        ) from error
    except RecursionError as error:
        raise Unprocessable("the header is nested too deeply") from error
    if "\\u0000" in text:
        raise Unprocessable("the header holds a NUL character: leave it out")
