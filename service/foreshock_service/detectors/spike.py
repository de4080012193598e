"""Spikes: gradients or activations that jump far above their own normal within a row or two.

- `gradient_spike` of the run: the global gradient norm (logged, or from the tensors' l2) is 15
  times its median of 64 rows, or 12 times twice in 5 rows; beyond 5 sigma; and twice the largest
  of the last 128 rows, and no smaller than its first ones where less than a hundredth of the first
  losses is left. Names the tensors with the largest ratio to their own normal, never the largest
  norm, which a head has every day; of those that jumped alike, to an octave, the one nearest to the
  loss, since what is too large there is as large in all that it comes to.
- `gradient_spike` of a tensor: 48 times its centre, 8 scales, twice its own peak, while the median
  gradient is below 4 times its centre. A vector whose centre is below 2^-16 of the largest one has
  had no gradient but rounding, as a bias in front of a normalisation, and is left out.
- `bad_batch`: activations jump by 4 times, 8 scales and twice their peak together with the gradient
  norm, and the shallowest measured activation is among them: the input itself is what changed.
- `explosion`: the same jump of activations, with no shallowest one among them: a layer did it. If
  the gradient norm has not jumped, the second within 3 measured rows tells.

The deepest output must jump by 16 times, and so must all but the input's while the loss falls; one
of less than 96 rows by 8 times, since its peak is one of a few batches.

Amplitude and significance together, never a z alone: healthy small transformers show gradients of
9 times their median, and very steady series 20 sigma of nothing.
Source: OLMo's SkipStep and StabilityMonitor (6 sigma over 128) for the idea, the study of labelled
runs for the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import YOUNG_ROWS, Baselines
from foreshock_service.detectors.emit import by_size_then_flow, run_finding, series_findings
from foreshock_service.detectors.layout import ACTIVATION, GRADIENT
from foreshock_service.detectors.membership import Membership
from foreshock_service.detectors.norms import gradient_norm, num_gradients
from foreshock_service.detectors.progress import NEXT_TO_NOTHING
from foreshock_service.detectors.protocol import State
from foreshock_service.detectors.row import Bools, any_of
from foreshock_service.detectors.thresholds import Thresholds, threshold
from foreshock_service.detectors.window import Window
from foreshock_service.domain.findings import Finding, Severity
from foreshock_service.domain.frames import Frame

NAME: Final = "spike"
ROUNDING: Final = 2.0**-16
"""Of the largest gradient: a sum of float32 over a batch is not more exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeThresholds(Thresholds):
    """The numbers of the rules above."""

    norm_once_octaves: float = threshold(
        math.log2(15), "octaves", "the gradient norm above its median, once (15 times)"
    )
    norm_twice_octaves: float = threshold(
        math.log2(12), "octaves", "the same, twice in 5 rows (12 times)"
    )
    tensor_octaves: float = threshold(
        math.log2(48), "octaves", "one tensor's gradient above its centre (48 times)"
    )
    activation_octaves: float = threshold(2.0, "octaves", "an activation above its centre")
    young_octaves: float = threshold(
        3.0, "octaves", "the same of one that has been measured on less than 96 rows"
    )
    again_rows: int = threshold(
        3, "rows", "in which it must jump again, where the gradient norm did not jump"
    )
    young_rows: int = threshold(96, "rows", "so long has a peak been the peak of little")
    output_octaves: float = threshold(
        4.0,
        "octaves",
        "the same for the deepest output, and for all but the input's while the loss falls",
    )
    calm_octaves: float = threshold(
        2.0, "octaves", "the median gradient stays within, when one tensor is judged", guard=True
    )
    norm_significance: float = threshold(
        5.0, "sigmas", "the gradient norm beyond so many deviations of the last ones"
    )
    significance: float = threshold(8.0, "sigmas", "a tensor beyond so many scales")
    above_peak_octaves: float = threshold(1.0, "octaves", "and above the largest value so far")
    peak_rows: int = threshold(128, "rows", "gradient norms that the largest is of")
    window_rows: int = threshold(64, "rows", "gradient norms that the median is of")
    first_rows: int = threshold(24, "rows", "rows before anything is judged")


