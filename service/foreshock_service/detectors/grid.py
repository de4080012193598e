"""Grid: gradients that consist of a few steps of a number format's smallest numbers.

`precision_underflow`, a warning, on 16 rows: the largest element of a gradient is below 2^-14, the
least normal float16, and has at most 5 significant bits; in at least two tensors. Below its least
normal number a format has equal steps, of 2^-24 for float16, so that a tensor whose largest element
is a few of them has hardly anything else left: the rest was rounded to zero or to one step. A loss
scale that is taken out again moves the steps to another power of two, and changes no bit.

By chance the largest of many numbers has so few bits on one row in 32, that of bfloat16 gradients
on one in 8. Rows on which such a tensor is all zero are part of it. Vectors below 2^-22 of
the largest gradient are left out: a bias of keys has none, since a softmax feels differences alone,
and what is left of it is rounding.

Names the tensors with the smallest elements first. Clipping by a norm hides the steps.
Source: IEEE 754 for subnormal numbers, Micikevicius et al. 2018 (arXiv 1710.03740) for gradients
among them; the sign is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import GRADIENT
from foreshock_service.detectors.number_formats import FORMATS
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "grid"
LEAST_NORMAL: Final = 2.0 ** FORMATS["float16"].normal
"""Of the only format of gradients whose subnormal numbers training meets."""

ROUNDING: Final = 2.0**-22
"""Of the largest gradient: what float32 leaves of a sum that should be nought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridThresholds(Thresholds):
    """The numbers of the rules above."""

    bits: int = threshold(5, "count", "significant bits of the largest element at the most")
    rows: int = threshold(16, "rows", "so long must it last")
    least_tensors: int = threshold(2, "count", "tensors at the least", guard=True)


class Grid:
    """Watches for small gradients whose largest element has hardly a bit."""

    name = NAME
    thresholds = GridThresholds

    def __init__(self, limits: GridThresholds | None = None) -> None:
        self._limits = limits or GridThresholds()
        self._coarse = Streaks()

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, limits = baselines.layout, baselines.row, self._limits
        gradients = layout.indices[GRADIENT]
        largest = row.abs_max[gradients]
        small = largest < LEAST_NORMAL
        if not any_of(small) and not self._coarse.running:
            return []
        self._coarse.align(layout)
        steps = np.ldexp(np.frexp(largest)[0], limits.bits)
        coarse = small & (steps == np.floor(steps))
        left = (largest > 0) & (largest <= ROUNDING * np.fmax.reduce(largest, initial=0.0))
        coarse &= layout.is_matrix[gradients] | ~left
        coarse &= (largest > 0) | (self._coarse.rows[gradients] > 0)
        holds = np.zeros(layout.num_series, np.bool_)
        holds[gradients] = coarse
        self._coarse.update(layout, holds=holds, measured=row.measured, step=frame.step)
        lasting = self._coarse.lasting(limits.rows)
        if np.count_nonzero(lasting) < limits.least_tensors:
            return []
        return series_findings(
            frame,
            lasting,
            order=row.abs_max,
            detector=NAME,
            kind="precision_underflow",
            severity=Severity.WARNING,
            statistic="abs_max",
            value=row.abs_max,
            baseline=np.full(layout.num_series, LEAST_NORMAL),
            since=self._coarse.since,
        )

    def state(self) -> State:
        """The streaks."""
        return {"coarse": self._coarse.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._coarse.restore(state["coarse"])
