"""Heatmap codes: one u16 a cell, ordered so that the largest of several is the one to show.

    0               missing
    1 .. 65000      the value; larger is further up the scale
    65534           +-Inf
    65535           NaN

Because missing < finite < Inf < NaN, an integer maximum over any rectangle of cells can never hide
a NaN behind a number. Two scales share this order:

- absolute: linear in log10 |value| between `lo` and `hi`; what is below (0 too) is 1.
- deviation: `1 + 2 * round(|decades| * scale) + below`, where `decades` is log10 of the value over
  its series' own normal and `below` is 1 for values under it. Sign and size share one code so that
  a maximum keeps the farther departure with its direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

MISSING: Final = 0
FIRST: Final = 1
LAST: Final = 65_000
INF: Final = 65_534
NAN: Final = 65_535
CODES_A_DECADE: Final = 1024
"""Resolution of a deviation; the farthest that fits is 31.7 decades, three below float32's end."""
LOG10_2: Final = float(np.log10(2.0))

Floats = npt.NDArray[np.floating]
Codes = npt.NDArray[np.uint16]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRange:
    """The absolute scale: `lo` and `hi` are log10 of the smallest and largest coded value."""

    lo: float
    hi: float


def log_range(values: Floats) -> LogRange:
    """The range that holds every finite value but 0; (-1, 1) when there is none.

    A range without width is widened by a decade to each side, so that it can be divided by.
    """
    magnitude = np.abs(np.asarray(values, np.float64))
    usable = magnitude[np.isfinite(magnitude) & (magnitude > 0)]
    if not usable.size:
        return LogRange(lo=-1.0, hi=1.0)
    lo, hi = float(np.log10(usable.min())), float(np.log10(usable.max()))
    return LogRange(lo=lo, hi=hi) if hi > lo else LogRange(lo=lo - 1.0, hi=hi + 1.0)


def encode_absolute(
    values: Floats, present: Flags, scale: LogRange, *, nan: Flags | None = None
) -> Codes:
    """Codes of `values` on `scale`; values outside it take its ends.

    `present` tells a cell that was measured from one that was not; `nan` marks cells in which any
    of the pooled values was NaN, which a floating maximum cannot keep. Shapes: all alike.
    """
    magnitude = np.abs(np.asarray(values, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        place = (np.log10(magnitude) - scale.lo) / (scale.hi - scale.lo)
    place = np.nan_to_num(np.clip(place, 0.0, 1.0), nan=0.0)
    codes = FIRST + np.rint(place * (LAST - FIRST))
    return _mark(codes, np.asarray(values), present, nan)


def encode_deviation(
    values: Floats, present: Flags, centre: Floats, *, nan: Flags | None = None
) -> Codes:
    """Codes of the distance of `values` from `centre`, in decades.

    `values` are linear (0 or more), `centre` is log2 of the series' own normal, NaN where it is
    not known yet: such a cell is missing, unless the value itself is not finite. A value of 0 is
    the farthest below. Shapes: all alike, or `centre` broadcasts.
    """
    magnitude = np.abs(np.asarray(values, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.log10(magnitude) - np.asarray(centre, np.float64) * LOG10_2
    unknown = np.isnan(decades) & np.isfinite(magnitude)
    farthest = (LAST - FIRST - 1) // 2
    steps = np.abs(np.where(np.isnan(decades), 0.0, decades)) * CODES_A_DECADE
    codes = FIRST + 2 * np.minimum(np.rint(steps), farthest) + (decades < 0)
    return _mark(codes, np.asarray(values), np.asarray(present) & ~unknown, nan)


def decode_absolute(codes: Codes, scale: LogRange) -> npt.NDArray[np.float64]:
    """|value| of each code, as a page reads it: NaN for missing and NaN, inf for Inf."""
    place = (codes.astype(np.float64) - FIRST) / (LAST - FIRST)
    values = 10.0 ** (scale.lo + place * (scale.hi - scale.lo))
    return _unmark(values, codes)


def decode_deviation(codes: Codes) -> npt.NDArray[np.float64]:
    """Signed decades of each code: NaN for missing and NaN, inf for Inf."""
    steps, below = np.divmod(codes.astype(np.int64) - FIRST, 2)
    return _unmark(steps / CODES_A_DECADE * np.where(below == 1, -1.0, 1.0), codes)


def _mark(codes: Floats, values: Floats, present: Flags, nan: Flags | None) -> Codes:
    marked = codes.astype(np.uint16)
    marked[~np.broadcast_to(present, marked.shape)] = MISSING
    marked[np.isinf(values) & present] = INF
    is_nan = np.isnan(values) & present
    marked[is_nan if nan is None else is_nan | nan] = NAN
    return marked


def _unmark(values: npt.NDArray[np.float64], codes: Codes) -> npt.NDArray[np.float64]:
    values = np.where((codes == MISSING) | (codes == NAN), np.nan, values)
    return np.where(codes == INF, np.inf, values)
