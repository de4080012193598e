"""Lone tensors: those that leave their place among their peers, and stay away.

The place of a matrix' gradient or update, or of an activation, is its log2 rms less the median
one's of its kind, and how far it has moved is told against the median move, so that what a batch, a
rate or a loss does to all is not in it.

- On 3 measured rows in a row it stands 3 octaves (a gradient 3.5, an activation 2.5) and 6 scales
  above its usual place, and an octave above its own centre, for where all others fall nobody rose:
  `gradient_spike` for a gradient, `update_too_large` for an update, `explosion` for an activation
  other than the deepest and attention logits; warnings. A gradient may do so on 12 rows within
  these scales. One that moves alone has a wrong sum, a wrong scale or a group of its own.
- On 20 rows a gradient or an activation other than the deepest stands 3 octaves below, or on 6 rows
  12 octaves, though a quarter of its kind has stayed: `vanishing_gradient`,
  `representation_collapse`; warnings. What one layer loses is lost to all that comes after it, so
  that half of them may sink together.

Of those that moved alike the first in the flow of a step is named. The usual place is an average
over about 128 rows, its scale one of winsorised distances, so that a slow growth does not make room
for itself. It does not learn from rows that are away, until 96 of them have made a new normal. One
row is left to `spike`, growth of all to `growth`.
Source: ours; small-batch noise moves healthy matrices together, and single ones for a row or two.
Places of sound runs stay within 2.5 octaves of such an average for updates, 2 for activations and
1.5 for gradients; and none sank by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from foreshock_service.detectors.baseline import RMS, Baselines
from foreshock_service.detectors.emit import by_size_then_flow, series_findings, with_alike
from foreshock_service.detectors.forecast import overflow
from foreshock_service.detectors.layout import ACTIVATION, GRADIENT, UPDATE, Indices, Layout
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, all_of, any_of, lower_quartile, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "lone"
WATCHED: Final = (ACTIVATION, GRADIENT, UPDATE)

RISEN_KINDS: Final = (
    (ACTIVATION, "explosion"),
    (GRADIENT, "gradient_spike"),
    (UPDATE, "update_too_large"),
)
SUNK_KINDS: Final = ((ACTIVATION, "representation_collapse"), (GRADIENT, "vanishing_gradient"))
PLACE_ROWS: Final = 128
YOUNG_ROWS: Final = 48
WINSOR_SCALES: Final = 2.0
"""Distances count for the scale up to this; all of them in the first rows."""
SCALE_FLOOR: Final = 0.1
NOBODY: Final[Indices] = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoneThresholds(Thresholds):
    """The numbers of the rules above."""

    octaves: float = threshold(3.0, "octaves", "an update above its usual place among its peers")
    gradient_octaves: float = threshold(3.5, "octaves", "the same of a gradient")
    activation_octaves: float = threshold(2.5, "octaves", "the same of an activation")
    significance: float = threshold(6.0, "sigmas", "and beyond so many scales of that place")
    own_octaves: float = threshold(
        1.0, "octaves", "and above its own centre: others that fall are no rise of it", guard=True
    )
    among: int = threshold(3, "count", "tensors of its kind that must be known", guard=True)
    rows: int = threshold(3, "rows", "so long must it last")
    noisy_rows: int = threshold(
        12, "rows", "so long must a gradient that stays within these scales"
    )
    below_octaves: float = threshold(
        3.0, "octaves", "a gradient or an activation below its usual place among its peers"
    )
    below_rows: int = threshold(20, "rows", "so long must that last")
    gone_octaves: float = threshold(12.0, "octaves", "below it, where it is as good as gone")
    gone_rows: int = threshold(6, "rows", "so long must that last")
    first_rows: int = threshold(32, "rows", "rows of a tensor before it is judged")
    below_first_rows: int = threshold(48, "rows", "the same of one that sinks")
    new_normal_rows: int = threshold(96, "rows", "a place kept for so long is a new normal")


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to leave one's place on a row: the tensors for which it `holds`, those that `may` go
    along with them, how far each has `moved` in its direction, `sign`, and how many rows it takes.
    All arrays are [tensors with peers]."""

    streaks: Streaks
    holds: Bools
    may: Bools
    moved: Floats
    sign: float
    rows: int


