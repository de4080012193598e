"""The service's own health, counted in this process and read from the outbox at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foreshock_service.store.deliveries import count_by_status
from foreshock_service.store.session import Store

COMMIT_BUCKETS: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds; a commit takes milliseconds on a healthy disk, and clients give up after tens."""
STATUSES: Final = ("pending", "sending", "failed")


class ServiceMetrics:
    """Counters of one process, in a registry of its own so that tests and processes never share."""

    def __init__(self, store: Store, *, queue_length: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.batches = Counter(
            "foreshock_ingest_batches",
            "Batches answered, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        for outcome in ("stored", "duplicate", "refused"):
            self.batches.labels(outcome)
        self.commit_seconds = Histogram(
            "foreshock_ingest_commit_seconds",
            "Time from a parsed batch to its commit, waiting in the queue included.",
            buckets=COMMIT_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(_StoreHealth(store, queue_length))


class _StoreHealth(Collector):
    def __init__(self, store: Store, queue_length: Callable[[], int]) -> None:
        self._store = store
        self._queue_length = queue_length

    def describe(self) -> list[Metric]:
        """Nothing: registering a collector must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Queue and outbox as they are now."""
        yield GaugeMetricFamily(
            "foreshock_ingest_queue_length",
            "Batches waiting for the writer of this process.",
            value=self._queue_length(),
        )
        with self._store.read() as session:
            counts = count_by_status(session)
        family = GaugeMetricFamily(
            "foreshock_deliveries",
            "Alerts in the outbox that are not delivered, by status.",
            labels=("status",),
        )
        for status in STATUSES:
            family.add_metric((status,), counts.get(status, 0))
        yield family
