"""Updates that no longer follow their gradients, as where clipping takes nearly all of them.

`update_too_small`, a warning that names nobody: of SGD, whose update is the rate times an average
of the gradients, the median log2(update / gradient / rate) over the matrices falls, in the median
of the newest 8 rows, 0.6 octaves below the least of the 100 before them, or of as many as there are
from 60 on. Gradients that grow or shrink take their updates along, and a rate is divided out.

Told long before updates are too small to learn from. Quiet while the loss falls, and once less than
a hundredth of the first losses is left; optimizers that divide by the size of the gradient are left
alone, for with them a gradient that grows does the same. Begins anew where layers thaw.
Source: ours; in sound runs of SGD it fell by 0.25 octaves at the most. A norm to clip by that is
one of another loss, model or unit raises no error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.membership import Membership
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import middle
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import (
    is_sgd,
    matrix_sizes,
    pairs_of,
    size_finding,
)
from foreshock_service.detectors.window import Window, median
from foreshock_service.domain.findings import Finding
from foreshock_service.domain.frames import Frame

NAME: Final = "clipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedThresholds(Thresholds):
    """The numbers of the rule above."""

    octaves: float = threshold(0.6, "octaves", "updates by gradient and rate below their least")
    rows: int = threshold(8, "rows", "that make the new level")
    before_rows: int = threshold(100, "rows", "that the least is of")
    first_rows: int = threshold(60, "rows", "before there is one")


class Clipped:
    """Watches what SGD makes of its gradients."""

    name = NAME
    thresholds = ClippedThresholds

    def __init__(self, limits: ClippedThresholds | None = None) -> None:
        self._limits = limits or ClippedThresholds()
        self._pairs = PerLayout(pairs_of)
        self._members = Membership()
        self._clear()

    def _clear(self) -> None:
        self._sizes = Window(self._limits.rows + self._limits.before_rows)
        self._steps = Window(self._limits.rows)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row."""
        rate, limits = frame.scalars.get("lr"), self._limits
        if not is_sgd(baselines.facts) or frame.skipped:
            return []
        if rate is None or not 0.0 < rate < math.inf:
            return []
        sizes = matrix_sizes(self._pairs.of(baselines.layout), baselines.row, rate)
        if sizes is None:
            return []
        if self._members.grows(sizes.update.size):
            self._clear()
        self._sizes.add(middle(sizes.by_gradient))
        self._steps.add(frame.step)
        values = self._sizes.values()
        newest, before = values[-limits.rows :], values[: -limits.rows]
        if len(before) < limits.first_rows or newest[-1] >= before[-1]:
            return []  # As on half of all rows: no need to look for the least.
        level, least = median(newest), min(before)
        if level >= least - limits.octaves or baselines.progress.needs_nothing:
            return []
        first = next(i for i, value in enumerate(newest) if value < least)
        return [
            size_finding(
                frame,
                detector=NAME,
                kind="update_too_small",
                statistic="update_by_gradient",
                size=level,
                usual=least,
                onset_step=int(self._steps[first]),
                evidence={"cause": "clipped"},
            )
        ]

    def state(self) -> State:
        """The windows."""
        return {
            "sizes": self._sizes.state(),
            "steps": self._steps.state(),
            "members": self._members.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._sizes.restore(state["sizes"])
        self._steps.restore(state["steps"])
        self._members.restore(state["members"])
