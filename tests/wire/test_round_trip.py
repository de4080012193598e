"""What is encoded comes back, bit for bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from foreshock.errors import WireError
from foreshock.wire import Event, FrameBatch, Origin, Table, decode_batch, encode_batch
from hypothesis import given

from tests.wire.batches import ORIGIN, any_batch, full_batch


def _assert_same(expected: FrameBatch, actual: FrameBatch) -> None:
    for field in fields(FrameBatch):
        one, other = getattr(expected, field.name), getattr(actual, field.name)
        if isinstance(one, np.ndarray):
            assert (one.shape, one.tobytes()) == (other.shape, other.tobytes()), field.name
        elif field.name == "tables":
            assert [_bits(table) for table in one] == [_bits(table) for table in other]
        else:
            assert one == other, field.name


def _bits(table: Table) -> tuple[object, ...]:
    arrays = (table.frame, table.series, table.values)
    return (table.name, *((a.shape, a.tobytes()) for a in arrays))


def test_every_part_of_a_batch_comes_back() -> None:
    """Frames, flags, absent scalars, batch ids, events, counters and tables survive the wire."""
    batch = full_batch()
    _assert_same(batch, decode_batch(encode_batch(batch)))


@given(any_batch())
def test_any_batch_comes_back_with_its_bits(batch: FrameBatch) -> None:
    """No shape and no float pattern, NaN payloads included, is changed on the way."""
    _assert_same(batch, decode_batch(encode_batch(batch)))


def test_an_empty_batch_carries_events_alone() -> None:
    """A run that has measured nothing yet can still say that it has started."""
    batch = FrameBatch(origin=ORIGIN, seq=0, events=(Event(kind="started", wall_time=1.0),))
    decoded = decode_batch(encode_batch(batch))
    assert ([e.kind for e in decoded.events], len(decoded.steps)) == (["started"], 0)


def test_arrays_begin_at_multiples_of_eight() -> None:
    """The header is padded, so that a reader may map the arrays without a copy."""
    message = encode_batch(full_batch())
    assert int.from_bytes(message[:8], "little") % 8 == 0


def test_arrays_that_do_not_fit_are_refused_by_name() -> None:
    """A programming error is found by the sender, with the field's name."""
    batch = FrameBatch(origin=ORIGIN, seq=0, steps=np.arange(2), wall_times=np.zeros(3))
    with pytest.raises(WireError, match="wall_times"):
        encode_batch(batch)


def test_nan_inside_an_event_is_refused_with_advice() -> None:
    """JSON has no NaN: the message says where such a value belongs."""
    event = Event(kind="note", wall_time=1.0, data={"value": float("nan")})
    with pytest.raises(WireError, match="put the value in `scalars`"):
        encode_batch(FrameBatch(origin=ORIGIN, seq=0, events=(event,)))


@pytest.mark.parametrize("run", ["", "-x", "a/b", "a b", "é", "x" * 129, "a\n"])
def test_a_run_id_that_no_url_can_carry_is_refused(run: str) -> None:
    """The id stands in URLs, file names and metric labels, so the reader holds its rule."""
    message = encode_batch(FrameBatch(origin=Origin(run=run, attempt=1), seq=0))
    with pytest.raises(WireError, match="run"):
        decode_batch(message)
