"""Losses that are all larger than any before them: a rise that is told whatever the noise."""

from __future__ import annotations

from typing import Any

from foreshock_service.detectors.window import Window, median


class BeyondAll:
    """The newest losses against those before them.

    Of losses in any order the largest few come last once in very many rows, whatever they are
    distributed like: for 7 of 55 once in 200 million.
    """

    def __init__(self, *, newest: int, before: int) -> None:
        self._num_newest = newest
        self._losses = Window(newest + before)
        self._steps = Window(newest)
        self._told = 0.0

    def add(self, loss: float, step: int) -> None:
        """Take in the loss of the next row."""
        self._losses.add(loss)
        self._steps.add(step)

    def rise(self, calm: float, *, least: float, again: float) -> float | None:
        """How far the newest losses lie above `calm`, in the median, if all of them are above the
        largest before and that is more than `least`, and `again` times what was told last. It is
        told then."""
        losses = self._losses.values()
        if losses[-1] <= losses[0]:
            return None  # As on half of all rows: no need to look for the largest.
        newest, before = losses[-self._num_newest :], losses[: -self._num_newest]
        if len(losses) < self._losses.size or min(newest) <= max(before):
            return None
        rise = median(newest) - calm
        if rise <= max(least, again * self._told):
            return None
        self._told = rise
        return rise

    @property
    def since(self) -> int:
        """The step of the first of the newest losses."""
        return int(self._steps[0])

    def state(self) -> Any:
        """Everything that `restore` needs."""
        return [self._losses.state(), self._steps.state(), self._told]

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._losses.restore(state[0])
        self._steps.restore(state[1])
        self._told = float(state[2])
