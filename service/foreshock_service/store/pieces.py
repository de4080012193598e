"""What a window reads: hot frames and blocks of the right tier, one piece in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import SeriesSchema

from foreshock_service.store import schemas
from foreshock_service.store.blocks import TIERS, Block, read_blocks
from foreshock_service.store.chunks import TILE, VALUE, Values, read_chunks
from foreshock_service.store.columns import FrameColumns
from foreshock_service.store.compaction import compacted_ord
from foreshock_service.store.derived import NONFINITE, derive, sources
from foreshock_service.store.segments import Segment, hot_segments
from foreshock_service.store.session import ReadSession

ALL_TIERS: Final = (1, *TIERS)
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Columns in order, and where their statistics are: a block's chunks or hot frames."""

    columns: FrameColumns
    chosen: slice
    schema_hash: str | None
    source: Block | Segment


@dataclass(frozen=True, slots=True, eq=False)
class PieceStats:
    """One statistic of the chosen columns, [series, columns]; `nonfinite` counts elements."""

    low: Values
    high: Values
    mean: Values
    nonfinite: Values


def pieces(
    session: ReadSession,
    run_id: str,
    rank: int,
    from_ord: int,
    to_ord: int,
    *,
    tier: int,
    need_stats: bool,
) -> Iterator[Piece]:
    """The pieces that cover [from_ord, to_ord), in order; hot frames come in full resolution.

    Where retention has taken the statistics of a tier, and they are needed, a coarser one stands
    in.
    """
    boundary = compacted_ord(session, run_id, rank)
    if from_ord < boundary:
        end = min(to_ord, boundary)
        yield from _stored(session, run_id, rank, from_ord, end, tier, need_stats)
    if to_ord > boundary:
        for segment in hot_segments(session, run_id, rank, max(from_ord, boundary), to_ord):
            columns = segment.columns
            yield Piece(columns, slice(0, len(columns)), segment.schema_hash, segment)


def read_stats(
    session: ReadSession,
    run_id: str,
    rank: int,
    piece: Piece,
    *,
    schema: SeriesSchema,
    series: Indices,
    statistic: str,
) -> PieceStats | None:
    """One statistic of the `series` of `schema` over a piece; None if the piece has none of them.

    A piece of another schema gives the series of the same kind and name.
    """
    if piece.schema_hash is None:
        return None
    own = schemas.load(session, piece.schema_hash)
    rows = _same_series(own, schema)[series] if own is not schema else series
    there = rows >= 0
    if not there.any():
        return None
    if isinstance(piece.source, Segment):
        found = _from_frames(piece.source, own, rows[there], statistic)
    else:
        found = _from_block(session, run_id, rank, piece.source, own, rows[there], statistic)
    if found is None:
        return None
    return PieceStats(*(_place(values[:, piece.chosen], there) for values in found))


def _stored(
    session: ReadSession,
    run_id: str,
    rank: int,
    from_ord: int,
    to_ord: int,
    tier: int,
    need_stats: bool,
) -> Iterator[Piece]:
    coarser = next((other for other in ALL_TIERS if other > tier), None)
    for item in read_blocks(session, run_id, rank, tier, from_ord, to_ord):
        columns = item.columns
        first = int(np.searchsorted(columns.ord1, from_ord, side="right"))
        last = int(np.searchsorted(columns.ord0, to_ord, side="left"))
        if need_stats and item.schema_hash and not item.num_bytes and coarser is not None:
            # Blocks begin and end at whole spans or at a change of schema, as coarser columns do.
            start, end = int(columns.ord0[first]), int(columns.ord1[last - 1])
            yield from _stored(session, run_id, rank, start, end, coarser, need_stats)
        else:
            chosen = slice(first, last)
            yield Piece(columns.take(chosen), chosen, item.schema_hash, item)


def _from_frames(
    segment: Segment, schema: SeriesSchema, rows: Indices, statistic: str
) -> tuple[Values, ...] | None:
    columns = {name: segment.stats[:, rows, i].T for i, name in enumerate(schema.statistics)}
    if not set(columns).issuperset(sources(statistic)):
        return None
    values = derive(statistic, columns)
    return values, values, values, _nonfinite(columns, values)


def _from_block(
    session: ReadSession,
    run_id: str,
    rank: int,
    item: Block,
    schema: SeriesSchema,
    rows: Indices,
    statistic: str,
) -> tuple[Values, ...] | None:
    names: Sequence[str] = (statistic, NONFINITE)
    aggs: Sequence[str] = ("min", "max", "mean")
    if item.tier == 1:
        names, aggs = (*sources(statistic), *sources(NONFINITE)), (VALUE,)
    found = read_chunks(
        session, run_id, rank, item.tier, item.block,
        num_series=len(schema.series), num_columns=len(item.columns),
        statistics=sorted(set(names)), aggs=aggs, tiles={int(t) for t in np.unique(rows // TILE)},
    )  # fmt: skip
    chosen = {key: values[rows] for key, values in found.items()}
    if item.tier == 1:
        columns = {name: values for (name, _), values in chosen.items()}
        if not set(columns).issuperset(sources(statistic)):
            return None
        values = derive(statistic, columns)
        return values, values, values, _nonfinite(columns, values)
    if (statistic, "max") not in chosen:
        return None
    high = chosen[statistic, "max"]
    # `nonfinite` itself has only a maximum.
    low = chosen.get((statistic, "min"), high)
    mean = chosen.get((statistic, "mean"), high)
    return low, high, mean, chosen.get((NONFINITE, "max"), np.zeros_like(high))


def _nonfinite(columns: dict[str, Values], like: Values) -> Values:
    if not set(columns).issuperset(sources(NONFINITE)):
        return np.zeros_like(like)
    return derive(NONFINITE, columns)


def _place(values: Values, there: npt.NDArray[np.bool_]) -> Values:
    if there.all():
        return values
    placed = np.full((len(there), values.shape[1]), np.nan, np.float32)
    placed[there] = values
    return placed


def _same_series(own: SeriesSchema, wanted: SeriesSchema) -> Indices:
    """For each series of `wanted` its row in `own`, -1 where there is none."""
    rows = {(series.kind, series.name): row for row, series in enumerate(own.series)}
    return np.array([rows.get((s.kind, s.name), -1) for s in wanted.series], np.intp)
