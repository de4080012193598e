"""From frames and events to batches in the spool, on the writer's thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from foreshock.logs import OncePer, logger
from foreshock.sender.frames import Frame, assemble
from foreshock.spool import MEMORY_BYTES, Spool
from foreshock.wire import ClientCounters, Event, Origin, SeriesSchema, encode_batch

_MAX_EVENTS: Final = 256
_MAX_EVENT_BYTES: Final = 1 << 20
"""Of the events of one batch: the service takes a header of 4 MiB at most."""
_MAX_VALUE_BYTES: Final = 16 << 10
"""Of one value in an event that is too large."""
_COUNTERS_BYTES: Final = 256
"""By how much a message may grow when its counters do."""


class Batcher:
    """Stores batches. Frames that cannot be stored are dropped and counted in `num_dropped`; the
    batch that made others go already counts them.

    `report` is told, once a minute at most, that the disk refuses batches.
    """

    def __init__(
        self,
        origin: Origin,
        spool: Spool,
        counters: Callable[[], ClientCounters],
        report: Callable[[str, str], object],
        *,
        first_seq: int,
        once_per: OncePer,
    ) -> None:
        self.counters = counters
        self._origin, self._spool, self._report = origin, spool, report
        self._seq, self._once_per = first_seq, once_per
        self._started: tuple[int, Event] | None = None
        self.num_dropped = 0

    def store(self, frames: Sequence[Frame], events: Sequence[Event]) -> None:
        """Make one batch of each stretch of frames with one schema; the last takes the events, as
        far as they fit, and batches without frames take the rest."""
        runs: list[list[Frame]] = []
        for frame in frames:
            if runs and runs[-1][0].schema is frame.schema:
                runs[-1].append(frame)
            else:
                runs.append([frame])
        groups = list(grouped(events))
        for run in runs[:-1]:
            self._store_or_count(run, [])
        if runs or groups:
            self._store_or_count(runs[-1] if runs else [], groups[0] if groups else [])
        for group in groups[1:]:
            self._store_or_count([], group)
        self._tell_of_the_disk()

    def _store_or_count(self, run: list[Frame], events: list[Event]) -> None:
        try:
            stored = self._store(run, events)
        except Exception as error:
            stored = False
            if self._once_per.due("batch"):
                logger.exception("a batch could not be made; its frames are dropped")
                self._report("batch", f"{type(error).__name__}: {error}"[:2000])
        if not stored:
            self.num_dropped += len(run)

    def _store(self, run: list[Frame], events: list[Event]) -> bool:
        schema = run[0].schema if run else None
        if schema is not None and not self._spool.has_schema(schema.hash):
            self._spool.put_schema(schema.hash, _schema_document(schema))
        seq, self._seq = self._seq, self._seq + 1
        message = self._message(seq, run, events)
        dropped = self._spool.make_room(len(message) + _COUNTERS_BYTES)
        if dropped:
            self.num_dropped += sum(batch.num_frames for batch in dropped)
            if self._started is not None and self._started[0] in {b.seq for b in dropped}:
                # Without it the run has no name: it travels again with the newest.
                events = [self._started[1], *events]
            message = self._message(seq, run, events)
        for event in events:
            if event.kind == "started":
                self._started = seq, event
        return self._spool.put(
            seq, len(run), message, schema=schema.hash if schema is not None else None
        )

    def _message(self, seq: int, run: list[Frame], events: list[Event]) -> bytes:
        counters = self.counters()
        return encode_batch(assemble(run, events, origin=self._origin, seq=seq, counters=counters))

    def _tell_of_the_disk(self) -> None:
        error = self._spool.disk_error
        if error is not None and self._once_per.due("disk"):
            told = (
                f"the spool folder {self._spool.folder} cannot be written ({error}): batches wait "
                f"in memory, at most {MEMORY_BYTES >> 20} MiB, and end with the process; free the "
                "disk, or set FORESHOCK_SPOOL_DIR to another folder"
            )
            logger.warning(told)
            self._report("spool", told)


def grouped(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Events in groups that fit into a header each; one that does not fit alone is cut."""
    group: list[Event] = []
    num_bytes = 0
    for event in events:
        size = _num_bytes(event.data)
        if size > _MAX_EVENT_BYTES:
            event = _cut(event)
            size = _num_bytes(event.data)
        if group and (num_bytes + size > _MAX_EVENT_BYTES or len(group) == _MAX_EVENTS):
            yield group
            group, num_bytes = [], 0
        group.append(event)
        num_bytes += size
    if group:
        yield group


def _cut(event: Event) -> Event:
    data = {k: v for k, v in list(event.data.items())[:32] if _num_bytes(v) <= _MAX_VALUE_BYTES}
    left_out = sorted(str(name)[:64] for name in event.data if name not in data)[:32]
    return replace(event, data={**data, "left_out": left_out})


def _num_bytes(value: Any) -> int:
    """Bytes of a value as JSON; more than any bound where JSON has no word for it."""
    try:
        return len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return 1 << 62


def _schema_document(schema: SeriesSchema) -> bytes:
    return json.dumps(schema.to_json(), separators=(",", ":")).encode()


def first_seq(spool: Spool, attempt: int | None) -> int:
    """The number of the first batch: 0, or beyond what is in the spool.

    An `attempt` that the caller has named may be started again, by a launcher that restarts its
    processes with the same variables; its numbers go on from the milliseconds since it began.
    """
    begun = time.time_ns() // 1_000_000 - attempt if attempt is not None else 0
    return max(0, begun, spool.next_seq())
