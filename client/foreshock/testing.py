"""Doubles for those who test a training loop that is watched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from foreshock.transport import Answer
from foreshock.wire import (
    KINDS,
    STATISTICS,
    Event,
    FrameBatch,
    FrameFlag,
    SeriesSchema,
    decode_batch,
    schema_from_json,
)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One step as it was sent, without its statistics: see `RecordingTransport.statistic`."""

    step: int
    flags: FrameFlag
    scalars: dict[str, float]
    batch_id: str | None


class RecordingTransport:
    """A service in memory: keeps what it is sent, decoded, and stores a resend once.

    Frames come from a thread of the client's: call `watch.flush()` or `watch.close()` before you
    look at them.

    `answers` are given first, one a post of frames, before it begins to accept:
    `RecordingTransport(answers=[Answer(status=503)])`.
    """

    def __init__(self, answers: Sequence[Answer] = ()) -> None:
        self.schemas: dict[str, SeriesSchema] = {}
        self.batches: list[FrameBatch] = []
        self.num_posts = 0
        self._answers = list(answers)
        self._seen: set[tuple[str, int, int, int]] = set()

    def post_schema(self, document: bytes) -> Answer:
        """Register a series schema."""
        schema = schema_from_json(json.loads(document))
        self.schemas[schema.hash] = schema
        return Answer(status=200)

    def post_frames(self, message: bytes) -> Answer:
        """Keep one batch, unless an answer was prepared."""
        self.num_posts += 1
        if self._answers:
            return self._answers.pop(0)
        batch = decode_batch(message)
        if batch.schema is not None and batch.schema not in self.schemas:
            return Answer(status=409, code="unknown_schema")
        key = (batch.origin.run, batch.origin.attempt, batch.origin.rank, batch.seq)
        if key not in self._seen:
            self._seen.add(key)
            self.batches.append(batch)
        return Answer(status=200)

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def events(self) -> list[Event]:
        """Every event, in the order in which it came."""
        return [event for batch in self.batches for event in batch.events]

    @property
    def frames(self) -> list[RecordedFrame]:
        """Every frame, in the order in which they came."""
        return [
            RecordedFrame(
                step=int(batch.steps[i]),
                flags=FrameFlag(int(batch.flags[i])),
                scalars={
                    name: float(batch.scalars[i, k])
                    for k, name in enumerate(batch.scalar_names)
                    if batch.scalar_present[i, k]
                },
                batch_id=batch.batch_ids[i] if batch.batch_ids else None,
            )
            for batch in self.batches
            for i in range(len(batch.steps))
        ]

    def series(self, kind: str) -> list[str]:
        """Names of the series of one kind that were ever measured, in forward order.

        Raises:
            ValueError: there is no such kind.
        """
        _check(kind, KINDS, "kind")
        found = (s.name for x in self.schemas.values() for s in x.series if s.kind == kind)
        return list(dict.fromkeys(found))

    @property
    def steps(self) -> list[int]:
        """The steps of every frame, in the order in which they came."""
        return [int(step) for batch in self.batches for step in batch.steps]

    def scalar(self, name: str) -> dict[int, float]:
        """One scalar by step."""
        return {
            int(step): float(batch.scalars[i, batch.scalar_names.index(name)])
            for batch in self.batches
            if name in batch.scalar_names
            for i, step in enumerate(batch.steps)
            if batch.scalar_present[i, batch.scalar_names.index(name)]
        }

    def statistic(self, kind: str, name: str, statistic: str) -> dict[int, float]:
        """One statistic of one series by step; NaN where the tensor was not measured, and empty
        for a series that never was.

        Raises:
            ValueError: there is no such kind or statistic.
        """
        _check(kind, KINDS, "kind")
        _check(statistic, STATISTICS, "statistic")
        values: dict[int, float] = {}
        for batch in self.batches:
            if batch.schema is None:
                continue
            schema = self.schemas[batch.schema]
            keys = [(series.kind, series.name) for series in schema.series]
            if (kind, name) in keys:
                column = schema.statistics.index(statistic)
                row = keys.index((kind, name))
                for i, step in enumerate(batch.steps):
                    values[int(step)] = float(batch.stats[i, row, column])
        return values


def _check(name: str, allowed: tuple[str, ...], what: str) -> None:
    if name not in allowed:
        raise ValueError(f"there is no {what} {name!r}; there are {', '.join(allowed)}")
