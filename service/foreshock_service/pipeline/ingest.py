"""Ingest: batches from a bounded queue into the database, several to a transaction.

One writer thread commits groups: two to three times the throughput of a transaction a request,
and an answer is given only after the commit that holds the batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from foreshock.wire import FrameBatch
from sqlalchemy.exc import DBAPIError

from foreshock_service.errors import Busy, ServiceError, Unavailable
from foreshock_service.pipeline.admission import Receipt, Submission, admit, prepare
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store

log = logging.getLogger(__name__)

GROUP_BATCHES: Final = 64
"""Batches of one transaction at most: beyond it a commit costs little per batch."""
GROUP_BYTES: Final = 64 << 20
"""Bytes of one transaction at most, unless a single batch is larger."""

CommitHint = Callable[[str, int], None]
"""Told `(run_id, upto)` after a commit: frames below ord `upto` are there. Only a hint."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    submission: Submission
    future: Future[Receipt] = field(default_factory=Future)


class Ingest:
    """Takes batches from many threads and writes them from one.

    The queue is bounded in batches (`ingest_queue_batches`) and in bytes (`max_decoded_bytes`,
    twice): beyond either, `submit` refuses and the client comes back later.
    """

    def __init__(
        self,
        store: Store,
        settings: ServiceSettings,
        *,
        on_commit: CommitHint | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._max_batches = settings.ingest_queue_batches
        self._max_bytes = 2 * settings.max_decoded_bytes
        self._on_commit = on_commit
        self._clock = clock
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._running = False
        self._thread = threading.Thread(target=self._write, name="foreshock-ingest", daemon=True)

    def start(self) -> None:
        """Start the writer thread."""
        with self._changed:
            self._running = True
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, then end the writer thread. Batches are refused from now on."""
        with self._changed:
            was_running, self._running = self._running, False
            self._changed.notify_all()
        if was_running:
            self._thread.join()

    @property
    def queue_depth(self) -> int:
        """Batches that wait to be written."""
        return len(self._waiting)

    def submit(self, batch: FrameBatch) -> Future[Receipt]:
        """Queue a batch; the future holds its receipt once it is committed.

        The future raises `Conflict` (`unknown_schema`, `sequence_reused`), `Unprocessable`, or
        `Unavailable` when the database does not answer.

        Raises:
            Busy: the queue is full.
            Unavailable: the service is stopping, or has not started.
        """
        entry = _Entry(prepare(batch))
        num_bytes = entry.submission.num_bytes
        with self._changed:
            if not self._running:
                raise Unavailable("the service is not taking batches: send it again later")
            # A batch is taken by an empty queue whatever its size, or it could never be sent.
            full = len(self._waiting) >= self._max_batches or (
                self._waiting and self._waiting_bytes + num_bytes > self._max_bytes
            )
            if full:
                raise Busy(
                    f"{len(self._waiting)} batches wait to be written: send this one again later"
                )
            self._waiting.append(entry)
            self._waiting_bytes += num_bytes
            self._changed.notify_all()
        return entry.future

    def _write(self) -> None:
        while (group := self._next_group()) is not None:
            answers = self._store_group([entry.submission for entry in group])
            for entry, answer in zip(group, answers, strict=True):
                if isinstance(answer, Receipt):
                    entry.future.set_result(answer)
                else:
                    entry.future.set_exception(answer)
            self._hint(group, answers)

    def _next_group(self) -> list[_Entry] | None:
        """Wait for batches and take a group of them; None once stopped and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._running)
            if not self._waiting:
                return None
            group: list[_Entry] = []
            num_bytes = 0
            while self._waiting and len(group) < GROUP_BATCHES:
                size = self._waiting[0].submission.num_bytes
                if group and num_bytes + size > GROUP_BYTES:
                    break
                entry = self._waiting.popleft()
                self._waiting_bytes -= size
                num_bytes += size
                if entry.future.set_running_or_notify_cancel():
                    group.append(entry)
            return group

    def _store_group(self, submissions: Sequence[Submission]) -> list[Receipt | ServiceError]:
        try:
            with self._store.write() as session:
                return admit(session, submissions, now=self._clock())
        except Exception as error:
            log.exception("a group of %d batches was not stored", len(submissions))
            if len(submissions) == 1:
                return [_refusal(error)]
        # One batch that the database refuses must not take its neighbours with it.
        return [self._store_group([submission])[0] for submission in submissions]

    def _hint(self, group: Sequence[_Entry], answers: Sequence[Receipt | ServiceError]) -> None:
        if self._on_commit is None:
            return
        upto: dict[str, int] = {}
        for entry, answer in zip(group, answers, strict=True):
            if isinstance(answer, Receipt) and answer.status == "stored":
                batch = entry.submission.batch
                run_id = batch.origin.run
                end = (answer.ord0 or 0) + len(batch.steps)
                upto[run_id] = max(end, upto.get(run_id, 0))
        for run_id, end in upto.items():
            try:
                self._on_commit(run_id, end)
            except Exception:
                log.exception("nobody could be told that run %s has new frames", run_id)


def _refusal(error: Exception) -> ServiceError:
    if isinstance(error, DBAPIError):
        return Unavailable(
            "the database did not take the batch: keep it and send it again later. The service's "
            "log has the reason"
        )
    return ServiceError("the batch could not be stored: the service's log has the reason")
