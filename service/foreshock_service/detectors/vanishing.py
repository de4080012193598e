"""Vanishing gradients and dead units: parts of the network that no longer learn.

- `vanishing_gradient`, by depth: at least 3 weight matrices and a tenth of them have a gradient rms
  below 1e-5 of the largest one's, on 24 rows.
- `vanishing_gradient`, by own past: a matrix' gradient has fallen 10 octaves below its start while
  others have not followed (it must be 7 octaves below the quarter of them that fell the least), on
  24 rows; or it was alive and is exactly zero on 6 rows, and three times as long as it or a
  sibling ever was before, while others live. Converging shrinks all alike: quiet.
- `vanishing_gradient`, from the start: the gradients of 3 matrices and a quarter of them have been
  exactly zero on each of 24 rows since the first, while others live. A path that is cut.
- `vanishing_gradient`, of all (a warning): the median gradient is 8 octaves below its slow centre
  on 24 rows, or on 8 if three quarters of them were not on the row before, though the loss keeps
  half of its level of a hundred rows ago and a tenth of its first, and still differs from batch to
  batch. Converging takes the loss along, or its noise.
- `dead_units`: 85 % of an activation's elements are zero, and 70 % of those that were not at the
  start, or half of its units are inactive, and half of those that were not, on 15 rows. Half zeros
  is what a ReLU does; nothing but zeros is too much from the first row on, unless the module's own
  weight is exactly zero and may still open: its gradient is not zero.

A frozen parameter has no gradient at all (absent, not zero), and fewer that were zero from the
first step are taken for parts that wait for their use. A gradient that rises by half an octave over
its last rows does not vanish by depth. Every rule is a ratio, so the loss' scale changes nothing.
Source: SageMaker Debugger's absolute 1e-7 and AutoTrainer's ratio of layers (1e-3) for the idea;
ratios of 1e-5 because sound deep networks reach 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import START_ROWS, Baselines
from foreshock_service.detectors.emit import fall_of_all, series_findings
from foreshock_service.detectors.layout import ACTIVATION, GRADIENT, weights_of_modules
from foreshock_service.detectors.pauses import Pauses
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, any_of, lower_quartile, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "vanishing"


@dataclass(frozen=True, slots=True, kw_only=True)
class VanishingThresholds(Thresholds):
    """The numbers of the rules above."""

    depth_ratio: float = threshold(
        1e-5, "share", "a matrix' gradient below so much of the largest one's"
    )
    depth_rows: int = threshold(24, "rows", "so long must a gradient be that small")
    depth_share: float = threshold(0.1, "share", "of the matrices must be")
    min_matrices: int = threshold(3, "count", "matrices at the least")
    rising_octaves: float = threshold(
        0.5, "octaves", "the newest rows above those before: what grows does not vanish", guard=True
    )
    past_octaves: float = threshold(10.0, "octaves", "a gradient below its own start")
    common_octaves: float = threshold(7.0, "octaves", "and below the quarter that fell the least")
    zero_rows: int = threshold(6, "rows", "a gradient that was alive is exactly zero for so long")
    longest: float = threshold(
        3.0, "times", "and beyond the longest pause that it came back from", guard=True
    )
    never_share: float = threshold(
        0.25, "share", "of the matrices that never had a gradient, and as many as above", guard=True
    )
    all_octaves: float = threshold(
        8.0, "octaves", "the median gradient below its slow centre, while the loss stays"
    )
    all_rows: int = threshold(
        8, "rows", "so long must that last, if none of them was so small on the row before"
    )
    dead_rows: int = threshold(15, "rows", "so long must units be dead")
    dead_zeros: float = threshold(0.85, "share", "of an activation's elements are zero")
    dead_zeros_of_living: float = threshold(
        0.7, "share", "and so many of those that were not, when the run began"
    )
    dead_units: float = threshold(0.5, "share", "of its units are inactive for the whole batch")
    dead_units_of_living: float = threshold(
        0.5, "share", "and so many of those that were not, when the run began"
    )


class Vanishing:
    """Watches matrices' gradients and activations' zeros."""

    name = NAME
    thresholds = VanishingThresholds

    def __init__(self, limits: VanishingThresholds | None = None) -> None:
        self._limits = limits or VanishingThresholds()
        self._small = Streaks()
        self._zero = Pauses()
        self._never = Streaks()
        self._all_rows, self._all_since, self._all_last = 0, 0, math.nan
        self._all_at_once = False
        self._dead = Streaks()
        self._weights = PerLayout(weights_of_modules)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        return [
            *self._gradients(frame, baselines),
            *self._all_gradients(frame, baselines),
            *self._units(frame, baselines),
        ]

    def _all_gradients(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        limits, matrices = self._limits, baselines.layout.matrices[GRADIENT]
        growth = baselines.growth()[matrices]
        known = np.isfinite(growth)
        if np.count_nonzero(known) < limits.min_matrices:
            return []
        fell = any_of(growth < -limits.all_octaves)
        fall = -middle(growth[known]) if fell else 0.0
        last, self._all_last = self._all_last, fall
        if fall <= limits.all_octaves or not baselines.progress.is_stuck:
            self._all_rows = 0
            return []
        if self._all_rows == 0:
            self._all_since = frame.step
            # None was small on the row before, and no more than a quarter is not now.
            others = lower_quartile(-growth[known])
            self._all_at_once = last == 0.0 and others > limits.all_octaves
        self._all_rows += 1
        if self._all_rows < (limits.all_rows if self._all_at_once else limits.depth_rows):
            return []
        logs = baselines.logs()[matrices]
        size = middle(logs[known])
        return [
            fall_of_all(
                frame,
                detector=NAME,
                kind="vanishing_gradient",
                size=size,
                fall=fall,
                onset_step=self._all_since,
            )
        ]

    def _gradients(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row, limits = baselines.layout, baselines.row, self._limits
        matrices = layout.matrices[GRADIENT]
        rms = row.rms[matrices]
        largest = float(np.fmax.reduce(rms, initial=0.0))
        if not largest > 0:
            return []
        fall = baselines.value("start")[matrices] - baselines.logs()[matrices]
        fallen = fall > limits.past_octaves
        below = rms <= limits.depth_ratio * largest
        running = self._small.running or self._zero.streaks.running or self._never.running
        if not running and not any_of(below) and not any_of(fallen):
            return []
        count = baselines.value("count")[matrices]
        rises = baselines.value("fast") - baselines.value("middle") > limits.rising_octaves
        small = (self._by_depth(rms, largest) & ~rises[matrices]) | self._by_past(
            fall, count >= START_ROWS
        )
        zero = (rms == 0) & (count >= START_ROWS)
        measured = row.measured & layout.kind_masks[GRADIENT] & layout.is_matrix
        shrunk, pauses = np.zeros((2, layout.num_series), np.bool_)
        shrunk[matrices], pauses[matrices] = small, zero
        self._small.update(layout, holds=shrunk, measured=measured, step=frame.step)
        self._zero.update(layout, pauses=pauses, measured=measured, step=frame.step)
        never = measured & (row.rms == 0) & (baselines.value("seen") == 0)
        if never.sum() < max(limits.min_matrices, limits.never_share * matrices.size):
            never[:] = False
        self._never.update(layout, holds=never, measured=measured, step=frame.step)
        return self._vanished(frame, baselines)

    def _by_depth(self, rms: Floats, largest: float) -> Bools:
        """Gradients far below the largest one's, if they are enough [matrices]."""
        limits = self._limits
        small = (rms > 0) & (rms < limits.depth_ratio * largest)
        if np.count_nonzero(small) < max(limits.min_matrices, limits.depth_share * rms.size):
            return np.zeros_like(small)
        return np.asarray(small)

    def _by_past(self, fall: Floats, known: Bools) -> Bools:
        """Gradients that have fallen far, and further than all of them [matrices]."""
        fallen = known & (fall > self._limits.past_octaves)
        if any_of(fallen):
            common = max(lower_quartile(fall[known & np.isfinite(fall)]), 0.0)
            fallen &= np.nan_to_num(fall) - common > self._limits.common_octaves
        return np.asarray(fallen)

    def _vanished(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        limits = self._limits
        never = self._never.lasting(limits.depth_rows)
        mask = self._small.lasting(limits.depth_rows) | self._zero.unusual(
            baselines.layout, rows=limits.zero_rows, factor=limits.longest
        )
        mask |= never
        if not any_of(mask):
            return []
        small, zero = self._small, self._zero.streaks
        since = np.where(small.rows >= limits.depth_rows, small.since, zero.since)
        since = np.where(never, self._never.since, since)
        layout, start = baselines.layout, baselines.value("start")
        # What was small with depth began at the input; what fell later did so on its way from the
        # loss, and all that lies beyond fell with it.
        fell = never | (start - baselines.logs() > limits.past_octaves)
        order = np.where(fell, layout.flow - layout.num_series, layout.depth)
        return series_findings(
            frame,
            mask,
            order=order,
            detector=NAME,
            kind="vanishing_gradient",
            severity=Severity.CRITICAL,
            statistic="rms",
            value=baselines.row.rms,
            baseline=np.where(never, 0.0, np.exp2(start)),
            since=since,
        )

    def _units(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        activations = layout.indices[ACTIVATION]
        near = row.zero_frac[activations] > self._limits.dead_zeros
        near |= row.inactive_unit_frac[activations] > self._limits.dead_units
        if not any_of(near) and not self._dead.running:
            return []
        measured = row.measured & layout.kind_masks[ACTIVATION]
        known = baselines.zero_count >= START_ROWS
        limits = self._limits
        zeros = np.maximum(
            limits.dead_zeros,
            1.0 - (1.0 - limits.dead_zeros_of_living) * (1.0 - baselines.zero_start),
        )
        units = np.maximum(
            limits.dead_units,
            1.0 - (1.0 - limits.dead_units_of_living) * (1.0 - baselines.unit_start),
        )
        by_zeros: Bools = row.zero_frac > zeros
        by_units: Bools = row.inactive_unit_frac > units
        self._dead.update(
            layout,
            holds=(known & (by_zeros | by_units) | (row.zero_frac == 1.0))
            & ~self._closed(baselines),
            measured=measured,
            step=frame.step,
        )
        return series_findings(
            frame,
            self._dead.lasting_or_rare(self._limits.dead_rows),
            order=layout.depth,
            detector=NAME,
            kind="dead_units",
            severity=Severity.WARNING,
            statistic="zero_frac",
            value=row.zero_frac,
            baseline=baselines.zero_start,
            since=self._dead.since,
        )

    def _closed(self, baselines: Baselines) -> Bools:
        """Activations of modules whose own weight is exactly zero [series], as one that opens a
        branch as it learns, or is frozen before it did. One without a way out, whose gradient is
        zero as well, is dead."""
        weights, rms = self._weights.of(baselines.layout), baselines.row.rms
        gradients = baselines.layout.gradient_of[weights]
        stuck = (gradients >= 0) & (rms[gradients] == 0)
        return np.asarray((weights >= 0) & (rms[weights] == 0) & ~stuck)

    def state(self) -> State:
        """The streaks."""
        return {
            "small": self._small.state(),
            "zero": self._zero.state(),
            "never": self._never.state(),
            "all": [self._all_rows, self._all_since, self._all_last, int(self._all_at_once)],
            "dead": self._dead.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._small.restore(state["small"])
        self._zero.restore(state["zero"])
        self._never.restore(state["never"])
        rows, since, self._all_last, at_once = state["all"]
        self._all_rows, self._all_since, self._all_at_once = int(rows), int(since), bool(at_once)
        self._dead.restore(state["dead"])
