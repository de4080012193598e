"""Growth: attention logits leaving the useful range, and series that grow without end.

- `attention_logit_growth`: the logged `attn_logit_max`, or the largest absolute value of an
  observed activation whose name says attention logits, exceeds max(25, 3 times its start) on 3
  measured rows. Logits have an absolute scale, since softmax saturates: Wortsman et al. 2023 (arXiv
  2309.14322) see every run above 1e4 diverge and damage from 1e3; at 25 one key is left.
- `explosion`: a series stands above its slow centre by its kind's octaves, by 8 times its
  row-to-row noise, on 5 measured rows, and still doubles within 64 rows. Early growth, warm-up and
  zero initialisation slow down; a fault keeps its pace. 1000 times the slow centre needs no slope.
  An activation that grows by 16 noises while the median one stays within half an octave needs 1.5
  octaves less, after 96 rows: learning moves layers together.
- `update_too_large`: the same for updates, of some tensors while the median update does not follow:
  a schedule moves all of them, a fault moves some.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import (
    ABS_MAX,
    RMS,
    SCALE_FLOOR,
    Baselines,
)
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.excess import excess_growth, growth_limits
from foreshock_service.detectors.layout import (
    ACTIVATION,
    GRADIENT,
    UPDATE,
    WEIGHT,
)
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "growth"

LOGIT_LIMIT: Final = 25.0
LOGIT_START_FACTOR: Final = 3.0
LOGIT_ROWS: Final = 3
START_ROWS: Final = 10

PERSISTENT_ROWS: Final = 5
DOUBLING_ROWS: Final = 64
ENORMOUS_OCTAVES: Final = 10.0
FIRST_ROWS: Final = 48
ALONE_OCTAVES: Final = 1.5
ALONE_AMONG: Final = 4
OTHERS_OCTAVES: Final = 0.5
STEADY_NOISES: Final = 16.0
SETTLED_ROWS: Final = 96


class Growth:
    """Watches the attention logits, and every series' slow growth."""

    name = NAME

    def __init__(self) -> None:
        self._logit_start = Window(START_ROWS)
        self._logit_rows = 0
        self._logit_since = 0
        self._logits = Streaks()
        self._growing = Streaks()

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        return [
            *self._logit_scalar(frame),
            *self._logit_series(frame, baselines),
            *self._growth(frame, baselines),
        ]

    def _logit_scalar(self, frame: Frame) -> list[Finding]:
        value = frame.scalars.get("attn_logit_max")
        if value is None or not math.isfinite(value):
            return []
        if len(self._logit_start) < START_ROWS:
            self._logit_start.add(abs(value))
        start = float(np.median(self._logit_start.array()))
        if abs(value) <= max(LOGIT_LIMIT, LOGIT_START_FACTOR * start):
            self._logit_rows = 0
            return []
        if self._logit_rows == 0:
            self._logit_since = frame.step
        self._logit_rows += 1
        if self._logit_rows < LOGIT_ROWS:
            return []
        return [
            run_finding(
                frame,
                detector=NAME,
                kind="attention_logit_growth",
                severity=Severity.WARNING,
                statistic="attn_logit_max",
                value=value,
                baseline=start,
                score=abs(value) / LOGIT_LIMIT,
                onset_step=self._logit_since,
            )
        ]

    def _logit_series(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        if not layout.is_attention_logit.any():
            return []
        start = np.exp2(np.nan_to_num(baselines.value("start", ABS_MAX), nan=-np.inf))
        with np.errstate(invalid="ignore"):
            above = row.abs_max > np.maximum(LOGIT_LIMIT, LOGIT_START_FACTOR * start)
        holds = np.asarray(layout.is_attention_logit & above)
        self._logits.update(layout, holds=holds, measured=row.measured, step=frame.step)
        return series_findings(
            frame,
            self._logits.lasting(LOGIT_ROWS),
            order=self._logits.since,
            detector=NAME,
            kind="attention_logit_growth",
            severity=Severity.WARNING,
            statistic="abs_max",
            value=row.abs_max,
            baseline=start,
            score=row.abs_max / LOGIT_LIMIT,
            since=self._logits.since,
        )

    def _growth(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row = baselines.layout, baselines.row
        growth = excess_growth(baselines)
        needed = growth_limits(layout) - self._alone(baselines)
        with np.errstate(invalid="ignore"):
            keeps_pace = baselines.slope() * DOUBLING_ROWS > 1.0
            holds = np.asarray(
                (baselines.value("count") >= FIRST_ROWS)
                & (growth > needed)
                & (keeps_pace | (growth > ENORMOUS_OCTAVES))
            )
        self._growing.update(layout, holds=holds, measured=row.measured, step=frame.step)
        mask = self._growing.lasting(PERSISTENT_ROWS)
        updates = mask & (layout.kind == UPDATE)
        grown = mask & layout.of_kind(ACTIVATION, WEIGHT, GRADIENT)
        found: list[Finding] = []
        for which, kind in ((grown, "explosion"), (updates, "update_too_large")):
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
            )
        return found

    def _alone(self, baselines: Baselines) -> Floats:
        """Octaves less that an activation needs which grows while the others stay [series]."""
        layout = baselines.layout
        less = np.zeros(layout.num_series)
        activations = layout.kind_masks[ACTIVATION]
        growth = baselines.growth()
        known = activations & np.isfinite(growth)
        if known.sum() < ALONE_AMONG or np.median(np.abs(growth[known])) > OTHERS_OCTAVES:
            return less
        noise = np.maximum(baselines.value("noise"), SCALE_FLOOR)
        with np.errstate(invalid="ignore"):
            steady = activations & (growth > STEADY_NOISES * noise)
            steady &= baselines.value("count") >= SETTLED_ROWS
        less[steady & ~layout.is_output & ~layout.is_attention_logit] = ALONE_OCTAVES
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
