"""How long a condition has held for each series, counted in measured rows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foreshock_service.detectors.layout import Layout
from foreshock_service.detectors.row import Bools, any_of

RARE_ROWS: Final = 6
"""Measured rows that are enough of a tensor which is not measured on each."""


class Streaks:
    """Rows in a row, and the step of the first of them, per series; survives schema changes."""

    def __init__(self) -> None:
        self.rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.since: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._age: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._keys: tuple[tuple[str, str], ...] = ()
        self._measured: Bools = np.zeros(0, np.bool_)
        self._running = False
        self._pending: dict[tuple[Any, Any], list[Any]] = {}

    def update(self, layout: Layout, *, holds: Bools, measured: Bools, step: int) -> None:
        """Count a row; series that were not measured keep their count."""
        self.align(layout)
        self._measured = measured
        if not self._running and not any_of(holds):
            return
        holds = measured & holds
        if not self._running and not any_of(holds):
            return
        begun = holds & (self.rows == 0)
        self.since[begun] = step
        self.rows[measured & ~holds] = 0
        self.rows += holds
        self._age = np.where(self.rows > 0, self._age + 1, 0)
        self._running = bool(self.rows.any())

    @property
    def running(self) -> bool:
        """Whether any streak runs; those of a restored state that wait for a schema do."""
        return self._running or bool(self._pending)

    def lasting(self, rows: int) -> Bools:
        """Series that were measured on this row and whose streak is at least `rows` long."""
        return np.asarray(self._measured & (self.rows >= rows))

    def lasting_or_rare(self, rows: int) -> Bools:
        """The same of tensors that are not measured on each row: then `RARE_ROWS` measured ones are
        enough that span as many rows of the run. They lie further apart, and say as much."""
        rare = (self.rows >= RARE_ROWS) & (self._age >= rows)
        return self.lasting(rows) | (self._measured & rare)

    def state(self) -> list[list[Any]]:
        """The running streaks as [kind, name, rows, since, age]; few, so the state stays small."""
        kept = list(self._pending.values())
        return kept + [
            [*self._keys[i], int(self.rows[i]), int(self.since[i]), int(self._age[i])]
            for i in np.flatnonzero(self.rows)
        ]

    def restore(self, state: Any) -> None:
        """Take up a state; streaks find their place when the next row brings a schema."""
        self._keys = ()
        self.rows, self.since, self._age = (np.zeros(0, np.int64) for _ in range(3))
        self._pending = {(item[0], item[1]): list(item) for item in state}

    def align(self, layout: Layout) -> None:
        """Follow the schema of the row; called before the arrays are read without an update."""
        if self._keys is layout.keys:
            return
        running = {(item[0], item[1]): item for item in self.state()}
        self._keys = layout.keys
        self.rows = np.zeros(layout.num_series, np.int64)
        self.since = np.zeros(layout.num_series, np.int64)
        self._age = np.zeros(layout.num_series, np.int64)
        self._pending, self._running = {}, False
        if not running:
            return
        place = {key: i for i, key in enumerate(layout.keys)}
        for key, item in running.items():
            index = place.get(key)
            if index is not None:
                self.rows[index], self.since[index] = int(item[2]), int(item[3])
                # An older version kept no age: at least its measured rows have passed.
                self._age[index] = int(item[4] if len(item) > 4 else item[2])
                self._running = True
