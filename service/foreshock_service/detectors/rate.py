"""The learning rate itself: a rate below zero climbs the loss, one that is gone learns nothing.

- `divergence`, critical, at once: the logged learning rate `lr` is negative. A linear decay that
  nobody stops goes through zero, and the damage is slow and looks like overfitting.
- `update_too_small`, a warning: from one row to the next the rate fell from a tenth of its largest
  or more to a thousandth of that or less, and has not risen for 12 rows. Schedules end in many
  rows, their steps divide by 2 to 100, and a new warm-up rises; a rate that was overwritten falls
  at once.

Source: ours; PyTorch's optimizers check the rate that they are built with, not what a schedule
makes of it later.
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
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateThresholds(Thresholds):
    """The numbers of the rules above."""

    gone: float = threshold(1e-3, "share", "of the rate of the row before, or less")
    high: float = threshold(
        0.1, "share", "of the largest, where it was before: a schedule ends below", guard=True
    )
    gone_rows: int = threshold(12, "rows", "on which it has not risen again")


class Rate:
    """Watches the scalar `lr`."""

    name = NAME
    thresholds = RateThresholds

    def __init__(self, limits: RateThresholds | None = None) -> None:
        self._limits = limits or RateThresholds()
        self._since: int | None = None
        self._last, self._largest = 0.0, 0.0
        self._before, self._fell_to = 0.0, 0.0
        """The rate before it was gone, 0 while it is not, and what it fell to."""
        self._gone_rows, self._gone_since = 0, 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row."""
        rate = frame.scalars.get("lr")
        if rate is None or not rate < math.inf:
            return []
        return self._below_zero(frame, rate) or self._gone(frame, rate)

    def _below_zero(self, frame: Frame, rate: float) -> list[Finding]:
        if rate >= 0.0:
            self._since = None
            return []
        if self._since is None:
            self._since = frame.step
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="divergence",
                severity=Severity.CRITICAL,
                statistic="lr",
                value=rate,
                baseline=0.0,
                onset_step=self._since,
            )
        ]

    def _gone(self, frame: Frame, rate: float) -> list[Finding]:
        limits, last = self._limits, self._last
        self._last = rate
        self._largest = max(self._largest, rate)
        if self._before == 0.0:
            high = last > limits.high * self._largest > 0.0
            if not high or rate > limits.gone * last:
                return []
            self._before, self._fell_to = last, rate
            self._gone_rows, self._gone_since = 0, frame.step
        if rate > self._fell_to:
            self._before = 0.0
            return []
        self._gone_rows += 1
        if self._gone_rows < limits.gone_rows:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                severity=Severity.WARNING,
                statistic="lr",
                value=rate,
                baseline=self._before,
                onset_step=self._gone_since,
                evidence={"cause": "gone"},
            )
        ]

    def state(self) -> State:
        """The step at which the rate went below zero, and how long it has been gone."""
        return {
            "since": self._since,
            "rates": [self._last, self._largest, self._before, self._fell_to],
            "gone": [self._gone_rows, self._gone_since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        since = state["since"]
        self._since = None if since is None else int(since)
        self._last, self._largest, self._before, self._fell_to = map(float, state["rates"])
        self._gone_rows, self._gone_since = (int(n) for n in state["gone"])
