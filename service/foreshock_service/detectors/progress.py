"""Whether the loss is on its way down: what grows meanwhile is learning, and no fault.

Networks that leave a saddle, or whose adapters begin at zero, grow by octaves within a few rows,
and the loss falls with it. A fault that grows makes the loss fall no faster, unless it is that
the loss has no lower bound: one that was positive, and lies further below nought than it began
above it, has more to gain from what grows than there was to learn.
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
LONG_ROWS: Final = 140
"""Losses over which a slow learner is looked at; the oldest 34 are compared with the newest 8."""
LONG_LEVEL_ROWS: Final = 34
LEARNED: Final = 0.05
"""Of the level; 100 rows of growth that learn nothing are no learning."""
FAR_FROM_NOUGHT: Final = 0.1
"""Of the first losses: what is nearer has learned nearly all."""
NEXT_TO_NOTHING: Final = 0.01
"""Of the first losses: then one hard sample makes its batch's gradient many times the others'."""
KEPT: Final = 0.5
"""Of the level of a hundred rows ago: gradients that vanish by 8 octaves take more of it along."""
DIFFERENT_BATCHES: Final = 0.005
"""Noise, as a share of the level, that one batch of all data does not have."""
SURE_ERRORS: Final = 2.0
"""And by so many standard errors: one that wavers around zero falls by all of it."""


class Progress:
    """The newest losses of a run."""

    def __init__(self) -> None:
        self._losses = Window(ROWS)
        self._long = Window(LONG_ROWS)
        self._start = Window(LEVEL_ROWS)
        self._falls: bool | None = None

    def follow(self, loss: float | None) -> None:
        """Take in the loss of the next row, if it was logged."""
        if loss is None or not math.isfinite(loss):
            return
        self._falls = None
        self._losses.add(loss)
        self._long.add(loss)
        if len(self._start) < LEVEL_ROWS:
            self._start.add(loss)

    @property
    def falls(self) -> bool:
        """Whether the loss has fallen well within the last rows. Many rules ask: it is worked out
        once a row."""
        if self._falls is None:
            self._falls = self._is_falling()
        return self._falls

    def _is_falling(self) -> bool:
        values = self._losses.values()
        if len(values) < ROWS:
            return False
        before, now = median(values[:LEVEL_ROWS]), median(values[-LEVEL_ROWS:])
        fall = before - now
        if fall <= OF_LEVEL * abs(before) or fall <= OF_START * abs(self._start.median()):
            return False
        return not self.is_unbounded and fall > SURE_ERRORS * _error_of_levels(values)

    @property
    def is_unbounded(self) -> bool:
        """Whether the loss, once positive, lies further below nought than it began above it."""
        first, newest = self._start.values(), self._losses.values()[-LEVEL_ROWS:]
        return bool(first) and min(first) > 0 and median(newest) < -max(first)

    @property
    def has_learned(self) -> bool:
        """Whether the loss has come down over some hundred rows, be it too slowly to see that it
        falls; also while there are too few to say."""
        values = self._long.values()
        if len(values) < LONG_LEVEL_ROWS + LEVEL_ROWS:
            return True
        before, now = median(values[:LONG_LEVEL_ROWS]), median(values[-LEVEL_ROWS:])
        return now < before - LEARNED * abs(before)

    @property
    def has_halved(self) -> bool:
        """Whether the loss has come down to less than half within some hundred rows."""
        values = self._long.values()
        if len(values) < LONG_LEVEL_ROWS + LEVEL_ROWS:
            return False
        before, now = median(values[:LONG_LEVEL_ROWS]), median(values[-LEVEL_ROWS:])
        return 0.0 <= now < 0.5 * before

    @property
    def needs_nothing(self) -> bool:
        """Whether the loss is on its way down, or next to nothing is left of it."""
        return self.falls or self.left() < NEXT_TO_NOTHING

    def left(self) -> float:
        """What is left of the first losses; NaN where that says nothing, as of one below nought."""
        start, level = self._start.median(), median(self._losses.values()[-LEVEL_ROWS:])
        return level / start if start > 0 <= level else math.nan

    @property
    def is_stuck(self) -> bool:
        """Whether the loss has kept half of its level of a hundred rows ago, far from nought, and
        still differs from batch to batch: then there is something left to learn."""
        values, newest = self._long.values(), self._losses.values()
        if len(values) < LONG_LEVEL_ROWS + LEVEL_ROWS:
            return False
        before, now = median(values[:LONG_LEVEL_ROWS]), median(values[-LEVEL_ROWS:])
        far = now > FAR_FROM_NOUGHT * self._start.median() > 0
        return far and now > KEPT * before and _noise(newest) > DIFFERENT_BATCHES * now

    def state(self) -> Any:
        """Everything that `restore` needs."""
        return [self._losses.state(), self._start.state(), self._long.state()]

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._falls = None
        self._losses.restore(state[0])
        self._start.restore(state[1])
        # An older version kept no long window; a run that it began fills one anew.
        self._long.restore(state[2] if len(state) > 2 else [])


def _error_of_levels(values: list[float]) -> float:
    """The standard error of the difference of two medians, from the noise from row to row."""
    # A median is a quarter less sure than a mean.
    return 1.25 * _noise(values) * math.sqrt(2.0 / LEVEL_ROWS)


def _noise(values: list[float]) -> float:
    """The standard deviation from row to row."""
    return MAD_TO_SIGMA * median([abs(b - a) for a, b in pairwise(values)]) / math.sqrt(2.0)
