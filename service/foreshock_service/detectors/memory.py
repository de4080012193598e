"""Numbers that a rule remembers of each series from row to row."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock_service.detectors.layout import Layout
from foreshock_service.detectors.row import Floats


class SeriesMemory:
    """Named arrays [series] in the order of the newest schema, NaN for series not seen before.

    Series are matched by kind and name, so that a changed schema moves no number to a neighbour.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._keys: tuple[tuple[str, str], ...] = ()
        self._values: dict[str, Floats] = {name: np.zeros(0) for name in names}

    def align(self, layout: Layout) -> None:
        """Follow the schema of the row; called before the arrays are used."""
        if layout.keys is self._keys or layout.keys == self._keys:
            self._keys = layout.keys
            return
        old = {key: i for i, key in enumerate(self._keys)}
        source = np.array([old.get(key, -1) for key in layout.keys], np.int64)
        known = source >= 0
        for name, values in self._values.items():
            moved = np.full(layout.num_series, np.nan)
            moved[known] = values[source[known]]
            self._values[name] = moved
        self._keys = layout.keys

    def __getitem__(self, name: str) -> Floats:
        return self._values[name]

    def __setitem__(self, name: str, values: Floats) -> None:
        self._values[name] = values

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {"keys": [list(key) for key in self._keys], "values": dict(self._values)}

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._keys = tuple((kind, name) for kind, name in state["keys"])
        self._values = {name: state["values"][name].copy() for name in self._names}
