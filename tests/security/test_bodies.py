"""Hostile bodies: bombs, depth, sizes, wrong types, cut-off messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import zstandard
from foreshock.wire import CONTENT_TYPE, encode_batch
from foreshock_service.api.body import DEPTH_SLICE_BYTES, decompress
from foreshock_service.errors import BadRequest, TooLarge

from tests.factories import make_batch, make_schema
from tests.fixtures.server import ServeApp

BINARY = {"content-type": CONTENT_TYPE}
NEAR_THE_END = b"[" * 20 + b"[]," * (DEPTH_SLICE_BYTES // 3) + b"[" * 20
"""Deep only when the depth of one slice is carried into the next."""
ZSTD = {**BINARY, "content-encoding": "zstd"}


def test_a_zip_bomb_is_refused_before_it_is_unpacked(serve_app: ServeApp) -> None:
    """A few kilobytes that stand for a gigabyte end at the limit."""
    client = serve_app(max_decoded_bytes=1 << 20)
    bomb = zstandard.compress(bytes(1 << 28), 19)
    assert len(bomb) < 1 << 16

    answer = client.post("/api/v1/frames", content=bomb, headers=ZSTD)

    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_memory_of_a_bomb_stays_near_the_limit() -> None:
    """What comes out of one slice is bounded, so the refusal comes early in the bomb."""
    bomb = zstandard.compress(bytes(1 << 30), 19)

    with pytest.raises(TooLarge):
        decompress(bomb, limit=1 << 20)


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    """The header of a frame names the memory its reader must allocate."""
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(b"x" * 4096) + compressor.flush()

    with pytest.raises(BadRequest):
        decompress(frame, limit=1 << 20)


@pytest.mark.parametrize("cut", [1, 4, -1])
def test_a_frame_cut_off_is_refused(cut: int) -> None:
    """A frame without its end would else be read as a shorter body."""
    frame = zstandard.compress(b"0123456789" * 500)

    with pytest.raises(BadRequest):
        decompress(frame[:cut], limit=1 << 20)


def test_bytes_after_the_frame_are_refused() -> None:
    """One body is one frame."""
    frame = zstandard.compress(b"a" * 100)

    with pytest.raises(BadRequest):
        decompress(frame + frame, limit=1 << 20)


def test_a_body_over_the_limit_is_refused_by_its_declared_size(serve_app: ServeApp) -> None:
    """Before a byte of it is read."""
    client = serve_app(max_body_bytes=1024)

    assert client.post("/api/v1/frames", content=b"x" * 1025, headers=BINARY).status_code == 413


def test_a_streamed_body_over_the_limit_is_refused(serve_app: ServeApp) -> None:
    """A chunked body declares no size, and is counted as it comes."""
    client = serve_app(max_body_bytes=1024)

    def parts() -> Iterator[bytes]:
        for _ in range(8):
            yield b"x" * 512

    assert client.post("/api/v1/frames", content=parts(), headers=BINARY).status_code == 413


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 33 + b"]" * 33, NEAR_THE_END]
)
def test_deep_json_is_refused(client: httpx.Client, body: bytes) -> None:
    """Nesting costs stack, so it is bounded before parsing."""
    answer = client.post(
        "/api/v1/schemas", content=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400
    assert "nested deeper" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b'{"a": NaN}', b"\xff\xfe", b'{"a":' + b"9" * 9000 + b"}"]
)
@pytest.mark.parametrize("path", ["/api/v1/schemas", "/api/v1/frames"])
def test_what_is_no_json_object_is_refused(client: httpx.Client, path: str, body: bytes) -> None:
    """With a 4xx problem that says what is wrong, and no trace of our insides."""
    answer = client.post(path, content=body, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text


def test_an_array_of_nothing_cannot_claim_a_huge_shape(client: httpx.Client) -> None:
    """No bytes fit a shape with a zero in it, also one whose other sizes overflow a product."""
    batch = {
        "origin": {"run": "r"},
        "num_series": (1 << 31) - 1,
        "num_statistics": (1 << 31) - 1,
        "arrays": {"stats": ""},
    }

    answer = client.post("/api/v1/frames", json=batch)

    assert answer.status_code == 422
    assert "`num_series` must be" in answer.json()["detail"]


@pytest.mark.parametrize("field", ["name", "module_type", "dtype"])
@pytest.mark.parametrize("text", ["a\\u0000b", "\\ud800"])
def test_a_schema_cannot_hold_text_that_no_database_takes(
    client: httpx.Client, field: str, text: str
) -> None:
    """A sentence about that series would fail detection for ever, and so every run's."""
    series = make_schema().to_json()["series"][0]
    body = json.dumps({"statistics": ["std"], "series": [{**series, field: "@"}]})

    answer = client.post(
        "/api/v1/schemas",
        content=body.replace('"@"', f'"{text}"'),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("series 0: a name holds")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "`statistics` must be a list"),
        ({"statistics": None, "series": []}, "`statistics` must be a list"),
        ({"statistics": "std", "series": []}, "`statistics` must be a list"),
        ({"statistics": ["std"], "series": "x"}, "`series` of objects"),
        ({"statistics": ["std"], "series": [[]]}, "series 0: must be an object"),
        ({"statistics": ["std"], "series": [{"name": "a"}]}, "'kind' is missing"),
        ({"statistics": ["std", "std"], "series": []}, "list each of `statistics` once"),
    ],
)
def test_a_wrong_schema_is_told_what_to_mend(
    client: httpx.Client, document: dict[str, Any], told: str
) -> None:
    """In words of the schema, not of the language that reads it."""
    answer = client.post("/api/v1/schemas", json=document)

    assert answer.status_code == 400
    assert told in answer.json()["detail"]


