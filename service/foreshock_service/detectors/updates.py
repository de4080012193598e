"""Update sizes of the whole run: learning rates that are too large or too small for the weights.

The run's update size is the median over weight matrices of log2(rms of update / rms of weight).

- `update_too_large`: it stands 1.3 octaves above the largest of 100 rows on 2 of 3 rows, or 3
  octaves on one row. A learning rate that the run has had before is divided out, so that a warm
  restart is no news, and a rate beyond all before it is, be it reached slowly; where no rate is
  logged, the largest of the whole run counts. The lesser rise is not told where gradients explain
  it, as near the end of learning. Names nobody: when all updates grow, a rate, an accumulator or a
  lost second moment did it. `growth` tells of single tensors.
- `update_too_small`, on 60 rows: with an optimizer of the Adam family, whose updates
  are about as large as the learning rate, the median rms of update / rate is below 0.02, as is that
  of Adagrad by the root of the number of steps; with any
  other, the update size is below 2e-6 while the rate is at half of its largest or above.

A run that has learned is exempt from the second: gradients that shrink faster than Adam's average
of their squares make small updates, and are no fault. A rate that a schedule takes to zero at the
end is sound: the first rule for small updates divides by it, the second waits for it to be high.

- `update_too_small` of a run that did move: the size per learning rate stands for 20 rows 4 octaves
  (7 without an optimizer of the Adam family) below the median of the last 60 rows that did not.
  Converging is slower than that, so that the median goes along with it.
Source: SageMaker Debugger's WeightUpdateRatio (1e-8, 10) for the idea; Adam's update is at most
about one rate an element (Kingma & Ba 2015, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.membership import Membership
from foreshock_service.detectors.progress import NEXT_TO_NOTHING
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import middle
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import (
    OF_ADAM_FAMILY,
    OF_THEIR_OWN_SIZE,
    GradientLevels,
    LoggedRate,
    MedianUpdate,
    UsualRate,
    is_one_of,
    median_update,
    size_finding,
)
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "updates"

BEYOND: Final = 1.1
"""Times the largest rate of the warm-up: updates at such a rate are no measure of usual ones."""
OF_THE_SUM: Final = ("adagrad",)
"""Those whose updates shrink like one over the root of the number of steps."""
OF_THE_WEIGHT: Final = ("muon", "lamb")
"""Of that family, those whose updates have the size of the matrix or of the weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesThresholds(Thresholds):
    """The numbers of the rules above."""

    near_octaves: float = threshold(
        1.3, "octaves", "the median update above the largest of the last rows, twice in 3 rows"
    )
    once_octaves: float = threshold(3.0, "octaves", "the same, once")
    first_rows: int = threshold(32, "rows", "rows before an update can be too large")
    peak_rows: int = threshold(100, "rows", "rows that the largest is of")
    settled_rows: int = threshold(
        8, "rows", "first updates, of an optimizer without averages, that are no measure"
    )
    fall_octaves: float = threshold(
        4.0, "octaves", "the size per rate below its median, for the Adam family"
    )
    plain_fall_octaves: float = threshold(7.0, "octaves", "the same for other optimizers")
    before_rows: int = threshold(60, "rows", "rows that this median is of")
    fallen_rows: int = threshold(20, "rows", "so long must it stay down")
    new_normal_rows: int = threshold(24, "rows", "a size that stays up so long is a new normal")
    small_rows: int = threshold(60, "rows", "so long must updates be too small to learn from")
    start_rows: int = threshold(10, "rows", "losses that make the start")
    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    learned: float = threshold(
        0.2, "share", "a run whose loss came down by so much needs no larger updates", guard=True
    )
    share_of_rate: float = threshold(
        0.02, "share", "an update of the Adam family below so much of the rate is too small"
    )
    share_of_weight: float = threshold(
        2e-6, "share", "an update of the others below so much of the weight"
    )


