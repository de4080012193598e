"""Symmetry: units that are copies of one another and can never become anything else.

`representation_collapse`, critical, on 12 rows: all elements of a trained weight matrix are the
same to a thousandth of their mean, and so are those of its gradient to a hundredth. Two units with
the same weights on both sides get the same gradients, so that a layer that begins with a constant
stays one unit, however wide it is. Of such a network the first and the last matrix do not show it,
because inputs and targets differ; any in between does.

- Quiet: matrices of zeros, with fewer than 16 elements or with a side of 1, as gates and scales
  that begin at one; gradients that differ, which break the symmetry (Adam's first updates do not:
  they are one rate for every element, as of the spreads of Bayesian weights).

Source: the argument for random initial weights is that of every textbook (Goodfellow et al. 2016,
section 8.4); the limits are those of rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import Indices, Layout
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "symmetry"


@dataclass(frozen=True, slots=True, kw_only=True)
class SymmetryThresholds(Thresholds):
    """The numbers of the rules above."""

    weight_share: float = threshold(
        1e-3, "share", "of the mean that elements of a weight differ by"
    )
    gradient_share: float = threshold(
        1e-2, "share", "of the mean that those of its gradient differ by"
    )
    least_elements: int = threshold(16, "count", "elements of a matrix that is judged", guard=True)
    rows: int = threshold(12, "rows", "so long must it last")


class Symmetry:
    """Watches for matrices whose elements are all the same."""

    name = NAME
    thresholds = SymmetryThresholds

    def __init__(self, limits: SymmetryThresholds | None = None) -> None:
        self._limits = limits or SymmetryThresholds()
        self._wide = PerLayout(self._wide_matrices)
        self._alike = Streaks()

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, limits = baselines.layout, baselines.row, self._limits
        wide = self._wide.of(layout)
        same = row.std[wide] <= limits.weight_share * np.abs(row.mean[wide])
        if not any_of(same) and not self._alike.running:
            return []
        gradient = layout.gradient_of[wide]
        same &= row.std[gradient] <= limits.gradient_share * np.abs(row.mean[gradient])
        same &= (row.mean[wide] != 0) & (row.mean[gradient] != 0)
        alike, measured = np.zeros((2, layout.num_series), np.bool_)
        alike[wide] = same
        measured[wide] = row.measured[wide] & row.measured[gradient]
        self._alike.update(layout, holds=alike, measured=measured, step=frame.step)
        return series_findings(
            frame,
            self._alike.lasting(limits.rows),
            order=layout.flow,
            detector=NAME,
            kind="representation_collapse",
            severity=Severity.CRITICAL,
            statistic="rms",
            value=row.rms,
            baseline=row.rms,
            since=self._alike.since,
            evidence={"cause": "symmetry"},
        )

    def _wide_matrices(self, layout: Layout) -> Indices:
        """Weights with a gradient and two sides or more of at least 2, as indices of series."""
        wide = [
            s.numel >= self._limits.least_elements and sum(side > 1 for side in s.shape) >= 2
            for s in layout.schema.series
        ]
        return np.flatnonzero((layout.gradient_of >= 0) & np.array(wide, np.bool_))

    def state(self) -> State:
        """The streaks."""
        return {"alike": self._alike.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._alike.restore(state["alike"])
