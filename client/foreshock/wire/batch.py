"""The batch: frames, events and counters of one POST, as values and as bytes.

Layout of a binary message (all integers and floats little-endian):

    u64                 length of the header in bytes, a multiple of 8
    JSON header         UTF-8, padded with spaces; `crc32` is that of everything behind it
    steps               i64 [num_frames]
    wall_times          f64 [num_frames]                      seconds since the epoch
    scalars             f64 [num_frames, num_scalars]
    stats               f32 [num_frames, num_series, num_statistics]
    flags               u32 [num_frames]                      bits of FrameFlag
    scalar_present      u8  [num_frames, num_scalars]         0: not logged (NaN is a logged value)
    for each table      frame i32 [rows], series i32 [rows], values f32 [rows, width]
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foreshock.errors import WireError
from foreshock.wire.names import FORMAT

MAX_FRAMES: Final = 4096
MAX_HEADER_BYTES: Final = 4 << 20
RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a run may be called in a URL, a file name and a metric label."""

_PREFIX: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who sends: `attempt` is a start time in milliseconds, so that a later start sorts later."""

    run: str
    attempt: int
    rank: int = 0
    world: int = 1
    host: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a step (`None`: between steps); `data` holds plain JSON."""

    kind: str
    wall_time: float
    step: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCounters:
    """The client's own account since its attempt began; every number only grows.

    `overhead_seconds` is the time that the training spent in Foreshock, `background_seconds` the
    CPU time of the threads that send, and `training_seconds` the wall time since the first step.
    `bytes_sent` counts acknowledged bytes, `frames_thinned` frames with the flag `THINNED`.
    """

    frames_measured: int = 0
    frames_thinned: int = 0
    frames_dropped: int = 0
    batches_rejected: int = 0
    bytes_sent: int = 0
    errors: int = 0
    overhead_seconds: float = 0.0
    background_seconds: float = 0.0
    training_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Values of some series on some frames: histograms, per-unit extras.

    Shapes: frame [rows], series [rows], values [rows, width].
    """

    name: str
    frame: npt.NDArray[np.int32]
    series: npt.NDArray[np.int32]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameBatch:
    """Frames of one origin, in step order, with what happened around them.

    Shapes: steps, wall_times, flags [n]; scalars, scalar_present [n, k]; stats [n, series,
    statistics]. `seq` counts the batches of one origin from 0 and makes a resend harmless.
    `schema` is the hash of a registered `SeriesSchema`, or None for a batch without statistics.
    """

    origin: Origin
    seq: int
    stream: str = "main"
    schema: str | None = None
    num_statistics: int = 0
    scalar_names: tuple[str, ...] = ()
    batch_ids: tuple[str | None, ...] = ()
    events: tuple[Event, ...] = ()
    counters: ClientCounters = field(default_factory=ClientCounters)
    steps: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    wall_times: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    flags: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    scalars: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    scalar_present: npt.NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, 0), np.uint8)
    )
    stats: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    tables: tuple[Table, ...] = ()


def encode_batch(batch: FrameBatch) -> bytes:
    """The binary message of a batch.

    Raises:
        WireError: the arrays do not fit one another.
    """
    num_frames, num_scalars = len(batch.steps), len(batch.scalar_names)
    num_series, num_statistics = batch.stats.shape[1:]
    expected: dict[str, tuple[npt.NDArray[Any], tuple[int, ...]]] = {
        "wall_times": (batch.wall_times, (num_frames,)),
        "flags": (batch.flags, (num_frames,)),
        "scalars": (batch.scalars, (num_frames, num_scalars)),
        "scalar_present": (batch.scalar_present, (num_frames, num_scalars)),
        "stats": (batch.stats, (num_frames, num_series, num_statistics)),
    }
    for name, (array, shape) in expected.items():
        if array.size != int(np.prod(shape)) or (array.size and array.shape != shape):
            raise WireError(f"{name}: shape {array.shape}, expected {shape}")
    arrays: list[npt.NDArray[Any]] = [
        batch.steps.astype("<i8", copy=False),
        batch.wall_times.astype("<f8", copy=False),
        batch.scalars.astype("<f8", copy=False),
        batch.stats.astype("<f4", copy=False),
        batch.flags.astype("<u4", copy=False),
        batch.scalar_present.astype("u1", copy=False),
    ]
    for table in batch.tables:
        arrays.append(table.frame.astype("<i4", copy=False))
        arrays.append(table.series.astype("<i4", copy=False))
        arrays.append(table.values.astype("<f4", copy=False))
    payload = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    header = {
        "format": FORMAT,
        "origin": asdict(batch.origin),
        "seq": batch.seq,
        "stream": batch.stream,
        "schema": batch.schema,
        "num_frames": num_frames,
        "num_series": num_series,
        "num_statistics": num_statistics,
        "scalar_names": list(batch.scalar_names),
        "batch_ids": list(batch.batch_ids),
        "events": [asdict(event) for event in batch.events],
        "counters": asdict(batch.counters),
        "tables": [
            {"name": t.name, "rows": t.values.shape[0], "width": t.values.shape[1]}
            for t in batch.tables
        ],
        "crc32": zlib.crc32(payload),
    }
    try:
        text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise WireError(
            "the header holds NaN or Inf, which JSON cannot carry: put the value in `scalars`, or "
            "write it as a string"
        ) from error
    text += b" " * (-len(text) % 8)
    return _PREFIX.pack(len(text)) + text + payload


def split_message(message: bytes | memoryview) -> tuple[dict[str, Any], memoryview]:
    """The header and the payload of a binary message; the header is not validated yet.

    Raises:
        WireError: the message is cut off, or its header is not a JSON object.
    """
    view = memoryview(message)
    if len(view) < _PREFIX.size:
        raise WireError(f"message of {len(view)} bytes: the 8-byte header length is missing")
    (length,) = _PREFIX.unpack_from(view)
    if length > MAX_HEADER_BYTES:
        raise WireError(f"header of {length} bytes, at most {MAX_HEADER_BYTES} are allowed")
    if len(view) < _PREFIX.size + length:
        raise WireError(f"message of {len(view)} bytes is shorter than its header of {length}")
    try:
        header = json.loads(bytes(view[_PREFIX.size : _PREFIX.size + length]))
    except (ValueError, RecursionError) as error:
        raise WireError(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError("the header must be a JSON object")
    return header, view[_PREFIX.size + length :]


def decode_batch(message: bytes | memoryview) -> FrameBatch:
    """Read a binary message back.

    Raises:
        WireError: the message is not valid.
    """
    header, payload = split_message(message)
    return batch_from_parts(header, payload)


def batch_from_parts(header: dict[str, Any], payload: bytes | memoryview) -> FrameBatch:
    """Build a batch from a header and its payload; the arrays are views of the payload.

    Raises:
        WireError: a field is missing or wrong, or the payload has another size or checksum.
    """
    if header.get("format") != FORMAT:
        raise WireError(f"format {header.get('format')!r}: this reader knows format {FORMAT}")
    try:
        origin = Origin(**header["origin"])
        num_frames, num_series = header["num_frames"], header["num_series"]
        num_statistics, names = header["num_statistics"], tuple(header["scalar_names"])
        tables = [(str(t["name"]), int(t["rows"]), int(t["width"])) for t in header["tables"]]
        events = tuple(Event(**event) for event in header["events"])
        counters = ClientCounters(**header["counters"])
        seq, stream, schema = int(header["seq"]), str(header["stream"]), header["schema"]
        batch_ids, crc32 = tuple(header["batch_ids"]), header["crc32"]
    except (KeyError, TypeError, ValueError) as error:
        raise WireError(f"header: {type(error).__name__}: {error}") from error
    sizes = (num_frames, num_series, num_statistics, *(n for t in tables for n in t[1:]))
    if not all(type(n) is int and 0 <= n < 1 << 31 for n in sizes) or num_frames > MAX_FRAMES:
        raise WireError(f"header: sizes must be whole numbers, at most {MAX_FRAMES} frames a batch")
    if not RUN_ID.fullmatch(origin.run):
        raise WireError(
            f"run {origin.run!r}: use letters, digits, '.', '_' or '-', at most 128, "
            "beginning with a letter or digit"
        )
    if batch_ids and len(batch_ids) != num_frames:
        raise WireError(f"{len(batch_ids)} batch_ids for {num_frames} frames")
    reader = _Reader(payload)
    num_scalars = len(names)
    batch = FrameBatch(
        origin=origin,
        seq=seq,
        stream=stream,
        schema=schema,
        num_statistics=num_statistics,
        scalar_names=names,
        batch_ids=batch_ids,
        events=events,
        counters=counters,
        steps=reader.take("<i8", num_frames),
        wall_times=reader.take("<f8", num_frames),
        scalars=reader.take("<f8", num_frames, num_scalars),
        stats=reader.take("<f4", num_frames, num_series, num_statistics),
        flags=reader.take("<u4", num_frames),
        scalar_present=reader.take("u1", num_frames, num_scalars),
        tables=tuple(
            Table(
                name=name,
                frame=reader.take("<i4", rows),
                series=reader.take("<i4", rows),
                values=reader.take("<f4", rows, width),
            )
            for name, rows, width in tables
        ),
    )
    reader.finish()
    if zlib.crc32(payload) != crc32:
        raise WireError("the payload's checksum does not match: it was damaged on the way")
    for table in batch.tables:
        for index, bound in ((table.frame, num_frames), (table.series, num_series)):
            if index.size and (index.min() < 0 or index.max() >= bound):
                raise WireError(f"table {table.name!r}: an index is outside 0..{bound - 1}")
    return batch


class _Reader:
    """Takes arrays one after another from a buffer, with its bounds checked."""

    def __init__(self, payload: bytes | memoryview) -> None:
        self._payload = payload
        self._offset = 0

    def take(self, dtype: str, *shape: int) -> npt.NDArray[Any]:
        count = 1
        for size in shape:
            count *= size
        num_bytes = count * np.dtype(dtype).itemsize
        if self._offset + num_bytes > len(self._payload):
            raise WireError(
                f"payload of {len(self._payload)} bytes ends inside an array of shape {shape}"
            )
        array = np.frombuffer(self._payload, dtype, count, self._offset).reshape(shape)
        self._offset += num_bytes
        return array

    def finish(self) -> None:
        if self._offset != len(self._payload):
            raise WireError(f"payload of {len(self._payload)} bytes, expected {self._offset}")
