"""Measures tensors of any device with torch operations alone: the fallback without a compiler.

It reads a tensor about twenty times where the kernels read it once, but never synchronises the
device, and its results differ from theirs by rounding only.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from foreshock.errors import ReducerError
from foreshock.reducers.protocol import UnitView
from foreshock.reducers.tensors import address, check_previous, check_view, dtype_code, flatten
from foreshock.wire.names import STATISTICS

CHUNK = 1 << 22
"""Elements in flight: bounds the float64 temporaries to some 200 MB."""

FLOAT_MAX = torch.finfo(torch.float32).max
COUNTS = ("elements", "finite", "zeros", "nans", "infs", "tiny", "huge")


@dataclass(frozen=True, slots=True)
class TorchPending:
    """One buffer [rows, 13 + 64] of int32 on its way to the host, and the event that ends it."""

    packed: torch.Tensor
    event: torch.cuda.Event | None

    def result(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        """Statistics [rows, 13] and exponent histograms [rows, 64]."""
        if self.event is not None:
            self.event.synchronize()
        both = self.packed.numpy()
        stats = np.ascontiguousarray(both[:, : len(STATISTICS)]).view(np.float32)
        return stats, np.ascontiguousarray(both[:, len(STATISTICS) :]).view(np.uint32)


@dataclass(slots=True)
class _Units:
    """Moments per unit, float64 [units] each; `active` is true where an element was not 0."""

    n: torch.Tensor
    mean: torch.Tensor
    m2: torch.Tensor
    active: torch.Tensor


class TorchReducer:
    """The reducer without kernels, for tensors of one device."""

    name = "torch"

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")
        self._lock = threading.Lock()
        self._units: dict[int, _Units | None] = {}
        self._moments = self._table(0, 5, torch.float64)  # n, mean, and sums of (x - mean)^2, 3, 4
        self._range = self._table(0, 2, torch.float64)  # -min, max
        self._counts = self._table(0, len(COUNTS), torch.int64)
        self._exponents = self._table(0, 64, torch.int64)
        self._measured: set[int] = set()
        self._num_rows = 0

    def _table(self, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros((rows, columns), dtype=dtype, device=self._device)

    def resize(self, num_rows: int) -> None:
        """Make room for `num_rows` rows; rows already measured on this step keep their values."""
        if num_rows < self._num_rows:
            raise ReducerError(f"a table of {self._num_rows} rows cannot shrink to {num_rows}")
        more = num_rows - self._num_rows
        with self._lock:
            self._moments = torch.cat((self._moments, self._table(more, 5, torch.float64)))
            fresh = self._table(more, 2, torch.float64).fill_(-math.inf)
            self._range = torch.cat((self._range, fresh))
            empty = self._table(more, len(COUNTS), torch.int64)
            self._counts = torch.cat((self._counts, empty))
            self._exponents = torch.cat((self._exponents, self._table(more, 64, torch.int64)))
            self._num_rows = num_rows

    @torch.no_grad()
    def measure(
        self,
        rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        *,
        units: Sequence[UnitView | None] | None = None,
        scale: float | torch.Tensor = 1.0,
    ) -> None:
        """Merge `scale * tensor`, rounded to float32 (float64: to float64), into each row."""
        if not isinstance(scale, torch.Tensor) and not math.isfinite(scale):
            raise ReducerError(f"the scale is {scale}: it must be a finite number")
        views = units if units is not None else (None,) * len(tensors)
        work = []
        for row, tensor, view in zip(rows, tensors, views, strict=True):
            self._check(row, tensor)
            if view is not None:
                check_view(tensor, view)
            work.append((row, *flatten(tensor.detach(), view)))
        with self._lock:
            for row, tensor, view in work:
                self._begin(row, tensor.numel())
                flat = _flat(tensor)
                if view is not None:
                    self._add_units(row, flat, view, scale)
                for part in torch.split(flat, CHUNK):
                    self._add(row, _values(part, scale))

    @torch.no_grad()
    def measure_update(
        self,
        update_rows: Sequence[int],
        weight_rows: Sequence[int],
        tensors: Sequence[torch.Tensor],
        previous: Sequence[torch.Tensor],
    ) -> None:
        """`tensor - previous` and `tensor` into their rows (-1: not wanted), then copy it."""
        work = list(zip(update_rows, weight_rows, tensors, previous, strict=True))
        for update_row, weight_row, tensor, before in work:
            for row in (update_row, weight_row):
                self._check(row, tensor, least=-1)
            dtype_code(before, self._device.type)
            check_previous(tensor, before)
        with self._lock:
            for update_row, weight_row, tensor, before in work:
                now = tensor.detach()
                for row, wanted in ((weight_row, now), (update_row, None)):
                    if row < 0:
                        continue
                    self._begin(row, now.numel())
                    value = wanted if wanted is not None else _difference(now, before)
                    for part in torch.split(_flat(flatten(value, None)[0]), CHUNK):
                        self._add(row, _values(part, 1.0))
                before.copy_(now)

    @torch.no_grad()
    def finish(self) -> TorchPending:
        """Finalise the table of this step, start its one copy to the host, and empty it."""
        with self._lock:
            stats = self._statistics().view(torch.int32)
            histogram = self._exponents.clamp(max=2**32 - 1)
            wrapped = torch.where(histogram >= 2**31, histogram - 2**32, histogram)
            packed = torch.cat((stats, wrapped.to(torch.int32)), dim=1)
            self._moments.zero_()
            self._range.fill_(-math.inf)
            self._counts.zero_()
            self._exponents.zero_()
            self._units.clear()
            self._measured.clear()
        if self._device.type != "cuda":
            return TorchPending(packed, None)
        host = torch.empty(packed.shape, dtype=torch.int32, pin_memory=True)
        host.copy_(packed, non_blocking=True)
        return TorchPending(host, torch.cuda.current_stream(self._device).record_event())

    def _check(self, row: int, tensor: torch.Tensor, *, least: int = 0) -> None:
        dtype_code(tensor, self._device.type)
        address(tensor, self._device.type)
        if not least <= row < self._num_rows:
            raise ReducerError(
                f"row {row} lies outside the table of {self._num_rows} rows: call resize first"
            )

    def _begin(self, row: int, numel: int) -> None:
        self._measured.add(row)
        self._counts[row, 0] += numel

    def _add(self, row: int, x: torch.Tensor) -> None:
        """Merge one chunk of float32 or float64 values, [elements]."""
        if x.numel() == 0:
            return
        fields = _exponent_fields(x)
        finite, nan = fields != 255, x.isnan()
        wide = torch.where(finite, x, 0).to(torch.float64)
        n = finite.sum()
        first = torch.where(finite, x, -math.inf).max().to(torch.float64)
        first = torch.where(n > 0, first, 0)  # a shift that makes a constant tensor exactly so
        shifted = torch.where(finite, wide - first, 0)
        offset = shifted.sum() / n.clamp(min=1)
        d = torch.where(finite, shifted - offset, 0)
        q = d * d
        chunk = torch.stack((n.double(), first + offset, q.sum(), (q * d).sum(), (q * q).sum()))
        self._moments[row] = _merged(self._moments[row], chunk)
        lowest = torch.where(finite, -x, -math.inf).max().to(torch.float64)
        highest = torch.where(finite, x, -math.inf).max().to(torch.float64)
        self._range[row] = torch.maximum(self._range[row], torch.stack((lowest, highest)))
        zero = x == 0
        self._counts[row, 1:] += torch.stack(
            (
                n,
                zero.sum(),
                nan.sum(),
                (~finite & ~nan).sum(),
                ((fields < 103) & ~zero).sum(),
                ((fields >= 143) & finite).sum(),
            )
        )
        bins = (fields >> 2).to(torch.int64)
        self._exponents[row].scatter_add_(0, bins, torch.ones_like(bins))

    def _add_units(
        self, row: int, flat: torch.Tensor, view: UnitView, scale: float | torch.Tensor
    ) -> None:
        known = self._units.get(row)
        if row in self._units and (known is None or known.n.numel() != view.units):
            self._units[row] = None  # tensors of one step that disagree have no common units
            return
        if known is None:
            zeros = torch.zeros(view.units, dtype=torch.float64, device=self._device)
            known = _Units(zeros, zeros.clone(), zeros.clone(), zeros.bool())
            self._units[row] = known
        cube = flat.view(view.outer, view.units, view.inner)
        for part in torch.split(cube, max(1, CHUNK // max(1, view.units * view.inner))):
            _merge_units(known, _values(part, scale))

    def _statistics(self) -> torch.Tensor:
        n, mean, m2, _, m4 = self._moments.unbind(1)
        elements, finite, zeros, nans, infs, tiny, huge = self._counts.double().unbind(1)
        lowest, highest = -self._range[:, 0], self._range[:, 1]
        variance = m2 / n
        fourth = variance * variance
        kurtosis = torch.where(fourth > 1e-300, m4 / n / fourth - 3, 0)
        nonzero = finite - zeros
        underflow = torch.where(nonzero > 0, tiny / nonzero.clamp(min=1), 0)
        seen = torch.stack((mean, variance.sqrt(), lowest, highest), dim=1)
        seen = seen.clamp(-FLOAT_MAX, FLOAT_MAX)
        absent = torch.full_like(n, math.nan)
        some = n > 0
        columns = [
            elements,
            *(torch.where(some, column, absent) for column in seen.unbind(1)),
            torch.where(some, zeros / n, absent),
            nans,
            infs,
            torch.where(some, kurtosis, absent),
            torch.where(some, underflow, absent),
            torch.where(some, huge / n, absent),
        ]
        stats = torch.full(
            (self._num_rows, len(STATISTICS)), math.nan, dtype=torch.float64, device=self._device
        )
        stats[:, :11] = torch.stack(columns, dim=1)
        for row, units in self._units.items():
            if units is not None and units.n.numel():
                stats[row, 11], stats[row, 12] = _summarised(units)
        measured = torch.zeros(self._num_rows, dtype=torch.bool)
        measured[sorted(self._measured)] = True
        stats[~measured.to(self._device)] = math.nan
        return stats.to(torch.float32)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a dense tensor as one dimension."""
    return tensor.as_strided((tensor.numel(),), (1,))


