"""NaN and Inf: the first tensor in the flow of the step that holds one.

Rule: a measured tensor has a NaN or Inf element, or the logged loss is not finite.
Not a fault: gradients and losses of a step that loss scaling skipped (the frame says `SKIPPED`, or
the run has logged a loss scale, every update is zero or absent, and activations and weights are
finite); a tensor that was born with Inf while the loss is finite (an additive attention mask).
Order: activations from the input up, then gradients from the loss down, updates, weights: a NaN
flows in that order, so the first one is where it was made.
Source: Megatron's rerun state machine and AMP's GradScaler for what is handled; the order is ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import ACTIVATION, ACTIVATION_GRAD, GRADIENT, UPDATE, WEIGHT
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, any_of
from foreshock_service.detectors.thresholds import Thresholds
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "non_finite"


class NonFinite:
    """Finds NaN and Inf."""

    name = NAME
    thresholds = Thresholds

    def __init__(self, limits: Thresholds | None = None) -> None:
        """There is nothing to set: NaN is NaN."""
        self._scales = False

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row, in the order of the flow."""
        row, layout = baselines.row, baselines.layout
        self._scales |= "loss_scale" in frame.scalars
        loss = frame.scalars.get("loss")
        finite_loss = loss is not None and math.isfinite(loss)
        if finite_loss and not any_of(row.bad):
            return []
        never_finite = (baselines.zero_count == 0) & (baselines.value("count") == 0)
        # An additive mask is there from the first row on and does no harm to the loss.
        mask_like = row.bad & never_finite & (layout.kind == ACTIVATION) & finite_loss
        bad = row.bad & ~mask_like
        if self._handled(frame, bad, baselines):
            return []
        found = series_findings(
            frame,
            bad,
            order=layout.flow,
            detector=NAME,
            kind="non_finite",
            severity=Severity.CRITICAL,
            statistic="nan_count" if "nan_count" in layout.column else "inf_count",
            value=row.bad_count,
            baseline=np.zeros(layout.num_series),
        )
        if loss is not None and not math.isfinite(loss):
            found.append(
                run_finding(
                    frame,
                    detector=NAME,
                    kind="non_finite",
                    severity=Severity.CRITICAL,
                    statistic="loss",
                    value=loss,
                )
            )
        return found

    def state(self) -> State:
        """Whether the run has logged a loss scale, which it may not do on every row."""
        return {"scales": self._scales}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._scales = bool(state["scales"])

    def _handled(self, frame: Frame, bad: Bools, baselines: Baselines) -> bool:
        layout, row = baselines.layout, baselines.row
        if bool((bad & layout.of_kind(ACTIVATION, WEIGHT, UPDATE)).any()):
            return False
        if frame.skipped:
            return True
        if not self._scales:
            return False
        updates = layout.of_kind(UPDATE) & row.measured
        still = bool(updates.any()) and not bool((row.rms[updates] > 0).any())
        return still and bool((bad & layout.of_kind(GRADIENT, ACTIVATION_GRAD)).any())
