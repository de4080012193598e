"""Outlier weights: single elements of a matrix outgrow all others within a few rows.

`explosion`, a warning that names the weight: its peak, the largest element over the rms, stands 0.9
octaves (1.9 times) above the largest of its last hundred rows, which lie 16 rows back and more, on
3 measured rows. Both are averages over 8 rows. A weight is judged after 112 rows.

Learning forms a matrix slowly, all of it or many of its elements. What writes into single ones is
an update that is too large for them, by a rate, a lost second moment, or memory that was corrupted,
and it shows here long before the rms of the matrix moves.

Quiet while the loss falls, and once less than a hundredth of the first losses is left.
Source: ours; in 300 sound runs three peaks rose by more than 0.6 octaves in that time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import ABS_MAX, Baselines
from foreshock_service.detectors.emit import by_size_then_flow, series_findings
from foreshock_service.detectors.layout import WEIGHT, Indices
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "outliers"

KEPT: Final = tuple(f"peak {i}" for i in range(7))
"""Peaks of earlier rows, the newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutliersThresholds(Thresholds):
    """The numbers of the rule above."""

    octaves: float = threshold(0.9, "octaves", "the peak above the largest of earlier rows")
    every_rows: int = threshold(16, "rows", "of which one is kept, seven in all, to compare with")
    least_kept: int = threshold(6, "count", "kept ones before a weight is judged")
    rows: int = threshold(3, "rows", "so long must it last")


class Outliers:
    """Watches the peak of each weight matrix."""

    name = NAME
    thresholds = OutliersThresholds

    def __init__(self, limits: OutliersThresholds | None = None) -> None:
        self._limits = limits or OutliersThresholds()
        self._memory = SeriesMemory("largest", *KEPT)
        self._high = Streaks()
        self._rows = 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, memory, limits = baselines.layout, baselines.row, self._memory, self._limits
        matrices = layout.matrices[WEIGHT]
        memory.align(layout)
        if not any_of(row.measured[matrices]):
            return []
        peaks = baselines.value("fast", ABS_MAX)[matrices] - baselines.value("fast")[matrices]
        above = peaks - memory["largest"][matrices]
        self._rows += 1
        if self._rows % limits.every_rows == 0:
            self._keep(matrices, peaks)
        far = above > limits.octaves
        if not any_of(far) and not self._high.running:
            return []
        if baselines.progress.needs_nothing:
            far[:] = False
        holds = np.zeros(layout.num_series, np.bool_)
        holds[matrices] = far
        self._high.update(layout, holds=holds, measured=row.measured, step=frame.step)
        told = self._high.lasting(limits.rows)
        if not any_of(told):
            return []
        octaves, values = np.full((2, layout.num_series), np.nan)
        octaves[matrices], values[matrices] = above, np.exp2(peaks)
        return series_findings(
            frame,
            told,
            order=by_size_then_flow(told, octaves, layout.flow),
            detector=NAME,
            kind="explosion",
            severity=Severity.WARNING,
            statistic="peak",
            value=values,
            baseline=np.exp2(memory["largest"]),
            score=octaves,
            since=self._high.since,
        )

    def _keep(self, matrices: Indices, peaks: Floats) -> None:
        """Keep the peaks of this row; those before them are compared with from now on."""
        before = np.stack([self._memory[name][matrices] for name in KEPT[:-1]])
        known = np.count_nonzero(np.isfinite(before), axis=0) >= self._limits.least_kept
        largest = np.fmax.reduce(before, axis=0)
        self._memory["largest"][matrices] = np.where(known, largest, np.nan)
        for name, values in zip(KEPT, (peaks, *before), strict=True):
            self._memory[name][matrices] = values

    def state(self) -> State:
        """The peaks and the streaks."""
        return {"memory": self._memory.state(), "high": self._high.state(), "rows": self._rows}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._memory.restore(state["memory"])
        self._high.restore(state["high"])
        self._rows = int(state["rows"])
