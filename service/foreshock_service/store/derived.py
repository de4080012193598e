"""Statistics that do not travel: computed in float64 from those that do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from foreshock.wire import DERIVED_STATISTICS

NONFINITE: Final = "nonfinite"
"""NaN and Inf elements together, 0 where nothing was measured: what no pooling may hide."""

SOURCES: Final[Mapping[str, tuple[str, ...]]] = {
    "rms": ("mean", "std"),
    "l2": ("mean", "std", "count", "nan_count", "inf_count"),
    "abs_max": ("min", "max"),
    NONFINITE: ("nan_count", "inf_count"),
}
"""What each derived statistic is computed from."""

_LARGEST: Final = float(np.finfo(np.float32).max)

assert set(SOURCES) == {*DERIVED_STATISTICS, NONFINITE}


def sources(statistic: str) -> tuple[str, ...]:
    """The travelling statistics that a statistic needs; itself if it travels."""
    return SOURCES.get(statistic, (statistic,))


def derive(statistic: str, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """A statistic, travelling or derived, from arrays of its sources, all of one shape.

    A finite value beyond float32 becomes the largest float32: infinity would say something else.
    """
    if statistic not in SOURCES:
        return columns[statistic].astype(np.float32, copy=False)
    c = {name: columns[name].astype(np.float64) for name in SOURCES[statistic]}
    if statistic == "abs_max":
        value = np.maximum(np.abs(c["min"]), np.abs(c["max"]))
    elif statistic == NONFINITE:
        value = np.nan_to_num(c["nan_count"] + c["inf_count"], nan=0.0)
    else:
        value = np.hypot(c["mean"], c["std"])
        if statistic == "l2":
            finite = c["count"] - c["nan_count"] - c["inf_count"]
            value = value * np.sqrt(np.maximum(finite, 0.0))
    beyond = np.isfinite(value) & (value > _LARGEST)
    clipped: npt.NDArray[np.float32] = np.where(beyond, _LARGEST, value).astype(np.float32)
    return clipped
