"""Frames in the order of their arrival, wherever they are stored now."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from foreshock.wire import STATISTICS, FrameFlag, SeriesSchema

from foreshock_service.domain.frames import Frame
from foreshock_service.store import batches, schemas
from foreshock_service.store.blocks import read_blocks, read_segment
from foreshock_service.store.compaction import compacted_ord
from foreshock_service.store.segments import Segment, hot_segments
from foreshock_service.store.session import ReadSession

NO_SERIES = SeriesSchema((), STATISTICS)
"""The schema of a frame that came without one: scalars only."""


def read_frames(
    session: ReadSession, run_id: str, rank: int, from_ord: int, limit: int
) -> list[Frame]:
    """At most `limit` frames from `from_ord` on, without gaps, in order of `ord`.

    Frames whose full resolution is past its retention keep their scalars; their statistics are
    NaN.
    """
    to_ord = from_ord + limit
    histograms = batches.read_histograms(session, run_id, rank, from_ord, to_ord)
    frames = []
    for segment in _segments(session, run_id, rank, from_ord, to_ord):
        columns = segment.columns
        name = segment.schema_hash
        schema = NO_SERIES if name is None else schemas.load(session, name)
        stats = segment.stats
        if name is None:
            stats = np.zeros((len(columns), 0, len(STATISTICS)), np.float32)
        for i, ord_ in enumerate(columns.ord0.tolist()):
            if not from_ord <= ord_ < to_ord:
                continue
            logged = zip(columns.names, columns.present[:, i], columns.mean[:, i], strict=True)
            frames.append(
                Frame(
                    ord=ord_,
                    attempt=int(columns.attempt[i]),
                    step=int(columns.step0[i]),
                    wall_time=float(columns.wall_time[i]),
                    flags=FrameFlag(int(columns.flags[i])),
                    scalars={scalar: float(value) for scalar, there, value in logged if there},
                    stats=stats[i],
                    schema=schema,
                    batch_id=columns.batch_ids[i],
                    histograms=histograms.get(ord_, {}),
                )
            )
    return frames


def _segments(
    session: ReadSession, run_id: str, rank: int, from_ord: int, to_ord: int
) -> Iterator[Segment]:
    boundary = compacted_ord(session, run_id, rank)
    if from_ord < boundary:
        for item in read_blocks(session, run_id, rank, 1, from_ord, min(to_ord, boundary)):
            yield read_segment(session, run_id, rank, item)
    if to_ord > boundary:
        yield from hot_segments(session, run_id, rank, max(from_ord, boundary), to_ord)
