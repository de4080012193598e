"""Update sizes of the whole run: learning rates that are too large or too small for the weights.

The run's update size is the median over weight matrices of log2(rms of update / rms of weight).

- `update_too_large`: it stands 1.3 octaves above all that the run has shown lately on 2 of 3 rows,
  or 3 octaves on one row. Names nobody: when all updates grow, a rate, an accumulator or a lost
  second moment did it. `growth` tells of single tensors.
- `update_too_small`, one finding after 30 rows: with an optimizer of the Adam family, whose updates
  are about as large as the learning rate, the median rms of update / rate is below 0.02; with any
  other, the update size is below 2e-6 while the rate is at half of its largest or above.

A run that has learned is exempt from the second: gradients that shrink faster than Adam's average
of their squares make small updates, and are no fault. A rate that a schedule takes to zero at the
end is sound: the first rule for small updates divides by it, the second waits for it to be high. A
warm restart returns to sizes seen before.
Source: SageMaker Debugger's WeightUpdateRatio (1e-8, 10) for the idea; Adam's update is at most
about one rate an element (Kingma & Ba 2015, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.layout import WEIGHT
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats
from foreshock_service.detectors.window import Window
from foreshock_service.domain.facts import RunFacts
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "updates"

NEAR_OCTAVES: Final = 1.3
ONCE_OCTAVES: Final = 3.0
FIRST_ROWS: Final = 32
FORGET_OCTAVES: Final = 0.002
"""A row: what the run showed 500 rows ago counts for an octave less."""
NEW_NORMAL_ROWS: Final = 24
SMALL_ROWS: Final = 30
START_ROWS: Final = 10
LEARNED: Final = 0.2
"""Of the first losses: a run that has come so far does not need larger updates."""
SHARE_OF_RATE: Final = 0.02
SHARE_OF_WEIGHT: Final = 2e-6
OF_ADAM_FAMILY: Final = ("adam", "lion", "muon", "lamb", "rmsprop")


class Updates:
    """Watches the run's update size."""

    name = NAME

    def __init__(self) -> None:
        self._rows = 0
        self._peak = -math.inf
        self._near: list[int] = []
        self._far_rows = 0
        self._small_rows = 0
        self._small_since = 0
        self._max_rate = 0.0
        self._start = Window(START_ROWS)
        self._recent = Window(START_ROWS)
        self._learned = False

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row = baselines.layout, baselines.row
        self._follow_loss(frame.scalars.get("loss"))
        weight = np.flatnonzero(
            layout.kind_masks[WEIGHT] & layout.is_matrix & (layout.update_of >= 0)
        )
        update = layout.update_of[weight]
        alive = np.isfinite(row.log_rms[update]) & (row.rms[weight] > 0)
        if not alive.any():
            return []
        weight, update = weight[alive], update[alive]
        ratios = row.log_rms[update] - row.log_rms[weight]
        size = float(np.median(ratios))
        rate = frame.scalars.get("lr")
        found = self._large(frame, size, rate)
        return found + self._small(frame, row.rms[update], size, baselines.facts)

    def _follow_loss(self, loss: float | None) -> None:
        if loss is None or not math.isfinite(loss) or self._learned:
            return
        if len(self._start) < START_ROWS:
            self._start.add(loss)
            return
        start = float(np.median(self._start.array()))
        self._recent.add(loss)
        level = float(np.median(self._recent.array()))
        self._learned = start - level > LEARNED * abs(start)

    def _large(self, frame: Frame, size: float, rate: float | None) -> list[Finding]:
        self._rows += 1
        above = size - self._peak
        if self._rows <= FIRST_ROWS or above <= NEAR_OCTAVES:
            self._peak = max(self._peak - FORGET_OCTAVES, size)
            self._near = [*self._near[-2:], 0]
            self._far_rows = 0
            return []
        self._near = [*self._near[-2:], 1]
        self._far_rows += 1
        if self._far_rows > NEW_NORMAL_ROWS:
            self._peak = size
        if above <= ONCE_OCTAVES and sum(self._near) < 2:
            return []
        evidence: dict[str, float | int | str] = {} if rate is None else {"lr": rate}
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                severity=Severity.WARNING,
                statistic="update_size",
                value=2.0**size,
                baseline=2.0**self._peak,
                score=above,
                evidence=evidence,
            )
        ]

    def _small(self, frame: Frame, updates: Floats, size: float, facts: RunFacts) -> list[Finding]:
        rate = frame.scalars.get("lr")
        if rate is not None and math.isfinite(rate):
            self._max_rate = max(self._max_rate, rate)
        optimizer = facts.optimizer.lower()
        adaptive = any(word in optimizer for word in OF_ADAM_FAMILY)
        if adaptive and rate is not None and rate > 0:
            value, limit = float(np.median(updates)) / rate, SHARE_OF_RATE
            small, statistic = value < limit, "update_by_rate"
        else:
            value, limit = 2.0**size, SHARE_OF_WEIGHT
            high = rate is None or rate >= 0.5 * self._max_rate > 0
            small, statistic = high and value < limit, "update_size"
        if not small or self._learned:
            self._small_rows = 0
            return []
        if self._small_rows == 0:
            self._small_since = frame.step
        self._small_rows += 1
        if self._small_rows < SMALL_ROWS:
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

    def state(self) -> State:
        """The counters."""
        return {
            "near": list(self._near),
            "start": self._start.state(),
            "recent": self._recent.state(),
            "learned": self._learned,
            "numbers": [
                self._rows,
                self._peak,
                self._far_rows,
                self._small_rows,
                self._small_since,
                self._max_rate,
            ],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._near = [int(n) for n in state["near"]]
        self._start.restore(state["start"])
        self._recent.restore(state["recent"])
        self._learned = bool(state["learned"])
        (
            self._rows,
            self._peak,
            self._far_rows,
            self._small_rows,
            self._small_since,
            self._max_rate,
        ) = state["numbers"]
