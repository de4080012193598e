"""How long a condition has held for each series, counted in measured rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from foreshock_service.detectors.layout import Layout
from foreshock_service.detectors.row import Bools


class Streaks:
    """Rows in a row, and the step of the first of them, per series; survives schema changes."""

    def __init__(self) -> None:
        self.rows: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.since: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._keys: tuple[tuple[str, str], ...] = ()

    def update(self, layout: Layout, *, holds: Bools, measured: Bools, step: int) -> None:
        """Count a row; series that were not measured keep their count."""
        self._align(layout)
        begun = measured & holds & (self.rows == 0)
        self.since[begun] = step
        self.rows[measured & holds] += 1
        self.rows[measured & ~holds] = 0

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {"rows": self.rows, "since": self.since, "keys": [list(k) for k in self._keys]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state."""
        self.rows, self.since = state["rows"].copy(), state["since"].copy()
        self._keys = tuple((kind, name) for kind, name in state["keys"])

    def _align(self, layout: Layout) -> None:
        if self._keys is layout.keys:
            return
        if self._keys != layout.keys:
            old = {key: i for i, key in enumerate(self._keys)}
            source = np.array([old.get(key, -1) for key in layout.keys], np.int64)
            known = source >= 0
            for name in ("rows", "since"):
                moved = np.zeros(layout.num_series, np.int64)
                moved[known] = getattr(self, name)[source[known]]
                setattr(self, name, moved)
        self._keys = layout.keys
