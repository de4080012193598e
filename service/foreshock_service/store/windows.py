"""The queries behind the pages: a range of a run in a few columns, hot or compacted alike.

A spike survives every zoom, because a column keeps its minimum and maximum; and a NaN or Inf
element survives too, because every answer carries `nonfinite` beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from foreshock.wire import DERIVED_STATISTICS, KINDS, SeriesSchema

from foreshock_service.errors import NotFound, Unprocessable
from foreshock_service.store import head, schemas
from foreshock_service.store.columns import FrameColumns
from foreshock_service.store.extent import Extent, Range, find_extent
from foreshock_service.store.pieces import Indices, pieces, read_stats
from foreshock_service.store.pooling import Axis, Pool
from foreshock_service.store.session import ReadSession

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

EVERYTHING = Range()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StatsWindow:
    """One statistic of some series: [series, columns].

    `series` are indices in the schema `schema_hash`. NaN in `low` and `high` says that nothing
    finite was measured; `nonfinite`, that a NaN or Inf element was there, or the statistic itself
    was infinite.
    """

    axis: Axis
    schema_hash: str
    series: Indices
    low: Floats
    high: Floats
    mean: Floats
    nonfinite: Marks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScalarWindow:
    """Scalars: [names, columns]; NaN where a scalar was not logged with a finite value.

    `nonfinite` marks columns in which it was logged as NaN or Inf.
    """

    axis: Axis
    names: tuple[str, ...]
    low: Doubles
    high: Doubles
    mean: Doubles
    nonfinite: Marks


def heatmap_window(
    session: ReadSession,
    run_id: str,
    rank: int,
    *,
    kind: str,
    statistic: str,
    wanted: Range = EVERYTHING,
    max_columns: int = 1000,
) -> StatsWindow:
    """A statistic of every series of a kind, in table order.

    Raises:
        NotFound: the run has no such rank, or no statistics.
        Unprocessable: an unknown kind or statistic.
    """
    schema, schema_hash = _schema(session, run_id, rank)
    if kind not in KINDS:
        raise Unprocessable(f"kind {kind!r}: use one of {', '.join(KINDS)}")
    series = np.array([i for i, s in enumerate(schema.series) if s.kind == kind], np.intp)
    return _stats_window(
        session, run_id, rank, schema, schema_hash, series, statistic, wanted, max_columns
    )


def series_window(
    session: ReadSession,
    run_id: str,
    rank: int,
    *,
    index: int,
    statistic: str,
    wanted: Range = EVERYTHING,
    max_columns: int = 1000,
) -> StatsWindow:
    """A statistic of one series of the newest schema; the answer has one row.

    Raises:
        NotFound: the run has no such rank, no statistics, or no such series.
        Unprocessable: an unknown statistic.
    """
    schema, schema_hash = _schema(session, run_id, rank)
    if not 0 <= index < len(schema.series):
        raise NotFound(f"run {run_id!r} has series 0 to {len(schema.series) - 1}, not {index}")
    series = np.array([index], np.intp)
    return _stats_window(
        session, run_id, rank, schema, schema_hash, series, statistic, wanted, max_columns
    )


def scalar_window(
    session: ReadSession,
    run_id: str,
    rank: int,
    *,
    names: Sequence[str] | None = None,
    wanted: Range = EVERYTHING,
    max_columns: int = 1000,
) -> ScalarWindow:
    """Scalars by name, None: all that the newest frames carry; an unknown name is empty.

    Raises:
        NotFound: the run has no such rank.
    """
    extent = find_extent(session, run_id, rank, wanted, max_columns)
    newest = head.get(session, run_id, rank)
    chosen = tuple(dict.fromkeys(names if names is not None else newest.scalars if newest else ()))
    read = pieces(
        session, run_id, rank, extent.from_ord, extent.to_ord, tier=extent.tier, need_stats=False
    )
    return pool_scalars(extent, chosen, (piece.columns for piece in read))


def pool_scalars(
    extent: Extent, names: tuple[str, ...], read: Iterable[FrameColumns]
) -> ScalarWindow:
    """The scalars of columns that come in order and cover the extent."""
    pool = Pool(extent, len(names))
    for columns in read:
        rows = [columns.names.index(name) if name in columns.names else -1 for name in names]
        there = np.array([row >= 0 for row in rows], bool)
        target = pool.place(columns)
        if there.any():
            picked = [row for row in rows if row >= 0]
            finite = columns.present[picked] - columns.nonfinite[picked]
            mean = np.where(finite > 0, columns.mean[picked], np.nan)
            pool.add(
                target, there, columns.low[picked], columns.high[picked], mean, finite,
                columns.nonfinite[picked] > 0,
            )  # fmt: skip
    return ScalarWindow(
        axis=pool.axis(), names=names, low=pool.low, high=pool.high, mean=pool.mean(),
        nonfinite=pool.nonfinite,
    )  # fmt: skip


def _schema(session: ReadSession, run_id: str, rank: int) -> tuple[SeriesSchema, str]:
    newest = head.get(session, run_id, rank)
    if newest is None:
        raise NotFound(f"run {run_id!r} has no rank {rank}")
    if newest.schema_hash is None:
        raise NotFound(f"run {run_id!r} has scalars only: no series were measured")
    return schemas.load(session, newest.schema_hash), newest.schema_hash


def _stats_window(
    session: ReadSession,
    run_id: str,
    rank: int,
    schema: SeriesSchema,
    schema_hash: str,
    series: Indices,
    statistic: str,
    wanted: Range,
    max_columns: int,
) -> StatsWindow:
    known = (*schema.statistics, *DERIVED_STATISTICS)
    if statistic not in known:
        raise Unprocessable(f"statistic {statistic!r}: use one of {', '.join(known)}")
    extent = find_extent(session, run_id, rank, wanted, max_columns)
    pool = Pool(extent, len(series))
    everywhere = np.ones(len(series), bool)
    for piece in pieces(
        session, run_id, rank, extent.from_ord, extent.to_ord, tier=extent.tier, need_stats=True
    ):
        target = pool.place(piece.columns)
        found = read_stats(
            session, run_id, rank, piece, schema=schema, series=series, statistic=statistic
        )
        if found is not None:
            weights = np.broadcast_to(piece.columns.ord1 - piece.columns.ord0, found.mean.shape)
            marked = (found.nonfinite > 0) | np.isinf(found.high) | np.isinf(found.low)
            pool.add(target, everywhere, found.low, found.high, found.mean, weights, marked)
    return StatsWindow(
        axis=pool.axis(),
        schema_hash=schema_hash,
        series=series,
        low=pool.low.astype(np.float32),
        high=pool.high.astype(np.float32),
        mean=pool.mean().astype(np.float32),
        nonfinite=pool.nonfinite,
    )
