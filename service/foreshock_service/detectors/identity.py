"""Weight corruption: a weight changes by more than its optimizer's update allows.

Between two successive steps a weight changes by its update, so by the triangle inequality its l2,
its largest absolute value and the size of its mean can change by no more than those of the update.
`weight_corruption`: one of the three changes by more than 3 updates and 0.3 % of the weight, and by
twice as much as this weight ever did before.

- A client that takes a weight's update from one step's end to the next one's sees a corruption in
  between as an update: so also a tensor whose update leaps by 4 octaves and 10 scales beyond its
  peak while its own gradient and the median update stay within an octave.
- Critical when the weight changed by a quarter or more.
- Quiet: the first 8 rows; rows that do not follow their predecessor step by step (gaps, restarts,
  sampled logs); weights that habitually do so (clipped, averaged) after the first time; and half
  or more of the matrices at once, which is a checkpoint or a new initialisation and not a fault of
  memory: the loss tells whether it did harm.

Source: the identity is arithmetic; the slack covers statistics that were rounded to 10 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import GRADIENT, UPDATE, WEIGHT
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "identity"

UPDATES: Final = 3.0
SHARE: Final = 0.003
ABOVE_HABIT: Final = 2.0
FIRST_ROWS: Final = 8
CRITICAL_SHARE: Final = 0.25
LEAP_OCTAVES: Final = 4.0
LEAP_SCALES: Final = 10.0
CALM_OCTAVES: Final = 1.0
LEAP_FIRST_ROWS: Final = 24
GLOBAL_SHARE: Final = 0.5
GLOBAL_LEAST: Final = 3


class Identity:
    """Holds each weight's change against its update."""

    name = NAME

    def __init__(self) -> None:
        self._last = SeriesMemory("rms", "abs_max", "mean", "rows", "habit")
        self._step = -1
        self._attempt = -1

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, last = baselines.layout, baselines.row, self._last
        last.align(layout)
        follows = frame.attempt == self._attempt and frame.step == self._step + 1
        self._step, self._attempt = frame.step, frame.attempt
        weights = layout.kind_masks[WEIGHT]
        if not weights.any():
            return []
        excess = self._excess(baselines)
        rows, habit = np.nan_to_num(last["rows"]), np.nan_to_num(last["habit"])
        broken = follows & weights & (rows >= FIRST_ROWS) & (excess > 1.0)
        fresh: Bools = broken & (excess > ABOVE_HABIT * habit)
        change = np.abs(row.rms - last["rms"]) / np.where(last["rms"] > 0, last["rms"], np.nan)
        found = self._found(frame, baselines, fresh, change, excess, broken)
        if not found:
            leapt = self._leapt(baselines)
            found = self._found(frame, baselines, leapt, change, excess, leapt)
        seen = weights & row.measured
        last["habit"] = np.where(broken, np.fmax(habit, excess), habit)
        last["rows"] = np.where(seen, rows + 1, rows)
        for name, values in (("rms", row.rms), ("abs_max", row.abs_max), ("mean", row.mean)):
            # A weight that was not measured on this row cannot be compared on the next.
            last[name] = np.where(seen, values, np.nan)
        return found

    def _excess(self, baselines: Baselines) -> Floats:
        """The largest of the three changes, in allowances [series]; 0 where it cannot be told."""
        layout, row, last = baselines.layout, baselines.row, self._last
        update = layout.update_of
        known = update >= 0
        update_rms = np.where(known, row.rms[update], np.nan)
        update_max = np.where(known, row.abs_max[update], np.nan)
        with np.errstate(all="ignore"):
            excess: Floats = np.fmax.reduce(
                [
                    np.abs(row.rms - last["rms"]) / (UPDATES * update_rms + SHARE * last["rms"]),
                    np.abs(row.abs_max - last["abs_max"])
                    / (UPDATES * update_max + SHARE * last["abs_max"]),
                    np.abs(row.mean - last["mean"]) / (UPDATES * update_rms + SHARE * last["rms"]),
                ]
            )
        return np.asarray(np.nan_to_num(excess, nan=0.0, posinf=np.finfo(np.float64).max))

    def _leapt(self, baselines: Baselines) -> Bools:
        """Weights whose update leapt with no gradient to explain it [series]."""
        layout, row = baselines.layout, baselines.row
        nowhere = np.zeros(layout.num_series, np.bool_)
        deviation = baselines.deviation()
        with np.errstate(invalid="ignore"):
            leaps = (
                layout.kind_masks[UPDATE]
                & layout.is_matrix
                & (baselines.value("count") >= LEAP_FIRST_ROWS)
                & (deviation > LEAP_OCTAVES)
                & (baselines.significance() > LEAP_SCALES)
                & (row.log_rms > baselines.value("peak") + LEAP_OCTAVES)
            )
        if not leaps.any():
            return nowhere
        updates = deviation[layout.kind_masks[UPDATE] & layout.is_matrix]
        gradients = deviation[layout.kind_masks[GRADIENT] & layout.is_matrix]
        if np.nanmedian(updates) > CALM_OCTAVES or not np.isfinite(gradients).any():
            return nowhere
        update, gradient = layout.update_of, layout.gradient_of
        with np.errstate(invalid="ignore"):
            calm = (gradient >= 0) & (deviation[gradient] < CALM_OCTAVES)
        return np.asarray((update >= 0) & leaps[update] & calm)

    def _found(
        self,
        frame: Frame,
        baselines: Baselines,
        which: Bools,
        change: Floats,
        excess: Floats,
        together: Bools,
    ) -> list[Finding]:
        layout = baselines.layout
        matrices = int((layout.kind_masks[WEIGHT] & layout.is_matrix).sum())
        if together.sum() > max(GLOBAL_LEAST, GLOBAL_SHARE * matrices):
            return []
        worst = float(np.nanmax(change[which], initial=0.0)) if which.any() else 0.0
        return series_findings(
            frame,
            which,
            order=-excess,
            detector=NAME,
            kind="weight_corruption",
            severity=Severity.CRITICAL if worst >= CRITICAL_SHARE else Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=self._last["rms"],
            score=np.minimum(excess, 1e6),
        )

    def state(self) -> State:
        """The last row's weights."""
        return {"last": self._last.state(), "place": [self._step, self._attempt]}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._last.restore(state["last"])
        self._step, self._attempt = (int(n) for n in state["place"])
