"""Saturation: bounded activations that sit at their limits, where the gradient is next to nothing.

`saturation`: the mean square of a tanh-like output is above 0.78, or that of 2 x - 1 for a
sigmoid-like one, on 20 measured rows. A uniform spread over the range gives 0.33; at 0.78 tanh
passes on an average of 22 % of the gradient, since its slope is 1 - tanh^2.

Modules are known by their type (`Tanh`, `Sigmoid`, recurrent layers, ...); the deepest output is
left out, because a classifier that has learned is sure of its answers. So are gates and codes that
have: rows on which the loss falls, or is below a tenth of its first values, do not count.
Source: SageMaker Debugger's SaturatedActivation for the idea; the slope of tanh for the limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import Layout
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "saturation"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturationThresholds(Thresholds):
    """The numbers of the rules above."""

    mean_square: float = threshold(
        0.78, "share", "mean square of a bounded output, 1 at its limits"
    )
    rows: int = threshold(12, "rows", "so long must it be above")
    sure_share: float = threshold(
        0.1, "share", "of the first losses: below it, a code is only sure", guard=True
    )


class Saturation:
    """Watches outputs of bounded functions."""

    name = NAME
    thresholds = SaturationThresholds

    def __init__(self, limits: SaturationThresholds | None = None) -> None:
        self._limits = limits or SaturationThresholds()
        self._at_limits = Streaks()
        self._bounded = PerLayout(_bounded)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, limits = baselines.layout, baselines.row, self._limits
        bounded = self._bounded.of(layout)
        if bounded is None:
            return []
        squares = np.where(layout.symmetric, row.rms**2, 4.0 * (row.std**2 + (row.mean - 0.5) ** 2))
        learns = baselines.progress.falls or baselines.progress.left() < limits.sure_share
        holds = (
            bounded & (not learns) & (squares > limits.mean_square) & (row.abs_max <= 1.0 + 1e-3)
        )
        self._at_limits.update(layout, holds=holds, measured=row.measured, step=frame.step)
        return series_findings(
            frame,
            self._at_limits.lasting_or_rare(limits.rows),
            order=layout.depth,
            detector=NAME,
            kind="saturation",
            severity=Severity.WARNING,
            statistic="mean_square",
            value=squares,
            since=self._at_limits.since,
        )

    def state(self) -> State:
        """The streaks."""
        return {"at_limits": self._at_limits.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._at_limits.restore(state["at_limits"])


def _bounded(layout: Layout) -> Bools | None:
    """Outputs of bounded functions but for the deepest; None where there are none."""
    bounded = (layout.symmetric | layout.one_sided) & ~layout.is_output
    return bounded if bounded.any() else None
