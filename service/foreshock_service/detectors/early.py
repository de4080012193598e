"""The first rows, before there is a normal to compare with: only what no sound run does.

- `gradient_spike`: the gradient norm is 48 times the median and 4 times the largest of at least 3
  rows before it; or, in a run that is seen from its middle on, 16 times the largest of all before.
- `loss_spike`: 2 rows in a row are above twice the largest of the losses before them, and
  further above it than 8 times all that these have differed. Those of players may be anything.

At most 32 rows are looked at; then `spike` and `loss` know the run. In the first 8 rows of a run
seen from its start the gradient norm is left alone: initialisation and warm-up move it freely.
Source: ours, from public logs that begin with the fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window, median
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "early"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyThresholds(Thresholds):
    """The numbers of the rules above."""

    rows: int = threshold(32, "rows", "rows of a run that this detector looks at")
    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    min_rows: int = threshold(3, "rows", "norms before one can stand above their median")
    start_rows: int = threshold(
        8, "rows", "of a run seen from its start, in which norms move freely"
    )
    above_median: float = threshold(
        48.0, "times", "a gradient norm above the median of those before"
    )
    above_largest: float = threshold(4.0, "times", "and above the largest of them")
    joined_above_largest: float = threshold(
        16.0, "times", "above the largest alone, in a run seen from its middle on"
    )
    loss_factor: float = threshold(2.0, "times", "a loss above the largest before")
    loss_ranges: float = threshold(
        8.0, "sigmas", "and above it by so many times all that they have differed"
    )
    loss_rows: int = threshold(2, "rows", "so many such losses in a row")


class Early:
    """Watches the gradient norm and the loss of the first rows."""

    name = NAME
    thresholds = EarlyThresholds

    def __init__(self, limits: EarlyThresholds | None = None) -> None:
        self._limits = limits or EarlyThresholds()
        self._rows = 0
        self._joined = False
        self._norms = Window(self._limits.rows)
        self._losses = Window(self._limits.rows)
        self._above: list[int] = []

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row; none after the first 32."""
        if self._rows >= self._limits.rows:
            return []
        if self._rows == 0:
            self._joined = frame.step > self._limits.first_step
        self._rows += 1
        return [*self._norm(frame), *([] if baselines.is_game else self._loss(frame))]

    def _norm(self, frame: Frame) -> list[Finding]:
        norm = frame.scalars.get("grad_norm")
        if norm is None or not math.isfinite(norm) or norm <= 0:
            return []
        before = self._norms.values()
        self._norms.add(norm)
        if not len(before) or (not self._joined and len(before) < self._limits.start_rows):
            return []
        centre, largest = median(before), max(before)
        leaps = self._joined and norm > self._limits.joined_above_largest * largest
        leaps |= (
            len(before) >= self._limits.min_rows
            and norm > self._limits.above_median * centre
            and norm > self._limits.above_largest * largest
        )
        if not leaps:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="gradient_spike",
                severity=Severity.WARNING,
                statistic="grad_norm",
                value=norm,
                baseline=centre,
                score=math.log2(norm / centre),
                evidence={"ratio": norm / centre},
            )
        ]

    def _loss(self, frame: Frame) -> list[Finding]:
        loss = frame.scalars.get("loss")
        if loss is None or not math.isfinite(loss):
            return []
        before = self._losses.values()
        if len(before) >= 2:
            largest, smallest = max(before), min(before)
            bar = max(
                self._limits.loss_factor * largest,
                largest + self._limits.loss_ranges * (largest - smallest),
            )
            if loss > bar and largest > 0:
                # Not learned: the rows that follow are compared with those before the leap.
                self._above.append(frame.step)
                return self._leapt(frame, loss, median(before))
        self._above = []
        self._losses.add(loss)
        return []

    def _leapt(self, frame: Frame, loss: float, level: float) -> list[Finding]:
        if len(self._above) < self._limits.loss_rows:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="loss_spike",
                severity=Severity.WARNING,
                statistic="loss",
                value=loss,
                baseline=level,
                score=loss / level if level > 0 else 0.0,
                onset_step=self._above[0],
            )
        ]

    def state(self) -> State:
        """The first rows."""
        return {
            "rows": self._rows,
            "joined": self._joined,
            "norms": self._norms.state(),
            "losses": self._losses.state(),
            "above": list(self._above),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._rows = int(state["rows"])
        self._joined = bool(state["joined"])
        self._norms.restore(state["norms"])
        self._losses.restore(state["losses"])
        self._above = [int(step) for step in state["above"]]
