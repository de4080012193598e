"""Precision: values that leave the range of their number format from below or from above.

- `precision_underflow` of gradients: in at least 3 matrices and a fifth of them, half of the
  elements are exactly zero or more while the rest is smaller than 2^-14, the least normal float16,
  on 20 rows. Small values with many exact zeros between them are what flushing leaves; sparse
  layers (look-up tables) are left out, and ReLU's zeros come with larger neighbours. Below them in
  the flow, matrices whose gradient is all zero are named as well.
- `precision_underflow` of updates: 90 % of a weight's elements do not change, but some do or once
  did, while half of its gradient's elements are not zero and the gradient has not vanished against
  the others, in a fifth of the matrices, on 20 rows: the update is rounded away, as that of
  bfloat16 weights is below 0.4 % of their size. A weight that never moves is not in the optimizer.
- `precision_overflow`: a float16 tensor reaches half of 65504, on 2 rows.
- `precision_overflow` of the loss scale: it has lost 10 octaves against its largest value within
  the last 64 rows, or fell below 1: gradients overflow at every scale.

Source: Micikevicius et al. 2018 (arXiv 1710.03740) for flushed gradients and loss scaling; the
format's limits are those of IEEE 754.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import GRADIENT, WEIGHT
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "precision"

FLUSHED_ZEROS: Final = 0.5
LEAST_NORMAL: Final = 2.0**-14
LEAST_MATRICES: Final = 3
SHARE_OF_MATRICES: Final = 0.2
ROWS: Final = 20
UNCHANGED: Final = 0.9
VANISHED: Final = 1e-5
LARGEST: Final = 65504.0
OVERFLOW_ROWS: Final = 2
SCALE_ROWS: Final = 64
SCALE_OCTAVES: Final = 10.0


class Precision:
    """Watches zeros among small gradients, unchanged weights, large halves and the loss scale."""

    name = NAME

    def __init__(self) -> None:
        self._flushed = Streaks()
        self._unchanged = Streaks()
        self._over = Streaks()
        self._scales = Window(SCALE_ROWS)

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
        matrices = layout.kind_masks[GRADIENT] & layout.is_matrix & ~layout.is_look_up
        with np.errstate(invalid="ignore"):
            zeros = matrices & (row.zero_frac >= FLUSHED_ZEROS)
            tiny = zeros & (row.abs_max > 0) & (row.abs_max < LEAST_NORMAL)
        holds = zeros & (tiny | (row.abs_max == 0)) if tiny.any() else np.zeros_like(zeros)
        if holds.sum() < max(LEAST_MATRICES, SHARE_OF_MATRICES * matrices.sum()):
            holds = np.zeros_like(holds)
        self._flushed.update(layout, holds=holds, measured=row.measured & matrices, step=frame.step)
        return self._told(frame, baselines, self._flushed.lasting(ROWS), self._flushed)

    def _updates(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        weights = layout.kind_masks[WEIGHT] & layout.is_matrix & ~layout.is_look_up
        update, gradient = layout.update_of, layout.gradient_of
        largest = np.fmax.reduce(row.rms[layout.kind_masks[GRADIENT]], initial=0.0)
        moved = baselines.value("seen")[update] > 0
        with np.errstate(invalid="ignore"):
            still = (
                weights
                & (update >= 0)
                & (gradient >= 0)
                & (row.zero_frac[update] > UNCHANGED)
                & ((row.rms[update] > 0) | moved)
                & (row.rms[gradient] > VANISHED * largest)
                & (row.zero_frac[gradient] < FLUSHED_ZEROS)
            )
        if still.sum() < max(1.0, SHARE_OF_MATRICES * weights.sum()):
            still = np.zeros_like(still)
        self._unchanged.update(
            layout, holds=still, measured=row.measured & weights, step=frame.step
        )
        return self._told(frame, baselines, self._unchanged.lasting(ROWS), self._unchanged)

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
        with np.errstate(invalid="ignore"):
            holds = layout.half & (row.abs_max > 0.5 * LARGEST)
        self._over.update(layout, holds=holds, measured=row.measured, step=frame.step)
        return series_findings(
            frame,
            self._over.lasting(OVERFLOW_ROWS),
            order=layout.flow,
            detector=NAME,
            kind="precision_overflow",
            severity=Severity.WARNING,
            statistic="abs_max",
            value=row.abs_max,
            baseline=np.full(layout.num_series, LARGEST),
            since=self._over.since,
        )

    def _scale(self, frame: Frame) -> list[Finding]:
        scale = frame.scalars.get("loss_scale")
        if scale is None or not math.isfinite(scale) or scale <= 0:
            return []
        self._scales.add(math.log2(scale))
        largest = float(self._scales.array().max())
        fell = largest - math.log2(scale)
        if fell < SCALE_OCTAVES and not (scale < 1.0 and fell > 0):
            return []
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

    def state(self) -> State:
        """The streaks and the window of scales."""
        return {
            "flushed": self._flushed.state(),
            "unchanged": self._unchanged.state(),
            "over": self._over.state(),
            "scales": self._scales.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._flushed.restore(state["flushed"])
        self._unchanged.restore(state["unchanged"])
        self._over.restore(state["over"])
        self._scales.restore(state["scales"])