class Updates:
    """Watches the run's update size."""

    name = NAME
    thresholds = UpdatesThresholds

    def __init__(self, limits: UpdatesThresholds | None = None) -> None:
        self._limits = limits or UpdatesThresholds()
        self._members = Membership()
        self._rate = LoggedRate()
        self._begin_anew()
        self._small_rows = 0
        self._small_since = 0
        self._max_rate = 0.0
        self._usual = UsualRate()
        self._beyond_rows = 0
        self._start = Window(self._limits.start_rows)
        self._recent = Window(self._limits.start_rows)
        self._learned = False

    def _begin_anew(self) -> None:
        """Levels, as in a new run."""
        self._rows = 0
        self._sizes = Window(self._limits.peak_rows)
        self._largest = -math.inf
        self._by_rate = Window(self._limits.before_rows)
        self._fallen = 0
        self._fallen_since = 0
        self._level = math.nan
        self._gradients = GradientLevels(self._limits.peak_rows)
        self._near: list[int] = []
        self._far_rows = 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        self._follow_loss(frame.scalars.get("loss"))
        update = median_update(baselines)
        if update is None:
            return []
        if self._members.grows(update.updates.size):
            self._begin_anew()
        size, rate = update.size, frame.scalars.get("lr")
        self._gradients.add(update)
        found = self._large(frame, size, rate)
        found += self._small(frame, baselines, update)
        return found or self._fell(frame, size, rate, baselines)

    def _follow_loss(self, loss: float | None) -> None:
        if loss is None or not math.isfinite(loss) or self._learned:
            return
        if len(self._start) < self._limits.start_rows:
            self._start.add(loss)
            return
        start = self._start.median()
        self._recent.add(loss)
        level = self._recent.median()
        self._learned = start - level > self._limits.learned * abs(start)

    def _large(self, frame: Frame, size: float, rate: float | None) -> list[Finding]:
        self._rows += 1
        beyond = rate is not None and rate > 0 and rate > BEYOND * self._usual.of(rate)
        self._beyond_rows = self._beyond_rows + 1 if beyond else 0
        if rate is not None and rate > 0 and self._max_rate > 0:
            size -= math.log2(min(rate, self._max_rate) / self._max_rate)
        peak = self._sizes.largest() if len(self._sizes) else size
        if rate is None:
            # A warm restart cannot be told from a fault by its rate: only news beyond all before.
            peak = max(peak, self._largest)
        above = size - peak
        if self._rows <= self._limits.first_rows or above <= self._limits.near_octaves:
            is_usual = not 0 < self._beyond_rows <= self._limits.peak_rows
            if self._rows > self._limits.settled_rows and is_usual:
                self._sizes.add(size)
                self._largest = max(self._largest, size)
            self._near = [*self._near[-2:], 0]
            self._far_rows = 0
            return []
        self._near = [*self._near[-2:], 1]
        self._far_rows += 1
        if self._far_rows > self._limits.new_normal_rows:
            self._sizes.add(size)
        # By the older half of those rows: the newer may hold the rise itself.
        if above <= self._limits.once_octaves and (
            sum(self._near) < 2 or self._gradients.explain(above, 0, self._limits.peak_rows // 2)
        ):
            return []
        evidence: dict[str, float | int | str] = {} if rate is None else {"lr": rate}
        return [
            size_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                statistic="update_size",
                size=size,
                usual=peak,
                evidence=evidence,
            )
        ]

    def _small(self, frame: Frame, baselines: Baselines, update: MedianUpdate) -> list[Finding]:
        rate = frame.scalars.get("lr")
        if rate is not None and math.isfinite(rate):
            self._max_rate = max(self._max_rate, rate)
        of_one_rate = is_one_of(baselines.facts, OF_ADAM_FAMILY)
        of_one_rate = of_one_rate and not is_one_of(baselines.facts, OF_THE_WEIGHT)
        summed = is_one_of(baselines.facts, OF_THE_SUM)
        of_one_rate = of_one_rate or summed
        if of_one_rate and rate is not None and rate > 0:
            updates = baselines.row.rms[update.updates]
            limit, statistic = self._limits.share_of_rate, "update_by_rate"
            # The least one first: it is found in a third of the time of the median.
            rate = rate / math.sqrt(max(self._rows, frame.step + 1)) if summed else rate
            value = float(np.minimum.reduce(updates)) / rate
            value = middle(updates) / rate if value < limit else value
            small = value < limit
        else:
            value, limit = 2.0**update.size, self._limits.share_of_weight
            high = rate is None or rate >= 0.5 * self._max_rate > 0
            small, statistic = high and value < limit, "update_size"
        if not small or self._learned or baselines.is_joined(self._limits.first_step):
            self._small_rows = 0
            return []
        if self._small_rows == 0:
            self._small_since = frame.step
        self._small_rows += 1
        if self._small_rows < self._limits.small_rows:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic=statistic,
                value=value,
                baseline=limit,
                score=limit / value if value > 0 else 0.0,
                onset_step=self._small_since,
            )
        ]

    def _fell(
        self, frame: Frame, size: float, rate: float | None, baselines: Baselines
    ) -> list[Finding]:
        if self._rate.begins(rate):
            self._by_rate, self._fallen = Window(self._limits.before_rows), 0
        if self._rate.is_missing(rate) or (rate is not None and not rate > 0):
            return []
        if rate is not None:
            size -= math.log2(rate)
        if len(self._by_rate) < self._limits.before_rows:
            self._by_rate.add(size)
            return []
        fall = (
            self._limits.fall_octaves
            if is_one_of(baselines.facts, OF_ADAM_FAMILY)
            else self._limits.plain_fall_octaves
        )
        own_size = is_one_of(baselines.facts, OF_THEIR_OWN_SIZE)
        if not own_size and baselines.progress.left() < NEXT_TO_NOTHING:
            self._fallen = 0  # All is learned, and a loss with a margin has no gradient any more.
            return []
        if not self._fallen and size > self._by_rate.largest() - fall:
            # Above what is below the median all the more, without sorting them.
            self._by_rate.add(size)
            return []
        level = self._level if self._fallen else self._by_rate.median()
        if size > level - fall:
            self._fallen = 0
            self._by_rate.add(size)
            return []
        if self._fallen == 0:
            self._fallen_since, self._level = frame.step, level
        self._fallen += 1
        if self._fallen < self._limits.fallen_rows:
            return []
        return [
            size_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                statistic="update_level",
                size=size,
                usual=level,
                onset_step=self._fallen_since,
            )
        ]

    def state(self) -> State:
        """The counters."""
        return {
            "sizes": self._sizes.state(),
            "largest": self._largest,
            "members": self._members.state(),
            "rate": self._rate.state(),
            "usual": [*self._usual.state(), self._beyond_rows],
            "by_rate": self._by_rate.state(),
            "fallen": [self._fallen, self._fallen_since, self._level],
            "gradients": self._gradients.state(),
            "near": list(self._near),
            "start": self._start.state(),
            "recent": self._recent.state(),
            "learned": self._learned,
            "numbers": [
                self._rows,
                self._far_rows,
                self._small_rows,
                self._small_since,
                self._max_rate,
            ],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._sizes.restore(state["sizes"])
        self._largest = float(state["largest"])
        self._members.restore(state["members"])
        self._rate.restore(state["rate"])
        self._usual.restore(state["usual"])
        self._beyond_rows = int(state["usual"][2])
        self._by_rate.restore(state["by_rate"])
        self._fallen, self._fallen_since, self._level = state["fallen"]
        self._gradients.restore(state["gradients"])
        self._near = [int(n) for n in state["near"]]
        self._start.restore(state["start"])
        self._recent.restore(state["recent"])
        self._learned = bool(state["learned"])
        (
            self._rows,
            self._far_rows,
            self._small_rows,
            self._small_since,
            self._max_rate,
        ) = state["numbers"]
