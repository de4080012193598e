"""Frames in the order of their arrival, wherever they are stored now."""

from __future__ import annotations

import numpy as np
from foreshock.wire import STATISTICS, FrameFlag, SeriesSchema

from foreshock_service.domain.frames import Frame
from foreshock_service.store import batches, schemas
from foreshock_service.store.session import ReadSession

NO_SERIES = SeriesSchema((), STATISTICS)
"""The schema of a frame that came without one: scalars only."""


def read_frames(
    session: ReadSession, run_id: str, rank: int, from_ord: int, limit: int
) -> list[Frame]:
    """At most `limit` frames from `from_ord` on, without gaps, in order of `ord`."""
    return _hot_frames(session, run_id, rank, from_ord, from_ord + limit)


def _hot_frames(
    session: ReadSession, run_id: str, rank: int, from_ord: int, to_ord: int
) -> list[Frame]:
    histograms = batches.read_histograms(session, run_id, rank, from_ord, to_ord)
    frames = []
    for stored in batches.read_batches(session, run_id, rank, from_ord, to_ord):
        batch, name = stored.batch, stored.schema_hash
        schema = NO_SERIES if name is None else schemas.load(session, name)
        empty = np.zeros((0, len(schema.statistics)), np.float32)
        for index in range(len(batch.steps)):
            ord_ = stored.ord0 + index
            if not from_ord <= ord_ < to_ord:
                continue
            present = batch.scalar_present[index].astype(bool)
            frames.append(
                Frame(
                    ord=ord_,
                    attempt=stored.attempt,
                    step=int(batch.steps[index]),
                    wall_time=float(batch.wall_times[index]),
                    flags=FrameFlag(int(batch.flags[index])),
                    scalars={
                        scalar: float(value)
                        for scalar, value, logged in zip(
                            batch.scalar_names, batch.scalars[index], present, strict=True
                        )
                        if logged
                    },
                    stats=empty if name is None else batch.stats[index],
                    schema=schema,
                    batch_id=batch.batch_ids[index] if batch.batch_ids else None,
                    histograms=histograms.get(ord_, {}),
                )
            )
    return frames
