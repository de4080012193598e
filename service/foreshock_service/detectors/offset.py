"""Output offset: the common level of the outputs runs away, and their differences do not.

`output_logit_drift`, a warning, on 5 measured rows: of a deepest activation the mean is larger than
4 standard deviations, its rms stands 2 octaves above its slow average and still doubles within 64
rows, after 40 rows, while the loss does not fall. It is `drift` for outputs whose log Z nobody
logs: energies, values and contrastive scores, whose loss feels differences only, or a bias that an
update drives.

- Quiet: outputs whose spread grows with them, as those of a classifier that becomes sure; targets
  far from zero, which are reached while the loss falls; players and rewards.

Names the output. Source: ours, after what `drift` cites.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "offset"


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetThresholds(Thresholds):
    """The numbers of the rules above."""

    spreads: float = threshold(4.0, "sigmas", "of the outputs that their mean is away from zero")
    octaves: float = threshold(2.0, "octaves", "of the outputs' rms above its slow average")
    doubling_rows: float = threshold(64.0, "rows", "in which it still doubles")
    first_rows: int = threshold(40, "rows", "rows before outputs are judged", guard=True)
    rows: int = threshold(5, "rows", "so long must it last")


class Offset:
    """Watches the deepest activations for a mean that leaves the spread behind."""

    name = NAME
    thresholds = OffsetThresholds

    def __init__(self, limits: OffsetThresholds | None = None) -> None:
        self._limits = limits or OffsetThresholds()
        self._outputs = PerLayout(lambda layout: np.flatnonzero(layout.is_output))
        self._away = Streaks()

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, limits = baselines.layout, baselines.row, self._limits
        outputs = self._outputs.of(layout)
        if baselines.is_game:
            return []
        far = np.abs(row.mean[outputs]) > limits.spreads * row.std[outputs]
        if not any_of(far) and not self._away.running:
            return []
        far &= baselines.growth()[outputs] > limits.octaves
        far &= baselines.slope()[outputs] * limits.doubling_rows >= 1.0
        far &= baselines.value("count")[outputs] >= limits.first_rows
        away = np.zeros(layout.num_series, np.bool_)
        away[outputs] = far & (not baselines.progress.falls)
        self._away.update(layout, holds=away, measured=row.measured, step=frame.step)
        return series_findings(
            frame,
            self._away.lasting(limits.rows),
            order=layout.depth,
            detector=NAME,
            kind="output_logit_drift",
            severity=Severity.WARNING,
            statistic="rms",
            value=row.rms,
            baseline=np.exp2(baselines.value("slow")),
            score=baselines.growth(),
            since=self._away.since,
        )

    def state(self) -> State:
        """The streaks."""
        return {"away": self._away.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._away.restore(state["away"])
