"""Batches of the wire format for its tests: one full by hand, and any that hypothesis likes."""

from __future__ import annotations

import numpy as np
from foreshock.wire import (
    HISTOGRAM,
    STATISTICS,
    ClientCounters,
    Event,
    FrameBatch,
    FrameFlag,
    Origin,
    Table,
)
from hypothesis import strategies as st

ORIGIN = Origin(run="tiny-1f", attempt=1_700_000_000_000, rank=1, world=2, host="h", device="cpu")


def full_batch() -> FrameBatch:
    """Three frames of two series, with every part of a batch in use."""
    stats = np.arange(3 * 2 * len(STATISTICS), dtype=np.float32).reshape(3, 2, -1)
    stats[1, 1] = np.nan
    return FrameBatch(
        origin=ORIGIN,
        seq=7,
        stream="ring",
        schema="0" * 32,
        num_statistics=len(STATISTICS),
        scalar_names=("loss", "lr"),
        batch_ids=("a", None, "c"),
        events=(
            Event(kind="note", wall_time=1.5, step=2, data={"text": "Übung"}),
            Event(kind="started", wall_time=1.0),
        ),
        counters=ClientCounters(frames_measured=3, overhead_seconds=0.25),
        steps=np.array([5, 6, 5], np.int64),
        wall_times=np.array([1.0, 2.0, 3.0]),
        flags=np.array([FrameFlag.MEASURED_WEIGHT, FrameFlag.SKIPPED, FrameFlag.LAST], np.uint32),
        scalars=np.array([[np.nan, 0.1], [np.inf, 0.0], [2.0, 0.1]]),
        scalar_present=np.array([[1, 1], [1, 0], [1, 1]], np.uint8),
        stats=stats,
        tables=(
            Table(
                name=HISTOGRAM,
                frame=np.array([0, 2], np.int32),
                series=np.array([1, 0], np.int32),
                values=np.ones((2, 64), np.float32),
            ),
        ),
    )


@st.composite
def any_batch(draw: st.DrawFn) -> FrameBatch:
    """A valid batch of any small shape, with any bits in its floats."""
    frames, series = draw(st.integers(0, 5)), draw(st.integers(0, 4))
    statistics, scalars = draw(st.integers(0, len(STATISTICS))), draw(st.integers(0, 3))
    bits = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def floats(dtype: type[np.floating], *shape: int) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(bits.bytes(size), dtype).reshape(shape)

    rows = draw(st.integers(0, 3)) if frames and series else 0
    return FrameBatch(
        origin=ORIGIN,
        seq=draw(st.integers(0, 2**40)),
        schema=draw(st.none() | st.just("ab" * 16)),
        num_statistics=statistics,
        scalar_names=tuple(f"s{i}" for i in range(scalars)),
        events=tuple(
            Event(kind="note", wall_time=0.5, data={"text": text})
            for text in draw(st.lists(st.text(), max_size=3))
        ),
        steps=bits.integers(-(2**40), 2**40, frames),
        wall_times=floats(np.float64, frames),
        flags=bits.integers(0, 2**32, frames, np.uint32),
        scalars=floats(np.float64, frames, scalars),
        scalar_present=bits.integers(0, 2, (frames, scalars), np.uint8),
        stats=floats(np.float32, frames, series, statistics),
        tables=(
            Table(
                name="extras",
                frame=bits.integers(0, max(frames, 1), rows, np.int32),
                series=bits.integers(0, max(series, 1), rows, np.int32),
                values=floats(np.float32, rows, 5),
            ),
        ),
    )
