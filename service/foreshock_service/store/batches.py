"""Hot frames: one row a batch, as it came, until compaction moves it into blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import zstandard
from foreshock.wire import HISTOGRAM, MAX_FRAMES, FrameBatch, decode_batch
from sqlalchemy import Row, delete, select, tuple_

from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import attachment, frame_batch, received, table_rows
from foreshock_service.store.writing import Rows, insert

RAW: Final = "raw"
ZSTD: Final = "zstd"
ROWS_AT_ONCE: Final = 16

BatchKey = tuple[str, int, int, int]
"""Run, attempt, rank, sequence number: what makes a batch the same batch."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A hot batch and the ord of its first frame."""

    ord0: int
    attempt: int
    schema_hash: str | None
    received_at: float
    batch: FrameBatch


@dataclass(frozen=True, slots=True)
class Reception:
    """What is remembered of a batch for ever; `ord0` is None for one without a place in the run."""

    ord0: int | None
    crc32: int


def insert_batches(session: WriteSession, rows: Rows) -> None:
    """Append batches; each row is one of table `frame_batch` with its message as `data`."""
    insert(session, frame_batch, [{"codec": RAW, **row} for row in rows])


def insert_received(session: WriteSession, rows: Rows) -> None:
    """Remember batches, in the transaction that stored them."""
    insert(session, received, rows)


def find_received(session: ReadSession, keys: Sequence[BatchKey]) -> dict[BatchKey, Reception]:
    """Those of the batches that are stored already."""
    columns = (received.c.run_id, received.c.attempt, received.c.rank, received.c.seq)
    query = select(received).where(tuple_(*columns).in_(sorted(set(keys))))
    return {
        (row.run_id, row.attempt, row.rank, row.seq): Reception(row.ord0, row.crc32)
        for row in session.connection.execute(query)
    }


def insert_attachments(session: WriteSession, rows: Rows) -> None:
    """Keep flight-recorder batches whole; each row is one of `attachment` without its key."""
    insert(session, attachment, rows)


def insert_table_rows(
    session: WriteSession, run_id: str, rank: int, ord0: int, batch: FrameBatch
) -> None:
    """Store the tables of a batch, one row for each frame that carries values of one."""
    rows: list[Mapping[str, Any]] = []
    for table in batch.tables:
        for frame in np.unique(table.frame):
            chosen = table.frame == frame
            series = table.series[chosen].astype("<i4")
            values = table.values[chosen].astype("<f4")
            rows.append(
                {
                    "run_id": run_id,
                    "rank": rank,
                    "ord": ord0 + int(frame),
                    "name": table.name,
                    "width": values.shape[1],
                    "codec": ZSTD,
                    "data": zstandard.compress(series.tobytes() + values.tobytes(), 1),
                }
            )
    insert(session, table_rows, rows)


def read_histograms(
    session: ReadSession, run_id: str, rank: int, from_ord: int, to_ord: int
) -> dict[int, dict[int, npt.NDArray[np.float32]]]:
    """Exponent histograms [64] by series index, by ord, for ords in [from_ord, to_ord)."""
    query = (
        select(table_rows)
        .where(table_rows.c.run_id == run_id, table_rows.c.rank == rank)
        .where(table_rows.c.ord >= from_ord, table_rows.c.ord < to_ord)
        .where(table_rows.c.name == HISTOGRAM)
    )
    histograms = {}
    for row in session.connection.execute(query):
        data = zstandard.decompress(row.data)
        num_rows = len(data) // (4 * (1 + row.width))
        series = np.frombuffer(data, "<i4", num_rows)
        values = np.frombuffer(data, "<f4", offset=4 * num_rows).reshape(num_rows, row.width)
        histograms[row.ord] = {int(i): values[k] for k, i in enumerate(series)}
    return histograms


def read_batches(
    session: ReadSession, run_id: str, rank: int, from_ord: int, to_ord: int
) -> Iterator[StoredBatch]:
    """The hot batches that overlap [from_ord, to_ord), in order, one in memory at a time."""
    key = (frame_batch.c.run_id == run_id) & (frame_batch.c.rank == rank)
    spans = select(frame_batch.c.ord0, frame_batch.c.num_frames).where(
        key, frame_batch.c.ord0 > from_ord - MAX_FRAMES, frame_batch.c.ord0 < to_ord
    )
    for ord0, num_frames in session.connection.execute(spans.order_by(frame_batch.c.ord0)).all():
        if ord0 + num_frames <= from_ord:
            continue
        row = session.connection.execute(
            select(frame_batch).where(key, frame_batch.c.ord0 == ord0)
        ).one()
        yield _stored(row)


def read_hot(
    session: ReadSession, ranks: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, StoredBatch]]:
    """Every hot batch of each (run, rank) with its run, in order within a run; one statement.

    A batch that compaction has moved in part is there too. Rows are fetched a few at a time: a
    batch of a large model is megabytes.
    """
    if not ranks:
        return
    query = (
        select(frame_batch)
        .where(tuple_(frame_batch.c.run_id, frame_batch.c.rank).in_(ranks))
        .order_by(frame_batch.c.run_id, frame_batch.c.ord0)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    for row in session.connection.execute(query):
        yield row.run_id, _stored(row)


def delete_batches(session: WriteSession, run_id: str, rank: int, below_ord: int) -> None:
    """Forget the hot batches whose every frame is below `below_ord`."""
    session.connection.execute(
        delete(frame_batch)
        .where(frame_batch.c.run_id == run_id, frame_batch.c.rank == rank)
        .where(frame_batch.c.ord0 + frame_batch.c.num_frames <= below_ord)
    )


def _stored(row: Row[Any]) -> StoredBatch:
    return StoredBatch(
        row.ord0, row.attempt, row.schema_hash, row.received_at, decode_batch(row.data)
    )
