"""Lone tensors: one that leaves its place among its peers, and stays away.

The place of a matrix' gradient or update, or of an activation, is its log2 rms less the median
one's of its kind, so that what a batch, a rate or a loss does to all is not in it. On 3 measured
rows in a row it stands 3 octaves (an activation 2.5) and 6 scales above its usual place, and an
octave above its own centre, for where all others fall nobody rose: `gradient_spike` for a gradient,
`update_too_large` for an update, `explosion` for an activation other than the deepest; warnings.
One that moves alone has a wrong sum, a wrong scale or a group of its own.

The usual place is an average over about 48 rows. It does not learn from rows that are away, until
96 of them have made a new normal. One row is left to `spike`, growth that builds up to `growth`.
Source: ours; small-batch noise moves healthy matrices together, and single ones for a row or two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import RMS, Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import ACTIVATION, GRADIENT, UPDATE, Indices, Layout
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, all_of, any_of, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "lone"
WATCHED: Final = (ACTIVATION, GRADIENT, UPDATE)

PLACE_ROWS: Final = 48
SCALE_FLOOR: Final = 0.1
NOBODY: Final[Indices] = np.zeros(0, np.int64)
NOWHERE: Final[Floats] = np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneThresholds(Thresholds):
    """The numbers of the rules above."""

    octaves: float = threshold(3.0, "octaves", "a tensor above its usual place among its peers")
    activation_octaves: float = threshold(2.5, "octaves", "the same of an activation")
    significance: float = threshold(6.0, "sigmas", "and beyond so many scales of that place")
    own_octaves: float = threshold(
        1.0, "octaves", "and above its own centre: others that fall are no rise of it", guard=True
    )
    among: int = threshold(3, "count", "tensors of its kind that must be known", guard=True)
    rows: int = threshold(3, "rows", "so long must it last")
    first_rows: int = threshold(32, "rows", "rows of a tensor before it is judged")
    new_normal_rows: int = threshold(96, "rows", "a place kept for so long is a new normal")


class Lone:
    """Watches the places of activations, gradients and updates among their peers."""

    name = NAME
    thresholds = LoneThresholds

    def __init__(self, limits: LoneThresholds | None = None) -> None:
        self._limits = limits or LoneThresholds()
        self._usual = SeriesMemory("rows", "place", "scale")
        self._away = Streaks()
        self._needed = PerLayout(self._octaves)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, usual = baselines.layout, self._usual
        usual.align(layout)
        series, place = self._places(baselines)
        if not series.size:
            return []
        rows, usual_place = np.fmax(usual["rows"][series], 0.0), usual["place"][series]
        above = place - usual_place
        # One call of numpy costs as much as a hundred series: most rows have none far above.
        if any_of(above > self._needed.of(layout)[series]) or self._away.running:
            found, learns = self._judge(frame, baselines, series, place, above)
            if not all_of(learns):
                series, place = series[learns], place[learns]
                rows, usual_place = rows[learns], usual_place[learns]
        else:
            found = []
        self._learn(series, place, rows, usual_place)
        return found

    def _judge(
        self, frame: Frame, baselines: Baselines, series: Indices, place: Floats, above: Floats
    ) -> tuple[list[Finding], Bools]:
        """What is told of the row, and which of the matrices learn their place from it."""
        layout, limits, usual = baselines.layout, self._limits, self._usual
        scale = np.maximum(usual["scale"][series], SCALE_FLOOR)
        far = (
            (usual["rows"][series] >= limits.first_rows)
            & (above > self._needed.of(layout)[series])
            & (above > limits.significance * scale)
            & (baselines.deviation()[series] > limits.own_octaves)
        )
        away, known = np.zeros((2, layout.num_series), np.bool_)
        away[series], known[series] = far, True
        self._away.update(layout, holds=away, measured=known, step=frame.step)
        learns = ~(far & (self._away.rows[series] < limits.new_normal_rows))
        lasting = self._away.lasting(limits.rows)
        found: list[Finding] = []
        if not any_of(lasting):
            return found, learns
        everywhere = np.full((2, layout.num_series), np.nan)
        everywhere[:, series] = place, above
        place, above = everywhere
        for of, kind in (
            (ACTIVATION, "explosion"),
            (GRADIENT, "gradient_spike"),
            (UPDATE, "update_too_large"),
        ):
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
        return found, learns

    def _octaves(self, layout: Layout) -> Floats:
        """Above their usual places [series]; outputs grow from near zero as they learn."""
        octaves = np.full(layout.num_series, self._limits.octaves)
        octaves[layout.kind_masks[ACTIVATION]] = self._limits.activation_octaves
        octaves[layout.is_output] = np.inf
        return octaves

    def _places(self, baselines: Baselines) -> tuple[Indices, Floats]:
        """The tensors that have peers, as indices of series, and log2 rms over their median."""
        matrices, places = [], []
        for kind in WATCHED:
            of_kind = baselines.layout.matrices[kind]
            logs, known = baselines.logs()[of_kind], baselines.row.known[RMS][of_kind]
            if not all_of(known):
                of_kind, logs = of_kind[known], logs[known]
            if logs.size and logs.size >= self._limits.among:
                matrices.append(of_kind)
                places.append(logs - middle(logs))
        if not matrices:
            return NOBODY, NOWHERE
        return np.concatenate(matrices), np.concatenate(places)

    def _learn(self, series: Indices, place: Floats, rows: Floats, usual_place: Floats) -> None:
        """Move the usual places [series] towards those of the row; those of no row begin there."""
        usual, scale = self._usual, self._usual["scale"][series]
        fresh = rows == 0
        if any_of(fresh):
            usual_place, scale = np.where(fresh, place, usual_place), np.where(fresh, 0.0, scale)
        weight = np.maximum(1.0 / (rows + 1.0), 1.0 / PLACE_ROWS)
        off = place - usual_place
        usual["place"][series] = usual_place + weight * off
        # Mean absolute deviation to standard deviation of a normal: sqrt(pi / 2).
        usual["scale"][series] = scale + weight * (1.2533 * np.abs(off) - scale)
        usual["rows"][series] = rows + 1.0

    def state(self) -> State:
        """The usual places and the streaks."""
        return {"usual": self._usual.state(), "away": self._away.state()}

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._usual.restore(state["usual"])
        self._away.restore(state["away"])
