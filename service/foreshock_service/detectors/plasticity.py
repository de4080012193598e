"""Loss of plasticity: a network that learns each new task worse, while its units fall silent.

`loss_of_plasticity`: the loss has risen at least three times, each time by half of its progress,
and the last two recoveries each ended above the one before by a tenth of the progress
(`recoveries`), below the first losses still; and of a hidden activation the share of inactive units
stands 0.25 above its start, or that of zeros 0.25 above it and above 0.75, without having come down
by a tenth from its highest, on 20 measured rows.

Either alone is harmless: tasks differ in difficulty, and units that are off for a task may come on
for the next. Together they say that what is needed to learn is being used up. A run with one task,
and one whose network has no units that can be exactly zero, is never told of.
Source: Lyle et al. 2023 (arXiv 2303.01486), Dohare et al. 2024 (Nature 632) for the loss over
tasks; Sokar et al. 2023 (arXiv 2302.12902) for dormant units.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import START_ROWS, Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import ACTIVATION
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.recoveries import Recoveries
from foreshock_service.detectors.row import Bools, Floats, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "plasticity"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlasticityThresholds(Thresholds):
    """The numbers of the rule above."""

    rise: float = threshold(0.5, "share", "of the progress makes a rise of the loss")
    of_level: float = threshold(0.15, "share", "of its level at the least")
    worse: float = threshold(
        0.1, "share", "of the progress that a recovery ends above the one before"
    )
    worse_recoveries: int = threshold(2, "count", "recoveries in a row that are worse")
    units_above_start: float = threshold(
        0.25, "share", "of an activation's units are inactive, more than at the start"
    )
    zeros: float = threshold(0.75, "share", "of its elements are zero")
    zeros_above_start: float = threshold(0.25, "share", "and more than at the start by so much")
    stays: float = threshold(
        0.9, "share", "of its highest: what has come down was not for good", guard=True
    )
    rows: int = threshold(20, "rows", "so long must units be silent")


class Plasticity:
    """Watches how losses recover, and which units no longer take part."""

    name = NAME
    thresholds = PlasticityThresholds

    def __init__(self, limits: PlasticityThresholds | None = None) -> None:
        self._limits = limits or PlasticityThresholds()
        self._recoveries = Recoveries(rise=self._limits.rise, of_level=self._limits.of_level)
        self._highest = SeriesMemory("units", "zeros")
        self._silent = Streaks()
        self._hidden = PerLayout(lambda layout: layout.kind_masks[ACTIVATION] & ~layout.is_output)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, limits = baselines.layout, baselines.row, self._limits
        self._recoveries.push(frame.scalars.get("loss"))
        self._highest.align(layout)
        measured = row.measured & self._hidden.of(layout)
        least = min(limits.units_above_start, limits.zeros)
        near = (row.zero_frac > least) | (row.inactive_unit_frac > least)
        if not any_of(near & measured) and not self._silent.running:
            return []
        units = self._stays("units", row.inactive_unit_frac, measured) & (
            row.inactive_unit_frac > baselines.unit_start + limits.units_above_start
        )
        zeros = self._stays("zeros", row.zero_frac, measured) & (
            row.zero_frac
            > np.maximum(limits.zeros, baselines.zero_start + limits.zeros_above_start)
        )
        silent = (units | zeros) & (baselines.zero_count >= START_ROWS)
        self._silent.update(layout, holds=silent, measured=measured, step=frame.step)
        mask = self._silent.lasting(limits.rows)
        if not any_of(mask) or not self._is_worse():
            return []
        levels = self._recoveries.levels
        # What the incident says is about the foremost, so it is the foremost's statistic.
        by_units = bool(units[mask][np.argmin(layout.depth[mask])])
        return series_findings(
            frame,
            mask,
            order=layout.depth,
            detector=NAME,
            kind="loss_of_plasticity",
            severity=Severity.WARNING,
            statistic="inactive_unit_frac" if by_units else "zero_frac",
            value=row.inactive_unit_frac if by_units else row.zero_frac,
            baseline=baselines.unit_start if by_units else baselines.zero_start,
            since=self._silent.since,
            evidence={
                "recovered_to": levels[-1],
                "recovered_before": levels[-1 - limits.worse_recoveries],
            },
        )

    def _stays(self, name: str, share: Floats, measured: Bools) -> Bools:
        highest = np.fmax(self._highest[name], np.where(measured, share, np.nan))
        self._highest[name] = highest
        return np.asarray(share >= self._limits.stays * highest)

    def _is_worse(self) -> bool:
        levels, count = self._recoveries.levels, self._limits.worse_recoveries
        if len(levels) <= count or not levels[-1] < self._recoveries.start:
            return False
        margin = self._limits.worse * self._recoveries.progress
        newest = levels[-1 - count :]
        return all(b - a > margin for a, b in pairwise(newest))

    def state(self) -> State:
        """Recoveries, highest shares and streaks."""
        return {
            "recoveries": self._recoveries.state(),
            "highest": self._highest.state(),
            "silent": self._silent.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._recoveries.restore(state["recoveries"])
        self._highest.restore(state["highest"])
        self._silent.restore(state["silent"])
