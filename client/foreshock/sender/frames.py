"""A frame as the training thread hands it over, and how frames become a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshock.wire import (
    HISTOGRAM,
    STATISTICS,
    ClientCounters,
    Event,
    FrameBatch,
    Origin,
    SeriesSchema,
    Table,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One step of one process. Shapes: stats [series, statistics], histogram [series, 64].

    `schema` is None where no series is known yet; then `stats` has no rows.
    """

    step: int
    wall_time: float
    flags: int
    scalars: dict[str, float]
    schema: SeriesSchema | None
    stats: npt.NDArray[np.float32]
    histogram: npt.NDArray[np.uint32] | None = None
    batch_id: str | None = None


def assemble(
    frames: Sequence[Frame],
    events: Sequence[Event],
    *,
    origin: Origin,
    seq: int,
    counters: ClientCounters,
) -> FrameBatch:
    """Join frames of one schema into a batch; a scalar that a frame has not is marked absent."""
    schema = frames[0].schema if frames else None
    names = tuple(sorted({name for frame in frames for name in frame.scalars}))
    num_frames = len(frames)
    scalars = np.zeros((num_frames, len(names)))
    present = np.zeros((num_frames, len(names)), np.uint8)
    for i, frame in enumerate(frames):
        for j, name in enumerate(names):
            if name in frame.scalars:
                scalars[i, j] = frame.scalars[name]
                present[i, j] = 1
    num_series = len(schema.series) if schema is not None else 0
    num_statistics = len(STATISTICS) if schema is not None else 0
    stats = np.zeros((num_frames, num_series, num_statistics), np.float32)
    for i, frame in enumerate(frames):
        if schema is not None:
            stats[i] = frame.stats
    has_ids = any(frame.batch_id is not None for frame in frames)
    return FrameBatch(
        origin=origin,
        seq=seq,
        schema=schema.hash if schema is not None else None,
        num_statistics=num_statistics,
        scalar_names=names,
        batch_ids=tuple(frame.batch_id for frame in frames) if has_ids else (),
        events=tuple(events),
        counters=counters,
        steps=np.array([frame.step for frame in frames], np.int64),
        wall_times=np.array([frame.wall_time for frame in frames], np.float64),
        flags=np.array([frame.flags for frame in frames], np.uint32),
        scalars=scalars,
        scalar_present=present,
        stats=stats,
        tables=_histograms(frames),
    )


def _histograms(frames: Sequence[Frame]) -> tuple[Table, ...]:
    """The exponent histograms of the series that were measured, as one table."""
    frame_rows, series_rows, values = [], [], []
    for i, frame in enumerate(frames):
        if frame.histogram is None:
            continue
        measured = np.flatnonzero(frame.histogram.any(axis=1))
        frame_rows.append(np.full(len(measured), i, np.int32))
        series_rows.append(measured.astype(np.int32))
        values.append(frame.histogram[measured].astype(np.float32))
    if not values:
        return ()
    return (
        Table(
            name=HISTOGRAM,
            frame=np.concatenate(frame_rows),
            series=np.concatenate(series_rows),
            values=np.concatenate(values),
        ),
    )
