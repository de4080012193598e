"""Softmax taken twice: cross entropy of what are probabilities already.

`plateau`, a warning that names the output. A cross entropy of K probabilities can be no less than
log(e + K - 1) - 1, where all of the weight is on the right class, and no more than log(e + K - 1).
So it cannot fall to nought: the network drives its logits apart for a loss that has an end. Told
where

- the first losses are log K, to 2 %, for the K units of a deepest activation;
- no loss has left these bounds, as one wrong answer that a network is sure of would;
- the logits of one unit differ between samples by 2.5, as a standard deviation, on 8 measured rows:
  a network that is right as often as it is sure would be below them since 2.

With fewer than 4 classes the bounds are too wide to say so. Runs that are seen from their middle on
are left alone, for nobody knows their first losses.
Source: ours, from the two bounds of the formula; PyTorch's `CrossEntropyLoss` takes logits, and a
model that ends in a softmax is a common mistake that raises no error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import units_of_outputs
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "doubled"

ROUNDING: Final = 1e-3
"""In which a loss in bfloat16, or an average, may leave the bounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubledThresholds(Thresholds):
    """The numbers of the rule above."""

    classes: int = threshold(4, "count", "units of the output at the least")
    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    start_rows: int = threshold(4, "rows", "losses that make the start")
    start_share: float = threshold(
        0.02, "share", "of log K, by which the start may differ from it", guard=True
    )
    spread: float = threshold(2.5, "value", "of the logits between samples")
    rows: int = threshold(8, "rows", "measured ones on which they are so far apart")


class Doubled:
    """Holds each loss against the bounds of a softmax of probabilities."""

    name = NAME
    thresholds = DoubledThresholds

    def __init__(self, limits: DoubledThresholds | None = None) -> None:
        self._limits = limits or DoubledThresholds()
        self._outputs = PerLayout(units_of_outputs)
        self._start = Window(self._limits.start_rows)
        self._smallest, self._largest = math.inf, -math.inf
        self._over = False
        self._rows, self._since = 0, 0

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row, for as long as the loss stays within the bounds."""
        loss, limits = frame.scalars.get("loss"), self._limits
        if self._over or loss is None:
            return []
        units = self._outputs.of(baselines.layout)
        outputs = {index: k for index, k in units.items() if k >= limits.classes}
        self._over = not math.isfinite(loss) or baselines.is_joined(limits.first_step)
        if self._over or not outputs:
            return []
        self._smallest, self._largest = min(self._smallest, loss), max(self._largest, loss)
        if len(self._start) < limits.start_rows:
            self._start.add(loss)
            return []
        within = {index: k for index, k in outputs.items() if self._is_within(k)}
        self._over = not within
        spreads = baselines.row.batch_std
        apart = [index for index in within if spreads[index] > limits.spread]
        if not apart:
            return []
        if self._rows == 0:
            self._since = frame.step
        self._rows += 1
        if self._rows < limits.rows:
            return []
        which = np.zeros(baselines.layout.num_series, np.bool_)
        which[apart] = True
        least = _least(within[apart[0]])
        return series_findings(
            frame,
            which,
            order=baselines.layout.depth,
            detector=NAME,
            kind="plateau",
            severity=Severity.WARNING,
            statistic="batch_std",
            value=spreads,
            baseline=np.full(which.size, limits.spread),
            since=np.full(which.size, self._since),
            evidence={"least_loss": least, "classes": within[apart[0]]},
        )

    def _is_within(self, classes: int) -> bool:
        """Whether the start is that of so many classes, and all losses are within their bounds."""
        start, least = math.log(classes), _least(classes)
        return (
            abs(self._start.median() - start) <= self._limits.start_share * start
            and self._smallest >= least * (1.0 - ROUNDING)
            and self._largest <= (least + 1.0) * (1.0 + ROUNDING)
        )

    def state(self) -> State:
        """The bounds that were reached, and the streak."""
        return {
            "start": self._start.state(),
            "bounds": [self._smallest, self._largest],
            "over": self._over,
            "rows": [self._rows, self._since],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._start.restore(state["start"])
        self._smallest, self._largest = (float(x) for x in state["bounds"])
        self._over = bool(state["over"])
        self._rows, self._since = (int(n) for n in state["rows"])


def _least(classes: int) -> float:
    """The least cross entropy of so many probabilities: all weight is on the right one."""
    return math.log(math.e + classes - 1) - 1.0
