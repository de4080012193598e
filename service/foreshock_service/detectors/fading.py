"""Fading: layers whose weights or outputs shrink away while the rest of the network goes on.

`representation_collapse`, a warning, on 12 measured rows: a weight matrix stands 1.75 octaves
below the largest level that it has had, or an activation 3, and the median matrix, or a quarter of
the activations, has fallen by no more than half of that: what one layer loses is lost to all after
it. A decay that is far too strong, a gain that goes to nought, a part of the loss that is gone:
what a layer says becomes small, then the same for all inputs.

Of all weights (a warning, nobody is named): the median matrix stands 0.75 octaves below its slow
average, of some 256 rows, on 12 rows. A decay that is counted in another unit, or taken on each
micro-batch, shrinks all of them; sound ones keep their size while they learn.

The level is the running average over 8 rows, so that a single row says nothing; the outputs of the
network are left out, since targets near zero make them small, and so are activations while the loss
falls: what shrinks then is learning. In sound training activations fall by up to 2.5 octaves from
their peak and matrices by 1.4.

Names the tensors that have fallen furthest, of those that fell alike the first in the flow, and
weights before what they put out.
Source: Lyle et al. 2023 (arXiv 2303.01486) for shrinking representations; the limits are ours, from
runs of small networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import START_ROWS, Baselines
from foreshock_service.detectors.emit import (
    by_size_then_flow,
    fall_of_all,
    series_findings,
    with_alike,
)
from foreshock_service.detectors.layout import ACTIVATION, WEIGHT, Indices
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, all_of, any_of, lower_quartile, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "fading"
NOTHING: Final[Indices] = np.zeros(0, np.int64)
WEIGHTS_FIRST: Final = 1e3
"""Octaves that no fall reaches: a weight that fades is the cause of what it makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FadingThresholds(Thresholds):
    """The numbers of the rules above."""

    weight_octaves: float = threshold(1.75, "octaves", "a weight below the largest level it had")
    activation_octaves: float = threshold(3.0, "octaves", "an activation below the largest it had")
    common_share: float = threshold(
        0.5, "share", "of that fall: if the others fell as far, all of them shrink", guard=True
    )
    rising_octaves: float = threshold(
        0.25, "octaves", "above its average of 8 rows: what rises does not sink", guard=True
    )
    all_octaves: float = threshold(
        0.75, "octaves", "the median weight matrix below its slow average"
    )
    all_still_octaves: float = threshold(
        0.05, "octaves", "that the median one sinks meanwhile", guard=True
    )
    all_matrices: int = threshold(3, "count", "matrices that a median is of at the least")
    rows: int = threshold(12, "rows", "so long must it last")


class Fading:
    """Watches weights and activations for levels that sink."""

    name = NAME
    thresholds = FadingThresholds

    def __init__(self, limits: FadingThresholds | None = None) -> None:
        self._limits = limits or FadingThresholds()
        self._highest = SeriesMemory("level")
        self._fading = Streaks()
        self._all_rows, self._all_since, self._all_first = 0, 0, math.nan
        self._hidden = PerLayout(
            lambda layout: np.flatnonzero(layout.kind_masks[ACTIVATION] & ~layout.is_output)
        )

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, limits = baselines.layout, self._limits
        self._highest.align(layout)
        level = baselines.value("fast")
        highest = self._highest["level"]
        settled = baselines.value("seen") >= START_ROWS
        np.fmax(highest, level, out=highest, where=True if all_of(settled) else settled)
        fall = highest - level
        weights = layout.matrices[WEIGHT]
        outputs = NOTHING if baselines.progress.falls else self._hidden.of(layout)
        faded = np.zeros(layout.num_series, np.bool_)
        any_faded = False
        for which, octaves, usual in (
            (weights, limits.weight_octaves, middle),
            (outputs, limits.activation_octaves, lower_quartile),
        ):
            falls = fall[which]
            sinks = falls > octaves
            if any_of(sinks):
                # What rises again was put down on purpose, as adapters that begin anew.
                sinks &= ~(baselines.logs()[which] - level[which] > limits.rising_octaves)
                common = usual(falls[np.isfinite(falls)])
                faded[which] = sinks & ~(common > limits.common_share * falls)
                any_faded = any_of(faded)
        found = self._all(frame, baselines, weights)
        if any_faded or self._fading.running:
            found += self._told(frame, baselines, faded, fall)
        return found

    def _all(self, frame: Frame, baselines: Baselines, weights: Indices) -> list[Finding]:
        """Rows on which no weights were measured say neither one nor the other."""
        growth, limits = baselines.growth()[weights], self._limits
        known = np.isfinite(growth)
        num_known = np.count_nonzero(known)
        if num_known < limits.all_matrices:
            return []
        # Half of them at the least, before a median is asked for.
        many = 2 * np.count_nonzero(growth < -limits.all_octaves) >= num_known
        fall = -middle(growth[known]) if many else 0.0
        if fall <= limits.all_octaves:
            self._all_rows = 0
            return []
        size = middle(baselines.logs()[weights][known])
        if self._all_rows == 0:
            self._all_since, self._all_first = frame.step, size
        self._all_rows += 1
        # Weights that were cut once stay where they are.
        if self._all_rows < limits.rows or size > self._all_first - limits.all_still_octaves:
            return []
        return [
            fall_of_all(
                frame,
                detector=NAME,
                kind="representation_collapse",
                size=size,
                fall=fall,
                onset_step=self._all_since,
            )
        ]

    def _told(
        self, frame: Frame, baselines: Baselines, faded: Bools, fall: Floats
    ) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        self._fading.update(layout, holds=faded, measured=row.measured, step=frame.step)
        lasting = self._fading.lasting_or_rare(self._limits.rows)
        if not any_of(lasting):
            return []
        if not any_of(lasting & layout.kind_masks[WEIGHT]):
            outputs = layout.kind_masks[ACTIVATION] & ~layout.is_output & row.measured
            lasting = with_alike(lasting, fall, outputs)
        weights_first = np.where(layout.kind_masks[WEIGHT], WEIGHTS_FIRST, 0.0)
        return series_findings(
            frame,
            lasting,
            order=by_size_then_flow(lasting, fall + weights_first, layout.flow),
            detector=NAME,
            kind="representation_collapse",
            severity=Severity.WARNING,
            statistic="rms",
            value=row.rms,
            baseline=np.exp2(self._highest["level"]),
            score=fall,
            since=np.where(self._fading.rows > 0, self._fading.since, frame.step),
        )

    def state(self) -> State:
        """The largest levels and the streaks."""
        return {
            "highest": self._highest.state(),
            "fading": self._fading.state(),
            "all": [self._all_rows, self._all_since, self._all_first],
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._highest.restore(state["highest"])
        self._fading.restore(state["fading"])
        self._all_rows, self._all_since, self._all_first = state["all"]
