"""The learning rate itself: below zero it climbs the loss, gone or worn away it learns nothing, and
one that climbs without end learns nothing for long.

- `divergence`, critical, at once: the logged learning rate `lr` is negative. A linear decay that
  nobody stops goes through zero, and the damage is slow and looks like overfitting.
- `update_too_small`, a warning: from one row to the next the rate fell from a tenth of its largest
  or more to a thousandth of that or less, and has not risen for 12 rows. Schedules end in many
  rows, their steps divide by 2 to 100, and a new warm-up rises; a rate that was overwritten falls
  at once.
- The same where the rate lies below a 4096th of its largest on 32 rows and on a tenth of all rows,
  and the loss is stuck: the schedule is stepped too often, or was made for fewer steps. A schedule
  that ends is there for a hundredth of the run, and steps by ten do not go so far.
- `update_too_large`, a warning: the rate rises on each row, has multiplied by 12 (by 2, if it had
  been level for 32 rows), and in each third of the last 48 rows by the same factor, to a tenth: a
  schedule multiplies where it should divide, or a warm-up does not end. A warm-up along a straight
  line or a cosine rises ever more slowly by factors.

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
from foreshock_service.detectors.window import Window
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
    worn: float = threshold(2.0**-12, "share", "of the largest: a rate below has worn away")
    worn_rows: int = threshold(32, "rows", "so long must it lie there")
    worn_share: float = threshold(
        0.1, "share", "and on so many of all rows: a schedule that ends is there for fewer"
    )
    climb: float = threshold(12.0, "times", "a rate that rises by the same factor on each row")
    climb_from_level: float = threshold(
        2.0, "times", "the same of one that was level before: its warm-up was over"
    )
    level_rows: int = threshold(32, "rows", "that it was level for", guard=True)
    climb_rows: int = threshold(48, "rows", "in each third of which the factor is the same")
    climb_alike: float = threshold(
        0.1, "share", "of the largest of these factors: so far are they apart", guard=True
    )


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
        self._worn_rows, self._worn_since = 0, 0
        self._rates = Window(self._limits.climb_rows + 1)
        self._climbs_from, self._climbs_since = 0.0, 0
        """The rate from which it has risen on each row since, 0 while it does not."""
        self._same_rows, self._was_level = 0, False

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row."""
        rate = frame.scalars.get("lr")
        if rate is None or not rate < math.inf:
            return []
        last, self._last = self._last, rate
        self._largest = max(self._largest, rate)
        self._rates.add(rate)
        return (
            self._below_zero(frame, rate)
            or self._gone(frame, rate, last)
            or self._worn(frame, rate, last, baselines)
            or self._climbs(frame, rate, last)
        )

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

    def _gone(self, frame: Frame, rate: float, last: float) -> list[Finding]:
        limits = self._limits
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
        return [_too_small(frame, rate, self._before, since=self._gone_since, cause="gone")]

    def _worn(self, frame: Frame, rate: float, last: float, baselines: Baselines) -> list[Finding]:
        limits = self._limits
        if rate >= limits.worn * self._largest or rate > last:
            self._worn_rows = 0
            return []
        if self._worn_rows == 0:
            self._worn_since = frame.step
        self._worn_rows += 1
        long = max(limits.worn_rows, limits.worn_share * baselines.num_rows)
        if self._worn_rows < long or not baselines.progress.is_stuck:
            return []
        return [_too_small(frame, rate, self._largest, since=self._worn_since, cause="worn")]

    def _climbs(self, frame: Frame, rate: float, last: float) -> list[Finding]:
        if rate <= last:
            self._same_rows = self._same_rows + 1 if rate == last else 0
            self._climbs_from = 0.0
            return []
        if self._climbs_from == 0.0:
            self._climbs_from, self._climbs_since = last, frame.step
            self._was_level = self._same_rows >= self._limits.level_rows
        self._same_rows = 0
        limits = self._limits
        enough = limits.climb_from_level if self._was_level else limits.climb
        if rate < enough * self._climbs_from or not self._is_geometric():
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                severity=Severity.WARNING,
                statistic="lr",
                value=rate,
                baseline=self._climbs_from,
                score=math.log2(rate / self._climbs_from),
                onset_step=self._climbs_since,
                evidence={"cause": "climbs"},
            )
        ]

    def _is_geometric(self) -> bool:
        """Whether each third of the newest rows has multiplied the rate by the same factor."""
        rates, third = self._rates.values(), self._limits.climb_rows // 3
        if len(rates) < self._rates.size or rates[0] <= 0.0:
            return False
        rises = [math.log2(rates[i + third] / rates[i]) for i in range(0, 3 * third, third)]
        return min(rises) > 0.0 and min(rises) >= (1.0 - self._limits.climb_alike) * max(rises)

    def state(self) -> State:
        """What each of the rules remembers of the rates."""
        return {
            "since": self._since,
            "rates": [self._last, self._largest, self._before, self._fell_to],
            "gone": [self._gone_rows, self._gone_since],
            "worn": [self._worn_rows, self._worn_since],
            "rates_of_late": self._rates.state(),
            "climb": [
                self._climbs_from,
                self._climbs_since,
                self._same_rows,
                int(self._was_level),
            ],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        since = state["since"]
        self._since = None if since is None else int(since)
        self._last, self._largest, self._before, self._fell_to = map(float, state["rates"])
        self._gone_rows, self._gone_since = (int(n) for n in state["gone"])
        self._worn_rows, self._worn_since = (int(n) for n in state["worn"])
        self._rates.restore(state["rates_of_late"])
        climbs_from, *counts = state["climb"]
        self._climbs_from = float(climbs_from)
        self._climbs_since, self._same_rows, was_level = (int(n) for n in counts)
        self._was_level = bool(was_level)


def _too_small(frame: Frame, rate: float, before: float, *, since: int, cause: str) -> Finding:
    return run_finding(
        frame,
        detector=NAME,
        kind="update_too_small",
        severity=Severity.WARNING,
        statistic="lr",
        value=rate,
        baseline=before,
        onset_step=since,
        evidence={"cause": cause},
    )
