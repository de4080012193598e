"""Precision: values that leave the range of their number format from below or from above.

- `precision_underflow` of gradients: in at least 3 matrices and a fifth of them, half of the
  elements are exactly zero or more while the rest is smaller than 2^-14, the least normal float16,
  on 20 rows. Small values with many exact zeros between them are what flushing leaves; sparse
  layers (look-up tables) are left out, and ReLU's zeros come with larger neighbours. Beside them
  matrices whose gradient is all zero count as well, and are named.
- `precision_underflow` of updates: 90 % of a weight's elements do not change, but some do or once
  did, while half of its gradient's elements are not zero and the gradient has not vanished against
  the others, in a fifth of the matrices, on 20 rows, at a rate above 2 % of its largest and a loss
  above 1 % of its first ones: the update is rounded away, as that of bfloat16 weights is below
  0.4 % of their size. A weight that never moves is not in the optimizer. The same of half of the
  elements of weights of which all but 5 % changed at first, in half of the matrices.
- `precision_overflow`: a float16 tensor reaches half of 65504, on 2 rows.
- `precision_overflow` of the loss scale: it has lost 10 octaves against its largest value within
  the last 64 rows, or fell below 1: gradients overflow at every scale. Or 16 steps in a row were
  skipped after one that was not, 40 where none was: a scale of 2^40 would have come down. A warning
  where 8 of 64 steps were skipped and the scale has not come down: it is fixed, or does not heed.

Source: Micikevicius et al. 2018 (arXiv 1710.03740) for flushed gradients and loss scaling; the
format's limits are those of IEEE 754.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import GRADIENT, UPDATE, WEIGHT
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.progress import NEXT_TO_NOTHING
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "precision"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionThresholds(Thresholds):
    """The numbers of the rules above."""

    flushed_zeros: float = threshold(0.5, "share", "of a gradient's elements are exactly zero")
    least_normal: float = threshold(
        2.0**-14, "value", "and the others below the least normal float16, 2^-14"
    )
    least_matrices: int = threshold(3, "count", "matrices at the least")
    share_of_matrices: float = threshold(0.2, "share", "of the matrices at the least")
    rows: int = threshold(20, "rows", "so long must it last")
    unchanged: float = threshold(0.9, "share", "of a weight's elements do not change")
    half_unchanged: float = threshold(
        0.5, "share", "of them do not change any more, nearly all of which did at first"
    )
    at_first: float = threshold(
        0.05, "share", "of them at the most did not, when the run began", guard=True
    )
    half_of_matrices: float = threshold(0.5, "share", "of the matrices, for that", guard=True)
    vanished: float = threshold(
        1e-5, "share", "a gradient below so much of the largest has vanished instead"
    )
    share_of_rate: float = threshold(
        0.02, "share", "of its largest; a schedule that ends may round updates away", guard=True
    )
    largest: float = threshold(65504.0, "value", "the largest float16")
    overflow_rows: int = threshold(2, "rows", "so long must a tensor be at half of it")
    scale_rows: int = threshold(64, "rows", "loss scales that are remembered")
    skipped_rows: int = threshold(
        16, "rows", "so many steps in a row were skipped, after one was not"
    )
    skipped_first_rows: int = threshold(40, "rows", "the same of a run that has made no step yet")
    unheeded: int = threshold(8, "count", "steps skipped at a scale that has not come down")
    scale_octaves: float = threshold(10.0, "octaves", "the loss scale below the largest of them")


class Precision:
    """Watches zeros among small gradients, unchanged weights, large halves and the loss scale."""

    name = NAME
    thresholds = PrecisionThresholds

    def __init__(self, limits: PrecisionThresholds | None = None) -> None:
        self._limits = limits or PrecisionThresholds()
        self._flushed = Streaks()
        self._unchanged = Streaks()
        self._over = Streaks()
        self._scales = Window(self._limits.scale_rows)
        self._largest_rate = 0.0
        self._skipped, self._skipped_since, self._stepped = 0, 0, False
        self._row, self._last_scale = 0, 0.0
        self._skips: list[tuple[int, int]] = []
        """Rows and steps of those that were skipped since the loss scale came down."""
        self._gradient_matrices = PerLayout(
            lambda layout: layout.kind_masks[GRADIENT] & layout.is_matrix & ~layout.is_look_up
        )
        self._weight_matrices = PerLayout(
            lambda layout: layout.kind_masks[WEIGHT] & layout.is_matrix & ~layout.is_look_up
        )
        self._has_halves = PerLayout(lambda layout: bool(layout.half.any()))

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        return [
            *self._gradients(frame, baselines),
            *self._updates(frame, baselines),
            *self._overflow(frame, baselines),
            *self._scale(frame),
        ]

    def _gradients(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        matrices = self._gradient_matrices.of(layout)
        zeros = matrices & (row.zero_frac >= self._limits.flushed_zeros)
        if not any_of(zeros) and not self._flushed.running:
            return []
        tiny = zeros & (row.abs_max > 0) & (row.abs_max < self._limits.least_normal)
        holds = zeros & (tiny | (row.abs_max == 0)) if tiny.any() else np.zeros_like(zeros)
        if tiny.any() and holds.sum() < max(
            self._limits.least_matrices, self._limits.share_of_matrices * matrices.sum()
        ):
            holds = np.zeros_like(holds)
        self._flushed.update(layout, holds=holds, measured=row.measured & matrices, step=frame.step)
        return self._told(frame, baselines, self._flushed.lasting(self._limits.rows), self._flushed)

    def _updates(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        rate = frame.scalars.get("lr", math.nan)
        if math.isfinite(rate):
            self._largest_rate = max(self._largest_rate, rate)
        least = self._limits.half_unchanged
        if not self._unchanged.running and not any_of(
            row.zero_frac[layout.indices[UPDATE]] > least
        ):
            return []
        weights = self._weight_matrices.of(layout)
        still = weights & (layout.update_of >= 0) & (row.zero_frac[layout.update_of] > least)
        if any_of(still):
            still &= self._have_gradients(baselines)
            still = self._rounded(baselines, still, num_weights=int(weights.sum()))
        ends = rate < self._limits.share_of_rate * self._largest_rate
        if ends or (any_of(still) and baselines.progress.left() < NEXT_TO_NOTHING):
            still = np.zeros_like(still)
        self._unchanged.update(
            layout, holds=still, measured=row.measured & weights, step=frame.step
        )
        return self._told(
            frame, baselines, self._unchanged.lasting(self._limits.rows), self._unchanged
        )

    def _have_gradients(self, baselines: Baselines) -> Bools:
        """Weights whose elements have a gradient, most of them, that did not vanish [series]."""
        layout, row, gradient = baselines.layout, baselines.row, baselines.layout.gradient_of
        largest = np.fmax.reduce(row.rms[layout.kind_masks[GRADIENT]], initial=0.0)
        return np.asarray(
            (gradient >= 0)
            & (row.rms[gradient] > self._limits.vanished * largest)
            & (row.zero_frac[gradient] < self._limits.flushed_zeros)
        )

    def _rounded(self, baselines: Baselines, still: Bools, *, num_weights: int) -> Bools:
        """Of the weights half of whose elements do not change those whose updates are rounded away,
        where they are enough [series]."""
        limits, update = self._limits, baselines.layout.update_of
        zeros, rms = baselines.row.zero_frac[update], baselines.row.rms[update]
        moved = (rms > 0) | (baselines.value("seen")[update] > 0)
        nearly_all = still & moved & (zeros > limits.unchanged)
        if any_of(nearly_all) and nearly_all.sum() >= limits.share_of_matrices * num_weights:
            return nearly_all
        half = still & (baselines.zero_start[update] <= limits.at_first)
        enough = half.sum() >= max(limits.least_matrices, limits.half_of_matrices * num_weights)
        return half if enough else np.zeros_like(still)

    def _told(
        self, frame: Frame, baselines: Baselines, mask: Bools, streaks: Streaks
    ) -> list[Finding]:
        return series_findings(
            frame,
            mask,
            order=baselines.layout.depth,
            detector=NAME,
            kind="precision_underflow",
            severity=Severity.WARNING,
            statistic="zero_frac",
            value=baselines.row.zero_frac,
            since=streaks.since,
        )

    def _overflow(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        if not self._has_halves.of(layout):
            return []
        holds = layout.half & (row.abs_max > 0.5 * self._limits.largest)
        self._over.update(layout, holds=holds, measured=row.measured, step=frame.step)
        return series_findings(
            frame,
            self._over.lasting(self._limits.overflow_rows),
            order=layout.flow,
            detector=NAME,
            kind="precision_overflow",
            severity=Severity.WARNING,
            statistic="abs_max",
            value=row.abs_max,
            baseline=np.full(layout.num_series, self._limits.largest),
            since=self._over.since,
        )

    def _scale(self, frame: Frame) -> list[Finding]:
        scale = frame.scalars.get("loss_scale")
        if scale is None or not math.isfinite(scale) or scale <= 0:
            return []
        self._scales.add(math.log2(scale))
        largest = self._scales.largest()
        fell = largest - math.log2(scale)
        if self._is_skipped(frame):
            return [
                run_finding(
                    frame,
                    detector=NAME,
                    kind="precision_overflow",
                    severity=Severity.CRITICAL,
                    statistic="skipped",
                    value=scale,
                    score=float(self._skipped),
                    onset_step=self._skipped_since,
                )
            ]
        if fell < self._limits.scale_octaves and not (scale < 1.0 and fell > 0):
            return self._unheeded(frame, scale)
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="precision_overflow",
                severity=Severity.CRITICAL,
                statistic="loss_scale",
                value=scale,
                baseline=2.0**largest,
                score=fell,
            )
        ]

    def _unheeded(self, frame: Frame, scale: float) -> list[Finding]:
        """Steps that were skipped while the scale, which should have, did not come down."""
        rows, limits = self._limits.scale_rows, self._limits
        if scale < self._last_scale:
            self._skips = []
        self._last_scale = scale
        self._row += 1
        self._skips = [(row, step) for row, step in self._skips if row > self._row - rows]
        if not frame.skipped:
            return []
        self._skips.append((self._row, frame.step))
        if len(self._skips) < limits.unheeded:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="precision_overflow",
                severity=Severity.WARNING,
                statistic="unheeded",
                value=scale,
                score=float(len(self._skips)),
                onset_step=self._skips[0][1],
            )
        ]

    def _is_skipped(self, frame: Frame) -> bool:
        """Whether loss scaling has skipped all steps for too long."""
        if not frame.skipped:
            self._skipped, self._stepped = 0, True
            return False
        if self._skipped == 0:
            self._skipped_since = frame.step
        self._skipped += 1
        limits = self._limits
        return self._skipped >= (
            limits.skipped_rows if self._stepped else limits.skipped_first_rows
        )

    def state(self) -> State:
        """The streaks, the window of scales and the skipped steps."""
        return {
            "flushed": self._flushed.state(),
            "unchanged": self._unchanged.state(),
            "over": self._over.state(),
            "scales": self._scales.state(),
            "rate": self._largest_rate,
            "skipped": [self._skipped, self._skipped_since, int(self._stepped)],
            "unheeded": [self._row, self._last_scale, *(list(pair) for pair in self._skips)],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._flushed.restore(state["flushed"])
        self._unchanged.restore(state["unchanged"])
        self._over.restore(state["over"])
        self._scales.restore(state["scales"])
        self._largest_rate = float(state["rate"])
        self._skipped, self._skipped_since, stepped = (int(n) for n in state["skipped"])
        self._stepped = bool(stepped)
        row, last_scale, *skips = state["unheeded"]
        self._row, self._last_scale = int(row), float(last_scale)
        self._skips = [(int(row), int(step)) for row, step in skips]
