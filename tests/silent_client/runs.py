"""Runs that are stored at a time of the test's choosing, through the real admission."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from foreshock.wire import Event
from foreshock_service.incidents.lifecycle import resolve
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.pipeline.watchdog import Watchdog
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.incidents import StoredIncident, list_incidents, update_incident
from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery
from sqlalchemy import select

from tests.detect.runs import settings_with_webhook
from tests.factories import ATTEMPT, START_SECONDS, make_batch

ROUND_SECONDS = 30.0


class Clock:
    """The time, as a test sets it."""

    def __init__(self) -> None:
        self.now = START_SECONDS

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now


class Place:
    """A service without a network: its ingest and its watchdog, under one clock."""

    def __init__(self, store: Store, **settings: Any) -> None:
        self.store, self.clock = store, Clock()
        self.settings = settings_with_webhook().model_copy(update=settings)
        self.watchdog = self.start()
        self._seqs: dict[tuple[str, int, int], int] = {}

    def start(self) -> Watchdog:
        """Another process's watchdog over the same database."""
        return Watchdog(self.store, self.settings, clock=self.clock)

    def send(
        self,
        run: str,
        *,
        first_step: int = 0,
        num_frames: int = 16,
        rank: int = 0,
        attempt: int = ATTEMPT,
        events: Sequence[Event] = (),
        **origin: Any,
    ) -> None:
        """Store the next batch of a rank now; its steps are a second apart."""
        key = (run, attempt, rank)
        seq = self._seqs[key] = self._seqs.get(key, -1) + 1
        ingest = Ingest(self.store, ServiceSettings(), clock=self.clock)
        ingest.start()
        try:
            batch = make_batch(
                run, seq=seq, rank=rank, attempt=attempt, first_step=first_step,
                num_frames=num_frames, events=events, **origin,
            )  # fmt: skip
            ingest.submit(batch).result(timeout=30)
        finally:
            ingest.stop()

    def wait(self, seconds: float, *, each: Callable[[], object] | None = None) -> int:
        """Let time pass, with a round of the watchdog every half minute; what it changed."""
        changed, until = self.watchdog.run_once(), self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + ROUND_SECONDS)
            if each is not None:
                each()
            changed += self.watchdog.run_once()
        return changed

    def incidents(self, run: str) -> list[StoredIncident]:
        """What is told of a run, the first first."""
        with self.store.read() as session:
            return list_incidents(session, run)[::-1]

    def resolve(self, run: str) -> None:
        """A person closes the newest incident of a run."""
        found = self.incidents(run)[-1]
        closed = resolve(found.incident, by="ada")
        with self.store.write() as session:
            update_incident(
                session, run, closed.incident, version=found.version, sentence="", now=0.0
            )

    def alerts(self, run: str) -> list[str]:
        """The alerts of a run in their order."""
        query = select(delivery).where(delivery.c.run_id == run).order_by(delivery.c.delivery_id)
        with self.store.read() as session:
            return [row.payload["sentence"] for row in session.connection.execute(query)]


def finished(status: str = "finished") -> Event:
    """What a client says at its end."""
    return Event(kind="finished", wall_time=START_SECONDS, data={"status": status})
