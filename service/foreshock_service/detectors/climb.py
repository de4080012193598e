"""Climbs: a loss that rises from the first rows on, and has learned nothing.

`divergence`, critical: the median of each 10 losses since the run began is a tenth above that of
the 10 before, and has come to 3 times the first one, after 40 rows at the least; the gradient norm,
where it is logged, has grown by half meanwhile. `loss` measures damage against what a run had
achieved: one that achieves nothing has nothing to lose.

Runs that are seen from their middle on and games are left alone: values that are learned from
themselves make a loss that grows from next to nothing.
Source: ours; Sutton and Barto 2018, section 11.2, for values that diverge from the start.
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

NAME: Final = "climb"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimbThresholds(Thresholds):
    """The numbers of the rule above."""

    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    level_rows: int = threshold(10, "rows", "losses that make a level")
    rows: int = threshold(40, "rows", "of a run before it is judged")
    each: float = threshold(1.1, "times", "the level before")
    factor: float = threshold(3.0, "times", "the first level of the run")
    norm_factor: float = threshold(1.5, "times", "the first gradient norms", guard=True)


class Climb:
    """Watches the levels of the loss from the first row on, until one does not rise."""

    name = NAME
    thresholds = ClimbThresholds

    def __init__(self, limits: ClimbThresholds | None = None) -> None:
        self._limits = limits or ClimbThresholds()
        self._over = False
        self._losses = Window(self._limits.level_rows)
        self._norms = Window(self._limits.level_rows)
        self._rows, self._since = 0, 0
        self._first, self._last, self._first_norm = math.nan, math.nan, math.nan

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """At most one finding a row, for as long as the loss climbs."""
        loss, norm, limits = frame.scalars.get("loss"), frame.scalars.get("grad_norm"), self._limits
        if self._over or loss is None or not math.isfinite(loss):
            return []
        self._over = loss <= 0 or baselines.is_game or baselines.is_joined(limits.first_step)
        if self._over:
            return []
        if self._rows == 0:
            self._since = frame.step
        self._rows += 1
        self._losses.add(loss)
        if norm is not None and math.isfinite(norm):
            self._norms.add(norm)
        if self._rows % limits.level_rows:
            return []
        level, before = self._losses.median(), self._last
        self._last = level
        if math.isnan(before):
            self._first, self._first_norm = level, self._norms.median()
            return []
        self._over = level <= limits.each * before
        far = level > limits.factor * self._first and self._rows >= limits.rows
        if self._over or not far or self._norms_stay():
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="divergence",
                severity=Severity.CRITICAL,
                statistic="loss",
                value=level,
                baseline=self._first,
                score=level / self._first,
                onset_step=self._since,
            )
        ]

    def _norms_stay(self) -> bool:
        """Of a run that logs none nothing is known."""
        return self._norms.median() <= self._limits.norm_factor * self._first_norm

    def state(self) -> State:
        """The levels and where the run stands."""
        return {
            "over": self._over,
            "losses": self._losses.state(),
            "norms": self._norms.state(),
            "rows": [self._rows, self._since],
            "levels": [self._first, self._last, self._first_norm],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._over = bool(state["over"])
        self._losses.restore(state["losses"])
        self._norms.restore(state["norms"])
        self._rows, self._since = (int(n) for n in state["rows"])
        self._first, self._last, self._first_norm = (float(x) for x in state["levels"])
