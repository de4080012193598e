"""A reader of the wire format answers anything with a batch or a WireError, and allocates nothing
that was only claimed."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import pytest
from foreshock.errors import WireError
from foreshock.wire import MAX_HEADER_BYTES, decode_batch, encode_batch, split_message
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.batches import full_batch

MESSAGE = encode_batch(full_batch())


def _with_header(**changes: Any) -> bytes:
    header, payload = split_message(MESSAGE)
    text = json.dumps({**header, **changes}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(payload)


def test_the_unchanged_header_is_accepted() -> None:
    """The way in which these tests build messages is not itself what gets refused."""
    assert decode_batch(_with_header()).seq == 7


@given(st.integers(0, len(MESSAGE) - 1))
def test_a_cut_message_is_refused(length: int) -> None:
    """A message cut off anywhere is never taken for a whole one."""
    with pytest.raises(WireError):
        decode_batch(MESSAGE[:length])


@given(st.integers(0, len(split_message(MESSAGE)[1]) - 1), st.integers(1, 255))
def test_a_damaged_payload_is_refused(offset: int, flip: int) -> None:
    """Any changed byte of the arrays is caught by the checksum or by an index's bounds."""
    damaged = bytearray(MESSAGE)
    damaged[len(MESSAGE) - len(split_message(MESSAGE)[1]) + offset] ^= flip
    with pytest.raises(WireError):
        decode_batch(bytes(damaged))


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    """Bytes of another origin never raise anything but a WireError."""
    with pytest.raises(WireError):
        decode_batch(garbage)


def test_trailing_bytes_are_refused() -> None:
    """Two messages glued together are not one."""
    with pytest.raises(WireError, match="expected"):
        decode_batch(MESSAGE + b"\0")


@pytest.mark.parametrize("length", [MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_a_huge_header_length_is_refused(length: int) -> None:
    """The length is checked before anything is read by it."""
    with pytest.raises(WireError, match="header"):
        decode_batch(struct.pack("<Q", length) + b"{}")


@pytest.mark.parametrize("size", [2**31, 2**62, -1, 1.5, True, "3", None])
@pytest.mark.parametrize("name", ["num_frames", "num_series", "num_statistics"])
def test_sizes_that_are_no_sizes_are_refused(name: str, size: Any) -> None:
    """Hostile sizes neither overflow nor pass as numbers."""
    with pytest.raises(WireError):
        decode_batch(_with_header(**{name: size}))


def test_a_claimed_size_costs_no_memory() -> None:
    """A small message that claims terabytes is refused before anything of that size is made."""
    message = _with_header(num_frames=3, num_series=2**31 - 1, num_statistics=2**30)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="ends inside an array"):
            decode_batch(message)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("format_", [0, 2, "1", None])
def test_another_format_is_refused(format_: Any) -> None:
    """A reader of format 1 does not guess at others."""
    with pytest.raises(WireError, match="format"):
        decode_batch(_with_header(format=format_))


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": {"run": "r"}},
        {"origin": None},
        {"events": [{"kind": "note"}]},
        {"events": 3},
        {"tables": [{"name": "x"}]},
        {"counters": {"made_up": 1}},
        {"seq": "seven"},
        {"scalar_names": None},
        {"batch_ids": ["only one"]},
    ],
)
def test_a_header_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    """Missing, unknown or mistyped fields are a WireError, not a TypeError from the depths."""
    with pytest.raises(WireError):
        decode_batch(_with_header(**changes))


def test_a_table_that_points_outside_is_refused() -> None:
    """An index beyond the frames or series would be a reader's crash later."""
    batch = full_batch()
    batch.tables[0].series[0] = 9
    with pytest.raises(WireError, match="outside"):
        decode_batch(encode_batch(batch))


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_header_is_answered(document: Any) -> None:
    """Whatever JSON stands in the header, the answer is a WireError."""
    text = json.dumps(document).encode()
    with pytest.raises(WireError):
        decode_batch(struct.pack("<Q", len(text)) + text)
