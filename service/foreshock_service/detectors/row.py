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
    """A frame, worked out; every array is [series] unless said otherwise.

    `measured` is false where the tensor was not due or did not exist, and then every statistic is
    NaN. `rms`, `l2` and `abs_max` are over the finite elements, NaN where nothing was measured or
    nothing is finite. `values` has rms and abs_max as [2, series], and `logs` their logarithms to
    base 2, NaN where the value is 0: a tensor of zeros has no level. `known` tells the others.
    `bad` marks tensors with NaN or Inf elements, `bad_count` says how many.
    """

    measured: Bools
    values: Floats
    logs: Floats
    known: Bools
    bad: Bools
    bad_count: Floats
    finite_count: Floats
    columns: dict[str, Floats]

    @property
    def rms(self) -> Floats:
        """Root of the mean square of the finite elements."""
        rms: Floats = self.values[0]
        return rms

    @property
    def abs_max(self) -> Floats:
        """Largest absolute value of the finite elements."""
        abs_max: Floats = self.values[1]
        return abs_max

    @property
    def log_rms(self) -> Floats:
        """log2 of `rms`, NaN of 0."""
        log_rms: Floats = self.logs[0]
        return log_rms

    @property
    def log_abs_max(self) -> Floats:
        """log2 of `abs_max`, NaN of 0."""
        log_abs_max: Floats = self.logs[1]
        return log_abs_max

    @property
    def l2(self) -> Floats:
        """Euclidean norm of the finite elements; few rules ask, so it is worked out when asked."""
        return self.rms * np.sqrt(self.finite_count)

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


def any_of(mask: Bools) -> bool:
    """Whether any holds: a third of the time of `mask.any()`, which takes a way through Python."""
    return bool(np.count_nonzero(mask))


def all_of(mask: Bools) -> bool:
    """Whether all hold, as fast."""
    return bool(np.count_nonzero(mask) == mask.size)


def middle(values: Floats) -> float:
    """The median of finite values: a tenth of the time of numpy's, which looks for NaN first. To
    sort them all takes less than to part them, up to a thousand."""
    ordered, half = np.sort(values), values.size // 2
    if values.size % 2:
        return float(ordered[half])
    return 0.5 * (float(ordered[half - 1]) + float(ordered[half]))


def lower_quartile(values: Floats) -> float:
    """What a quarter of finite values lie below: where half of them moved, a median may be any."""
    return float(np.partition(values, values.size // 4)[values.size // 4])


def row_of(frame: Frame, layout: Layout) -> Row:
    """Derive rms and abs_max in float64, where the square of no float32 overflows.

    Called with numpy's floating-point warnings off: what was not measured is NaN, and log2(0) -inf.
    """
    table = frame.stats.T.astype(np.float64, order="C")
    column, num_series = layout.column, layout.num_series
    columns = {name: table[column[name]] for name in _AS_SENT if name in column}
    if len(columns) < len(_AS_SENT):
        columns = {**dict.fromkeys(_AS_SENT, np.full(num_series, np.nan)), **columns}
    mean, std, nan_count = columns["mean"], columns["std"], columns["nan_count"]
    measured = ~np.isnan(nan_count if "nan_count" in column else mean)
    flags = int(frame.flags) & _ALL_MEASURED
    if flags and flags != _ALL_MEASURED:
        due = np.array([bool(flags & flag) for flag in _MEASURED])
        measured &= due[layout.kind]
        table[:, ~measured] = np.nan
    values = np.empty((2, num_series))
    np.sqrt(mean * mean + std * std, out=values[0])
    np.maximum(np.abs(columns["min"]), np.abs(columns["max"]), out=values[1])
    bad_count = np.fmax(nan_count, 0.0) + np.fmax(columns["inf_count"], 0.0)
    count = table[column["count"]] if "count" in column else np.full(num_series, np.nan)
    finite_count = np.maximum(count - bad_count, 0.0)
    # A value statistic of 0 finite elements says nothing; an Inf in one is a statistic lost.
    usable = np.isfinite(values)
    usable[0] &= measured & (finite_count != 0)
    usable[1] &= usable[0]
    if not all_of(usable):
        values[~usable] = np.nan
    known = values > 0
    logs = np.log2(values)
    if not all_of(known):
        logs[~known] = np.nan
    return Row(
        measured=measured,
        values=values,
        logs=logs,
        known=known,
        bad=measured & (bad_count > 0),
        bad_count=bad_count,
        finite_count=finite_count,
        columns=columns,
    )


def absent_row(layout: Layout) -> Row:
    """A row on which nothing was measured."""
    nothing = np.full(layout.num_series, np.nan)
    nowhere = np.zeros(layout.num_series, np.bool_)
    neither = np.full((2, layout.num_series), np.nan)
    return Row(
        measured=nowhere,
        values=neither,
        logs=neither,
        known=np.zeros(neither.shape, np.bool_),
        bad=nowhere,
        bad_count=nothing,
        finite_count=nothing,
        columns=dict.fromkeys(_AS_SENT, nothing),
    )
