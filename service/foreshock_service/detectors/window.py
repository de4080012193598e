"""The last n values of a scalar, finite ones only, and their order statistics.

Plain lists: at a few dozen values sorting one is ten times faster than asking numpy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from foreshock_service.detectors.row import Floats

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to the standard deviation of a normal distribution."""


class Window:
    """A bounded window of a scalar."""

    def __init__(self, size: int) -> None:
        self._values: deque[float] = deque(maxlen=size)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: int) -> float:
        return self._values[place]

    @property
    def size(self) -> int:
        """How many values it holds at the most."""
        return self._values.maxlen or 0

    def add(self, value: float) -> None:
        """Append; the caller has checked that the value is finite."""
        self._values.append(value)

    def values(self) -> list[float]:
        """The values, oldest first."""
        return list(self._values)

    def array(self) -> Floats:
        """The same as an array."""
        return np.array(self._values, np.float64)

    def median(self) -> float:
        """NaN while there are none."""
        return median(self._values)

    def largest(self) -> float:
        """Minus infinity while there are none."""
        return max(self._values, default=-np.inf)

    def spread(self, centre: float) -> float:
        """Robust standard deviation around `centre`."""
        return spread(self._values, centre)

    def state(self) -> list[float]:
        """The values."""
        return list(self._values)

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._values.clear()
        self._values.extend(float(v) for v in state)


def median(values: Iterable[float]) -> float:
    """The middle one, or the mean of the two in the middle; NaN of nothing."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return float("nan")
    half = count // 2
    return ordered[half] if count % 2 else 0.5 * (ordered[half - 1] + ordered[half])


def spread(values: Iterable[float], centre: float) -> float:
    """Median absolute deviation from `centre`, as a standard deviation."""
    return MAD_TO_SIGMA * median([abs(value - centre) for value in values])


def centre_and_sigma(values: Sequence[float]) -> tuple[float, float]:
    """Median, and spread of the residuals of a straight line: a falling loss is not noise."""
    centre = median(values[-20:])
    size = len(values)
    if size < 3:
        return centre, 0.0
    half = size // 2
    # A robust slope: medians of the two halves, whose middles lie half the window apart.
    slope = (median(values[half:]) - median(values[:half])) / (size / 2)
    # Sorted once for both: what lies on either side of the middle is in order already.
    residual = sorted([value - slope * i for i, value in enumerate(values)])
    return centre, spread(residual, median(residual))
