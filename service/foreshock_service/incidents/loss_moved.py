"""Whether, and at which step, the loss moved: a defined event, so that a lead is a fact.

The loss has moved at the first of 3 rows among 5 whose loss is above B + max(6 sigma, 15 % of |B|),
at the first that is not finite, or, for a loss that rises slowly inside its noise, at the first row
above B + max(2 sigma, 5 % of |B|) of the last 16, once their median is above that.

B is the median of the last 20 losses before the incident's onset, and lower if the loss fell
further after it: in a slow fault the rest of the model goes on learning, and what is lost is lost
from the best level. sigma is 1.4826 times the median absolute residual of a line through the last
40 losses that made B. Fewer than 8 losses before the onset make no B: then the loss can't be said
to have moved, unless it is no number any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

LEVEL_ROWS: Final = 20
LINE_ROWS: Final = 40
MIN_ROWS: Final = 8
SIGMAS: Final = 6.0
SHARE: Final = 0.15
SLOW_ROWS: Final = 16
SLOW_SIGMAS: Final = 2.0
SLOW_SHARE: Final = 0.05
OF_LAST: Final = 5
ROWS: Final = 3


@dataclass(slots=True)
class LossWatch:
    """Compares each loss with the level before the onset."""

    level: float | None
    bar: float
    recent: list[float]
    """The losses that make the level, oldest first."""
    slow_bar: float
    last: list[tuple[int, float]]
    """The last rows, (step, loss)."""
    above: list[int | None]
    """The steps of those among the last rows that were above the bar, None for the others."""

    @classmethod
    def before(cls, losses: Sequence[float]) -> LossWatch:
        """From the losses before the onset, oldest first."""
        watch = cls(
            None, math.inf, [x for x in losses[-LINE_ROWS:] if math.isfinite(x)], math.inf, [], []
        )
        watch._take_level()
        return watch

    def push(self, loss: float, step: int) -> int | None:
        """The step at which the loss moved, once it is known."""
        if not math.isfinite(loss):
            return step
        if self.level is None:
            return None
        above = loss > self.bar
        self.above = [*self.above[-(OF_LAST - 1) :], step if above else None]
        if not above:
            self.recent = [*self.recent[-(LINE_ROWS - 1) :], loss]
            self._take_level()
        steps = [s for s in self.above if s is not None]
        return steps[0] if len(steps) >= ROWS else self._rose_slowly(step, loss)

    def replay(self, rows: Iterable[tuple[int, float]]) -> int | None:
        """The same over rows (step, loss) that lie behind."""
        for step, loss in rows:
            moved = self.push(loss, step)
            if moved is not None:
                return moved
        return None

    def follow(self, loss: float, step: int) -> None:
        """Take in a loss of a run whose loss has moved."""
        self.last = [*self.last[-(SLOW_ROWS - 1) :], (step, loss)]

    @property
    def has_returned(self) -> bool:
        """Whether the level of the last 16 rows is what it was, and not one of them by chance."""
        losses = [loss if math.isfinite(loss) else math.inf for _, loss in self.last]
        return len(losses) == SLOW_ROWS and float(np.median(losses)) <= self.slow_bar

    def is_back(self, loss: float) -> bool:
        """Whether a loss is inside the bar again."""
        return math.isfinite(loss) and (self.level is None or loss <= self.bar)

    def state(self) -> list[Any]:
        """Everything that `from_state` needs."""
        last = [list(pair) for pair in self.last]
        return [self.level, self.bar, list(self.recent), self.slow_bar, last, list(self.above)]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> LossWatch:
        """Take up a state."""
        level, bar, recent, slow_bar, last, above = state
        pairs = [(int(step), float(loss)) for step, loss in last]
        return cls(level, float(bar), list(recent), float(slow_bar), pairs, list(above))

    def _rose_slowly(self, step: int, loss: float) -> int | None:
        self.follow(loss, step)
        if len(self.last) < SLOW_ROWS:
            return None
        if float(np.median([x for _, x in self.last])) <= self.slow_bar:
            return None
        return next(s for s, x in self.last if x > self.slow_bar)

    def _take_level(self) -> None:
        if len(self.recent) < MIN_ROWS:
            return
        level = float(np.median(self.recent[-LEVEL_ROWS:]))
        if self.level is not None and level >= self.level:
            return
        values = np.array(self.recent, np.float64)
        rows = np.arange(values.size, dtype=np.float64)
        rows -= rows.mean()
        slope = float((rows * (values - values.mean())).sum() / (rows * rows).sum())
        residual = values - slope * rows
        residual -= np.median(residual)
        sigma = 1.4826 * float(np.median(np.abs(residual)))
        self.level, self.bar = level, level + max(SIGMAS * sigma, SHARE * abs(level))
        self.slow_bar = level + max(SLOW_SIGMAS * sigma, SLOW_SHARE * abs(level))
