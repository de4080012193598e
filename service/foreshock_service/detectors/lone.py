"""Lone tensors: a gradient or an update that leaves its place among its peers, and stays away.

The place of a matrix is its log2 rms less the median one's of its kind, so that what a batch, a
rate or a loss does to all of them is not in it. On 3 measured rows in a row a matrix stands 3
octaves and 6 scales above its usual place, and an octave above its own centre, for where all others
fall nobody rose: `gradient_spike` for a gradient, `update_too_large` for an update; warnings. One
that moves alone has a wrong sum, a wrong scale or a group of its own.

The usual place is an average over about 48 rows. It does not learn from rows that are away, until
96 of them have made a new normal. One row is left to `spike`, growth that builds up to `growth`.
Source: ours; small-batch noise moves healthy matrices together, and single ones for a row or two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import GRADIENT, UPDATE
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "lone"
WATCHED: Final = (GRADIENT, UPDATE)

PLACE_ROWS: Final = 48
SCALE_FLOOR: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneThresholds(Thresholds):
    """The numbers of the rules above."""

    octaves: float = threshold(3.0, "octaves", "a matrix above its usual place among its peers")
    significance: float = threshold(6.0, "sigmas", "and beyond so many scales of that place")
    own_octaves: float = threshold(
        1.0, "octaves", "and above its own centre: others that fall are no rise of it", guard=True
    )
    among: int = threshold(4, "count", "matrices of its kind that must be known", guard=True)
    rows: int = threshold(3, "rows", "so long must it last")
    first_rows: int = threshold(32, "rows", "rows of a tensor before it is judged")
    new_normal_rows: int = threshold(96, "rows", "a place kept for so long is a new normal")


class Lone:
    """Watches the places of gradients and updates among their peers."""

    name = NAME
    thresholds = LoneThresholds

    def __init__(self, limits: LoneThresholds | None = None) -> None:
        self._limits = limits or LoneThresholds()
        self._usual = SeriesMemory("rows", "place", "scale")
        self._away = Streaks()

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, limits, usual = baselines.layout, self._limits, self._usual
        usual.align(layout)
        place = self._places(baselines)
        known = np.isfinite(place)
        if not known.any():
            return []
        rows = np.fmax(usual["rows"], 0.0)
        above = place - usual["place"]
        with np.errstate(invalid="ignore"):
            away = (
                (rows >= limits.first_rows)
                & (above > limits.octaves)
                & (above > limits.significance * np.maximum(usual["scale"], SCALE_FLOOR))
                & (baselines.deviation() > limits.own_octaves)
            )
        self._away.update(layout, holds=away, measured=known, step=frame.step)
        self._learn(place, rows, known & ~(away & (self._away.rows < limits.new_normal_rows)))
        lasting = self._away.lasting(limits.rows)
        if not lasting.any():
            return []
        found: list[Finding] = []
        for of, kind in ((GRADIENT, "gradient_spike"), (UPDATE, "update_too_large")):
            found += series_findings(
                frame,
                lasting & layout.kind_masks[of],
                order=-np.nan_to_num(above),
                detector=NAME,
                kind=kind,
                severity=Severity.WARNING,
                statistic="place",
                value=np.exp2(place),
                baseline=np.exp2(place - above),
                score=above,
                since=self._away.since,
            )
        return found

    def _places(self, baselines: Baselines) -> Floats:
        """log2 rms over that of the median matrix of the same kind [series]; NaN for others."""
        layout, logs = baselines.layout, baselines.logs()
        places = np.full(layout.num_series, np.nan)
        for kind in WATCHED:
            matrices = layout.kind_masks[kind] & layout.is_matrix & np.isfinite(logs)
            if np.count_nonzero(matrices) >= self._limits.among:
                places[matrices] = logs[matrices] - middle(logs[matrices])
        return places

    def _learn(self, place: Floats, rows: Floats, learns: Bools) -> None:
        usual = self._usual
        usual["place"] = np.where(learns & (rows == 0), place, usual["place"])
        usual["scale"] = np.where(learns & (rows == 0), 0.0, usual["scale"])
        weight = learns * np.maximum(1.0 / (rows + 1), 1.0 / PLACE_ROWS)
        off = np.where(learns, place - usual["place"], 0.0)
        usual["place"] = usual["place"] + weight * off
        # Mean absolute deviation to standard deviation of a normal: sqrt(pi / 2).
        usual["scale"] = usual["scale"] + weight * (1.2533 * np.abs(off) - usual["scale"])
        usual["rows"] = rows + learns

    def state(self) -> State:
        """The usual places and the streaks."""
        return {"usual": self._usual.state(), "away": self._away.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._usual.restore(state["usual"])
        self._away.restore(state["away"])
