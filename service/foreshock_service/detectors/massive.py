"""Massive activations, and activations that grow geometrically with depth.

- `massive_activation`: the largest element of a hidden activation is 16 times the rms of its
  non-zero elements, 4 times what that was at the start, and itself above its start by 4; the excess
  kurtosis is above 100; on 20 measured rows. Few channels or tokens then carry the layer. Kurtosis
  counts elements of that size (one among n has a kurtosis of n), so heavy tails alone, at 40 in
  sound regressions, do not reach it. Where it is not measured the first three decide.
- `explosion`, with depth: among at least 6 hidden layers of one module type a straight line through
  log2 rms over depth rises by 10 octaves from the first layer to the last, on 10 rows; or by 6, and
  by 4 more than at the start, on 20 rows. The correlation with depth must be 0.9: geometric growth
  is a line, a layer that starts at zero is none. A network that is built like that is so on every
  row: one incident, which stays open.

Softmax and its relatives are left out, since attention that finds its key is peaked by design,
sigmoids, which are gates, and look-up tables, whose rows are as frequent as their keys.
Source: Sun et al. 2024 (arXiv 2402.17762) for massive activations, there 1000 times the median;
Brock et al. 2021 (arXiv 2101.08692) for growth with depth: without normalisation the variance of a
residual network doubles a block, half an octave of rms, so that 10 octaves are 20 blocks unbounded;
sound networks in this project's collections rise by less than 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from foreshock_service.detectors.baseline import ABS_MAX, RMS, START_ROWS, Baselines
from foreshock_service.detectors.emit import run_finding, series_findings
from foreshock_service.detectors.layout import ACTIVATION, Indices, Layout, Mask
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Floats, all_of, any_of
from foreshock_service.detectors.streak import Streaks
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import median
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "massive"

_PEAKED: Final = frozenset({"Softmax", "Softmax2d", "LogSoftmax", "Softmin", "Sigmoid"})


@dataclass(frozen=True, slots=True, kw_only=True)
class MassiveThresholds(Thresholds):
    """The numbers of the rules above."""

    peak_octaves: float = threshold(
        4.0, "octaves", "the largest element of an activation above the rms of its non-zero ones"
    )
    peak_growth: float = threshold(2.0, "octaves", "and above what that was at the start")
    own_growth: float = threshold(2.0, "octaves", "the largest element above its own start")
    kurtosis: float = threshold(100.0, "value", "excess kurtosis at the least")
    peak_rows: int = threshold(20, "rows", "so long must it last")
    least_layers: int = threshold(6, "count", "layers of one type that make a depth")
    depth_octaves: float = threshold(10.0, "octaves", "rise of the rms from first to last layer")
    depth_rows: int = threshold(10, "rows", "so long must it last")
    steeper_octaves: float = threshold(6.0, "octaves", "a smaller rise is enough if it is new")
    steeper_growth: float = threshold(4.0, "octaves", "above that of the first rows")
    steeper_rows: int = threshold(20, "rows", "so long must it last")
    start_rows: int = threshold(10, "rows", "rows that make the start")
    straight: float = threshold(
        0.9, "share", "correlation of log2 rms with depth at the least", guard=True
    )


class Massive:
    """Watches single elements of activations, and activations over depth."""

    name = NAME
    thresholds = MassiveThresholds

    def __init__(self, limits: MassiveThresholds | None = None) -> None:
        self._limits = limits or MassiveThresholds()
        self._peaks = Streaks()
        self._stacks: dict[str, _Stack] = {}
        self._keys: tuple[tuple[str, str], ...] = ()
        self._hidden: Mask = np.zeros(0, np.bool_)
        self._layers: dict[str, Indices] = {}

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        self._align(baselines.layout)
        return [*self._massive(frame, baselines), *self._deep(frame, baselines)]

    def _align(self, layout: Layout) -> None:
        if layout.keys is self._keys:
            return
        self._keys = layout.keys
        types = [series.module_type for series in layout.schema.series]
        peaked = np.array([name in _PEAKED for name in types], np.bool_)
        hidden = layout.kind_masks[ACTIVATION] & ~layout.is_output
        self._hidden = hidden & ~peaked & ~layout.is_attention_logit & ~layout.is_look_up
        by_type: dict[str, list[int]] = {}
        for index in np.flatnonzero(hidden):
            by_type.setdefault(types[index], []).append(int(index))
        self._layers = {
            name: np.array(sorted(found, key=lambda i: int(layout.depth[i])), np.int64)
            for name, found in by_type.items()
            if len(found) >= self._limits.least_layers
        }

    def _massive(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        row, limits = baselines.row, self._limits
        measured = row.measured & self._hidden
        # Zeros make the rms smaller, so what is no peak with them is none without.
        near = measured & (row.log_abs_max - row.log_rms > limits.peak_octaves)
        if not any_of(near) and not self._peaks.running:
            return []
        start = baselines.value("start", ABS_MAX)
        peak = row.log_abs_max - _dense(row.log_rms, row.zero_frac)
        peak_start = start - _dense(baselines.value("start"), baselines.zero_start)
        holds = (peak > limits.peak_octaves) & (peak - peak_start > limits.peak_growth)
        holds &= row.log_abs_max - start > limits.own_growth
        kurtosis = row.columns["kurtosis"]
        holds &= np.isnan(kurtosis) | (kurtosis > limits.kurtosis)
        holds &= baselines.value("count") >= START_ROWS
        self._peaks.update(baselines.layout, holds=holds, measured=measured, step=frame.step)
        return series_findings(
            frame,
            self._peaks.lasting(limits.peak_rows),
            order=baselines.layout.depth,
            detector=NAME,
            kind="massive_activation",
            severity=Severity.WARNING,
            statistic="peak",
            value=np.exp2(peak),
            baseline=np.exp2(peak_start),
            score=peak,
            since=self._peaks.since,
        )

    def _deep(self, frame: Frame, baselines: Baselines) -> list[Finding]:
        found, row = [], baselines.row
        for name, layers in self._layers.items():
            levels, known = row.log_rms[layers], row.known[RMS][layers]
            if not all_of(known):
                levels = levels[known]
            if levels.size < self._limits.least_layers:
                continue
            stack = self._stacks.setdefault(name, _Stack())
            if stack.is_calm(float(levels.max() - levels.min()), self._limits):
                continue
            rise = _rise(levels)
            if stack.grows(rise, levels, frame.step, self._limits):
                found.append(
                    run_finding(
                        frame,
                        detector=NAME,
                        kind="explosion",
                        severity=Severity.WARNING,
                        statistic="depth_growth",
                        value=float(np.exp2(rise)),
                        score=rise,
                        onset_step=stack.since,
                        evidence={"num_layers": levels.size, "module_type": name},
                    )
                )
        return found

    def state(self) -> State:
        """The streaks, and the stacks by module type."""
        return {
            "peaks": self._peaks.state(),
            "stacks": {name: stack.state() for name, stack in self._stacks.items()},
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._peaks.restore(state["peaks"])
        self._stacks = {name: _Stack.of(item) for name, item in state["stacks"].items()}


@dataclass(slots=True)
class _Stack:
    """The layers of one module type: how their rise has gone, and what was told of it."""

    start: list[float] = field(default_factory=list)
    rows: int = 0
    newer_rows: int = 0
    since: int = 0

    def is_calm(self, span: float, limits: MassiveThresholds) -> bool:
        """Whether levels within a span are no rise: a line through them has 1.5 spans at most."""
        started = len(self.start) >= limits.start_rows and not self.rows + self.newer_rows
        return started and 1.5 * span < min(limits.depth_octaves, limits.steeper_octaves)

    def grows(self, rise: float, levels: Floats, step: int, limits: MassiveThresholds) -> bool:
        """Whether the rise of these levels has lasted on this row."""
        if len(self.start) < limits.start_rows:
            self.start.append(rise)
        far = rise > limits.depth_octaves
        newer = rise > max(limits.steeper_octaves, median(self.start) + limits.steeper_growth)
        if (far or newer) and not _straightness(levels) >= limits.straight:
            far = newer = False
        if (far or newer) and not self.rows + self.newer_rows:
            self.since = step
        self.rows = self.rows + 1 if far else 0
        self.newer_rows = self.newer_rows + 1 if newer else 0
        return self.rows >= limits.depth_rows or self.newer_rows >= limits.steeper_rows

    def state(self) -> list[Any]:
        return [list(self.start), self.rows, self.newer_rows, self.since]

    @classmethod
    def of(cls, state: Any) -> _Stack:
        start, rows, newer_rows, since = state
        return cls(list(start), rows, newer_rows, since)


def _dense(log_rms: Floats, zero_frac: Floats) -> Floats:
    """log2 rms over the elements that are not zero."""
    zeros = np.nan_to_num(zero_frac, nan=0.0)
    return np.asarray(log_rms - 0.5 * np.log2(np.maximum(1.0 - zeros, 1e-12)))


def _rise(levels: Floats) -> float:
    """Rise of a straight line from the first to the last of the levels."""
    place, place_squares = _places(levels.size)
    # The depths are around their middle, so that the levels need not be.
    return float(levels @ place) / place_squares * (levels.size - 1)


def _straightness(levels: Floats) -> float:
    """The correlation of the levels with their depth."""
    place, place_squares = _places(levels.size)
    off = levels - levels.mean()
    spread = math.sqrt(float((off**2).sum()) * place_squares)
    return float((off * place).sum()) / spread if spread > 0 else 0.0


@lru_cache(maxsize=64)
def _places(count: int) -> tuple[Floats, float]:
    """Depths around their middle, and the sum of their squares; there are few numbers of layers."""
    place = np.arange(count, dtype=np.float64) - 0.5 * (count - 1)
    return place, float((place**2).sum())
