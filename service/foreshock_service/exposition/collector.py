"""Training metrics, read from the store at the moment of the scrape.

Labels are few: a run and its project. Series are no labels, because a model has thousands. A value
that was not logged has no sample; a loss that is NaN is a sample of NaN.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foreshock_service.domain.findings import Severity
from foreshock_service.store.scrape import RunSample, sample_runs
from foreshock_service.store.session import Store

ENDED_SECONDS: Final = 3600.0
"""A run that ended stays visible this long: longer than any scrape interval or alert window."""
MAX_RUNS: Final = 500
"""Runs in one scrape, the last heard of first: a bound on cardinality whatever is sent."""
LABELS: Final = ("run", "project")
SCALARS: Final[Mapping[str, tuple[str, str]]] = {
    "loss": ("foreshock_run_loss", "Loss at the newest frame; NaN when it is not a number."),
    "grad_norm": ("foreshock_run_gradient_norm", "Norm of all gradients before clipping."),
    "lr": ("foreshock_run_learning_rate", "Learning rate at the newest frame."),
}
"""Scalars of a frame that every dashboard wants, with the metric that each becomes."""


COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "frames_measured": ("foreshock_run_frames_measured", "Frames that the client measured."),
    "frames_thinned": (
        "foreshock_run_frames_thinned",
        "Frames measured while the client kept to its budget by measuring less often.",
    ),
    "frames_dropped": (
        "foreshock_run_frames_dropped",
        "Frames that the client dropped in this attempt because its spool was full.",
    ),
    "batches_rejected": (
        "foreshock_run_batches_rejected",
        "Batches that the service refused for good, so that their frames are lost.",
    ),
    "errors": (
        "foreshock_run_client_errors",
        "Failures inside the client; each switches off the part that failed.",
    ),
    "bytes_sent": ("foreshock_run_sent_bytes", "Bytes of batches that the service acknowledged."),
    "overhead_seconds": (
        "foreshock_run_monitor_seconds",
        "Time that the training spent in the monitor, in its own thread.",
    ),
    "background_seconds": (
        "foreshock_run_monitor_background_seconds",
        "CPU time of the client's threads that send.",
    ),
    "training_seconds": (
        "foreshock_run_training_seconds",
        "Wall time of the training since its first step.",
    ),
}
"""The client's counters with the metric that each becomes; they begin again with an attempt."""


class RunCollector(Collector):
    """Gauges of the runs that train now, or ended within the hour."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def describe(self) -> list[Metric]:
        """Nothing: registering a collector must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric of every visible run."""
        now = self._clock()
        with self._store.read() as session:
            samples = sample_runs(session, ended_after=now - ENDED_SECONDS, limit=MAX_RUNS)
        for scalar, (name, text) in SCALARS.items():
            yield _gauge(name, text, samples, partial(_scalar, scalar))
        yield _gauge(
            "foreshock_run_step",
            "Optimizer step of the newest frame.",
            samples,
            lambda item: None if item.head is None else item.head.step,
        )
        yield _gauge(
            "foreshock_run_heard_seconds",
            "Seconds since the run was last heard of.",
            samples,
            lambda item: max(now - item.heard_at, 0.0),
        )
        yield _gauge(
            "foreshock_run_running",
            "1 until the run says that it finished or crashed, then 0; a silent run keeps 1.",
            samples,
            lambda item: float(item.status == "running"),
        )
        yield _gauge(
            "foreshock_run_monitor_overhead_ratio",
            "Share of the training's wall time that the monitor took in the training thread.",
            samples,
            _overhead,
        )
        yield _incidents(samples)
        for counter, (name, text) in COUNTERS.items():
            yield _counter(name, text, samples, counter)


def _scalar(name: str, item: RunSample) -> float | None:
    return None if item.head is None else item.head.scalars.get(name)


def _gauge(
    name: str,
    text: str,
    samples: list[RunSample],
    value_of: Callable[[RunSample], float | None],
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=LABELS)
    for item in samples:
        value = value_of(item)
        if value is not None:
            family.add_metric((item.run_id, item.project), value)
    return family


def _incidents(samples: list[RunSample]) -> Metric:
    # 0 is exported too: an alert rule needs the series to be there before it rises.
    family = GaugeMetricFamily(
        "foreshock_run_incidents_open", "Open incidents by severity.", labels=(*LABELS, "severity")
    )
    for item in samples:
        for severity in Severity:
            count = item.open_incidents.get(severity.value, 0)
            family.add_metric((item.run_id, item.project, severity.value), count)
    return family


def _counter(name: str, text: str, samples: list[RunSample], counter: str) -> Metric:
    family = CounterMetricFamily(name, text, labels=LABELS)
    for item in samples:
        if item.head is not None:
            family.add_metric((item.run_id, item.project), item.head.counters.get(counter, 0))
    return family


def _overhead(item: RunSample) -> float | None:
    if item.head is None:
        return None
    training = item.head.counters.get("training_seconds", 0.0)
    return item.head.counters.get("overhead_seconds", 0.0) / training if training > 0 else None
