"""What a row costs: all detectors over 1000 series, beside one `numpy.log2` over the same frame.

Both take turns in one process, so that a busy neighbour meets them alike, and their CPU time is
compared pair by pair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import KINDS, STATISTICS, FrameFlag, Series, SeriesSchema, measured_flag
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.frames import Frame
from foreshock_service.pipeline.session import DetectionSession

from benchmarks.detection.tables import table

NUM_SERIES: Final = 1000
NUM_WARM_UP: Final = 120
NUM_ROWS: Final = 300
NUM_RESAMPLES: Final = 2000
NUM_SAVES: Final = 30

_COLUMN: Final = {name: i for i, name in enumerate(STATISTICS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """The median of paired ratios of CPU time, its interval of 95 %, and the median time itself."""

    median: float
    low: float
    high: float
    milliseconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Times as multiples of one `numpy.log2` over the frame."""

    num_series: int
    push: Ratio
    save: Ratio
    restore: Ratio
    state_bytes: int
    num_alerts: int


def schema_of(num_series: int) -> SeriesSchema:
    """Linear layers, each with one series of every kind."""
    return SeriesSchema(
        tuple(
            Series(
                name=f"layers.{depth}" if kind.startswith("act") else f"layers.{depth}.weight",
                kind=kind,
                module_type="Linear",
                depth=depth,
                numel=4096,
                dtype="float32",
                shape=() if kind.startswith("act") else (64, 64),
            )
            for depth in range(num_series // len(KINDS))
            for kind in KINDS
        )
    )


def healthy_frames(num_rows: int, *, num_series: int, seed: int = 0) -> Iterator[Frame]:
    """A calm run: levels that waver by 5 %, weights that stand still, a loss that falls."""
    schema = schema_of(num_series)
    draw = np.random.default_rng(seed)
    level = np.exp(draw.normal(0, 1, len(schema.series)))
    still = np.array([s.kind == "weight" for s in schema.series])
    small = np.array([1e-3 if s.kind == "update" else 1.0 for s in schema.series])
    flags = FrameFlag(sum(measured_flag(kind) for kind in KINDS))
    for row in range(num_rows):
        noise = np.where(still, 0.0, draw.normal(0, 0.05, len(level)))
        size = level * small * np.exp(noise)
        stats = np.zeros((len(level), len(STATISTICS)), np.float32)
        stats[:, _COLUMN["count"]] = 4096
        stats[:, _COLUMN["std"]] = size
        stats[:, _COLUMN["min"]], stats[:, _COLUMN["max"]] = -4 * size, 4 * size
        stats[:, _COLUMN["batch_std"]] = 0.5 * size
        loss = 2 + 3 * float(np.exp(-row / 50)) + float(draw.normal(0, 0.03))
        yield Frame(
            ord=row,
            attempt=0,
            step=row,
            wall_time=float(row),
            flags=flags,
            scalars={"loss": loss, "lr": 1e-3, "grad_norm": 1 + float(draw.normal(0, 0.05))},
            stats=stats,
            schema=schema,
        )


def measure(
    *, num_series: int = NUM_SERIES, num_rows: int = NUM_ROWS, num_warm_up: int = NUM_WARM_UP
) -> Speed:
    """Push, save and restore, each beside its own `numpy.log2`."""
    session = DetectionSession(facts=RunFacts(optimizer="AdamW"))
    pushed: list[tuple[float, float]] = []
    num_alerts = 0
    for frame in healthy_frames(num_warm_up + num_rows, num_series=num_series):
        yardstick = _seconds_of_log2(frame.stats)
        started = time.thread_time_ns()
        num_alerts += len(session.push(frame).changes)
        seconds = (time.thread_time_ns() - started) / 1e9
        if frame.ord >= num_warm_up:
            pushed.append((seconds, yardstick))
    state = session.state()

    def restore() -> None:
        DetectionSession(facts=RunFacts(optimizer="AdamW")).restore(state)

    return Speed(
        num_series=num_series,
        push=_ratio(pushed),
        save=_ratio(_pairs(session.state, frame.stats)),
        restore=_ratio(_pairs(restore, frame.stats)),
        state_bytes=len(state),
        num_alerts=num_alerts,
    )


def _pairs(act: Callable[[], Any], stats: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    found = []
    for _ in range(NUM_SAVES):
        yardstick = _seconds_of_log2(stats)
        started = time.thread_time_ns()
        act()
        found.append(((time.thread_time_ns() - started) / 1e9, yardstick))
    return found


def _seconds_of_log2(stats: npt.NDArray[np.float32]) -> float:
    """Of one call, from a few in a row: a single one is as short as the clock's own cost."""
    num_calls = 8
    with np.errstate(all="ignore"):
        started = time.thread_time_ns()
        for _ in range(num_calls):
            np.log2(stats)
        return max(time.thread_time_ns() - started, 1) / 1e9 / num_calls


def _ratio(pairs: list[tuple[float, float]]) -> Ratio:
    seconds, yardsticks = np.array(pairs).T
    ratios = seconds / yardsticks
    draw = np.random.default_rng(0)
    medians = np.median(draw.choice(ratios, (NUM_RESAMPLES, len(ratios))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return Ratio(
        median=float(np.median(ratios)),
        low=float(low),
        high=float(high),
        milliseconds=1e3 * float(np.median(seconds)),
    )


def speed_table(speed: Speed) -> Iterator[str]:
    """The three, and how large the state is."""
    yield (
        f"{speed.num_series} series, {len(STATISTICS)} statistics. The state of a run is "
        f"{speed.state_bytes / 1e6:.2f} MB."
    )
    yield ""
    yield from table(
        ("", "Times one `numpy.log2` (95 %)", "Milliseconds of CPU"),
        [
            [
                name,
                f"{ratio.median:.1f} ({ratio.low:.1f} to {ratio.high:.1f})",
                f"{ratio.milliseconds:.2f}",
            ]
            for name, ratio in (
                ("a row through all detectors", speed.push),
                ("saving the state", speed.save),
                ("restoring it", speed.restore),
            )
        ],
    )
