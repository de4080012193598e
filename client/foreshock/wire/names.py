"""The closed vocabularies of wire format 1: kinds, statistics, frame flags, event kinds."""

from __future__ import annotations

from enum import IntFlag
from typing import Final

FORMAT: Final = 1
"""Version of the wire format; a reader refuses any other."""

CONTENT_TYPE: Final = "application/vnd.foreshock.frames"
"""Media type of a binary message."""

KINDS: Final = ("activation", "activation_grad", "gradient", "weight", "update")
"""What a series measures, in the order in which a training step makes them."""

STATISTICS: Final = (
    "count",
    "mean",
    "std",
    "min",
    "max",
    "zero_frac",
    "nan_count",
    "inf_count",
    "kurtosis",
    "underflow_frac",
    "overflow_frac",
    "batch_std",
    "inactive_unit_frac",
)
"""The statistics that travel, in the column order of `FrameBatch.stats`.

All but the counts are over the finite elements.

- count: elements of the tensor, finite or not (exact to 2^24).
- mean, std (population), min, max, kurtosis (excess, 0 for a constant tensor).
- zero_frac: share of finite elements that are +-0.
- nan_count, inf_count: elements that are NaN, +-Inf.
- underflow_frac: share of the non-zero finite elements with |x| < 2^-24 (fp16 flushes them to 0).
- overflow_frac: share of finite elements with |x| >= 2^16 (beyond fp16's largest exponent).
- batch_std: root mean over the units of the variance over everything else (activations only);
  it goes to 0 when a representation collapses to a constant vector.
- inactive_unit_frac: share of units whose every element is 0 (activations only). A unit is an
  index of the last dimension, or of dimension 1 for convolutional and batch-norm outputs.

A row of NaN in every column means that the tensor did not exist on that step.
"""

DERIVED_STATISTICS: Final = ("rms", "l2", "abs_max")
"""Computed by the reader in float64 from the columns above; a float32 l2 would overflow."""

HISTOGRAM: Final = "exponent_histogram"
"""Name of the table that carries counts of binary exponents, 64 bins of 4 float32 exponents."""

EVENT_KINDS: Final = (
    "started",
    "finished",
    "note",
    "change",
    "checkpoint",
    "exception",
    "client_error",
    "cadence",
)
"""What an event in a batch can say; its `data` holds the details."""

STREAMS: Final = ("main", "ring")
"""`ring` batches are attachments of the flight recorder: stored, never part of the run's rows."""


class FrameFlag(IntFlag):
    """Bits of a frame's `flags`. `MEASURED_*` tell a series that was not due from one absent."""

    SKIPPED = 1
    """The optimizer step was skipped by loss scaling: non-finite gradients are expected."""
    LAST = 2
    """The last frame before an exception or the end of the run."""
    THINNED = 4
    """Part of the frame was left out to stay inside the monitor's budget."""
    ANNOUNCED = 8
    """From this frame on the learning rate, batch size, data or loss is another, on purpose."""
    MEASURED_ACTIVATION = 1 << 8
    MEASURED_ACTIVATION_GRAD = 1 << 9
    MEASURED_GRADIENT = 1 << 10
    MEASURED_WEIGHT = 1 << 11
    MEASURED_UPDATE = 1 << 12


def measured_flag(kind: str) -> FrameFlag:
    """The flag that says that `kind` was measured on a frame."""
    return FrameFlag(1 << (8 + KINDS.index(kind)))
