"""Wakes those who wait for news of a run; what the news is, they read from the store."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

MAX_WAITERS = 1024
"""Open live streams in one process; each costs a task and a poll a second."""


class Hub:
    """Threads say that a run has news; coroutines wait for it.

    A wake-up is a hint and carries nothing: it may come late, twice, or not at all when another
    process did the work, so whoever waits also polls.
    """

    def __init__(self, *, max_waiters: int = MAX_WAITERS) -> None:
        self._max_waiters = max_waiters
        self._lock = threading.Lock()
        self._waiters: dict[str, set[Waiter]] = defaultdict(set)
        self._num_waiters = 0
        self._closed = False

    @property
    def num_waiters(self) -> int:
        """How many wait now."""
        with self._lock:
            return self._num_waiters

    @contextmanager
    def waiter(self, run_id: str) -> Iterator[Waiter]:
        """A waiter for news of `run_id`, used inside one event loop.

        Raises:
            OverflowError: too many wait already.
        """
        waiter = Waiter(asyncio.get_running_loop())
        with self._lock:
            if self._num_waiters >= self._max_waiters:
                raise OverflowError(f"{self._num_waiters} live streams are open, the most allowed")
            self._num_waiters += 1
            self._waiters[run_id].add(waiter)
            if self._closed:
                waiter.close()
        try:
            yield waiter
        finally:
            with self._lock:
                self._num_waiters -= 1
                self._waiters[run_id].discard(waiter)
                if not self._waiters[run_id]:
                    del self._waiters[run_id]

    def publish(self, run_id: str) -> None:
        """Wake everybody who waits for `run_id`; called from any thread."""
        with self._lock:
            waiters = list(self._waiters.get(run_id, ()))
        for waiter in waiters:
            waiter.wake()

    def publish_all(self) -> None:
        """Wake everybody, for work that does not say which runs it touched."""
        with self._lock:
            waiters = [waiter for group in self._waiters.values() for waiter in group]
        for waiter in waiters:
            waiter.wake()

    def close(self) -> None:
        """Tell everybody that the process ends, so that open streams do not hold it up."""
        with self._lock:
            self._closed = True
            waiters = [waiter for group in self._waiters.values() for waiter in group]
        for waiter in waiters:
            waiter.close()


class Waiter:
    """One coroutine's end of the hub."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self.closed = False
        """Whether the process is ending."""

    def wake(self) -> None:
        """Let `wait` return; called from any thread."""
        # The loop may have ended between the hub's look and this call.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    def close(self) -> None:
        """Mark the end and wake."""
        self.closed = True
        self.wake()

    async def wait(self, *, at_most_seconds: float) -> None:
        """Return at the next wake-up, or when the time is over."""
        try:
            await asyncio.wait_for(self._event.wait(), at_most_seconds)
        except TimeoutError:
            return
        self._event.clear()
