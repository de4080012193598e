"""One frame as float64 arrays: which series were measured, and the statistics derived from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from foreshock.wire import KINDS, STATISTICS, measured_flag

from foreshock_service.detectors.layout import Layout
from foreshock_service.domain.frames import Frame

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_MEASURED = tuple(int(measured_flag(kind)) for kind in KINDS)
_ALL_MEASURED = sum(_MEASURED)
_AS_SENT = tuple(name for name in STATISTICS if name != "count")


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A frame, worked out; every array is [series].

    `measured` is false where the tensor was not due or did not exist, and then every statistic is
    NaN. `rms`, `l2` and `abs_max` are over the finite elements, NaN where nothing was measured or
    nothing is finite. `log_rms` and `log_abs_max` are base 2, NaN where the value is 0: a tensor of
    zeros has no level. `bad` marks tensors with NaN or Inf elements, `bad_count` says how many.
    """

    measured: Bools
    rms: Floats
    l2: Floats
    abs_max: Floats
    log_rms: Floats
    log_abs_max: Floats
    bad: Bools
    bad_count: Floats
    columns: dict[str, Floats]

    @property
    def mean(self) -> Floats:
        """Mean of the finite elements."""
        return self.columns["mean"]

    @property
    def std(self) -> Floats:
        """Population standard deviation of the finite elements."""
        return self.columns["std"]

    @property
    def zero_frac(self) -> Floats:
        """Share of elements that are exactly zero."""
        return self.columns["zero_frac"]

    @property
    def overflow_frac(self) -> Floats:
        """Share of elements beyond float16's largest value."""
        return self.columns["overflow_frac"]

    @property
    def batch_std(self) -> Floats:
        """Spread of a unit over the batch, averaged over the units."""
        return self.columns["batch_std"]

    @property
    def inactive_unit_frac(self) -> Floats:
        """Share of units that were zero for every sample."""
        return self.columns["inactive_unit_frac"]


def middle(values: Floats) -> float:
    """The median of finite values: a third of the time of numpy's, which looks for NaN first."""
    size = values.size
    half = size // 2
    if size % 2:
        return float(np.partition(values, half)[half])
    low, high = np.partition(values, (half - 1, half))[half - 1 : half + 1]
    return float(0.5 * (low + high))


def row_of(frame: Frame, layout: Layout) -> Row:
    """Derive rms, l2 and abs_max in float64: the square of a large float32 would overflow."""
    table = frame.stats.T.astype(np.float64, order="C")
    column, num_series = layout.column, layout.num_series
    absent = np.full(num_series, np.nan)
    columns = {name: table[column[name]] if name in column else absent for name in _AS_SENT}
    mean, std, nan_count = columns["mean"], columns["std"], columns["nan_count"]
    measured = ~np.isnan(nan_count if "nan_count" in column else mean)
    flags = int(frame.flags) & _ALL_MEASURED
    if flags and flags != _ALL_MEASURED:
        due = np.array([bool(flags & flag) for flag in _MEASURED])
        measured &= due[layout.kind]
        table[:, ~measured] = np.nan
    with np.errstate(all="ignore"):
        rms = np.hypot(mean, std)
        bad_count = np.fmax(nan_count, 0.0) + np.fmax(columns["inf_count"], 0.0)
        count = table[column["count"]] if "count" in column else absent
        finite_count = np.maximum(count - bad_count, 0.0)
        abs_max = np.maximum(np.abs(columns["min"]), np.abs(columns["max"]))
        # A value statistic of 0 finite elements says nothing; an Inf in one is a statistic lost.
        usable = measured & np.isfinite(rms) & ~(finite_count == 0)
        rms = np.where(usable, rms, np.nan)
        abs_max = np.where(usable & np.isfinite(abs_max), abs_max, np.nan)
        log_rms = np.log2(rms, out=np.full(num_series, np.nan), where=rms > 0)
        log_abs_max = np.log2(abs_max, out=np.full(num_series, np.nan), where=abs_max > 0)
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
        columns=columns,
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
        columns=dict.fromkeys(_AS_SENT, nothing),
    )
