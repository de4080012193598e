"""The learning rate itself: a rate below zero climbs the loss.

`divergence`, critical, at once: the logged learning rate `lr` is negative. A linear
decay that nobody stops goes through zero, and the damage is slow and looks like overfitting.

Source: ours; PyTorch's optimizers check the rate that they are built with, not what a schedule
makes of it later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.thresholds import Thresholds
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "rate"


class Rate:
    """Watches the scalar `lr`."""

    name = NAME
    thresholds = Thresholds

    def __init__(self, limits: Thresholds | None = None) -> None:
        self._since: int | None = None

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        rate = frame.scalars.get("lr")
        if rate is None or rate >= 0.0 or rate != rate:
            self._since = self._since if rate is None else None
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

    def state(self) -> State:
        """The step at which the rate went below zero."""
        return {"since": self._since}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._since = state["since"]
