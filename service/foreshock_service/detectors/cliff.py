"""Cliffs: a loss that falls at once, from one row to the next.

`bad_batch`, a warning: the newest 4 losses all lie below each of the 64 before them, by 8 sigma, by
a quarter of all progress and by a quarter of the level, while the learning rate is the same to 5 %.
No learning is as sudden. The data have become too easy; or, where the first layer tells samples
apart as it did before, `representation_collapse`, a warning that names the output: it is the loss
that asks for less, as a contrastive one does without its negatives.

A rate that falls takes the loss down with its noise, within some rows; a run that is taken back to
before its damage has been there; players and rewards have no level. `windfall` tells of a loss that
becomes far smaller in more rows than that.
Source: ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.ease import FirstLayer, easier
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window, median, spread
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame

NAME: Final = "cliff"


@dataclass(frozen=True, slots=True, kw_only=True)
class CliffThresholds(Thresholds):
    """The numbers of the rule above."""

    rows: int = threshold(4, "rows", "of losses that all lie below all those before them")
    before_rows: int = threshold(64, "rows", "of losses before them")
    sigmas: float = threshold(8.0, "sigmas", "of those that lie between")
    share: float = threshold(0.25, "share", "of all progress, and of the level, that lies between")
    start_rows: int = threshold(8, "rows", "losses that make the start")
    same_rate: float = threshold(
        0.05, "share", "the learning rate stays within, or it explains the fall", guard=True
    )


class Cliff:
    """Watches the loss for a fall within one row."""

    name = NAME
    thresholds = CliffThresholds

    def __init__(self, limits: CliffThresholds | None = None) -> None:
        self._limits = limits or CliffThresholds()
        size = self._limits.before_rows + self._limits.rows
        self._start = Window(self._limits.start_rows)
        self._losses = Window(size)
        self._least = math.inf  # of the losses before those
        self._rates = Window(self._limits.rows + 1)
        self._steps = Window(self._limits.rows)
        self._input = FirstLayer(size)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row; none on a row without a finite loss."""
        loss, rate, limits = frame.scalars.get("loss"), frame.scalars.get("lr"), self._limits
        if loss is None or not math.isfinite(loss):
            return []
        self._input.follow(baselines)
        if len(self._losses) == self._losses.size:
            self._least = min(self._least, self._losses[0])
        self._losses.add(loss)
        self._steps.add(float(frame.step))
        if rate is not None and math.isfinite(rate):
            self._rates.add(rate)
        if len(self._start) < limits.start_rows:
            self._start.add(loss)
        if baselines.is_game or len(self._losses) < self._losses.size:
            return []
        losses = self._losses.values()
        if losses[-1] >= losses[0]:
            return []  # As on half of all rows: no need to look for the least.
        before, newest = losses[: limits.before_rows], losses[limits.before_rows :]
        gap = min(*before, self._least) - max(newest)
        if gap <= 0 or not self._is_far(gap, before) or self._rate_moved():
            return []
        return easier(
            frame,
            baselines,
            detector=NAME,
            kind="representation_collapse" if self._input.is_as_before() else "bad_batch",
            usual=median(before),
            level=median(newest),
            onset_step=int(self._steps[0]),
            evidence={"eased": "at once"},
        )

    def _is_far(self, gap: float, before: list[float]) -> bool:
        limits, usual = self._limits, median(before)
        progress = max(self._start.median() - usual, 0.0)
        enough = limits.share * max(progress, abs(usual))
        return gap > max(limits.sigmas * spread(before, usual), enough)

    def _rate_moved(self) -> bool:
        rates = self._rates.values()
        return bool(rates) and max(rates) - min(rates) > self._limits.same_rate * max(rates)

    def state(self) -> State:
        """The windows."""
        return {
            "start": self._start.state(),
            "losses": self._losses.state(),
            "least": self._least,
            "rates": self._rates.state(),
            "steps": self._steps.state(),
            "input": self._input.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._start.restore(state["start"])
        self._losses.restore(state["losses"])
        self._least = float(state["least"])
        self._rates.restore(state["rates"])
        self._steps.restore(state["steps"])
        self._input.restore(state["input"])