def test_a_refusal_does_not_send_a_huge_value_back(client: httpx.Client) -> None:
    """A megabyte that is refused is not a megabyte of answer."""
    huge = "x" * (1 << 20)
    series = make_schema().to_json()["series"][0]

    for path, document in (
        ("schemas", {"statistics": [huge], "series": []}),
        ("schemas", {"statistics": ["std"], "series": [{**series, "name": huge}]}),
        ("schemas", {"statistics": ["std"], "series": [{**series, huge: 1}]}),
        ("frames", {"format": huge}),
        ("frames", {"origin": {"run": "r"}, "arrays": {"steps": [huge]}}),
    ):
        answer = client.post(f"/api/v1/{path}", json=document)
        assert answer.status_code in (400, 422)
        assert len(answer.content) < 4096


@pytest.mark.parametrize("size", [0, 1, 7, 8, 40, -1])
def test_a_cut_off_message_is_refused(client: httpx.Client, size: int) -> None:
    """Wherever a binary message ends too early, it is a client error."""
    message = encode_batch(make_batch())[:size]

    answer = client.post("/api/v1/frames", content=message, headers=BINARY)

    assert answer.status_code == 400


def test_a_damaged_message_is_refused(client: httpx.Client) -> None:
    """One flipped bit in the payload is caught by its checksum."""
    message = bytearray(encode_batch(make_batch()))
    message[-1] ^= 1

    answer = client.post("/api/v1/frames", content=bytes(message), headers=BINARY)

    assert answer.status_code == 400
    assert "checksum" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/html"}, 415),
        ({}, 415),
        ({**BINARY, "content-encoding": "gzip"}, 415),
        ({**BINARY, "content-encoding": "zstd, zstd"}, 415),
        (ZSTD, 400),
    ],
)
def test_a_type_or_encoding_that_is_not_ours_is_refused(
    client: httpx.Client, headers: dict[str, str], status: int
) -> None:
    """The answer names what may be sent."""
    answer = client.post("/api/v1/frames", content=b"{}", headers=headers)

    assert answer.status_code == status
    assert json.loads(answer.text)["detail"]
