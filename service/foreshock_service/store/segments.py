"""Consecutive frames of one schema with their statistics, from hot batches or from blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foreshock_service.store import batches
from foreshock_service.store.columns import FrameColumns, join, single_frames
from foreshock_service.store.session import ReadSession


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """Frames of tier 1 and their statistics, float32 [frames, series, statistics].

    `received_at` is when the newest of them came, by the service's clock.
    """

    schema_hash: str | None
    columns: FrameColumns
    stats: npt.NDArray[np.float32]
    received_at: float


def hot_segments(
    session: ReadSession, run_id: str, rank: int, from_ord: int, to_ord: int
) -> Iterator[Segment]:
    """The hot frames of [from_ord, to_ord) in order, a segment a batch."""
    for stored in batches.read_batches(session, run_id, rank, from_ord, to_ord):
        chosen = slice(max(0, from_ord - stored.ord0), max(0, to_ord - stored.ord0))
        yield Segment(
            stored.schema_hash,
            columns_of(stored).take(chosen),
            stored.batch.stats[chosen],
            stored.received_at,
        )


def columns_of(stored: batches.StoredBatch) -> FrameColumns:
    """The columns of a hot batch, one a frame."""
    batch = stored.batch
    return single_frames(
        ord0=stored.ord0,
        attempt=stored.attempt,
        steps=batch.steps,
        wall_times=batch.wall_times,
        flags=batch.flags,
        names=batch.scalar_names,
        scalars=batch.scalars,
        present=batch.scalar_present,
        batch_ids=batch.batch_ids,
    )


def merge(segments: Sequence[Segment]) -> list[Segment]:
    """As few segments as the changes of schema allow."""
    merged: list[Segment] = []
    start = 0
    for end in range(1, len(segments) + 1):
        if end < len(segments) and segments[end].schema_hash == segments[start].schema_hash:
            continue
        part = segments[start:end]
        merged.append(
            Segment(
                part[0].schema_hash,
                join([segment.columns for segment in part]),
                np.concatenate([segment.stats for segment in part]),
                max(segment.received_at for segment in part),
            )
        )
        start = end
    return merged
