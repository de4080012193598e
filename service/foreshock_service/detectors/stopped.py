"""Stopped: weights that no longer move, though their gradients do not say so.

- `update_too_small`, a warning: the update of a matrix that has moved on 24 rows is exactly zero on
  6 measured rows in a row, and on three times as many as it ever paused for before, while its
  gradient is neither zero nor absent and another matrix moves. It is no longer in the optimizer,
  its rate is nought, or what is written into it is taken back. Names the matrices, first in the
  flow first.
- `update_too_small`, a warning: a matrix has a gradient on 8 rows, and neither it nor its update
  is ever measured, though others are: no optimizer that is watched holds it. Names the matrices.
- The first of all weights at once, of which nobody is named: none moves on 10 rows, and on three
  times as many as lay between two steps before, or on 24 at the most or where none has ever moved.
  Steps are not taken, or their rate is nought.
- Quiet: frozen weights, which have no gradient; steps that loss scaling skipped; the rows between
  two steps, as under accumulation; players that take turns, whose pauses are a habit.

Source: ours; that some elements move and most do not is `precision`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import GRADIENT, UPDATE, Layout
from foreshock_service.detectors.pauses import Pauses
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import pairs_of
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedThresholds(Thresholds):
    """The numbers of the rules above."""

    rows: int = threshold(6, "rows", "so long must an update be zero")
    longest: float = threshold(
        3.0, "times", "and beyond the longest pause that the matrix came back from", guard=True
    )
    moved_rows: int = threshold(24, "rows", "on which the matrix moved before", guard=True)
    all_rows: int = threshold(
        10, "rows", "so long must all updates be zero, beyond what they ever paused for as above"
    )
    never_rows: int = threshold(24, "rows", "the same where none has ever moved")
    left_out_rows: int = threshold(
        8, "rows", "so long must a matrix have a gradient that no optimizer makes use of"
    )


class Stopped:
    """Watches for updates that are exactly zero beside gradients that are not."""

    name = NAME
    thresholds = StoppedThresholds

    def __init__(self, limits: StoppedThresholds | None = None) -> None:
        self._limits = limits or StoppedThresholds()
        self._pairs = PerLayout(pairs_of)
        self._pauses = Pauses()
        self._in_no_optimizer = PerLayout(_in_no_optimizer)
        self._left_out = Streaks()
        self._resting = 0
        self._resting_since = 0
        self._longest_rest = -1

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row = baselines.layout, baselines.row
        updates = row.rms[layout.indices[UPDATE]]
        moves = any_of(updates > 0)
        if not moves and not any_of(updates == 0):
            return []  # No update was measured.
        return [*self._stopped(frame, baselines, moves=moves), *self._never(frame, baselines)]

    def _never(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        """Matrices that get a gradient and are in no optimizer."""
        layout, row = baselines.layout, baselines.row
        left_out = self._in_no_optimizer.of(layout)
        if not any_of(left_out) or frame.skipped:
            return []
        holds = left_out & (row.rms > 0)
        self._left_out.update(layout, holds=holds, measured=row.measured, step=frame.step)
        lasting = self._left_out.lasting(self._limits.left_out_rows)
        return self._told(frame, baselines, lasting, self._left_out, "left out", left_out.sum())

    def _stopped(self, frame: Frame, baselines: Baselines, *, moves: bool) -> list[Finding]:
        layout, row, limits = baselines.layout, baselines.row, self._limits
        pairs = self._pairs.of(layout)
        update, gradient = row.rms[pairs.update], row.rms[pairs.gradient]
        if not moves:
            return self._rest(frame, any_of(gradient > 0))
        self._longest_rest = max(self._longest_rest, self._resting)
        self._resting = 0
        still = update == 0
        if not any_of(still) and not self._pauses.streaks.running:
            return []
        known = baselines.value("count")[pairs.update] >= limits.moved_rows
        # Beside a gradient that is zero or was not measured, rest says neither one nor the other.
        stopped, judged = np.zeros((2, layout.num_series), np.bool_)
        stopped[pairs.update] = still & known
        judged[pairs.update] = (update > 0) | (still & (gradient > 0))
        self._pauses.update(layout, pauses=stopped, measured=judged, step=frame.step)
        unusual = self._pauses.unusual(layout, rows=limits.rows, factor=limits.longest)
        return self._told(frame, baselines, unusual, self._pauses.streaks, "stopped", update.size)

    def _told(
        self,
        frame: Frame,
        baselines: Baselines,
        which: Bools,
        streaks: Streaks,
        cause: str,
        num_matrices: int,
    ) -> list[Finding]:
        num_series = baselines.layout.num_series
        if not any_of(which):
            return []
        return series_findings(
            frame,
            which,
            order=baselines.layout.flow,
            detector=NAME,
            kind="update_too_small",
            severity=Severity.WARNING,
            statistic="update_share",
            value=np.zeros(num_series),
            baseline=np.ones(num_series),
            since=streaks.since,
            evidence={"cause": cause, "num_matrices": int(num_matrices)},
        )

    def _rest(self, frame: Frame, has_gradients: bool) -> list[Finding]:
        """A row on which nothing moves."""
        if not has_gradients or frame.skipped:
            return []
        if self._resting == 0:
            self._resting_since = frame.step
        self._resting += 1
        limits, longest = self._limits, self._longest_rest
        needed = limits.never_rows
        if longest >= 0 and frame.scalars.get("lr") != 0.0:  # A schedule may end at nought.
            needed = min(needed, max(limits.all_rows, int(limits.longest * longest)))
        if self._resting < needed:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="update_share",
                value=0.0,
                baseline=1.0,
                onset_step=self._resting_since,
                evidence={"cause": "stopped"},
            )
        ]

    def state(self) -> State:
        """The pauses, and since when nothing has moved."""
        return {
            "pauses": self._pauses.state(),
            "left_out": self._left_out.state(),
            "resting": [self._resting, self._resting_since, self._longest_rest],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._pauses.restore(state["pauses"])
        self._left_out.restore(state["left_out"])
        self._resting, self._resting_since, self._longest_rest = (int(n) for n in state["resting"])


def _in_no_optimizer(layout: Layout) -> Bools:
    """Gradients of matrices [series] that have neither a weight nor an update; none where no matrix
    has an update, which may be as the client was told."""
    held = np.zeros(layout.num_series, np.bool_)
    if layout.updated_matrices.size:
        held = layout.kind_masks[GRADIENT] & layout.is_matrix
        of_weights = layout.gradient_of
        held[of_weights[of_weights >= 0]] = False
    return held
