"""Output logit drift: the common level of the logits moves although nothing is gained by it.

`output_logit_drift`: the scalar `log_z` (mean log-sum-exp of the output logits) has moved by more
than 1.2 and by 20 % over 96 rows, in the later half by as much as in the earlier one, on 16 rows in
a row, while the loss gained less than a tenth of all its progress before, or has no lower bound. A
softmax does not feel a common shift, so nothing holds it back but rounding: in bfloat16 logits of
100 have steps of 0.5.

Or it lies by more than 2 below its start and below nought on 8 rows, whatever the loss does:
margins that grow make it larger, and a z-loss takes it to nought and no further.

A classifier's log Z grows as it becomes sure of its answers: then its loss falls, or, once the loss
is below a tenth of its start, the margins grow without a use for them, like the logarithm of time,
and never further by 1.3 times in each third of 96 rows than in the one before.

Names the deepest output.
Source: Chowdhery et al. 2022 (PaLM, z-loss 1e-4 log^2 Z) and Wortsman et al. 2023 for the drift.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window, median
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftThresholds(Thresholds):
    """The numbers of the rules above."""

    window_rows: int = threshold(96, "rows", "rows over which log Z moves")
    level_rows: int = threshold(16, "rows", "rows that make a level")
    rows: int = threshold(16, "rows", "so long must it last")
    moved: float = threshold(1.2, "value", "by so much must log Z move")
    share: float = threshold(0.2, "share", "and by so much of its level")
    gain: float = threshold(
        0.1, "share", "of all progress before, which the loss gains at most meanwhile", guard=True
    )
    sure_share: float = threshold(
        0.1, "share", "of the first losses: below it, a classifier is only sure", guard=True
    )
    gathers: float = threshold(
        1.3, "times", "the move of the third before: no classifier's, as it gets sure of itself"
    )
    start_rows: int = threshold(10, "rows", "losses, and log Z, that make the start")
    sunk: float = threshold(2.0, "value", "log Z below its start, and below nought")
    sunk_rows: int = threshold(8, "rows", "so long must it lie there")


class Drift:
    """Watches the scalar `log_z`."""

    name = NAME
    thresholds = DriftThresholds

    def __init__(self, limits: DriftThresholds | None = None) -> None:
        self._limits = limits or DriftThresholds()
        self._log_z = Window(self._limits.window_rows)
        self._loss = Window(self._limits.window_rows)
        self._start = Window(self._limits.start_rows)
        self._rows = 0
        self._since = 0
        self._log_z_start = Window(self._limits.start_rows)
        self._sunk_rows, self._sunk_since = 0, 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        log_z, loss = frame.scalars.get("log_z"), frame.scalars.get("loss")
        if log_z is None or loss is None or not (math.isfinite(log_z) and math.isfinite(loss)):
            return []
        self._log_z.add(log_z)
        self._loss.add(loss)
        if len(self._start) < self._limits.start_rows:
            self._start.add(loss)
            self._log_z_start.add(log_z)
        if self._sinks(frame, log_z):
            start = self._log_z_start.median()
            return self._told(frame, baselines, log_z, start, self._sunk_since)
        if len(self._log_z) < self._limits.window_rows:
            return []
        start = self._start.median()
        then, halfway, now = _levels(self._log_z, self._limits.level_rows)
        loss_then, _, loss_now = _levels(self._loss, self._limits.level_rows)
        moved = abs(now - then)
        useless = baselines.progress.is_unbounded or (
            loss_then - loss_now < self._limits.gain * max(start - loss_then, 0.0)
            and (loss_now > self._limits.sure_share * start or self._gathers_pace())
        )
        keeps_pace = abs(now - halfway) > 0.5 * moved
        if not (
            moved > max(self._limits.moved, self._limits.share * abs(then))
            and useless
            and keeps_pace
        ):
            self._rows = 0
            return []
        if self._rows == 0:
            self._since = frame.step
        self._rows += 1
        if self._rows < self._limits.rows:
            return []
        return self._told(frame, baselines, now, then, self._since)

    def _gathers_pace(self) -> bool:
        """Whether log Z has moved further in each third of the window than in the one before."""
        values, rows = self._log_z.values(), self._limits.level_rows
        last = len(values) - rows
        marks = [median(values[i : i + rows]) for i in (0, last // 3, 2 * last // 3, last)]
        moves = [abs(after - before) for before, after in pairwise(marks)]
        return all(after > self._limits.gathers * before > 0 for before, after in pairwise(moves))

    def _sinks(self, frame: Frame, log_z: float) -> bool:
        """Whether log Z has lain far below its start, and below nought, for long enough."""
        limits = self._limits
        if log_z >= min(self._log_z_start.median(), 0.0) - limits.sunk:
            self._sunk_rows = 0
            return False
        if self._sunk_rows == 0:
            self._sunk_since = frame.step
        self._sunk_rows += 1
        return self._sunk_rows >= limits.sunk_rows

    def _told(
        self, frame: Frame, baselines: Baselines, now: float, then: float, since: int
    ) -> list[Finding]:
        layout = baselines.layout
        found = [
            run_finding(
                frame,
                detector=NAME,
                kind="output_logit_drift",
                severity=Severity.WARNING,
                statistic="log_z",
                value=now,
                baseline=then,
                score=abs(now - then),
                onset_step=since,
            )
        ]
        return found + series_findings(
            frame,
            layout.is_output,
            order=layout.depth,
            detector=NAME,
            kind="output_logit_drift",
            severity=Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=np.exp2(baselines.value("slow")),
            since=np.full(layout.num_series, since, np.int64),
        )

    def state(self) -> State:
        """The windows and the streak."""
        return {
            "log_z": self._log_z.state(),
            "loss": self._loss.state(),
            "start": self._start.state(),
            "streak": [self._rows, self._since],
            "log_z_start": self._log_z_start.state(),
            "sunk": [self._sunk_rows, self._sunk_since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._log_z.restore(state["log_z"])
        self._loss.restore(state["loss"])
        self._start.restore(state["start"])
        self._rows, self._since = state["streak"]
        self._log_z_start.restore(state["log_z_start"])
        self._sunk_rows, self._sunk_since = state["sunk"]


def _levels(window: Window, rows: int) -> tuple[float, float, float]:
    """Medians of the first rows, of those in the middle and of the last."""
    values = window.values()
    middle = (len(values) - rows) // 2
    first, between, last = (
        median(values[start : start + rows]) for start in (0, middle, len(values) - rows)
    )
    return first, between, last
