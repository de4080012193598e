"""The header's mirror: equal to the wire's dataclasses, and strict about everything else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
from typing import Any

import numpy as np
import pytest
from foreshock.wire import ClientCounters, Event, FrameBatch, Origin, Table, encode_batch
from foreshock_service.errors import BadRequest, Unprocessable
from foreshock_service.pipeline.header import (
    CountersHeader,
    EventHeader,
    Header,
    OriginHeader,
    parse_message,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.factories import make_batch, make_schema

MESSAGE = encode_batch(
    make_batch(schema=make_schema(), events=[Event(kind="note", wall_time=1.0, step=3)])
)


def _split(message: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack_from("<Q", message)
    header: dict[str, Any] = json.loads(message[8 : 8 + length])
    return header, message[8 + length :]


def _changed(path: str, value: Any) -> bytes:
    """The message with one field of its header set to `value`."""
    header, payload = _split(MESSAGE)
    *parents, last = path.split(".")
    inner: Any = header
    for name in parents:
        inner = inner[int(name)] if name.isdigit() else inner[name]
    inner[last] = value
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


@pytest.mark.parametrize(
    ("value", "mirror"),
    [(Origin, OriginHeader), (Event, EventHeader), (ClientCounters, CountersHeader)],
)
def test_the_mirror_has_the_fields_of_the_wire(value: Any, mirror: type[BaseModel]) -> None:
    """Same names, same order, the same ones required, and the same defaults."""
    fields = dataclasses.fields(value)
    assert [f.name for f in fields] == list(mirror.model_fields)
    for f in fields:
        default = f.default
        if f.default_factory is not dataclasses.MISSING:
            default = f.default_factory()
        required = default is dataclasses.MISSING
        assert mirror.model_fields[f.name].is_required() == required
        if not required:
            assert mirror.model_fields[f.name].default == default


def test_the_mirror_has_the_keys_of_a_message() -> None:
    """What the encoder writes is what the mirror reads, no more and no less."""
    header, _ = _split(MESSAGE)
    assert set(header) == {f.alias or name for name, f in Header.model_fields.items()}
    arrays = {"steps", "wall_times", "flags", "scalars", "scalar_present", "stats"}
    named = {f.name for f in dataclasses.fields(FrameBatch)} - arrays
    assert named <= set(header)


def test_a_message_comes_back_as_its_batch() -> None:
    """Arrays, tables, events and counters survive the way."""
    table = Table(
        name="exponent_histogram",
        frame=np.array([0], np.int32),
        series=np.array([2], np.int32),
        values=np.ones((1, 64), np.float32),
    )
    sent = make_batch(schema=make_schema(), tables=[table], batch_ids=["a", None, "c", "d"])
    got = parse_message(encode_batch(sent))
    np.testing.assert_array_equal(got.stats, sent.stats)
    np.testing.assert_array_equal(got.tables[0].values, table.values)
    assert (got.origin, got.counters) == (sent.origin, sent.counters)
    assert got.batch_ids == sent.batch_ids


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("format", 2, "format 1"),
        ("format", "1", "format 1"),
        ("origin.run", "../../etc/passwd", "origin.run"),
        ("origin.run", "", "origin.run"),
        ("origin.run", "run\n", "origin.run"),
        ("origin.run", "a" * 129, "origin.run"),
        ("origin.attempt", "7", "origin.attempt"),
        ("origin.attempt", 1 << 53, "origin.attempt"),
        ("origin.rank", -1, "origin.rank"),
        ("origin.rank", 1, "world"),
        ("origin.rank", True, "origin.rank"),
        ("origin.host", "h" * 257, "origin.host"),
        ("origin.host", "a\x00b", "NUL"),
        ("origin.host", "\ud800", "half a character"),
        ("origin.surprise", 1, "origin.surprise"),
        ("seq", 1.5, "seq"),
        ("seq", None, "seq"),
        ("stream", "side", "stream"),
        ("schema", "nothex", "schema"),
        ("schema", None, "schema"),
        ("num_frames", 5000, "num_frames"),
        ("num_series", -1, "num_series"),
        ("scalar_names", ["loss", "loss"], "twice"),
        ("scalar_names", "loss", "scalar_names"),
        ("batch_ids", ["only one"], "batch_ids"),
        ("events.0.kind", "party", "events.0.kind"),
        ("events.0.wall_time", float("nan"), "NaN"),
        ("events.0.data", {"deep": [float("inf")]}, "NaN"),
        ("events.0.step", -4, "events.0.step"),
        ("counters.errors", -1, "counters.errors"),
        ("counters.overhead_seconds", "fast", "counters.overhead_seconds"),
        ("tables", [{"name": "x", "rows": 1 << 40, "width": 1}], "tables.0.rows"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: Any, said: str) -> None:
    """422 with the field's place in the header, so that a client's author can find it."""
    with pytest.raises(Unprocessable, match=said):
        parse_message(_changed(path, value))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "header length"),
        (MESSAGE[:7], "header length"),
        (MESSAGE[:100], "shorter"),
        (MESSAGE[:-1], "ends inside"),
        (MESSAGE + b"x", "expected"),
        (MESSAGE[:-1] + bytes([MESSAGE[-1] ^ 1]), "checksum"),
        (struct.pack("<Q", 1 << 60) + b"{}", "at most"),
        (struct.pack("<Q", 2) + b"[]", "JSON object"),
        (struct.pack("<Q", 2) + b"{\xff", "not JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
    ],
)
def test_damaged_bytes_are_a_bad_request(message: bytes, said: str) -> None:
    """400: sending the same bytes again cannot help."""
    with pytest.raises(BadRequest, match=said):
        parse_message(message)


def test_times_and_steps_must_be_possible() -> None:
    """NaN as a time, or a negative step, would sort nowhere."""
    batch = make_batch()
    with pytest.raises(Unprocessable, match="wall_times"):
        parse_message(encode_batch(dataclasses.replace(batch, wall_times=np.full(4, np.nan))))
    with pytest.raises(Unprocessable, match="steps"):
        parse_message(encode_batch(dataclasses.replace(batch, steps=batch.steps - 1)))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255))
def test_no_damage_escapes_as_another_error(position: int, value: int) -> None:
    """Any changed byte is refused with one of our errors, or leaves a valid message."""
    damaged = bytearray(MESSAGE)
    damaged[position] = value
    with contextlib.suppress(BadRequest, Unprocessable):
        parse_message(bytes(damaged))
