"""Ratios of paired costs: each whole period of a variant over the same steps of the bare loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.overhead.interleave import Measured

_NUM_RESAMPLES: Final = 4000
_COVERAGE: Final = 95.0


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of paired ratios, and its bootstrap interval of 95 %."""

    median: float
    low: float
    high: float
    num_pairs: int


def cpu_ratio(measured: Measured, bare: Measured) -> Ratio:
    """CPU time over the bare loop's.

    What the variant's background threads used is spread evenly over its steps: a batch is sent once
    in many steps, and a median over periods would overlook it.
    """
    evenly = measured.background_cpu_seconds / len(measured.cpu_seconds)
    return _ratio(measured.cpu_seconds + evenly, bare.cpu_seconds, measured.variant.period)


def wall_ratio(measured: Measured, bare: Measured) -> Ratio:
    """Wall time of the steps over the bare loop's; what runs beside them is not in it."""
    return _ratio(measured.wall_seconds, bare.wall_seconds, measured.variant.period)


def _ratio(watched: npt.NDArray[np.float64], bare: npt.NDArray[np.float64], period: int) -> Ratio:
    pairs = watched.reshape(-1, period).sum(1) / bare.reshape(-1, period).sum(1)
    draw = np.random.default_rng(0)
    resampled = draw.choice(pairs, (_NUM_RESAMPLES, len(pairs)))
    tail = (100 - _COVERAGE) / 2
    low, high = np.percentile(np.median(resampled, axis=1), (tail, 100 - tail))
    return Ratio(float(np.median(pairs)), float(low), float(high), len(pairs))
