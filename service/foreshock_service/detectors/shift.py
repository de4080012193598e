"""Shifts: the updates of all weights move to another level within a few rows, and stay there.

`update_too_large`, a warning: the median log2(update / weight) of the matrices, by the learning
rate where one is logged, stands in the median of the last 6 rows 1.4 octaves above that of the 34
rows before them, by 3 robust deviations of these rows, and half an octave above all of them.
Without a logged rate a schedule cannot be told from a fault, so the level must also be
above everything that the run has shown. A run that logs one now and then is judged on those rows.

`updates` tells of single updates beyond the largest of a hundred; where updates are noisy, a level
that moved by as much is plain long before a row of it stands out.
Source: ours; a sum over replicas, accumulated batches that are not divided, or averages that were
lost multiply all updates alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import (
    LoggedRate,
    median_update,
    size_finding,
)
from foreshock_service.detectors.window import Window, median, spread
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame

NAME: Final = "shift"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftThresholds(Thresholds):
    """The numbers of the rules above."""

    octaves: float = threshold(1.4, "octaves", "the new level above the one before")
    significance: float = threshold(3.0, "sigmas", "and by so many deviations of its rows")
    above_largest: float = threshold(0.5, "octaves", "a row of it above the largest of them")
    new_rows: int = threshold(6, "rows", "that make the new level")
    before_rows: int = threshold(34, "rows", "that make the one before")
    settled_rows: int = threshold(8, "rows", "first updates that are no measure")


class Shift:
    """Watches the level of the run's updates."""

    name = NAME
    thresholds = ShiftThresholds

    def __init__(self, limits: ShiftThresholds | None = None) -> None:
        self._limits = limits or ShiftThresholds()
        self._rate = LoggedRate()
        self._rows = 0
        self._clear()

    def _clear(self) -> None:
        self._sizes = Window(self._limits.new_rows + self._limits.before_rows)
        self._undivided = Window(self._limits.new_rows + self._limits.before_rows)
        self._steps = Window(self._limits.new_rows)
        self._largest = -math.inf

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row."""
        limits, update = self._limits, median_update(baselines)
        rate = frame.scalars.get("lr")
        if update is None or (rate is not None and not rate > 0):
            return []
        if self._rate.begins(rate):
            self._clear()
        if self._rate.is_missing(rate):
            return []
        self._rows += 1
        if self._rows <= limits.settled_rows:
            return []
        sizes = self._sizes.values()
        if len(sizes) == limits.new_rows + limits.before_rows:
            self._largest = max(self._largest, sizes[0])
        self._sizes.add(update.size - (math.log2(rate) if rate is not None else 0.0))
        self._undivided.add(update.size)
        self._steps.add(frame.step)
        sizes = self._sizes.values()
        if len(sizes) < limits.new_rows + limits.before_rows:
            return []
        before, new = sizes[: limits.before_rows], sizes[limits.before_rows :]
        level = median(new)
        largest = max(before) if rate is not None else max(*before, self._largest)
        # First what hardly any row passes and takes no sorting of the many.
        if not level > largest + limits.above_largest:
            return []
        usual = median(before)
        undivided = self._undivided.values()
        rose = median(undivided[limits.before_rows :]) - median(undivided[: limits.before_rows])
        shifted = (
            # A rate that runs to zero leaves momentum behind: the updates themselves must grow.
            rose > 0.5 * limits.octaves
            and level - usual > limits.octaves
            and level - usual > limits.significance * spread(before, usual)
        )
        if not shifted:
            return []
        first = next(i for i, x in enumerate(new) if x > largest)
        return [
            size_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                statistic="update_size",
                size=level,
                usual=usual,
                onset_step=int(self._steps.values()[first]),
            )
        ]

    def state(self) -> State:
        """The windows."""
        return {
            "sizes": self._sizes.state(),
            "undivided": self._undivided.state(),
            "steps": self._steps.state(),
            "rate": self._rate.state(),
            "numbers": [self._rows, self._largest],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._sizes.restore(state["sizes"])
        self._undivided.restore(state["undivided"])
        self._steps.restore(state["steps"])
        self._rate.restore(state["rate"])
        self._rows, self._largest = int(state["numbers"][0]), float(state["numbers"][1])
