"""Shifts: the updates of all weights move to another level within a few rows, and stay there.

`update_too_large`, a warning: the median log2(update / weight) of the matrices, by the learning
rate where one is logged, stands in the median of the last 6 rows 1.4 octaves above that of the 34
rows before them, by 3 robust deviations of these rows, and half an octave above all of them.
Without a logged rate a schedule cannot be told from a fault, so the level must also be above
everything that the run has shown; so must that of a new cycle, whose rate has doubled. A run that
logs one now and then is judged on those rows.

An update goes the way of its gradient, and averages carry a large one on: near the end of learning
single batches lift all of both for a dozen rows. Nothing is told where the gradients rose by 0.3 of
these octaves as well, by the mean square of the last 16 rows.

Slower growth is told 3 octaves above a level of 34 rows that lie 100 rows back, where the rate is
logged. Updates that follow the gradient, as those of SGD do, grow so where a network leaves a
saddle: of them nothing is told while the loss has come down by 5 % in that time.

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
from foreshock_service.detectors.membership import Membership
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import (
    OF_THEIR_OWN_SIZE,
    GradientLevels,
    LoggedRate,
    is_one_of,
    median_update,
    size_finding,
)
from foreshock_service.detectors.window import Window, median, spread
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame

NAME: Final = "shift"
RESTART_OCTAVES: Final = 1.0
"""A rate that rose by more has begun a new cycle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftThresholds(Thresholds):
    """The numbers of the rules above."""

    octaves: float = threshold(1.4, "octaves", "the new level above the one before")
    significance: float = threshold(3.0, "sigmas", "and by so many deviations of its rows")
    above_largest: float = threshold(0.5, "octaves", "a row of it above the largest of them")
    new_rows: int = threshold(6, "rows", "that make the new level")
    before_rows: int = threshold(34, "rows", "that make the one before")
    slow_octaves: float = threshold(
        3.0, "octaves", "the new level above one of long ago, where the rate is logged"
    )
    slow_rows: int = threshold(100, "rows", "between a level and the one of long ago")
    settled_rows: int = threshold(8, "rows", "first updates that are no measure")


class Shift:
    """Watches the level of the run's updates."""

    name = NAME
    thresholds = ShiftThresholds

    def __init__(self, limits: ShiftThresholds | None = None) -> None:
        self._limits = limits or ShiftThresholds()
        self._rate = LoggedRate()
        self._members = Membership()
        self._clear()

    def _clear(self) -> None:
        limits = self._limits
        num_rows = limits.new_rows + limits.slow_rows + limits.before_rows
        self._sizes = Window(num_rows)
        self._undivided = Window(num_rows)
        self._gradients = GradientLevels(num_rows)
        self._steps = Window(num_rows)
        self._largest = -math.inf
        self._rows = 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row."""
        limits, update = self._limits, median_update(baselines)
        rate = frame.scalars.get("lr")
        if update is None or (rate is not None and not rate > 0):
            return []
        if self._rate.begins(rate) or self._members.grows(update.updates.size):
            self._clear()
        if self._rate.is_missing(rate):
            return []
        self._rows += 1
        if self._rows <= limits.settled_rows:
            return []
        self._sizes.add(update.size - (math.log2(rate) if rate is not None else 0.0))
        self._undivided.add(update.size)
        self._gradients.add(update)
        self._steps.add(frame.step)
        num, latest = len(self._sizes), limits.new_rows + limits.before_rows
        if num < latest:
            return []
        if num > latest:
            self._largest = max(self._largest, self._sizes[-latest - 1])
        shift = self._since(num - latest, limits.octaves)
        if shift is not None:
            shift = self._since(num - latest, limits.octaves, self._least(rate))
        slow = rate is not None and num == latest + limits.slow_rows
        if shift is None and slow and not self._learning_explains(baselines):
            shift = self._since(0, limits.slow_octaves)
            if shift is not None:
                shift = self._since(0, limits.slow_octaves, self._least(rate))
        if shift is None:
            return []
        level, usual, step = shift
        return [
            size_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                statistic="update_size",
                size=level,
                usual=usual,
                onset_step=step,
            )
        ]

    def _least(self, rate: float | None) -> float:
        """What a new level must stand above besides the rows before it: where no rate is logged, or
        a schedule has just raised it, all that the run has shown."""
        undivided, sizes = self._undivided.values(), self._sizes.values()
        rates = [whole - part for whole, part in zip(undivided, sizes, strict=True)]
        new, before = self._limits.new_rows, self._limits.before_rows
        rose = rates[-1] - median(rates[-new - before : -new])
        return self._largest if rate is None or rose > RESTART_OCTAVES else -math.inf

    @staticmethod
    def _learning_explains(baselines: Baselines) -> bool:
        """Updates that follow the gradient grow where a network leaves a saddle."""
        own_size = is_one_of(baselines.facts, OF_THEIR_OWN_SIZE)
        return not own_size and baselines.progress.has_learned

    def _since(
        self, start: int, octaves: float, least: float = -math.inf
    ) -> tuple[float, float, int] | None:
        """The newest level, that of the rows from `start` on, and the step that first stood above
        them and `least`; None where the newest level does not."""
        limits, sizes, num = self._limits, self._sizes.values(), len(self._sizes)
        end = start + limits.before_rows
        before = sizes[start:end]
        level, largest = median(sizes[-limits.new_rows :]), max(*before, least)
        # First what hardly any row passes and takes no sorting of the many.
        if not level > largest + limits.above_largest:
            return None
        usual, undivided = median(before), self._undivided.values()
        rose = median(undivided[-limits.new_rows :]) - median(undivided[start:end])
        shifted = (
            # A rate that runs to zero leaves momentum behind: the updates themselves must grow.
            rose > 0.5 * octaves
            and level - usual > octaves
            and level - usual > limits.significance * spread(before, usual)
        )
        if not shifted or self._gradients.explain(level - usual, start, end):
            return None
        # Noise takes single rows above early on, and below later: two in a row below are before it.
        below = [size <= largest for size in sizes]
        first = max((i + 2 for i in range(end, num - 1) if below[i] and below[i + 1]), default=end)
        return level, usual, int(self._steps.values()[min(first, num - 1)])

    def state(self) -> State:
        """The windows."""
        return {
            "sizes": self._sizes.state(),
            "undivided": self._undivided.state(),
            "gradients": self._gradients.state(),
            "steps": self._steps.state(),
            "rate": self._rate.state(),
            "members": self._members.state(),
            "numbers": [self._rows, self._largest],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._sizes.restore(state["sizes"])
        self._undivided.restore(state["undivided"])
        self._gradients.restore(state["gradients"])
        self._steps.restore(state["steps"])
        self._rate.restore(state["rate"])
        self._members.restore(state["members"])
        self._rows, self._largest = int(state["numbers"][0]), float(state["numbers"][1])
