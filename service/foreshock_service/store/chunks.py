"""Chunks: one statistic of 256 series over the columns of a block, compressed.

Series-major float32 [series, columns]: neighbours in memory are neighbours in time, which is what
byte-shuffle and zstd like. Tier 1 has the aggregate `value`, coarser tiers `min`, `max`, `mean`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc
from sqlalchemy import select

from foreshock_service.errors import ServiceError
from foreshock_service.store.session import ReadSession
from foreshock_service.store.tables import chunk

TILE: Final = 256
"""Series of a chunk: one series of 50,000 frames is then read in milliseconds."""
VALUE: Final = "value"
CODEC: Final = "blosc"

Values = npt.NDArray[np.float32]
ChunkKey = tuple[str, str]
"""Statistic and aggregate."""


def encode(values: Values) -> bytes:
    """Float32 [series, columns] as a compressed blob."""
    codec = Blosc(cname="zstd", clevel=1, shuffle=Blosc.SHUFFLE)
    return bytes(codec.encode(np.ascontiguousarray(values, "<f4")))


def decode(data: bytes, num_columns: int) -> Values:
    """The values [series, columns] of a blob."""
    return np.frombuffer(Blosc().decode(data), "<f4").reshape(-1, num_columns)


def chunk_rows(key: Mapping[str, Any], values: Mapping[ChunkKey, Values]) -> list[dict[str, Any]]:
    """Rows of table `chunk`; `key` holds run, rank, tier and block, `values` [series, columns]."""
    rows = []
    for (statistic, agg), array in values.items():
        for tile in range(-(-array.shape[0] // TILE)):
            data = encode(array[tile * TILE : (tile + 1) * TILE])
            rows.append(
                {
                    **key,
                    "statistic": statistic,
                    "agg": agg,
                    "tile": tile,
                    "codec": CODEC,
                    "crc": zlib.crc32(data),
                    "data": data,
                }
            )
    return rows


def read_chunks(
    session: ReadSession,
    run_id: str,
    rank: int,
    tier: int,
    block: int,
    *,
    num_series: int,
    num_columns: int,
    statistics: Sequence[str],
    aggs: Sequence[str],
    tiles: Iterable[int] | None = None,
) -> dict[ChunkKey, Values]:
    """Values [series, columns] by statistic and aggregate, NaN in tiles that were not asked for.

    Raises:
        ServiceError: a blob is damaged.
    """
    query = (
        select(chunk.c.statistic, chunk.c.agg, chunk.c.tile, chunk.c.crc, chunk.c.data)
        .where(chunk.c.run_id == run_id, chunk.c.rank == rank, chunk.c.tier == tier)
        .where(chunk.c.statistic.in_(statistics), chunk.c.agg.in_(aggs), chunk.c.block == block)
    )
    if tiles is not None:
        query = query.where(chunk.c.tile.in_(sorted(tiles)))
    found: dict[ChunkKey, Values] = {}
    for row in session.connection.execute(query):
        if zlib.crc32(row.data) != row.crc:
            raise ServiceError(
                f"stored statistics of run {run_id!r} are damaged (tier {tier}, block {block}, "
                f"{row.statistic}): check the disk, and restore the database from a backup",
                code="storage_damaged",
            )
        key = (row.statistic, row.agg)
        if key not in found:
            found[key] = np.full((num_series, num_columns), np.nan, np.float32)
        values = decode(row.data, num_columns)
        start = row.tile * TILE
        found[key][start : start + len(values)] = values
    return found
