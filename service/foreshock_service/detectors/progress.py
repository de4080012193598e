"""Whether the loss is on its way down: what grows meanwhile is learning, and no fault.

Networks that leave a saddle, or whose adapters begin at zero, grow by octaves within a few rows,
and the loss falls with it. A fault that grows makes the loss fall no faster.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Final

from foreshock_service.detectors.window import MAD_TO_SIGMA, Window, median

ROWS: Final = 32
"""Losses looked at; the newest and the oldest 8 are compared."""
LEVEL_ROWS: Final = 8
OF_LEVEL: Final = 0.1
OF_START: Final = 0.02
"""A fall by so much of the level and of the first losses: a loss near zero falls by a tenth all the
time."""
SURE_ERRORS: Final = 2.0
"""And by so many standard errors: one that wavers around zero falls by all of it."""


class Progress:
    """The newest losses of a run."""

    def __init__(self) -> None:
        self._losses = Window(ROWS)
        self._start = Window(LEVEL_ROWS)

    def follow(self, loss: float | None) -> None:
        """Take in the loss of the next row, if it was logged."""
        if loss is None or not math.isfinite(loss):
            return
        self._losses.add(loss)
        if len(self._start) < LEVEL_ROWS:
            self._start.add(loss)

    @property
    def falls(self) -> bool:
        """Whether the loss has fallen well within the last rows."""
        values = self._losses.values()
        if len(values) < ROWS:
            return False
        before, now = median(values[:LEVEL_ROWS]), median(values[-LEVEL_ROWS:])
        fall = before - now
        sure = SURE_ERRORS * _error_of_levels(values)
        return fall > max(OF_LEVEL * abs(before), OF_START * abs(self._start.median()), sure)

    def state(self) -> Any:
        """Everything that `restore` needs."""
        return [self._losses.state(), self._start.state()]

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._losses.restore(state[0])
        self._start.restore(state[1])


def _error_of_levels(values: list[float]) -> float:
    """The standard error of the difference of two medians, from the noise from row to row."""
    steps = [abs(b - a) for a, b in pairwise(values)]
    noise = MAD_TO_SIGMA * median(steps) / math.sqrt(2.0)
    # A median is a quarter less sure than a mean.
    return 1.25 * noise * math.sqrt(2.0 / LEVEL_ROWS)
