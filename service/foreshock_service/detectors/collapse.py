"""Representation collapse: every sample of a batch is answered alike.

`representation_collapse`: an activation's spread over the batch, as a share of its rms, is below an
eighth of what it was in the first rows, and below a twelfth in all, on 20 measured rows. A constant
added to every sample (a bias, a large mean) lowers the share too, but seldom by so much.

A network learns the mean answer before it tells samples apart: on the first 100 rows of a run the
spread itself must have fallen to half, and 60 rows are waited for, of which none counts for a
deepest activation on which the loss falls. An activation that was there on less than half of the
measured rows, or has fewer than a quarter of its first elements, is that of an expert, which may
have got one sample. In a game, outputs that have a quarter of their first spread left are those of
a critic whose returns lie far from nought.

Needs the statistic `batch_std`; without it nothing is said. Normalising layers are not exempt: they
divide by the spread over the units of one sample, not over the batch.
Source: Lyle et al. 2023 (arXiv 2303.01486) and the dead-direction measures of self-supervised
learning for the idea.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import ACTIVATION, Indices
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "collapse"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseThresholds(Thresholds):
    """The numbers of the rules above."""

    collapsed: float = threshold(1 / 12, "share", "spread over the batch below so much of the rms")
    of_start: float = threshold(1 / 8, "share", "and below so much of what it was at the start")
    start_rows: int = threshold(10, "rows", "rows that make the start")
    rows: int = threshold(20, "rows", "so long must it be below")
    young_rows: int = threshold(100, "rows", "of a run, on which activations are given time")
    young_spread: float = threshold(
        0.5, "share", "of the spread at the start must be lost on those, whatever the mean does"
    )
    young_lasting_rows: int = threshold(60, "rows", "so long must one be below on those")
    game_spread: float = threshold(
        0.25, "share", "of an output's spread at the start that may be left in a game"
    )
    least_size: float = threshold(
        0.25, "share", "of the elements at the start: what has fewer is an expert", guard=True
    )
    used: float = threshold(
        0.5, "share", "of the measured rows: what is used on fewer is an expert", guard=True
    )


class Collapse:
    """Watches how far activations tell the samples of a batch apart."""

    name = NAME
    thresholds = CollapseThresholds

    def __init__(self, limits: CollapseThresholds | None = None) -> None:
        self._limits = limits or CollapseThresholds()
        self._start = SeriesMemory("share", "spread", "size", "rows")
        self._collapsed = Streaks()

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, row, start = baselines.layout, baselines.row, self._start
        start.align(layout)
        if "batch_std" not in layout.column:
            return []
        activations = layout.indices[ACTIVATION]
        shares = row.batch_std[activations] / row.rms[activations]
        known = np.fmax(start["rows"][activations], 0.0)
        spreads = row.batch_std[activations]
        sizes = row.finite_count[activations]
        self._learn(activations, shares, spreads, sizes, known)
        near = (known >= self._limits.start_rows) & (shares < self._limits.collapsed)
        if not any_of(near) and not self._collapsed.running:
            return []
        share = np.full(layout.num_series, np.nan)
        share[activations] = shares
        limit = np.minimum(self._limits.collapsed, self._limits.of_start * start["share"])
        holds = share < limit
        holds[activations] &= near
        is_young = baselines.num_rows <= self._limits.young_rows
        if is_young:
            holds[activations] &= spreads < self._limits.young_spread * start["spread"][activations]
        if baselines.is_game:
            # Returns lie far from nought, and a critic that knows tells them apart still.
            wide = spreads > self._limits.game_spread * start["spread"][activations]
            holds[activations] &= ~(wide & layout.is_output[activations])
        if is_young and baselines.progress.falls:
            holds &= ~layout.is_output
        # An expert that gets one sample has nothing to tell apart.
        holds[activations] &= sizes >= self._limits.least_size * start["size"][activations]
        seen = baselines.value("seen")
        holds &= seen >= self._limits.used * np.max(seen[activations])
        self._collapsed.update(layout, holds=holds, measured=np.isfinite(share), step=frame.step)
        rows = self._limits.young_lasting_rows if is_young else self._limits.rows
        return series_findings(
            frame,
            self._collapsed.lasting_or_rare(rows),
            order=layout.depth,
            detector=NAME,
            kind="representation_collapse",
            severity=Severity.CRITICAL,
            statistic="batch_spread",
            value=share,
            baseline=start["share"],
            since=self._collapsed.since,
        )

    def _learn(
        self, activations: Indices, shares: Floats, spreads: Floats, sizes: Floats, rows: Floats
    ) -> None:
        """Take the shares of young activations into their starts."""
        young = np.isfinite(shares) & (rows < self._limits.start_rows)
        if not any_of(young):
            return
        young_ones, share, count = activations[young], shares[young], rows[young]
        for name, values in (("share", share), ("spread", spreads[young]), ("size", sizes[young])):
            before = np.where(count == 0, values, self._start[name][young_ones])
            self._start[name][young_ones] = before + (values - before) / (count + 1)
        self._start["rows"][young_ones] = count + 1

    def state(self) -> State:
        """Starts and streaks."""
        return {"start": self._start.state(), "collapsed": self._collapsed.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._start.restore(state["start"])
        self._collapsed.restore(state["collapsed"])
