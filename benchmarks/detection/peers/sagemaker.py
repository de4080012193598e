"""SageMaker Debugger's built-in rules with their documented defaults, as far as the recorded
statistics hold what they ask for.

- ExplodingTensor: NaN or Inf in any tensor, or in the loss.
- VanishingGradient: the mean of |g| is below 1e-7. The rms stands for it, which is never smaller.
- DeadRelu: more than half of a layer's units are inactive. Where a run has no share of inactive
  units, 75 % of zeros stand for it: half of the units, and half of what the others do.
- WeightUpdateRatio: update over weight above 10, or below 1e-8 for a tensor that has moved before.
- LossNotDecreasing: every 10 steps, the loss did not fall by 0.1 %.

SaturatedActivation reads inputs of layers and PoorWeightInit percentiles of gradients, which no
recording has; AllZero and UnchangedTensor watch no tensor unless told which.
Source: Amazon SageMaker Developer Guide, "Debugger built-in rules".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from foreshock_service.detectors.layout import GRADIENT, WEIGHT
from foreshock_service.detectors.row import Bools

from benchmarks.detection.peers.protocol import Seen, Trigger

VANISHED: Final = 1e-7
INACTIVE: Final = 0.5
ZEROS: Final = 0.75
LARGE_RATIO: Final = 10.0
SMALL_RATIO: Final = 1e-8
EPSILON: Final = 1e-9
LOSS_EVERY: Final = 10
LOSS_FALL: Final = 0.001


class SageMaker:
    """All of them; `loss` False leaves LossNotDecreasing out, which fires on any noise."""

    def __init__(self, *, loss: bool = True) -> None:
        self._with_loss = loss
        self._last_loss: float | None = None
        self._moved: Bools = np.zeros(0, np.bool_)

    def triggers(self, seen: Seen) -> Iterable[Trigger]:
        """See the module."""
        row, layout, loss = seen.row, seen.layout, seen.scalar("loss")
        if row.bad.any() or (loss is not None and not math.isfinite(loss)):
            yield Trigger(
                rule="ExplodingTensor",
                kind="non_finite",
                severity="critical",
                series=_names(seen, row.bad),
            )
        with np.errstate(invalid="ignore"):
            gone = layout.kind_masks[GRADIENT] & (row.rms < VANISHED) & ~row.bad
            relu = np.array([s.module_type == "ReLU" for s in layout.schema.series], np.bool_)
            dead = relu & np.where(
                np.isnan(row.inactive_unit_frac),
                row.zero_frac >= ZEROS,
                row.inactive_unit_frac > INACTIVE,
            )
        if gone.any():
            yield Trigger(
                rule="VanishingGradient", kind="vanishing_gradient", series=_names(seen, gone)
            )
        if dead.any():
            yield Trigger(rule="DeadRelu", kind="dead_units", series=_names(seen, dead))
        yield from self._ratios(seen)
        if self._with_loss and seen.number % LOSS_EVERY == 0 and loss is not None:
            yield from self._not_decreasing(loss)

    def _ratios(self, seen: Seen) -> Iterable[Trigger]:
        row, layout = seen.row, seen.layout
        if self._moved.shape != (layout.num_series,):
            self._moved = np.zeros(layout.num_series, np.bool_)
        known = layout.kind_masks[WEIGHT] & (layout.update_of >= 0)
        with np.errstate(invalid="ignore"):
            update = np.where(known, row.rms[layout.update_of], np.nan)
            self._moved |= update > 0
            ratio = update / (row.rms + EPSILON)
            large, small = ratio > LARGE_RATIO, (ratio < SMALL_RATIO) & self._moved
        if large.any():
            yield Trigger(rule="large ratio", kind="update_too_large", series=_names(seen, large))
        if small.any():
            yield Trigger(rule="small ratio", kind="update_too_small", series=_names(seen, small))

    def _not_decreasing(self, loss: float) -> Iterable[Trigger]:
        last, self._last_loss = self._last_loss, loss
        if last is None or not (math.isfinite(last) and math.isfinite(loss)):
            return
        if loss > last - LOSS_FALL * abs(last):
            yield Trigger(rule="LossNotDecreasing", kind="plateau")


def _names(seen: Seen, which: Bools) -> tuple[str, ...]:
    """Names in the order in which a step makes its tensors."""
    found = np.flatnonzero(which)
    order = found[np.argsort(seen.layout.flow[found], kind="stable")]
    return tuple(seen.layout.keys[i][1] for i in order[:5])
