"""Number formats: what the exponents of a tensor say of the format that the run computes in.

- `precision_underflow` of gradients: half of the non-zero elements of a gradient lie below the
  normal range of its format, where float16 has only some of its bits left and then none, in at
  least 3 matrices and a fifth of them, on 3 frames with exponent histograms. The format is the
  series' own, or float16 where the run says so or logs a loss scale, which counts then. Where the
  run says float8, tensors are scaled one by one: the elements that do not fit between the largest
  and the least value of E5M2 are counted instead.
- `precision_overflow`: a float32 activation of a run in float16 holds elements of 2^17 or more,
  which the next product in float16 makes Inf of; or any float32 or bfloat16 tensor elements of
  2^121 or more, seven octaves from the end; on 2 frames with histograms.
- `precision_underflow` of updates, from every row: half of the matrices of bfloat16 weights have
  updates below 2^-9 of the weight, half a unit in its last place, and half of their elements do not
  change; on 100 rows in which the loss has not come down by 2 %, while the rate is at half of its
  largest or above and the loss above a tenth of its start; in runs seen from their start.

Bins are of four exponents and count only where they lie beyond a limit altogether. Formats that
nobody uses are not asked about: small gradients in float32 are no fault.
Source: Micikevicius et al. 2018 (arXiv 1710.03740) and 2022 (arXiv 2209.05433) for the formats;
IEEE 754 for half a unit in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import Baselines
from foreshock_service.detectors.emit import series_findings
from foreshock_service.detectors.layout import (
    ACTIVATION,
    ACTIVATION_GRAD,
    GRADIENT,
    Indices,
    Layout,
    Mask,
)
from foreshock_service.detectors.number_formats import FORMATS
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats, Row
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window, median
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "formats"

_BIN_OCTAVES: Final = 4
_BIAS: Final = 127
_FIRST, _LAST = 1, 63
"""Bin 0 has the zeros, bin 63 Inf and NaN among its elements."""
_WIDE: Final = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatsThresholds(Thresholds):
    """The numbers of the rules above."""

    small_share: float = threshold(
        0.5, "share", "of a gradient's non-zero elements are below the normal range"
    )
    least_matrices: int = threshold(3, "count", "matrices at the least")
    share_of_matrices: float = threshold(0.2, "share", "of the matrices at the least")
    small_frames: int = threshold(3, "rows", "frames with histograms on which it lasts")
    large_frames: int = threshold(2, "rows", "the same for elements that are too large")
    end_octaves: float = threshold(
        7.0, "octaves", "float32 and bfloat16 this near to their end are too large", guard=True
    )
    rounding: float = threshold(2.0**-9, "share", "an update below so much of a bfloat16 weight")
    unchanged: float = threshold(0.5, "share", "of its elements do not change")
    of_weights: float = threshold(0.5, "share", "of the matrices of bfloat16 weights")
    noise_rows: int = threshold(100, "rows", "so long must updates be lost in rounding")
    better: float = threshold(
        0.02, "share", "a loss that came down by so much in that time learns", guard=True
    )
    high_rate: float = threshold(
        0.5, "share", "of its largest: a lower rate is meant to be small", guard=True
    )
    converged: float = threshold(
        0.1, "share", "of the first losses: what is below has learned", guard=True
    )
    first_step: int = threshold(10, "steps", "a run that begins later is seen from its middle on")
    start_rows: int = threshold(10, "rows", "losses that make the start")


class Formats:
    """Watches exponents against the formats in use, and updates against bfloat16's rounding."""

    name = NAME
    thresholds = FormatsThresholds

    def __init__(self, limits: FormatsThresholds | None = None) -> None:
        self._limits = limits or FormatsThresholds()
        self._small = Streaks()
        self._large = Streaks()
        self._lost = Streaks()
        self._losses = Window(self._limits.noise_rows)
        self._start = Window(self._limits.start_rows)
        self._largest_rate = 0.0
        self._keys: tuple[tuple[str, str], ...] = ()
        self._dtypes: tuple[str, ...] = ()
        self._rounded: Mask = np.zeros(0, np.bool_)

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        layout = baselines.layout
        if layout.keys is not self._keys:
            self._keys = layout.keys
            self._dtypes = tuple(series.dtype for series in layout.schema.series)
            weights = np.zeros(layout.num_series, np.bool_)
            weights[layout.updated] = True
            of_bfloat = np.array([dtype == "bfloat16" for dtype in self._dtypes], np.bool_)
            self._rounded = weights & layout.is_matrix & ~layout.is_look_up & of_bfloat
        found = self._noise(frame, baselines) if self._rounded.any() else []
        if frame.histograms and frame.schema.series:
            found += [*self._too_small(frame, baselines), *self._too_large(frame, baselines)]
        return found

    def _too_small(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, limits = baselines.layout, self._limits
        gradients = layout.of_kind(GRADIENT, ACTIVATION_GRAD) & layout.is_matrix
        run = _run_format(frame, baselines)
        share = np.full(layout.num_series, np.nan)
        for index, histogram in _of(frame, gradients & ~layout.is_look_up):
            limit = self._smallest(frame, baselines.row, index, run)
            if limit is not None:
                share[index] = _share(histogram, below=limit)
        judged = np.isfinite(share)
        if not judged.any():
            return []
        holds = judged & (share >= limits.small_share)
        if holds.sum() < max(limits.least_matrices, limits.share_of_matrices * judged.sum()):
            holds = np.zeros_like(judged)
        self._small.update(layout, holds=holds, measured=judged, step=frame.step)
        return self._told(
            frame,
            layout,
            mask=self._small.lasting(limits.small_frames),
            since=self._small.since,
            kind="precision_underflow",
            share=share,
            run=run,
        )

    def _smallest(self, frame: Frame, row: Row, index: int, run: str) -> float | None:
        """log2 of the value below which an element is lost; None where no format says so."""
        own = self._dtypes[index]
        if own not in _WIDE and own != "float64":
            return float(FORMATS[own].normal) if own in FORMATS else None
        if run == "float16":
            scale = frame.scalars.get("loss_scale", 1.0)
            usable = math.isfinite(scale) and scale > 0
            return FORMATS[run].normal - (math.log2(scale) if usable else 0.0)
        if run == "float8":
            fitting = FORMATS["float8_e5m2"]
            return float(row.log_abs_max[index]) - (fitting.top - fitting.least)
        return None

    def _too_large(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, limits = baselines.layout, self._limits
        run = _run_format(frame, baselines)
        share = np.full(layout.num_series, np.nan)
        wide = np.array([dtype in _WIDE for dtype in self._dtypes], np.bool_)
        for index, histogram in _of(frame, wide):
            top = float(FORMATS[self._dtypes[index]].top) - limits.end_octaves
            if run == "float16" and layout.kind_masks[ACTIVATION][index]:
                top = float(FORMATS[run].top)
            share[index] = _share(histogram, above=top)
        judged = np.isfinite(share)
        holds = judged & (share > 0)
        self._large.update(layout, holds=holds, measured=judged, step=frame.step)
        return self._told(
            frame,
            layout,
            mask=self._large.lasting(limits.large_frames),
            since=self._large.since,
            kind="precision_overflow",
            share=share,
            run=run,
        )

    def _told(
        self,
        frame: Frame,
        layout: Layout,
        *,
        mask: Mask,
        since: Indices,
        kind: str,
        share: Floats,
        run: str,
    ) -> list[Finding]:
        if not mask.any():
            return []
        first = int(np.flatnonzero(mask)[np.argmin(layout.flow[mask])])
        own = self._dtypes[first]
        return series_findings(
            frame,
            mask,
            order=layout.flow,
            detector=NAME,
            kind=kind,
            severity=Severity.WARNING,
            statistic="share_outside",
            value=share,
            since=since,
            evidence={"number_format": run if run and own in _WIDE else own},
        )

    def _noise(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        layout, row, limits = baselines.layout, baselines.row, self._limits
        learns = self._learns(frame, baselines)
        update = layout.update_of
        size = row.rms[update] / np.where(row.rms > 0, row.rms, np.nan)
        measured = self._rounded & np.isfinite(size)
        if not measured.any():
            return []
        lost = measured & (size < limits.rounding) & (row.zero_frac[update] > limits.unchanged)
        if learns or lost.sum() < limits.of_weights * measured.sum():
            lost = np.zeros_like(lost)
        self._lost.update(layout, holds=lost, measured=measured, step=frame.step)
        return series_findings(
            frame,
            self._lost.lasting(limits.noise_rows),
            order=layout.depth,
            detector=NAME,
            kind="precision_underflow",
            severity=Severity.WARNING,
            statistic="update_size",
            value=size,
            baseline=np.full(layout.num_series, limits.rounding),
            since=self._lost.since,
            evidence={"number_format": "bfloat16"},
        )

    def _learns(self, frame: Frame, baselines: Baselines) -> bool:
        """Whether the loss still falls, or has no need to, or the rate is meant to be low."""
        limits = self._limits
        rate = frame.scalars.get("lr")
        if rate is not None and math.isfinite(rate):
            self._largest_rate = max(self._largest_rate, rate)
            if rate < limits.high_rate * self._largest_rate:
                return True
        loss = frame.scalars.get("loss")
        if loss is not None and math.isfinite(loss):
            self._losses.add(loss)
            if len(self._start) < limits.start_rows:
                self._start.add(loss)
        losses = self._losses.values()
        third = len(losses) // 3
        if third < limits.start_rows:
            return True
        before, now = median(losses[:third]), median(losses[-third:])
        if baselines.is_joined(limits.first_step):
            return True
        if abs(now) < limits.converged * abs(self._start.median()):
            return True
        return before - now > limits.better * abs(before)

    def state(self) -> State:
        """Streaks, losses and the largest rate."""
        return {
            "small": self._small.state(),
            "large": self._large.state(),
            "lost": self._lost.state(),
            "losses": self._losses.state(),
            "start": self._start.state(),
            "largest_rate": self._largest_rate,
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._small.restore(state["small"])
        self._large.restore(state["large"])
        self._lost.restore(state["lost"])
        self._losses.restore(state["losses"])
        self._start.restore(state["start"])
        self._largest_rate = float(state["largest_rate"])


def _run_format(frame: Frame, baselines: Baselines) -> str:
    """What the run computes in, as far as it says; a loss scale is float16's."""
    if baselines.facts.number_format:
        return baselines.facts.number_format
    return "float16" if "loss_scale" in frame.scalars else ""


def _of(frame: Frame, mask: Mask) -> list[tuple[int, Floats]]:
    """The histograms of the masked series that can be one."""
    return [
        (index, np.asarray(histogram, np.float64))
        for index, histogram in frame.histograms.items()
        if 0 <= index < mask.size and mask[index] and len(histogram) == _LAST + 1
    ]


def _share(histogram: Floats, *, below: float = -math.inf, above: float = math.inf) -> float:
    """Of the non-zero finite elements those in bins that end at 2^`below` or begin at 2^`above`."""
    counts = histogram[_FIRST:_LAST]
    total = float(counts.sum())
    if not total > 0 or not math.isfinite(total):
        return math.nan
    begins = _BIN_OCTAVES * np.arange(_FIRST, _LAST) - _BIAS
    outside = (begins + _BIN_OCTAVES <= below) | (begins >= above)
    return float(counts[outside].sum()) / total