def _values(x: torch.Tensor, scale: float | torch.Tensor) -> torch.Tensor:
    """`scale * x` in the precision of the kernels; float64 is held within float32's range."""
    wide = x if x.dtype == torch.float64 else x.to(torch.float32)
    if isinstance(scale, torch.Tensor):
        wide = wide * scale.to(wide.dtype)
    elif scale != 1.0:
        wide = wide * scale
    if wide.dtype == torch.float64:
        wide = torch.where(wide.isfinite(), wide.clamp(-FLOAT_MAX, FLOAT_MAX), wide)
    return wide


def _difference(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    wide = torch.float64 if now.dtype == torch.float64 else torch.float32
    return now.to(wide) - before.to(wide)


def _exponent_fields(x: torch.Tensor) -> torch.Tensor:
    """The float32 exponent field of each element; 255 is Inf or NaN."""
    if x.dtype == torch.float32:
        return (x.view(torch.int32) >> 23) & 255
    fields = ((x.view(torch.int64) >> 52) & 0x7FF).to(torch.int32)
    return torch.where(fields == 0x7FF, 255, (fields - 1023 + 127).clamp(0, 254))


def _merged(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Pebay's merge of (n, mean, m2, m3, m4), as in stats.h."""
    n = a[0] + b[0]
    p, q = a[0] / n.clamp(min=1), b[0] / n.clamp(min=1)
    d = b[1] - a[1]
    spread = d * d * p * b[0]
    m4 = (
        a[4] + b[4] + spread * d * d * (p * p - p * q + q * q)
        + 6 * d * d * (p * p * b[2] + q * q * a[2]) + 4 * d * (p * b[3] - q * a[3])
    )  # fmt: skip
    m3 = a[3] + b[3] + spread * d * (p - q) + 3 * d * (p * b[2] - q * a[2])
    merged = torch.stack((n, a[1] + d * q, a[2] + b[2] + spread, m3, m4))
    return torch.where(a[0] == 0, b, torch.where(b[0] == 0, a, merged))


def _merge_units(units: _Units, x: torch.Tensor) -> None:
    """Merge [outer, units, inner] into the moments of each unit."""
    if x.numel() == 0:
        return
    finite = x.isfinite()
    wide = torch.where(finite, x, 0).to(torch.float64)
    n = finite.sum((0, 2)).to(torch.float64)
    mean = wide.sum((0, 2)) / n.clamp(min=1)
    d = torch.where(finite, wide - mean[None, :, None], 0)
    total = (units.n + n).clamp(min=1)
    apart = mean - units.mean
    units.m2 += (d * d).sum((0, 2)) + apart * apart * units.n * n / total
    units.mean += apart * n / total
    units.n += n
    units.active |= (x != 0).any(2).any(0)


def _summarised(units: _Units) -> tuple[torch.Tensor, torch.Tensor]:
    """batch_std and inactive_unit_frac."""
    counted = (units.n > 0).sum()
    variance = (units.m2 / units.n.clamp(min=1)).sum() / counted
    return variance.sqrt(), (~units.active).double().mean()
