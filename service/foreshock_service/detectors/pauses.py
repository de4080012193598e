"""How long each series has paused, held against the longest pause that it came back from."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock_service.detectors.layout import Layout
from foreshock_service.detectors.memory import SeriesMemory
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.row import Bools, any_of
from foreshock_service.detectors.siblings import sibling_groups
from foreshock_service.detectors.streak import Streaks


class Pauses:
    """Streaks of a condition that a series may show now and then, and its habit of doing so."""

    def __init__(self) -> None:
        self.streaks = Streaks()
        self._longest = SeriesMemory("rows")
        self._groups = PerLayout(sibling_groups)

    def update(self, layout: Layout, *, pauses: Bools, measured: Bools, step: int) -> None:
        """Count a row; series that were not measured keep their count."""
        if self.streaks.running:
            self.streaks.align(layout)
            self._longest.align(layout)
            ended = measured & ~pauses & (self.streaks.rows > 0)
            if any_of(ended):
                longest = np.fmax(self._longest["rows"], self.streaks.rows)
                self._longest["rows"] = np.where(ended, longest, self._longest["rows"])
        self.streaks.update(layout, holds=pauses, measured=measured, step=step)

    def unusual(self, layout: Layout, *, rows: int, factor: float) -> Bools:
        """Series whose pause is at least `rows` long, and `factor` times the longest one of theirs
        or of a sibling, as routed experts have."""
        lasting = self.streaks.lasting(rows)
        if not any_of(lasting):
            return lasting
        self._longest.align(layout)
        habit = np.fmax(self._longest["rows"], 0.0)
        longest = habit.copy()
        for group in self._groups.of(layout).values():
            habit[group] = np.maximum(habit[group], longest[group].max())
        return np.asarray(lasting & (self.streaks.rows >= factor * habit))

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {"streaks": self.streaks.state(), "longest": self._longest.state()}

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self.streaks.restore(state["streaks"])
        self._longest.restore(state["longest"])
