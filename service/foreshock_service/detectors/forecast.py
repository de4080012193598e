"""Forecast: at which step a series that keeps growing leaves the range of its number format.

A straight line through log2 of the largest absolute value. Its slope is the distance to the fast
average over that average's lag, which is 8 rows before the row is learned: unlike the slope of the
slower average it is right after 16 rows of growth. Nothing is said beyond 10,000 rows, where a
straight line is a guess.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from foreshock_service.detectors.baseline import ABS_MAX, FAST_ROWS, Baselines
from foreshock_service.detectors.number_formats import FORMATS
from foreshock_service.detectors.row import Bools
from foreshock_service.detectors.streak import Streaks

FORECAST_ROWS: Final = 10_000


def overflow(
    baselines: Baselines, growing: Bools, streaks: Streaks, *, step: int
) -> dict[str, float | int | str]:
    """Evidence of the first of the `growing` series to overflow; empty where none will.

    Shapes: growing [series]. `streaks` are those of the growth: they tell the steps a row.
    """
    layout = baselines.layout
    level = baselines.logs(ABS_MAX)
    found: tuple[float, int] | None = None
    for index in np.flatnonzero(growing):
        number_format = FORMATS.get(layout.schema.series[index].dtype)
        slope = float(level[index] - baselines.value("fast", ABS_MAX)[index]) / FAST_ROWS
        rows = int(streaks.rows[index])
        if number_format is None or rows < 2 or not slope > 0:
            continue
        left = (number_format.top - float(level[index])) / slope
        if not 0 < left <= FORECAST_ROWS:
            continue
        steps_a_row = (step - int(streaks.since[index])) / (rows - 1)
        if steps_a_row > 0 and (found is None or left * steps_a_row < found[0]):
            found = left * steps_a_row, int(index)
    if found is None:
        return {}
    return {
        "overflow_step": step + max(1, round(found[0])),
        "overflow_dtype": layout.schema.series[found[1]].dtype,
        "overflow_series": ":".join(layout.keys[found[1]]),
    }
