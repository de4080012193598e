"""The last n values of a scalar, finite ones only."""

from __future__ import annotations

from collections import deque
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

    def add(self, value: float) -> None:
        """Append; the caller has checked that the value is finite."""
        self._values.append(value)

    def array(self, last: int | None = None) -> Floats:
        """The values, oldest first, or the newest `last`."""
        values = np.array(self._values, np.float64)
        return values if last is None else values[-last:]

    def state(self) -> list[float]:
        """The values."""
        return list(self._values)

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._values.clear()
        self._values.extend(float(v) for v in state)


def centre_and_sigma(values: Floats) -> tuple[float, float]:
    """Median, and spread of the residuals of a straight line: a falling loss is not noise."""
    centre = float(np.median(values[-20:]))
    if values.size < 3:
        return centre, 0.0
    x = np.arange(values.size, dtype=np.float64) - (values.size - 1) / 2
    half = values.size // 2
    # A robust slope: medians of the two halves.
    slope = (np.median(values[half:]) - np.median(values[:half])) / (
        x[half:].mean() - x[:half].mean()
    )
    residual = values - slope * x
    residual -= np.median(residual)
    return centre, MAD_TO_SIGMA * float(np.median(np.abs(residual)))
