"""How well a loss recovers each time that it rises: one number a rise.

A rise begins where the median of 5 losses stands above the lowest one since the last rise by half
of the progress (from the first losses to the lowest of all) and by 15 %, 40 rows after the last
rise at the earliest. Its recovery is the median of the losses of its rows 20 to 40: the same place
in the course of every task.
"""

from __future__ import annotations

import math
from typing import Any, Final

from foreshock_service.detectors.window import Window, median

_LEVEL_ROWS: Final = 5
_START_ROWS: Final = 10
RECOVERY_ROWS: Final = (20, 40)
MAX_KEPT: Final = 8


class Recoveries:
    """Reads losses, keeps the newest eight recoveries."""

    def __init__(self, *, rise: float, of_level: float) -> None:
        self._rise, self._of_level = rise, of_level
        self._start = Window(_START_ROWS)
        self._recent = Window(_LEVEL_ROWS)
        self._course: list[float] = []
        self._rows = -1
        """Since the rise began; -1 before the first."""
        self._low = math.inf
        self._lowest = math.inf
        self.levels: list[float] = []

    def push(self, loss: float | None) -> None:
        """The next row's loss."""
        if loss is None or not math.isfinite(loss):
            return
        self._recent.add(loss)
        if len(self._start) < _START_ROWS:
            self._start.add(loss)
            return
        level = self._recent.median()
        if self._rows >= 0:
            self._follow(loss)
        if self._is_rise(level):
            self._rows, self._low, self._course = 0, level, []
        self._low = min(self._low, level)
        self._lowest = min(self._lowest, level)

    @property
    def start(self) -> float:
        """The level of the first losses, NaN before there are any."""
        return self._start.median()

    @property
    def progress(self) -> float:
        """From the first losses to the lowest level."""
        return max(self._start.median() - self._lowest, 0.0) if len(self._start) else 0.0

    def _is_rise(self, level: float) -> bool:
        if 0 <= self._rows < RECOVERY_ROWS[1] or not math.isfinite(self._low):
            return False
        if level - self._low <= self._of_level * abs(self._low):
            return False
        return level - self._low > self._rise * self.progress > 0

    def _follow(self, loss: float) -> None:
        self._rows += 1
        first, last = RECOVERY_ROWS
        if first < self._rows <= last:
            self._course.append(loss)
        if self._rows == last:
            self.levels = [*self.levels, median(self._course)][-MAX_KEPT:]
            self._course = []

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {
            "start": self._start.state(),
            "recent": self._recent.state(),
            "course": list(self._course),
            "numbers": [self._rows, self._low, self._lowest],
            "levels": list(self.levels),
        }

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._start.restore(state["start"])
        self._recent.restore(state["recent"])
        self._course = [float(v) for v in state["course"]]
        rows, low, lowest = state["numbers"]
        self._rows, self._low, self._lowest = int(rows), float(low), float(lowest)
        self.levels = [float(v) for v in state["levels"]]
