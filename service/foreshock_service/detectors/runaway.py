"""Runaway: outputs grow without end, and the loss with them, or below nought for want of a bound.

- `explosion`, a warning: within 48 rows the level of the loss (the median of 8) and a deepest
  activation have both grown by 2 octaves, and in each half of them by 0.75, on 3 rows; and the loss
  stands above all of its first 16. Names the output.
- `output_logit_drift`, a warning: a deepest activation has grown by half an octave in each half of
  48 rows, on 3 rows, while a loss that was positive lies further below nought than it began above
  it, and falls ever faster. There is more to gain from what grows than there was to learn: a loss
  without a lower bound. That of a density has none either, but falls ever more slowly;
  one is learned in the first 96 rows, on which nothing is said of such a loss.

An estimate that is made from itself has no bound where it is worth more than it stands for: values
with a discount of one and more, targets that are copies of the network. `growth` waits until the
deepest activation stands 7 octaves above its slow average, for outputs start near zero and grow as
they learn; but then the loss falls.
Source: ours; Sutton and Barto 2018, section 11.3, for values that diverge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "runaway"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunawayThresholds(Thresholds):
    """The numbers of the rule above."""

    window_rows: int = threshold(48, "rows", "over which both must have grown")
    octaves: float = threshold(2.0, "octaves", "growth of the loss and of an output over them")
    half_octaves: float = threshold(0.75, "octaves", "and in each half of them")
    unbounded_half_octaves: float = threshold(
        0.5, "octaves", "growth of an output in each half of them, under a loss without a bound"
    )
    young_rows: int = threshold(96, "rows", "of a run, on which it says nothing of such a loss")
    rows: int = threshold(3, "rows", "so long must it last")
    level_rows: int = threshold(8, "rows", "losses that make a level")
    start_rows: int = threshold(16, "rows", "losses that the level must have passed")


class Runaway:
    """Watches the loss beside the deepest activations."""

    name = NAME
    thresholds = RunawayThresholds

    def __init__(self, limits: RunawayThresholds | None = None) -> None:
        self._limits = limits or RunawayThresholds()
        self._outputs = PerLayout(lambda layout: np.flatnonzero(layout.is_output))
        self._recent = Window(self._limits.level_rows)
        self._losses = Window(self._limits.window_rows + 1)
        self._sizes = Window(self._limits.window_rows + 1)
        self._num_first, self._largest = 0, -math.inf
        self._rows, self._since = 0, 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row; none on a row without a finite loss."""
        loss, limits = frame.scalars.get("loss"), self._limits
        outputs = self._outputs.of(baselines.layout)
        if loss is None or not math.isfinite(loss) or not outputs.size:
            return []
        if self._num_first < limits.start_rows:
            self._num_first += 1
            self._largest = max(self._largest, loss)
        self._recent.add(loss)
        level = self._recent.median()
        # A single number is the loss itself, that of a model that returns it.
        outputs = outputs[baselines.row.std[outputs] != 0]
        size = float(np.fmax.reduce(baselines.value("fast")[outputs], initial=-math.inf))
        if not math.isfinite(size):
            self._forget()
            return []
        self._losses.add(level)
        self._sizes.add(size)
        is_unbounded = baselines.progress.is_unbounded
        young = is_unbounded and baselines.num_rows < limits.young_rows
        if young or not self._runs_away(level, is_unbounded=is_unbounded):
            self._rows = 0
            return []
        if self._rows == 0:
            self._since = frame.step
        self._rows += 1
        if self._rows < limits.rows:
            return []
        which = np.zeros(baselines.layout.num_series, np.bool_)
        which[outputs] = True
        return series_findings(
            frame,
            which,
            order=-baselines.value("fast"),
            detector=NAME,
            kind="output_logit_drift" if is_unbounded else "explosion",
            severity=Severity.WARNING,
            statistic="rms",
            value=np.exp2(baselines.value("fast")),
            baseline=np.full(which.size, 2.0 ** self._sizes[0]),
            score=np.full(which.size, size - self._sizes[0]),
            since=np.full(which.size, self._since),
        )

    def _runs_away(self, level: float, *, is_unbounded: bool) -> bool:
        if len(self._losses) < self._losses.size:
            return False
        limits = self._limits
        if is_unbounded:
            slower, faster = _halves(self._losses)
            grow = min(_halves(self._sizes)) > limits.unbounded_half_octaves
            return grow and faster < slower < 0
        if level <= self._largest or min(self._losses.values()) <= 0:
            return False
        sizes, losses = _halves(self._sizes), _halves(self._losses, math.log2)
        grow = min(sum(losses), sum(sizes)) > limits.octaves
        return grow and min(*losses, *sizes) > limits.half_octaves

    def _forget(self) -> None:
        self._losses.restore([])
        self._sizes.restore([])
        self._rows = 0

    def state(self) -> State:
        """The windows and the counters."""
        return {
            "recent": self._recent.state(),
            "losses": self._losses.state(),
            "sizes": self._sizes.state(),
            "numbers": [self._num_first, self._largest, self._rows, self._since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._recent.restore(state["recent"])
        self._losses.restore(state["losses"])
        self._sizes.restore(state["sizes"])
        num_first, largest, rows, since = state["numbers"]
        self._num_first, self._largest = int(num_first), float(largest)
        self._rows, self._since = int(rows), int(since)


def _halves(window: Window, measure: Callable[[float], float] = float) -> tuple[float, float]:
    """How much a full window has grown in its first half, and since."""
    values = window.values()
    then, halfway, now = (measure(values[i]) for i in (0, len(values) // 2, -1))
    return halfway - then, now - halfway
