"""Blocks: up to 256 columns of one schema in one tier, with the chunks of their statistics.

`block` is the ord of the first column. Blocks of tier 1 are written once; the last block of a
coarser tier grows until it is full or the schema changes, so that a long window reads few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import DERIVED_STATISTICS
from sqlalchemy import select, tuple_

from foreshock_service.store import schemas
from foreshock_service.store.chunks import VALUE, ChunkKey, Values, chunk_rows, read_chunks
from foreshock_service.store.columns import (
    FrameColumns,
    decode_columns,
    encode_columns,
    group_starts,
    join,
    pool,
)
from foreshock_service.store.derived import NONFINITE, derive, sources
from foreshock_service.store.segments import Segment
from foreshock_service.store.session import ReadSession, WriteSession
from foreshock_service.store.tables import block, chunk
from foreshock_service.store.writing import upsert

SPAN: Final = 256
"""Frames that compaction moves at once, and columns of a block at most."""
TIERS: Final = (16, 256)
"""Frames a column of the coarser tiers; tier 1 is full resolution."""
AGGS: Final = ("min", "max", "mean")

_BLOCK_UPDATED: Final = ("num_columns", "frames", "num_bytes", "received_at")
_CHUNK_UPDATED: Final = ("crc", "data")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A block's columns; `num_bytes` is 0 once retention has taken its chunks."""

    tier: int
    block: int
    schema_hash: str | None
    columns: FrameColumns
    num_bytes: int
    received_at: float


@dataclass(frozen=True, slots=True, eq=False)
class EncodedBlock:
    """Rows ready to be written."""

    row: Mapping[str, Any]
    chunks: Sequence[Mapping[str, Any]]


def encode_segment(
    run_id: str, rank: int, segment: Segment, statistics: Sequence[str]
) -> EncodedBlock:
    """A segment as a block of tier 1."""
    values = {
        (name, VALUE): np.ascontiguousarray(segment.stats[:, :, index].T)
        for index, name in enumerate(statistics)
    }
    return _encode(run_id, rank, 1, int(segment.columns.ord0[0]), segment.schema_hash,
                   segment.columns, values, segment.received_at)  # fmt: skip


def encode_tier(
    session: ReadSession, run_id: str, rank: int, tier: int, segments: Sequence[Segment]
) -> list[EncodedBlock]:
    """The blocks of a coarser tier that change when the segments are added to it."""
    last = last_block(session, run_id, rank, tier)
    changed: dict[int, tuple[str | None, FrameColumns, dict[ChunkKey, Values], float]] = {}
    open_: tuple[int, str | None, FrameColumns, dict[ChunkKey, Values]] | None = None
    if last is not None:
        names, num_series = _tier_shape(session, last.schema_hash)
        values = read_chunks(
            session, run_id, rank, tier, last.block, num_series=num_series,
            num_columns=len(last.columns), statistics=names, aggs=AGGS,
        )  # fmt: skip
        open_ = (last.block, last.schema_hash, last.columns, values)
    for segment in segments:
        columns = pool(segment.columns, tier)
        names, _ = _tier_shape(session, segment.schema_hash)
        values = pool_stats(segment, _statistics(session, segment.schema_hash), names, tier)
        if (
            open_ is not None
            and open_[1] == segment.schema_hash
            and len(open_[2]) + len(columns) <= SPAN
            and set(open_[3]) == set(values)
        ):
            number = open_[0]
            columns = join([open_[2], columns])
            values = {key: np.hstack([open_[3][key], values[key]]) for key in values}
        else:
            number = int(columns.ord0[0])
        open_ = (number, segment.schema_hash, columns, values)
        changed[number] = (*open_[1:], segment.received_at)
    return [
        _encode(run_id, rank, tier, number, schema_hash, columns, values, received_at)
        for number, (schema_hash, columns, values, received_at) in changed.items()
    ]


def pool_stats(
    segment: Segment, statistics: Sequence[str], names: Sequence[str], tier: int
) -> dict[ChunkKey, Values]:
    """Min, max and mean over the frames of each column, [series, columns]; NaN is left out, and
    so it stays only where nothing was measured."""
    starts = group_starts(segment.columns.ord0, tier)
    pooled: dict[ChunkKey, Values] = {}
    for name in names:
        parts = {s: segment.stats[:, :, statistics.index(s)] for s in sources(name)}
        values = np.ascontiguousarray(derive(name, parts).T)
        pooled[name, "max"] = np.fmax.reduceat(values, starts, axis=1)
        if name == NONFINITE:
            continue
        pooled[name, "min"] = np.fmin.reduceat(values, starts, axis=1)
        pooled[name, "mean"] = _means(values, starts)
    return pooled


