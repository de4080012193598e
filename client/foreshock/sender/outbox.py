"""The outbox: two daemon threads, one from the queue to the spool, one from the spool to the
service, so that a service that hangs never keeps frames from the disk."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from foreshock.logs import OncePer, logger
from foreshock.sender.frames import Frame, assemble
from foreshock.sender.post import Backoff, Outcome, drain
from foreshock.settings import ClientSettings
from foreshock.spool import Spool, open_orphan
from foreshock.transport import Transport
from foreshock.wire import ClientCounters, Event, Origin, SeriesSchema, encode_batch

_ORPHAN_PERIOD_SECONDS = 5.0
"""How often to look for orphans: a listing costs little, and a run that has just been closed may
hold its folder for one request more."""
_MAX_EVENTS_A_BATCH: Final = 200
"""Their longest texts, escaped, fit into the header of one batch."""


class Outbox:
    """Takes frames and events without blocking; batches, spools and posts them.

    The queue holds `settings.queue_frames` frames; a full queue drops its oldest and counts it.
    `counters` is asked for the training side's account when a batch is made.
    """

    def __init__(
        self,
        settings: ClientSettings,
        origin: Origin,
        spool: Spool,
        transport: Transport,
        counters: Callable[[], ClientCounters],
    ) -> None:
        self._settings, self._origin = settings, origin
        self._spool, self._transport, self._counters = spool, transport, counters
        self._seq = spool.next_seq()
        self._frames: deque[Frame] = deque()
        self._events: deque[Event] = deque(maxlen=4 * settings.queue_frames)
        self._schemas: set[str] = set()
        self._changed = threading.Condition()
        self._wake_sender = threading.Event()
        self._flush_asked = False
        self._closing = False
        self._stop_sending = False
        self._writer_done = False
        self._num_dropped = 0
        self._writer_seconds = self._sender_seconds = 0.0
        self._outcome = Outcome()
        self._once_per = OncePer()
        self._backoff = Backoff(settings.retry_first_seconds, settings.retry_max_seconds)
        self._writer = threading.Thread(target=self._write, name="foreshock-spool", daemon=True)
        self._sender = threading.Thread(target=self._send, name="foreshock-send", daemon=True)
        self._writer.start()
        self._sender.start()

    @property
    def num_dropped(self) -> int:
        """Frames lost to the bounds of the queue and the spool."""
        return self._num_dropped

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the two threads: they wait most of the time, and share the interpreter with
        the training while they do not."""
        return self._writer_seconds + self._sender_seconds

    @property
    def outcome(self) -> Outcome:
        """What was sent and what was refused."""
        return self._outcome

    def put(self, frame: Frame) -> None:
        """Hand over a frame; never waits for the disk or the network."""
        with self._changed:
            if len(self._frames) >= self._settings.queue_frames:
                self._frames.popleft()
                self._num_dropped += 1
            self._frames.append(frame)
            if len(self._frames) == 1 or len(self._frames) >= self._settings.batch_frames:
                self._changed.notify_all()

    def put_event(self, event: Event) -> None:
        """Hand over an event; it travels with the next batch, or soon alone."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was put is acknowledged; False if it is not in time."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._flush_asked = True
            self._changed.notify_all()
            self._wake_sender.set()
            while self._frames or self._events or self._flush_asked or len(self._spool):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.5))
        return True

    def close(self, timeout_seconds: float) -> bool:
        """Spool what is left, try to send it for `timeout_seconds`; True if all is acknowledged.

        What is not stays in the spool, for the next watch or `foreshock flush`.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._wake_sender.set()
        self._writer.join(max(0.1, deadline - time.monotonic()))
        with self._changed:
            while len(self._spool) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, 0.5))
            self._stop_sending = True
        self._wake_sender.set()
        self._sender.join(max(0.1, deadline - time.monotonic()))
        return not len(self._spool)

    def abandon(self) -> None:
        """In a forked child, where the threads do not run: let go without touching the spool."""
        self._spool.abandon()

    # The writer's thread.

    def _write(self) -> None:
        while True:
            frames, events, last = self._take()
            try:
                self._spool_runs(frames, events)
            except Exception:
                self._num_dropped += len(frames)
                if self._once_per.due("spool"):
                    logger.exception("frames could not be spooled and are dropped")
            self._writer_seconds = time.thread_time()
            with self._changed:
                if not self._frames and not self._events:
                    self._flush_asked = False
                self._writer_done = last
                self._changed.notify_all()
            self._wake_sender.set()
            if last:
                return

    def _take(self) -> tuple[list[Frame], list[Event], bool]:
        """Wait for a full batch, for the oldest frame's time, or for a flush."""
        deadline: float | None = None
        with self._changed:
            while True:
                if deadline is None and (self._frames or self._events):
                    deadline = time.monotonic() + self._settings.batch_seconds
                full = len(self._frames) >= self._settings.batch_frames
                left = None if deadline is None else deadline - time.monotonic()
                if full or self._flush_asked or self._closing or (left is not None and left <= 0):
                    frames = [
                        self._frames.popleft()
                        for _ in range(min(len(self._frames), self._settings.batch_frames))
                    ]
                    events = [
                        self._events.popleft()
                        for _ in range(min(len(self._events), _MAX_EVENTS_A_BATCH))
                    ]
                    return frames, events, self._closing and not (self._frames or self._events)
                self._changed.wait(left)

    def _spool_runs(self, frames: list[Frame], events: list[Event]) -> None:
        """Make one batch of each stretch of frames with one schema; the last takes the events, or
        a batch without frames does."""
        runs: list[list[Frame]] = []
        for frame in frames:
            if runs and runs[-1][0].schema is frame.schema:
                runs[-1].append(frame)
            else:
                runs.append([frame])
        if not runs and events:
            runs.append([])
        for i, run in enumerate(runs):
            schema = run[0].schema if run else None
            if schema is not None:
                self._keep_schema(schema)
            seq, self._seq = self._seq, self._seq + 1
            batch = assemble(
                run,
                events if i == len(runs) - 1 else (),
                origin=self._origin,
                seq=seq,
                counters=self._counters(),
            )
            self._num_dropped += self._spool.put(seq, len(run), encode_batch(batch))

    def _keep_schema(self, schema: SeriesSchema) -> None:
        if schema.hash not in self._schemas:
            self._spool.put_schema(schema.hash, _schema_document(schema))
            self._schemas.add(schema.hash)

    # The sender's thread.

    def _send(self) -> None:
        orphans_due = 0.0
        while True:
            self._wake_sender.wait(self._settings.batch_seconds)
            self._wake_sender.clear()
            try:
                self._drain(self._spool)
                if time.monotonic() >= orphans_due and self._send_orphans():
                    orphans_due = time.monotonic() + _ORPHAN_PERIOD_SECONDS
            except Exception:
                if self._once_per.due("send"):
                    logger.exception("sending failed; it is tried again")
            self._sender_seconds = time.thread_time()
            with self._changed:
                self._changed.notify_all()
                if self._stop_sending or (self._writer_done and not len(self._spool)):
                    break
        self._transport.close()
        # Here and not in `close`, which may not wait for a request that is under way: the folder
        # must be free for the next watch of this process as well.
        self._writer.join()
        self._spool.close()

    def _drain(self, spool: Spool, *, own: bool = True) -> None:
        outcome = self._outcome if own else Outcome()

        def stop() -> bool:
            with self._changed:
                self._changed.notify_all()
                yields = not own and (self._closing or len(self._spool) > 0)
                return self._stop_sending or yields

        drain(
            spool,
            self._transport,
            self._backoff,
            stop,
            self._wait_between_tries,
            outcome,
            once_per=self._once_per,
        )

    def _wait_between_tries(self, seconds: float) -> None:
        """Pause, but not beyond a request to stop: new batches must not shorten a pause."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._stop_sending and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _send_orphans(self) -> bool:
        """Send what killed processes left behind, a folder at a time, between our own batches.

        False if our own batches came between, so that there may be more to send at once.
        """
        root = self._spool.folder.parent
        while not self._closing and not len(self._spool):
            orphan = open_orphan(root, max_bytes=self._settings.spool_max_bytes)
            if orphan is None:
                return True
            try:
                self._drain(orphan, own=False)
            finally:
                orphan.close()
        return False


def _schema_document(schema: SeriesSchema) -> bytes:
    return json.dumps(schema.to_json(), separators=(",", ":")).encode()