class Lone:
    """Watches the places of activations, gradients and updates among their peers."""

    name = NAME
    thresholds = LoneThresholds

    def __init__(self, limits: LoneThresholds | None = None) -> None:
        self._limits = limits or LoneThresholds()
        self._usual = SeriesMemory("rows", "log", "scale")
        self._risen = Streaks()
        self._stays = Streaks()
        self._sunk = Streaks()
        self._gone = Streaks()
        self._peers = PerLayout(
            lambda layout: self._grouped([layout.matrices[kind] for kind in WATCHED])
        )
        self._needed = PerLayout(self._octaves)
        self._can_sink = PerLayout(
            lambda layout: layout.of_kind(*(of for of, _ in SUNK_KINDS)) & ~layout.is_output
        )

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout, usual = baselines.layout, self._usual
        usual.align(layout)
        series, kinds = self._with_peers(baselines)
        if not series.size:
            return []
        logs, rows, usual_logs = (
            baselines.logs()[series],
            usual["rows"][series],
            usual["log"][series],
        )
        old = rows > 0
        any_fresh = not all_of(old)
        if any_fresh:
            rows, usual_logs = np.where(old, rows, 0.0), np.where(old, usual_logs, logs)
        above = logs - usual_logs
        for of_kind in kinds:
            # What all of them do is no move of one; nor is it one of all if one passes others by.
            moves = above[of_kind][old[of_kind]] if any_fresh else above[of_kind]
            if moves.size:
                above[of_kind] -= middle(moves)
        # One call of numpy costs as much as a hundred series: most rows have none far above.
        span = float(np.maximum.reduce(above)) - float(np.minimum.reduce(above))
        far = span > self._limits.activation_octaves
        if far or self._risen.running or self._stays.running or self._sunk.running:
            found, learns = self._judge(frame, baselines, series, above)
            if not all_of(learns):
                series, above = series[learns], above[learns]
                rows, usual_logs = rows[learns], usual_logs[learns]
        else:
            found = []
        self._learn(series, above, rows, usual_logs)
        return found

    def _with_peers(self, baselines: Baselines) -> tuple[Indices, list[slice]]:
        """The tensors of the row that have peers, as indices of series, and where those of each
        kind are."""
        series, kinds = self._peers.of(baselines.layout)
        known = baselines.row.known[RMS][series]
        if all_of(known):
            return series, kinds
        return self._grouped([series[of_kind][known[of_kind]] for of_kind in kinds])

    def _grouped(self, of_kinds: list[Indices]) -> tuple[Indices, list[slice]]:
        enough = [of_kind for of_kind in of_kinds if of_kind.size >= self._limits.among]
        ends = np.cumsum([0, *(of_kind.size for of_kind in enough)])
        kinds = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        return np.concatenate([NOBODY, *enough]), kinds

    def _judge(
        self, frame: Frame, baselines: Baselines, series: Indices, above: Floats
    ) -> tuple[list[Finding], Bools]:
        """What is told of the row, and which of the tensors learn their place from it."""
        layout, limits, usual = baselines.layout, self._limits, self._usual
        below = self._below_those_that_stayed(layout.kind[series], above)
        scale = limits.significance * np.maximum(usual["scale"][series], SCALE_FLOOR)
        rows = usual["rows"][series]
        own, needed = baselines.deviation()[series], self._needed.of(layout)[series]
        may_rise = (rows >= limits.first_rows) & (own > limits.own_octaves) & np.isfinite(needed)
        may_sink = (rows >= limits.below_first_rows) & (own < -limits.own_octaves)
        may_sink &= self._can_sink.of(layout)[series]
        high = may_rise & (above > needed)
        learns = np.ones(series.size, np.bool_)
        told = np.zeros(layout.num_series, np.bool_)
        found: list[Finding] = []
        for way in (
            _Way(self._risen, high & (above > scale), may_rise, above, 1.0, limits.rows),
            _Way(
                self._stays,
                high & layout.kind_masks[GRADIENT][series],
                may_rise,
                above,
                1.0,
                limits.noisy_rows,
            ),
            _Way(
                self._sunk,
                may_sink & (below > limits.below_octaves),
                may_sink,
                below,
                -1.0,
                limits.below_rows,
            ),
            _Way(
                self._gone,
                may_sink & (below > limits.gone_octaves),
                may_sink,
                below,
                -1.0,
                limits.gone_rows,
            ),
        ):
            away, measured = np.zeros((2, layout.num_series), np.bool_)
            away[series], measured[series] = way.holds, True
            way.streaks.update(layout, holds=away, measured=measured, step=frame.step)
            learns &= ~(way.holds & (way.streaks.rows[series] < limits.new_normal_rows))
            found += self._tell(frame, baselines, series, way, told)
        return found, learns

    def _tell(
        self, frame: Frame, baselines: Baselines, series: Indices, way: _Way, told: Bools
    ) -> list[Finding]:
        """Findings of the tensors that have been away for long enough, with those that move like
        them; `told` [all series] are those of this row, and gets theirs."""
        layout, streaks = baselines.layout, way.streaks
        lasting = streaks.lasting(way.rows) & ~told
        if not any_of(lasting):
            return []
        octaves = np.full(layout.num_series, np.nan)
        octaves[series] = way.moved
        among = np.zeros(layout.num_series, np.bool_)
        among[series] = way.may & (way.moved > self._limits.own_octaves)
        among &= ~told
        places = self._places(baselines)
        found: list[Finding] = []
        for of, kind in RISEN_KINDS if way.sign > 0 else SUNK_KINDS:
            mine = layout.kind_masks[of] & ~layout.is_output
            alike = with_alike(mine & lasting, octaves, mine & among)
            told |= alike
            found += series_findings(
                frame,
                alike,
                order=by_size_then_flow(alike, octaves, layout.flow),
                detector=NAME,
                kind=kind,
                severity=Severity.WARNING,
                statistic="place",
                value=np.exp2(places),
                baseline=np.exp2(places - way.sign * octaves),
                score=octaves,
                since=np.where(streaks.rows > 0, streaks.since, frame.step),
                evidence=self._forecast(baselines, kind, alike, frame.step),
            )
        return found

    def _below_those_that_stayed(self, kinds: npt.NDArray[np.int8], above: Floats) -> Floats:
        """Octaves below the usual place, as the quarter of a tensor's kind sees it that has sunk
        the least [tensors]: where half of them sink, a median may sink with them or stay."""
        below = -above
        for kind in WATCHED:
            mine = kinds == kind
            if any_of(mine):
                below[mine] -= min(0.0, lower_quartile(below[mine]))
        return below

    def _forecast(
        self, baselines: Baselines, kind: str, told: Bools, step: int
    ) -> dict[str, float | int | str]:
        return overflow(baselines, told, self._risen, step=step) if kind == "explosion" else {}

    def _octaves(self, layout: Layout) -> Floats:
        """Above their usual places [series]; outputs and attention logits grow from near
        zero as they learn."""
        octaves = np.full(layout.num_series, self._limits.octaves)
        octaves[layout.kind_masks[GRADIENT]] = self._limits.gradient_octaves
        octaves[layout.kind_masks[ACTIVATION]] = self._limits.activation_octaves
        octaves[layout.is_output | layout.is_attention_logit] = np.inf
        return octaves

    def _places(self, baselines: Baselines) -> Floats:
        """log2 rms over that of the median tensor of the same kind [series]."""
        places, logs = np.full(baselines.layout.num_series, np.nan), baselines.logs()
        series, kinds = self._with_peers(baselines)
        for of_kind in kinds:
            mine = series[of_kind]
            places[mine] = logs[mine] - middle(logs[mine])
        return places

    def _learn(self, series: Indices, above: Floats, rows: Floats, usual_logs: Floats) -> None:
        """Move what is usual of the tensors [series] towards the row, but for what all of them do:
        the row of a tensor that is new is its usual one."""
        usual, scale = self._usual, self._usual["scale"][series]
        young = rows < YOUNG_ROWS
        any_young = any_of(young)
        if any_young:
            scale = np.where(rows > 0, scale, 0.0)
        weight = 1.0 / np.minimum(rows + 1.0, PLACE_ROWS)
        usual["log"][series] = usual_logs + weight * above
        off, bound = np.abs(above), WINSOR_SCALES * np.maximum(scale, SCALE_FLOOR)
        if any_young:
            off = np.where(rows > 0, off, 0.0)
            bound = np.where(young, np.inf, bound)
        # Mean absolute deviation to standard deviation of a normal: sqrt(pi / 2).
        usual["scale"][series] = scale + weight * (1.2533 * np.minimum(off, bound) - scale)
        usual["rows"][series] = rows + 1.0

    def state(self) -> State:
        """The usual places and the streaks."""
        return {
            "usual": self._usual.state(),
            "risen": self._risen.state(),
            "stays": self._stays.state(),
            "sunk": self._sunk.state(),
            "gone": self._gone.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._usual.restore(state["usual"])
        self._risen.restore(state["risen"])
        self._stays.restore(state["stays"])
        self._sunk.restore(state["sunk"])
        self._gone.restore(state["gone"])