def write_blocks(session: WriteSession, blocks: Sequence[EncodedBlock]) -> None:
    """Insert blocks with their chunks, in the place of those that grew."""
    upsert(session, block, [item.row for item in blocks], update=_BLOCK_UPDATED)
    upsert(session, chunk, [row for item in blocks for row in item.chunks], update=_CHUNK_UPDATED)


def read_blocks(
    session: ReadSession, run_id: str, rank: int, tier: int, from_ord: int, to_ord: int
) -> list[Block]:
    """The blocks of a tier that overlap [from_ord, to_ord), in order."""
    query = (
        select(block)
        .where(block.c.run_id == run_id, block.c.rank == rank, block.c.tier == tier)
        .where(block.c.block > from_ord - tier * SPAN, block.c.block < to_ord)
        .order_by(block.c.block)
    )
    found = [_block(row) for row in session.connection.execute(query)]
    return [item for item in found if item.columns.ord1[-1] > from_ord]


def read_tiers(
    session: ReadSession, tiers: Sequence[tuple[str, int, int]]
) -> Iterator[tuple[str, Block]]:
    """Every block of each (run, rank, tier) with its run, in order within a run; one statement."""
    if not tiers:
        return
    query = (
        select(block)
        .where(tuple_(block.c.run_id, block.c.rank, block.c.tier).in_(tiers))
        .order_by(block.c.run_id, block.c.block)
    )
    for row in session.connection.execute(query):
        yield row.run_id, _block(row)


def last_block(session: ReadSession, run_id: str, rank: int, tier: int) -> Block | None:
    """The newest block of a tier."""
    query = (
        select(block)
        .where(block.c.run_id == run_id, block.c.rank == rank, block.c.tier == tier)
        .order_by(block.c.block.desc())
        .limit(1)
    )
    row = session.connection.execute(query).first()
    return None if row is None else _block(row)


def read_segment(session: ReadSession, run_id: str, rank: int, item: Block) -> Segment:
    """The frames of a block of tier 1; their statistics are NaN once retention has taken them."""
    num_columns = len(item.columns)
    if item.schema_hash is None:
        empty = np.zeros((num_columns, 0, 0), np.float32)
        return Segment(None, item.columns, empty, item.received_at)
    schema = schemas.load(session, item.schema_hash)
    num_series = len(schema.series)
    values = read_chunks(
        session, run_id, rank, 1, item.block, num_series=num_series, num_columns=num_columns,
        statistics=schema.statistics, aggs=(VALUE,),
    )  # fmt: skip
    stats = np.full((num_columns, num_series, len(schema.statistics)), np.nan, np.float32)
    for index, name in enumerate(schema.statistics):
        if (name, VALUE) in values:
            stats[:, :, index] = values[name, VALUE].T
    return Segment(item.schema_hash, item.columns, stats, item.received_at)


def _statistics(session: ReadSession, schema_hash: str | None) -> tuple[str, ...]:
    return () if schema_hash is None else schemas.load(session, schema_hash).statistics


def _tier_shape(session: ReadSession, schema_hash: str | None) -> tuple[list[str], int]:
    """Statistics that the coarser tiers keep, and the number of series."""
    if schema_hash is None:
        return [], 0
    schema = schemas.load(session, schema_hash)
    known = set(schema.statistics)
    derived = [n for n in (*DERIVED_STATISTICS, NONFINITE) if known.issuperset(sources(n))]
    return [*schema.statistics, *derived], len(schema.series)


def _means(values: Values, starts: npt.NDArray[np.intp]) -> Values:
    measured = ~np.isnan(values)
    total = np.add.reduceat(np.where(measured, values, 0.0), starts, axis=1, dtype=np.float64)
    count = np.add.reduceat(measured, starts, axis=1, dtype=np.int64)
    means: Values = (total / np.where(count, count, np.nan)).astype(np.float32)
    return means


def _encode(
    run_id: str,
    rank: int,
    tier: int,
    number: int,
    schema_hash: str | None,
    columns: FrameColumns,
    values: Mapping[ChunkKey, Values],
    received_at: float,
) -> EncodedBlock:
    key = {"run_id": run_id, "rank": rank, "tier": tier, "block": number}
    chunks = chunk_rows(key, values)
    row = {
        **key,
        "ord0": int(columns.ord0[0]),
        "num_columns": len(columns),
        "attempt": int(columns.attempt[0]),
        "schema_hash": schema_hash,
        "codec": "zstd",
        "frames": encode_columns(columns),
        "num_bytes": sum(len(item["data"]) for item in chunks),
        "received_at": received_at,
    }
    return EncodedBlock(row, chunks)


def _block(row: Any) -> Block:
    return Block(
        row.tier,
        row.block,
        row.schema_hash,
        decode_columns(row.frames),
        row.num_bytes,
        row.received_at,
    )
