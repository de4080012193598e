"""Weight corruption: a weight changes by more than its optimizer's update allows.

Between two successive steps a weight changes by its update, so by the triangle inequality its l2,
its largest absolute value and the size of its mean can change by no more than those of the update.
`weight_corruption`: one of the three changes by more than 3 updates and 0.3 % of the weight, and by
twice as much as this weight ever did before; a bias or a gain by twice that, or on two rows in a
row.

- `update_too_large`, a warning: a tensor's update leaps by 4 octaves and 10 scales beyond its
  centre, and by 2 octaves beyond its peak, while its own gradient and a quarter of the updates stay
  within an octave. Its moments or its rate were written; or, of a client that counts what happens
  between two steps as an update, the weight.
- Corruption is critical when the weight changed by a quarter or more.
- Quiet: the first 24 rows, which are learned from; rows that do not follow their predecessor step
  by step (gaps, restarts, sampled logs); weights that habitually do so (clipped, averaged) after
  the first time; and more than half of the matrices at once, two at the least, or half of all
  weights by any more than their update, which is a checkpoint, a new initialisation or an outer
  step and not a fault of memory: the loss tells whether it did harm. Where a weight has moved by
  more than its update before, and not all weights at once, something else than the optimizer writes
  them, and one must leap 3 times as far, and 3 times 10 allowances where they did so on 4 rows. The
  newest 4 rows are no habit yet: a fault may grow.

Source: the identity is arithmetic; the slack covers statistics that were rounded to 10 bits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import GRADIENT, UPDATE, WEIGHT, Indices
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, Row, all_of, any_of, lower_quartile
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "identity"

_LARGEST: Final = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityThresholds(Thresholds):
    """The numbers of the rules above."""

    updates: float = threshold(3.0, "times", "a weight may change by so many updates")
    share: float = threshold(
        0.003, "share", "and by so much of its own size, for statistics that were rounded"
    )
    sure_excess: float = threshold(
        2.0, "times", "what is allowed, of a bias or a gain on one row; less must go on for two"
    )
    above_habit: float = threshold(
        2.0, "times", "beyond the largest excess that this weight has shown before"
    )
    above_others: float = threshold(
        3.0, "times", "beyond the largest that any weight has shown, if it was more than its update"
    )
    often_rows: int = threshold(
        4,
        "rows",
        "on which weights moved beyond their updates: then the most is a habit",
        guard=True,
    )
    largest_habit: float = threshold(
        10.0, "times", "the allowed change: no run is in the habit of more", guard=True
    )
    lately_rows: int = threshold(4, "rows", "the newest, which are no habit yet", guard=True)
    first_rows: int = threshold(24, "rows", "rows of a weight before it is judged")
    critical_share: float = threshold(
        0.25, "share", "a change by so much of the weight is critical"
    )
    leap_octaves: float = threshold(4.0, "octaves", "an update leaps so far beyond its centre")
    leap_above_peak_octaves: float = threshold(2.0, "octaves", "and beyond its largest one")
    leap_scales: float = threshold(10.0, "sigmas", "and by so many scales")
    calm_octaves: float = threshold(
        1.0, "octaves", "while its gradient and a quarter of the updates stay within", guard=True
    )
    leap_first_rows: int = threshold(24, "rows", "rows of an update before a leap is judged")
    global_share: float = threshold(
        0.5, "share", "of the matrices at once is a checkpoint or a new start", guard=True
    )
    global_least: int = threshold(1, "count", "tensors at once that are always judged", guard=True)
    rewritten: float = threshold(
        1.2, "times", "its update: what moves a weight further is not the optimizer", guard=True
    )


class Identity:
    """Holds each weight's change against its update."""

    name = NAME
    thresholds = IdentityThresholds

    def __init__(self, limits: IdentityThresholds | None = None) -> None:
        self._limits = limits or IdentityThresholds()
        self._last = SeriesMemory("rms", "abs_max", "mean", "rows", "habit", "doubtful")
        self._step = -1
        self._attempt = -1
        self._largest = 0.0
        self._num_moved = 0
        self._doubts = False
        self._lately: deque[float] = deque([0.0] * self._limits.lately_rows)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, last = baselines.layout, baselines.row, self._last
        last.align(layout)
        follows = frame.attempt == self._attempt and frame.step == self._step + 1
        self._step, self._attempt = frame.step, frame.attempt
        weights = layout.indices[WEIGHT]
        if not weights.size:
            return []
        excess = self._excess(baselines, self._limits.updates)
        largest = float(np.maximum.reduce(excess, initial=0.0))
        found = []
        if (follows and largest > 1.0) or self._doubts:
            found = self._broken(frame, baselines, excess, follows & (excess > 1.0))
        if follows and excess.size and not self._rewritten(baselines, largest):
            self._learn_habits(largest)
        if not found:
            leapt = self._leapt(baselines)
            found = self._leaps(frame, baselines, leapt, excess) if any_of(leapt) else []
        self._remember(row, weights)
        return found

    def _learn_habits(self, largest: float) -> None:
        """What moves a weight a little more on each step is no habit of the run before it."""
        self._lately.append(largest)
        before = self._lately.popleft()
        if before * self._limits.updates > self._limits.rewritten:
            self._num_moved += 1
            most = self._limits.largest_habit
            often = self._num_moved >= self._limits.often_rows
            self._largest = most if often else max(self._largest, min(before, most))

    def _remember(self, row: Row, weights: Indices) -> None:
        """A weight that was not measured on this row cannot be compared on the next."""
        last, seen = self._last, row.measured
        all_seen = all_of(seen)
        for name, values in (("rms", row.rms), ("abs_max", row.abs_max), ("mean", row.mean)):
            last[name] = values if all_seen else np.where(seen, values, np.nan)
        last["rows"][weights] = np.fmax(last["rows"][weights], 0.0) + seen[weights]

    def _excess(self, baselines: Baselines, updates: float) -> Floats:
        """The largest of the three changes, in allowances of so many updates and the rounding; 0
        where it cannot be told.

        Shape: [updated], the weights that have an update.
        """
        layout, row, last, limits = baselines.layout, baselines.row, self._last, self._limits
        weight = layout.updated
        update = layout.update_of[weight]
        rms, abs_max = last["rms"][weight], last["abs_max"][weight]
        allowed = updates * row.rms[update] + limits.share * rms
        allowed_max = updates * row.abs_max[update] + limits.share * abs_max
        of_rms = np.abs(row.rms[weight] - rms) / allowed
        of_max = np.abs(row.abs_max[weight] - abs_max) / allowed_max
        of_mean = np.abs(row.mean[weight] - last["mean"][weight]) / allowed
        # No update and no change is 0 / 0: nothing that could not be.
        largest = np.fmax(np.fmax(np.fmax(of_rms, of_max), of_mean), 0.0)
        # What is left of a tensor with NaN in it is no measure of all of it.
        if any_of(row.bad):
            largest[row.bad[weight] | row.bad[update]] = 0.0
        return np.asarray(np.minimum(largest, _LARGEST))

    def _broken(
        self,
        frame: Frame,
        baselines: Baselines,
        excess: Floats,
        broken: Bools,
    ) -> list[Finding]:
        """Of the weights that changed too much [updated], those that never did before."""
        layout, last, limits = baselines.layout, self._last, self._limits
        weight = layout.updated
        # What changed them on the row before, where one row was not enough to tell.
        doubtful = last["doubtful"][weight]
        habit = np.fmax(last["habit"][weight], 0.0)
        known = last["rows"][weight] >= limits.first_rows
        # A vector is a few numbers, and an average or a rounding may move each of them once.
        sure = layout.is_matrix[weight] | (excess > limits.sure_excess) | (doubtful > 0)
        judged = broken & known & sure
        waits = broken & known & ~judged
        fresh = np.zeros(layout.num_series, np.bool_)
        usual = np.maximum(limits.above_habit * habit, limits.above_others * self._largest)
        fresh[weight] = judged & (excess > usual)
        # What came once and did not go on is a habit from the next row on.
        seen = np.where(broken & ~waits, excess, np.where(broken, 0.0, doubtful))
        last["habit"][weight] = np.fmax(habit, seen)
        last["doubtful"][weight] = np.where(waits, excess, 0.0)
        self._doubts = any_of(waits)
        return self._found(frame, baselines, fresh, excess, judged) if any_of(fresh) else []

    def _leapt(self, baselines: Baselines) -> Bools:
        """Weights whose update leapt with no gradient to explain it [series]."""
        layout, row = baselines.layout, baselines.row
        nowhere = np.zeros(layout.num_series, np.bool_)
        deviation = baselines.deviation()
        if not baselines.largest_deviation() > self._limits.leap_octaves:
            return nowhere
        leaps = (
            layout.kind_masks[UPDATE]
            & (deviation > self._limits.leap_octaves)
            & layout.is_matrix
            & (baselines.value("count") >= self._limits.leap_first_rows)
            & (baselines.significance() > self._limits.leap_scales)
            & (row.log_rms > baselines.value("peak") + self._limits.leap_above_peak_octaves)
        )
        if not any_of(leaps):
            return nowhere
        updates = deviation[layout.kind_masks[UPDATE] & layout.is_matrix]
        gradients = deviation[layout.kind_masks[GRADIENT] & layout.is_matrix]
        if not np.isfinite(gradients).any():
            return nowhere
        if lower_quartile(updates[np.isfinite(updates)]) > self._limits.calm_octaves:
            return nowhere
        update, gradient = layout.update_of, layout.gradient_of
        calm = (gradient >= 0) & (deviation[gradient] < self._limits.calm_octaves)
        return np.asarray((update >= 0) & leaps[update] & calm)

    def _found(
        self,
        frame: Frame,
        baselines: Baselines,
        which: Bools,
        excess: Floats,
        together: Bools,
    ) -> list[Finding]:
        layout = baselines.layout
        if self._is_everywhere(baselines, together, excess):
            return []
        before, now = self._last["rms"][which], baselines.row.rms[which]
        change = np.abs(now - before) / np.where(before > 0, before, np.nan)
        worst = float(np.nanmax(change, initial=0.0))
        everywhere = np.zeros(layout.num_series)
        everywhere[layout.updated] = excess
        return series_findings(
            frame,
            which,
            order=-everywhere,
            detector=NAME,
            kind="weight_corruption",
            severity=Severity.CRITICAL
            if worst >= self._limits.critical_share
            else Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=self._last["rms"],
            score=np.minimum(everywhere, 1e6),
        )

    def _leaps(
        self, frame: Frame, baselines: Baselines, which: Bools, excess: Floats
    ) -> list[Finding]:
        layout = baselines.layout
        if self._is_everywhere(baselines, which, excess):
            return []
        updates = np.zeros(layout.num_series, np.bool_)
        updates[layout.update_of[which]] = True
        deviation = baselines.deviation()
        return series_findings(
            frame,
            updates,
            order=-deviation,
            detector=NAME,
            kind="update_too_large",
            severity=Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=np.exp2(baselines.value("centre")),
            score=deviation,
        )

    def _is_everywhere(self, baselines: Baselines, together: Bools, excess: Floats) -> bool:
        """Whether so many weights moved that no single one did."""
        limits, matrices = self._limits, baselines.layout.matrices[WEIGHT].size
        if together.sum() > max(limits.global_least, limits.global_share * matrices):
            return True
        return self._rewritten(baselines, float(np.maximum.reduce(excess, initial=0.0)))

    def _rewritten(self, baselines: Baselines, largest: float) -> bool:
        """Whether something other than the optimizer has moved most of the weights, of which one
        has `largest` excess."""
        limits, num_weights = self._limits, baselines.layout.updated.size
        if largest * limits.updates < limits.rewritten:
            return False
        moved = int((self._excess(baselines, limits.rewritten) > 1.0).sum())
        return moved > max(limits.global_least, limits.global_share * num_weights)

    def state(self) -> State:
        """The last row's weights."""
        return {
            "last": self._last.state(),
            "place": [self._step, self._attempt],
            "habits": [self._largest, *self._lately],
            "moved": self._num_moved,
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._last.restore(state["last"])
        self._step, self._attempt = (int(n) for n in state["place"])
        self._num_moved = int(state["moved"])
        self._doubts = any_of(self._last["doubtful"] > 0)
        self._largest, *lately = (float(x) for x in state["habits"])
        self._lately = deque(
            ([0.0] * self._limits.lately_rows + lately)[-self._limits.lately_rows :]
        )