class Spike:
    """Watches the gradient norm, every gradient and every activation."""

    name = NAME
    thresholds = SpikeThresholds

    def __init__(self, limits: SpikeThresholds | None = None) -> None:
        self._limits = limits or SpikeThresholds()
        self._members = Membership()
        self._since_jump = self._limits.again_rows
        self._forget_norms()

    def _forget_norms(self) -> None:
        self._norms = Window(self._limits.window_rows)
        self._peaks = Window(self._limits.peak_rows)
        self._near: list[int] = []
        self._first = -math.inf

    def observe(self, frame: Frame, baselines: Baselines) -> Iterable[Finding]:
        """Findings of this row."""
        gradients = self._jumps(baselines, GRADIENT, self._limits.tensor_octaves)
        activations = self._jumps(baselines, ACTIVATION, self._limits.activation_octaves)
        norm_jump, found = self._norm(frame, baselines, asked=any_of(activations))
        found += self._tensors(frame, baselines, gradients)
        found += self._activations(frame, baselines, activations, norm_jump)
        return found

    def _norm(
        self, frame: Frame, baselines: Baselines, *, asked: bool
    ) -> tuple[bool, list[Finding]]:
        """Whether the norm has jumped, if that is `asked` for, and what is told of it."""
        norm = gradient_norm(frame, baselines)
        if norm is None:
            return False, []
        log_norm = math.log2(norm)
        if self._members.grows(num_gradients(baselines)):
            self._forget_norms()
        if len(self._norms) < self._limits.first_rows:
            self._norms.add(log_norm)
            self._peaks.add(log_norm)
            self._first = self._norms.median()
            return False, []
        beyond = log_norm > self._peaks.largest() + self._limits.above_peak_octaves
        # A median sorts the window, and most rows need none.
        centre = self._norms.median() if beyond or asked else log_norm
        octaves = log_norm - centre
        near = (
            beyond
            and octaves > self._limits.norm_twice_octaves
            # Last, for these sort a window once more.
            and octaves > self._limits.norm_significance * self._norms.spread(centre)
            and not (log_norm < self._first and baselines.progress.left() < NEXT_TO_NOTHING)
        )
        self._near = [*self._near[-4:], int(near)]
        hit = near and (octaves > self._limits.norm_once_octaves or sum(self._near) >= 2)
        if not near:
            self._norms.add(log_norm)
            self._peaks.add(log_norm)
        if not hit:
            return near or octaves > self._limits.activation_octaves, []
        ratio = 2.0**octaves
        found = [
            run_finding(
                frame,
                detector=NAME,
                kind="gradient_spike",
                severity=Severity.WARNING,
                statistic="grad_norm",
                value=norm,
                baseline=2.0**centre,
                score=octaves,
                evidence={"ratio": ratio},
            )
        ]
        deviation = baselines.deviation()
        leading = baselines.layout.of_kind(GRADIENT) & (deviation > octaves - 1.0)
        leading &= _has_a_normal(baselines)
        return True, found + self._gradient_findings(frame, baselines, leading)

    def _jumps(self, baselines: Baselines, kind: int, octaves: float) -> Bools:
        if not baselines.largest_deviation() > octaves:
            return np.zeros(baselines.layout.num_series, np.bool_)
        far = baselines.layout.kind_masks[kind] & (baselines.deviation() > octaves)
        return np.asarray(
            far
            & (baselines.value("count") >= self._limits.first_rows)
            & (baselines.significance() > self._limits.significance)
            & (baselines.logs() > baselines.value("peak") + self._limits.above_peak_octaves)
            & _has_a_normal(baselines)
        )

    def _tensors(self, frame: Frame, baselines: Baselines, jumps: Bools) -> list[Finding]:
        if not any_of(jumps):
            return []
        deviation = baselines.deviation()[baselines.layout.of_kind(GRADIENT)]
        if float(np.nanmedian(deviation)) > self._limits.calm_octaves:
            return []
        return self._gradient_findings(frame, baselines, jumps)

    def _gradient_findings(self, frame: Frame, baselines: Baselines, mask: Bools) -> list[Finding]:
        deviation = baselines.deviation()
        if not any_of(mask):
            return []
        order = by_size_then_flow(mask, deviation, baselines.layout.flow)
        return series_findings(
            frame,
            mask,
            order=order,
            detector=NAME,
            kind="gradient_spike",
            severity=Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=np.exp2(baselines.value("centre")),
            score=deviation,
        )

    def _activations(
        self, frame: Frame, baselines: Baselines, jumps: Bools, norm_jump: bool
    ) -> list[Finding]:
        if not any_of(jumps):
            self._since_jump += any_of(
                baselines.row.measured & baselines.layout.kind_masks[ACTIVATION]
            )
            return []
        layout = baselines.layout
        known = (layout.kind == ACTIVATION) & (baselines.value("count") >= YOUNG_ROWS)
        first = int(layout.depth[known].min())
        # Outputs start near zero, and all of it grows when the loss begins to fall, but the input.
        deviation, limits = baselines.deviation(), self._limits
        free = jumps & (deviation < limits.output_octaves)
        jumps = jumps & ~(free & layout.is_output)
        at_input = any_of(jumps & (layout.depth == first))
        if not at_input:
            young = baselines.value("count") < limits.young_rows
            jumps = jumps & ~(young & (deviation < limits.young_octaves))
            if baselines.progress.falls:
                jumps = jumps & ~free
        again, self._since_jump = self._since_jump < limits.again_rows, 0
        if not any_of(jumps) or not (norm_jump or (again and not at_input)):
            return []
        return series_findings(
            frame,
            jumps,
            order=layout.flow,
            detector=NAME,
            kind="bad_batch" if at_input else "explosion",
            severity=Severity.WARNING,
            statistic="rms",
            value=baselines.row.rms,
            baseline=np.exp2(baselines.value("centre")),
            score=deviation,
        )

    def state(self) -> State:
        """The window of norms."""
        return {
            "norms": self._norms.state(),
            "peaks": self._peaks.state(),
            "near": list(self._near),
            "first": self._first,
            "members": self._members.state(),
            "since_jump": self._since_jump,
        }

    def restore(self, state: State) -> None:
        """Take up a state."""
        self._norms.restore(state["norms"])
        self._peaks.restore(state["peaks"])
        self._near = [int(n) for n in state["near"]]
        self._first = float(state["first"])
        self._members.restore(state["members"])
        self._since_jump = int(state["since_jump"])


def _has_a_normal(baselines: Baselines) -> Bools:
    """Series whose normal is something [series]: a bias in front of a normalisation has no gradient
    but rounding, which is no measure of one that it gets."""
    layout, centre = baselines.layout, baselines.value("centre")
    gradients = centre[layout.indices[GRADIENT]]
    if not gradients.size:
        return np.ones(layout.num_series, np.bool_)
    least = float(np.fmax.reduce(gradients)) + math.log2(ROUNDING)
    return ~(layout.kind_masks[GRADIENT] & ~layout.is_matrix & (centre < least))
