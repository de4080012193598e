"""Growth: attention logits leaving the useful range, and series that grow without end.

- `attention_logit_growth`: the logged `attn_logit_max` (or the largest of what is named like it, as
  `attention/max_score/3`), or the largest absolute value of an
  observed activation whose name says attention logits, exceeds max(40, 3 times its start) on 3
  measured rows, and twice the 40 while the loss falls. Logits have an absolute scale, since softmax
  saturates: Wortsman et al. 2023 (arXiv 2309.14322) see every run above 1e4 diverge and damage from
  1e3; at 40 one key is left, and sound small models stay below 20.
- `explosion`: a series stands above its slow centre by its kind's octaves, by 8 times its
  row-to-row noise, on 5 measured rows, and still doubles within 64 rows. Early growth, warm-up and
  zero initialisation slow down; a fault keeps its pace. 1000 times the slow centre needs no slope.
  `forecast` adds the step at which the series' number format overflows at this pace.
  Weights are judged after 96 rows, for most of them are on their way from their first values.
  A gradient that is smaller than the median one is still on its way from nought.
  While the loss falls by a tenth within 32 rows only growth of more than 10 octaves is told: what
  grows then is learning. Of gradients nothing is told once the loss has come down to less than half
  within a hundred rows.
  An activation that grows by 16 noises while the median one stays within half an octave needs 1.5
  octaves less, after 96 rows: learning moves layers together.
- `explosion` since the start: an activation other than attention logits stands 8 octaves above its
  first rows and still doubles within 64 rows. A growth that is there from the beginning takes its
  own baseline along; sound networks reach 6.3 with adapters that start at zero.
- `update_too_large`: the same for updates, of some tensors while the median update does not follow:
  a schedule moves all of them, a fault moves some.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import (
    ABS_MAX,
    RMS,
    SCALE_FLOOR,
    Baselines,
)
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.excess import (
    ExcessThresholds,
    any_excess,
    excess_growth,
    growth_limits,
)
from foreshock_service.detectors.forecast import overflow
from foreshock_service.detectors.layout import (
    ACTIVATION,
    GRADIENT,
    UPDATE,
    WEIGHT,
    Layout,
    Mask,
)
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.per_names import PerNames
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, Floats, any_of, middle
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import threshold
from foreshock_service.detectors.window import Window
from foreshock_service.domain.attention import is_in_attention, is_largest_logit
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "growth"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthThresholds(ExcessThresholds):
    """The numbers of the rules above."""

    logit_limit: float = threshold(40.0, "value", "attention logits below it are always sound")
    logit_start_factor: float = threshold(3.0, "times", "attention logits above their start")
    logit_learning_factor: float = threshold(
        2.0, "times", "as much is sound while the loss falls", guard=True
    )
    logit_rows: int = threshold(3, "rows", "so long must they stay above")
    start_rows: int = threshold(10, "rows", "rows that make the start of the attention logits")
    logit_maker_octaves: float = threshold(
        0.5, "octaves", "growth of attention's tensors, and below the largest, to be named for them"
    )
    since_start_octaves: float = threshold(
        8.0, "octaves", "an activation above its first rows, if it still grows"
    )
    persistent_rows: int = threshold(5, "rows", "so long must a growth last")
    doubling_rows: int = threshold(
        64, "rows", "growth that doubles no more within so many rows slows down", guard=True
    )
    enormous_octaves: float = threshold(10.0, "octaves", "growth that needs no pace")
    first_rows: int = threshold(48, "rows", "rows of a series before its growth is judged")
    alone_octaves: float = threshold(
        1.5, "octaves", "less is enough of an activation that grows alone", guard=True
    )
    alone_among: int = threshold(4, "count", "activations that must be known for one to grow alone")
    others_octaves: float = threshold(
        0.5, "octaves", "the median of the others stays within", guard=True
    )
    steady_noises: float = threshold(
        16.0, "sigmas", "an activation that grows alone stands above its noise by so many times"
    )
    settled_rows: int = threshold(96, "rows", "rows of a series before it can grow alone")


class Growth:
    """Watches the attention logits, and every series' slow growth."""

    name = NAME
    thresholds = GrowthThresholds

    def __init__(self, limits: GrowthThresholds | None = None) -> None:
        self._limits = limits or GrowthThresholds()
        self._logit_start = Window(self._limits.start_rows)
        self._logit_rows = 0
        self._logit_since = 0
        self._logits = Streaks()
        self._growing = Streaks()
        self._largest_logits = PerNames(lambda names: [n for n in names if is_largest_logit(n)])
        self._makes_logits = PerLayout(_makers_of_logits)
        self._has_logits = PerLayout(lambda layout: bool(layout.is_attention_logit.any()))
        self._needed = PerLayout(lambda layout: growth_limits(layout, self._limits))
        self._can_rise = PerLayout(
            lambda layout: layout.kind_masks[ACTIVATION] & ~layout.is_attention_logit
        )

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        return [
            *self._logit_scalar(frame, baselines),
            *self._logit_series(frame, baselines),
            *self._growth(frame, baselines),
        ]

    def _logit_scalar(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        names = self._largest_logits.of(frame.scalars)
        values = [abs(frame.scalars[name]) for name in names]
        value = max(filter(math.isfinite, values), default=None)
        if value is None:
            return []
        if len(self._logit_start) < self._limits.start_rows:
            self._logit_start.add(value)
        start = self._logit_start.median()
        limit = self._logit_limit(baselines)
        if value <= max(limit, self._limits.logit_start_factor * start):
            self._logit_rows = 0
            return []
        if self._logit_rows == 0:
            self._logit_since = frame.step
        self._logit_rows += 1
        if self._logit_rows < self._limits.logit_rows:
            return []
        score = value / self._limits.logit_limit
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="attention_logit_growth",
                severity=Severity.WARNING,
                statistic="attn_logit_max",
                value=value,
                baseline=start,
                score=score,
                onset_step=self._logit_since,
            ),
            *self._grown_attention(frame, baselines, score),
        ]

    def _grown_attention(self, frame: Frame, baselines: Baselines, score: float) -> list[Finding]:
        """The tensors of attention that have grown the most since the start: a scalar says that the
        logits are too large, and not where."""
        made_by = self._makes_logits.of(baselines.layout)
        octaves = baselines.value("fast") - baselines.value("start")
        grown = made_by & (octaves > self._limits.logit_maker_octaves)
        if not any_of(grown):
            return []
        grown &= octaves > octaves[grown].max() - self._limits.logit_maker_octaves
        return series_findings(
            frame,
            grown,
            order=-octaves,
            detector=NAME,
            kind="attention_logit_growth",
            severity=Severity.WARNING,
            statistic="rms",
            value=np.exp2(baselines.value("fast")),
            baseline=np.exp2(baselines.value("start")),
            score=np.full(grown.size, score),
            since=np.full(grown.size, self._logit_since),
        )

    def _logit_series(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        if not self._has_logits.of(layout):
            return []
        start = np.exp2(np.nan_to_num(baselines.value("start", ABS_MAX), nan=-np.inf))
        above = row.abs_max > np.maximum(
            self._logit_limit(baselines), self._limits.logit_start_factor * start
        )
        holds = np.asarray(layout.is_attention_logit & above)
        self._logits.update(layout, holds=holds, measured=row.measured, step=frame.step)
        return series_findings(
            frame,
            self._logits.lasting(self._limits.logit_rows),
            order=self._logits.since,
            detector=NAME,
            kind="attention_logit_growth",
            severity=Severity.WARNING,
            statistic="abs_max",
            value=row.abs_max,
            baseline=start,
            score=row.abs_max / self._limits.logit_limit,
            since=self._logits.since,
        )

    def _logit_limit(self, baselines: Baselines) -> float:
        learns = baselines.progress.falls
        return self._limits.logit_limit * (self._limits.logit_learning_factor if learns else 1.0)

    def _growth(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        risen = self._since_start(baselines)
        some = any_of(risen) or self._growing.running
        if not some and not any_excess(baselines, self._limits):
            return []
        growth, needed = excess_growth(baselines, self._limits), self._needed.of(layout)
        if not some and not any_of(growth > needed - self._limits.alone_octaves):
            return []
        needed = needed - self._alone(baselines)
        count, weights = baselines.value("count"), layout.kind_masks[WEIGHT]
        keeps_pace = baselines.slope() * self._limits.doubling_rows > 1.0
        holds = np.asarray(
            (risen | (growth > needed))
            & (keeps_pace | (growth > self._limits.enormous_octaves))
            & (count >= np.where(weights, self._limits.settled_rows, self._limits.first_rows))
        )
        if baselines.progress.has_halved:
            # Gradients are largest on the way down, and where it ends.
            holds &= ~layout.kind_masks[GRADIENT]
        if baselines.progress.falls:
            holds &= growth > self._limits.enormous_octaves
        holds &= ~self._below_most(baselines)
        self._growing.update(layout, holds=holds, measured=row.measured, step=frame.step)
        mask = self._growing.lasting(self._limits.persistent_rows)
        updates = mask & (layout.kind == UPDATE)
        grown = mask & layout.of_kind(ACTIVATION, WEIGHT, GRADIENT)
        found: list[Finding] = []
        forecast = overflow(baselines, grown, self._growing, step=frame.step)
        for which, kind, more in (
            (grown, "explosion", forecast),
            (updates, "update_too_large", None),
        ):
            found += series_findings(
                frame,
                which,
                order=self._growing.since,
                detector=NAME,
                kind=kind,
                severity=Severity.WARNING,
                statistic="rms",
                value=row.rms,
                baseline=np.exp2(baselines.value("slow", RMS)),
                score=np.nan_to_num(growth, nan=0.0, neginf=0.0, posinf=0.0),
                since=self._growing.since,
                evidence=more,
            )
        return found

    def _since_start(self, baselines: Baselines) -> Bools:
        """Activations that stand far above their first rows [series]."""
        layout = baselines.layout
        above = baselines.value("fast") - baselines.value("start")
        return np.asarray(self._can_rise.of(layout) & (above > self._limits.since_start_octaves))

    def _below_most(self, baselines: Baselines) -> Bools:
        """Gradients that are smaller than the median one [series]: they come from nought, as
        behind a gate that opens."""
        layout, rms = baselines.layout, baselines.row.rms
        peers = rms[layout.matrices[GRADIENT]]
        peers = peers[np.isfinite(peers)]
        if not peers.size:
            return np.zeros(layout.num_series, np.bool_)
        return np.asarray(layout.kind_masks[GRADIENT] & (rms < middle(peers)))

    def _alone(self, baselines: Baselines) -> Floats:
        """Octaves less that an activation needs which grows while the others stay [series]."""
        layout = baselines.layout
        less = np.zeros(layout.num_series)
        activations = layout.kind_masks[ACTIVATION]
        growth = baselines.growth()
        known = activations & np.isfinite(growth)
        if (
            known.sum() < self._limits.alone_among
            or middle(np.abs(growth[known])) > self._limits.others_octaves
        ):
            return less
        noise = np.maximum(baselines.value("noise"), SCALE_FLOOR)
        steady = activations & (growth > self._limits.steady_noises * noise)
        steady &= baselines.value("count") >= self._limits.settled_rows
        less[steady & ~layout.is_output & ~layout.is_attention_logit] = self._limits.alone_octaves
        return less

    def state(self) -> State:
        """Starts and streaks."""
        return {
            "logit_start": self._logit_start.state(),
            "logit": [self._logit_rows, self._logit_since],
            "logits": self._logits.state(),
            "growing": self._growing.state(),
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._logit_start.restore(state["logit_start"])
        self._logit_rows, self._logit_since = state["logit"]
        self._logits.restore(state["logits"])
        self._growing.restore(state["growing"])


def _makers_of_logits(layout: Layout) -> Mask:
    """Matrices and activations of attention, but for the logits themselves [series]."""
    named = np.array([is_in_attention(name) for _, name in layout.keys], np.bool_)
    return np.asarray(named & layout.of_kind(ACTIVATION, WEIGHT) & layout.is_matrix)
