"""One frame as float64 arrays: which series were measured, and the statistics derived from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from foreshock.wire import KINDS, FrameFlag, measured_flag

from foreshock_service.detectors.layout import Layout
from foreshock_service.domain.frames import Frame

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_ALL_MEASURED = FrameFlag(sum(measured_flag(kind) for kind in KINDS))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A frame, worked out; every array is [series].

    `measured` is false where the tensor was not due or did not exist. `rms`, `l2` and `abs_max` are
    over the finite elements, NaN where nothing was measured or nothing is finite. `log_rms` and
    `log_abs_max` are base 2, NaN where the value is 0: a tensor of zeros has no level. `bad` marks
    tensors with NaN or Inf elements, `bad_count` says how many.
    """

    measured: Bools
    rms: Floats
    l2: Floats
    abs_max: Floats
    log_rms: Floats
    log_abs_max: Floats
    bad: Bools
    bad_count: Floats
    zero_frac: Floats
    inactive_unit_frac: Floats


def row_of(frame: Frame, layout: Layout) -> Row:
    """Derive rms, l2 and abs_max in float64: the square of a large float32 would overflow."""
    stats = frame.stats
    column = layout.column
    num_series = layout.num_series
    absent = np.full(num_series, np.nan)

    def take(name: str) -> Floats:
        index = column.get(name)
        return absent if index is None else stats[:, index].astype(np.float64)

    nan_count, inf_count = take("nan_count"), take("inf_count")
    mean, std = take("mean"), take("std")
    measured = ~np.isnan(nan_count if "nan_count" in column else mean)
    if frame.flags & _ALL_MEASURED:
        due = np.array([bool(frame.flags & measured_flag(kind)) for kind in KINDS])
        measured &= due[layout.kind]
    with np.errstate(all="ignore"):
        rms = np.hypot(mean, std)
        bad_count = np.nan_to_num(nan_count) + np.nan_to_num(inf_count)
        finite_count = np.maximum(take("count") - bad_count, 0.0)
        abs_max = np.maximum(np.abs(take("min")), np.abs(take("max")))
        # A value statistic of 0 finite elements says nothing; a Inf in one is a statistic lost.
        usable = measured & np.isfinite(rms) & ~(finite_count == 0)
        rms = np.where(usable, rms, np.nan)
        abs_max = np.where(usable & np.isfinite(abs_max), abs_max, np.nan)
        log_rms = np.where(rms > 0, np.log2(rms), np.nan)
        log_abs_max = np.where(abs_max > 0, np.log2(abs_max), np.nan)
        l2 = rms * np.sqrt(finite_count)
    return Row(
        measured=measured,
        rms=rms,
        l2=l2,
        abs_max=abs_max,
        log_rms=log_rms,
        log_abs_max=log_abs_max,
        bad=measured & (bad_count > 0),
        bad_count=bad_count,
        zero_frac=np.where(measured, take("zero_frac"), np.nan),
        inactive_unit_frac=np.where(measured, take("inactive_unit_frac"), np.nan),
    )


def absent_row(layout: Layout) -> Row:
    """A row on which nothing was measured."""
    nothing = np.full(layout.num_series, np.nan)
    nowhere = np.zeros(layout.num_series, np.bool_)
    return Row(
        measured=nowhere,
        rms=nothing,
        l2=nothing,
        abs_max=nothing,
        log_rms=nothing,
        log_abs_max=nothing,
        bad=nowhere,
        bad_count=nothing,
        zero_frac=nothing,
        inactive_unit_frac=nothing,
    )
