"""Windfalls: a loss that improves too suddenly, because the data or the task became too easy.

`bad_batch`, a warning: the median of the last 8 losses is below a quarter of the smallest loss of
all rows before the last 24, the gradient norm has fallen by as much, and over the 64 rows before
that the loss had not even halved. A loader that repeats a batch, a filter that leaves one class, a
sampler that returns nothing: the loss is better than ever, and so nobody looks.

`representation_collapse`, a warning, where the first layer sees what it saw before: its spread over
the batch has moved by no more than a quarter of an octave, and still differs from row to row. Then
it is the loss that asks for less: a term of it is gone, or its targets come from the network. Names
the output, which pays for it.

Learning that breaks through after a plateau falls as fast, but its gradients grow while it does;
here they go with the loss. The onset is the first row of those whose loss was that small, before
the medians followed. Losses that are not positive have no such ratio and are left alone.
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
from foreshock_service.detectors.window import Window, median
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame

NAME: Final = "windfall"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindfallThresholds(Thresholds):
    """The numbers of the rules above."""

    factor: float = threshold(4.0, "times", "the loss below the smallest one before")
    norm_factor: float = threshold(4.0, "times", "the gradient norm below its level before")
    sudden_rows: int = threshold(24, "rows", "within so many rows")
    before_rows: int = threshold(64, "rows", "before them, in which the loss was in no hurry")
    usual_factor: float = threshold(
        2.0, "times", "that it fell by in those at the most", guard=True
    )
    level_rows: int = threshold(8, "rows", "losses that make a level")


class Windfall:
    """Watches the loss and the gradient norm for sudden ease."""

    name = NAME
    thresholds = WindfallThresholds

    def __init__(self, limits: WindfallThresholds | None = None) -> None:
        self._limits = limits or WindfallThresholds()
        size = self._limits.sudden_rows + self._limits.before_rows
        self._losses = Window(size)
        self._norms = Window(size)
        self._smallest = math.inf
        self._since: int | None = None
        self._collapses: bool | None = None
        self._input = FirstLayer(size)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row; none on a row without a loss and a gradient norm."""
        loss, norm = frame.scalars.get("loss"), frame.scalars.get("grad_norm")
        if loss is None or norm is None or not math.isfinite(loss) or not math.isfinite(norm):
            return []
        self._input.follow(baselines)
        limits, size = self._limits, self._limits.sudden_rows + self._limits.before_rows
        if len(self._losses) == size:
            self._smallest = min(self._smallest, self._losses[0])
        self._losses.add(loss)
        self._norms.add(norm)
        losses, norms = self._losses.values(), self._norms.values()
        if len(losses) < size or loss * limits.factor >= min(losses[0], self._smallest):
            self._since = None
            return []
        if self._since is None:
            self._since, self._collapses = frame.step, None
        before, rows = losses[: limits.before_rows], limits.level_rows
        level, usual = median(losses[-rows:]), median(before[-rows:])
        norm_before = median(norms[: limits.before_rows])
        norm_now = median(norms[-rows:])
        eased = (
            min(*before, self._smallest) > 0
            and level * limits.factor < min(*before, self._smallest)
            and norm_now * limits.norm_factor < norm_before
            and median(before[:rows]) < limits.usual_factor * usual
        )
        if not eased:
            return []
        # What it is called first stays its name, though the newest rows become all there is.
        if self._collapses is None:
            self._collapses = self._input.is_as_before()
        return easier(
            frame,
            baselines,
            detector=NAME,
            kind="representation_collapse" if self._collapses else "bad_batch",
            usual=usual,
            level=level,
            onset_step=self._since,
            evidence={"eased": 1, "norm_before": norm_before, "norm": norm_now},
        )

    def state(self) -> State:
        """The windows."""
        return {
            "losses": self._losses.state(),
            "norms": self._norms.state(),
            "smallest": self._smallest,
            "since": self._since,
            "input": self._input.state(),
            "collapses": self._collapses,
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._losses.restore(state["losses"])
        self._norms.restore(state["norms"])
        self._smallest = float(state["smallest"])
        self._since = state["since"]
        self._input.restore(state["input"])
        self._collapses = state["collapses"]
