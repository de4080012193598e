"""Overwritten weights: updates so large that a few steps replace what was learned.

`update_too_large`, a warning: over 12 rows the median size of an update, the median over at least
two matrices of rms of update / rms of weight, is above a quarter, after the first 8 rows. It needs
no history, so that a rate which is far too high from the first step on is told as well.

Names nobody: when all updates are too large it is a rate or an accumulator. Sound small networks
at the largest rates that train them reach a tenth; the first rows are left out, since weights that
begin at zero are all update.
Source: SageMaker Debugger's WeightUpdateRatio (10) for the idea; the limit is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.update_sizes import median_update
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "overwrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverwriteThresholds(Thresholds):
    """The numbers of the rules above."""

    share: float = threshold(0.25, "share", "of the weight that an update is")
    rows: int = threshold(12, "rows", "whose median it is")
    first_rows: int = threshold(8, "rows", "rows before them, in which weights may begin at zero")
    least_matrices: int = threshold(2, "count", "matrices at the least")


class Overwrite:
    """Holds the run's update size against an absolute limit."""

    name = NAME
    thresholds = OverwriteThresholds

    def __init__(self, limits: OverwriteThresholds | None = None) -> None:
        self._limits = limits or OverwriteThresholds()
        self._rows = 0
        self._sizes = Window(self._limits.rows)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row; none on a row without updates."""
        limits, update = self._limits, median_update(baselines)
        if update is None or update.updates.size < limits.least_matrices:
            return []
        self._rows += 1
        if self._rows <= limits.first_rows:
            return []
        self._sizes.add(2.0**update.size)
        level = self._sizes.median()
        if len(self._sizes) < limits.rows or level <= limits.share:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="update_too_large",
                severity=Severity.WARNING,
                statistic="update_size",
                value=level,
                baseline=limits.share,
                score=level / limits.share,
                evidence={"cause": "overwritten"},
            )
        ]

    def state(self) -> State:
        """The last sizes."""
        return {"rows": self._rows, "sizes": self._sizes.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._rows = int(state["rows"])
        self._sizes.restore(state["sizes"])
