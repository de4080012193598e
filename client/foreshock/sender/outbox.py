"""The outbox: two daemon threads, one from the queue to the spool, one from the spool to the
service, so that a service that hangs never keeps frames from the disk."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from foreshock.logs import OncePer, logger
from foreshock.sender.batching import Batcher, first_seq
from foreshock.sender.frames import Frame
from foreshock.sender.orphans import open_orphan
from foreshock.sender.post import Backoff, Outcome, drain
from foreshock.settings import ClientSettings
from foreshock.spool import Spool
from foreshock.transport import Transport
from foreshock.wire import ClientCounters, Event, Origin

_ORPHAN_PERIOD_SECONDS: Final = 5.0
"""How often to look for orphans: a listing costs little, and a run that has just been closed may
hold its folder for one request more."""
_EVENTS_A_FRAME: Final = 4
"""Events in the queue at most, for each frame that it may hold."""


class Outbox:
    """Takes frames and events without blocking; batches, spools and posts them.

    The queue holds `settings.queue_frames` frames; a full queue drops its oldest and counts it.
    `counters` is asked for the training side's account when a batch is made. `put` and `put_event`
    wait for nothing but one another: the lock that they take is never held during a call to the
    disk or the network.
    """

    def __init__(
        self,
        settings: ClientSettings,
        origin: Origin,
        spool: Spool,
        transport: Transport,
        counters: Callable[[], ClientCounters],
    ) -> None:
        self._settings, self._spool, self._transport = settings, spool, transport
        self._training_counters = counters
        self._frames: deque[Frame] = deque()
        self._events: deque[Event] = deque()
        self._changed = threading.Condition()
        self._wake_sender = threading.Event()
        self._flush_asked = False
        self._closing = False
        self._hurry = False
        self._stop_at = math.inf
        self._writer_done = False
        self._num_overflowed = self._num_events_dropped = 0
        self._writer_seconds = self._sender_seconds = 0.0
        self._outcome = Outcome()
        self._orphan: Spool | None = None
        self._once_per = OncePer()
        self._batcher = Batcher(
            origin,
            spool,
            self._counters,
            self._report,
            first_seq=first_seq(spool, settings.attempt),
            once_per=self._once_per,
        )
        self._backoff = Backoff(settings.retry_first_seconds, settings.retry_max_seconds)
        self._writer = threading.Thread(target=self._write, name="foreshock-spool", daemon=True)
        self._sender = threading.Thread(target=self._send, name="foreshock-send", daemon=True)
        self._writer.start()
        self._sender.start()

    @property
    def num_dropped(self) -> int:
        """Frames lost to the bounds of the queue and the spool, and to the disk."""
        return self._num_overflowed + self._batcher.num_dropped + self._outcome.frames_lost

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the two threads: they wait most of the time, and share the interpreter with
        the training while they do not."""
        return self._writer_seconds + self._sender_seconds

    @property
    def outcome(self) -> Outcome:
        """What was sent and what was refused."""
        return self._outcome

    @property
    def at_work(self) -> bool:
        """Whether a thread still runs; after a close until what is under way has ended."""
        return self._sender.is_alive() or self._writer.is_alive()

    def put(self, frame: Frame) -> None:
        """Hand over a frame; never waits for the disk or the network."""
        with self._changed:
            if len(self._frames) >= self._settings.queue_frames:
                self._frames.popleft()
                self._num_overflowed += 1
            self._frames.append(frame)
            if len(self._frames) == 1 or len(self._frames) >= self._settings.batch_frames:
                self._changed.notify_all()

    def put_event(self, event: Event) -> None:
        """Hand over an event; it travels with the next batch, or soon alone."""
        with self._changed:
            if len(self._events) >= _EVENTS_A_FRAME * self._settings.queue_frames:
                self._events.popleft()
                self._num_events_dropped += 1
            self._events.append(event)
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was put is acknowledged; False if it is not in time."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._flush_asked = self._hurry = True
            self._changed.notify_all()
            self._wake_sender.set()
            while self._frames or self._events or self._flush_asked or len(self._spool):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(min(left, 0.5))
        return True

    def end(self, timeout_seconds: float, counters: ClientCounters | None = None) -> None:
        """Begin to close, and wait for nothing. `counters` is the training side's last account, for
        when nobody can be asked any more."""
        with self._changed:
            if counters is not None:
                self._training_counters = lambda: counters
            self._closing = self._hurry = True
            self._stop_at = min(self._stop_at, time.monotonic() + timeout_seconds)
            self._changed.notify_all()
        self._wake_sender.set()

    def close(self, timeout_seconds: float) -> bool:
        """Spool what is left, try to send it for `timeout_seconds`; True if all is acknowledged.

        What is not stays in the spool, for the next watch or `foreshock flush`.
        """
        self.end(timeout_seconds)
        return self.wait()

    def wait(self) -> bool:
        """After `end`, wait for as long as was said there; True if all is acknowledged."""
        for thread in (self._writer, self._sender):
            thread.join(max(0.1, self._stop_at - time.monotonic()))
        if self._frames:
            logger.warning(
                "%d frames could not be written to %s in time, and are lost",
                len(self._frames),
                self._spool.folder,
            )
        return not len(self._spool)

    def abandon(self) -> None:
        """In a forked child, where the threads do not run: let go without touching the spool."""
        for spool in (self._spool, self._orphan):
            if spool is not None:
                spool.abandon()

    def _counters(self) -> ClientCounters:
        return replace(
            self._training_counters(),
            frames_dropped=self.num_dropped,
            batches_rejected=self._outcome.batches_rejected,
            bytes_sent=self._outcome.bytes_sent,
            background_seconds=self.cpu_seconds,
        )

    def _report(self, part: str, error: str) -> None:
        data = {"part": part, "error": error}
        self.put_event(Event(kind="client_error", wall_time=time.time(), data=data))

    # The writer's thread.

    def _write(self) -> None:
        while True:
            frames, events, num_lost, last = self._take()
            if num_lost:
                error = f"{num_lost} events were dropped: more came than the queue holds"
                data = {"part": "events", "error": error}
                events.append(Event(kind="client_error", wall_time=time.time(), data=data))
            self._batcher.store(frames, events)
            del frames, events  # or the last batch would stay in memory until the next
            self._writer_seconds = time.thread_time()
            with self._changed:
                if not self._frames and not self._events:
                    self._flush_asked = False
                    self._writer_done = last
                self._changed.notify_all()
            self._wake_sender.set()
            if self._writer_done:
                return

    def _take(self) -> tuple[list[Frame], list[Event], int, bool]:
        """Wait for a full batch, for the oldest frame's time, or for a flush. What there is, the
        number of events that were dropped before it, and whether it is the last."""
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
                    events = list(self._events)
                    self._events.clear()
                    num_lost, self._num_events_dropped = self._num_events_dropped, 0
                    return frames, events, num_lost, self._closing and not self._frames
                self._changed.wait(left)

    # The sender's thread.

    def _send(self) -> None:
        orphans_due = 0.0
        while True:
            left = self._stop_at - time.monotonic()
            self._wake_sender.wait(max(0.0, min(self._settings.batch_seconds, left)))
            self._wake_sender.clear()
            try:
                self._drain(self._spool)
                if time.monotonic() >= orphans_due and self._send_orphans():
                    orphans_due = time.monotonic() + _ORPHAN_PERIOD_SECONDS
            except Exception as error:
                if self._once_per.due("send"):
                    logger.exception("sending failed; it is tried again")
                    self._report("send", f"{type(error).__name__}: {error}"[:2000])
            self._sender_seconds = time.thread_time()
            with self._changed:
                self._changed.notify_all()
                if self._stopped() or (self._writer_done and not len(self._spool)):
                    break
        self._transport.close()
        # Here and not in `close`, which may not wait for a request that is under way: the folder
        # must be free for the next watch of this process as well.
        self._writer.join()
        num_lost = self._spool.close()
        if num_lost:
            logger.warning(
                "%d frames that the service did not take were in memory only, and are lost",
                num_lost,
            )

    def _stopped(self) -> bool:
        return time.monotonic() >= self._stop_at

    def _drain(self, spool: Spool, *, own: bool = True) -> None:
        outcome = self._outcome if own else Outcome()

        def stop() -> bool:
            with self._changed:
                self._changed.notify_all()
                yields = not own and (self._closing or len(self._spool) > 0)
                return self._stopped() or yields

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
        """Pause, but not beyond a request to stop: new batches must not shorten a pause. Somebody
        who waits for a flush or a close gets one try at once: the service may be back."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._hurry:
                left = min(deadline, self._stop_at) - time.monotonic()
                if left <= 0:
                    return
                self._changed.wait(left)
            self._hurry = False
        self._backoff.reset()

    def _send_orphans(self) -> bool:
        """Send what killed processes left behind, a folder at a time, between our own batches.

        False if our own batches came between, so that there may be more to send at once.
        """
        root = self._spool.folder.parent
        while not self._closing and not len(self._spool):
            orphan = open_orphan(root, max_bytes=self._settings.spool_max_bytes)
            if orphan is None:
                return True
            self._orphan = orphan
            try:
                self._drain(orphan, own=False)
            finally:
                self._orphan = None
                orphan.close()
        return False
