"""Numbers that were the same to the bit while they changed, and no longer are.

Two numbers of a training that move, and stay equal to the last bit for rows on end, are one number
kept twice: a weight of two replicas, a norm that two ranks log. What was never so says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Copy:
    """One number and its copies: on how many rows all were equal and had changed, and for how many
    they have been apart, since which step."""

    value: float
    rows: int = 0
    apart: int = 0
    since: int = 0


class Copies:
    """Follows named numbers, each with its copies. One that is not equal before it was for
    `settled_rows` is followed no more, so that what are no copies costs nothing."""

    def __init__(self, settled_rows: int) -> None:
        self._settled_rows = settled_rows
        self._known: dict[str, _Copy] = {}
        self._others: set[str] = set()

    def follow(self, numbers: Mapping[str, Sequence[float]], step: int) -> None:
        """Take in the numbers of a row; the first of each is the original."""
        for name, values in numbers.items():
            if name in self._others or len(values) < 2:
                continue
            first = values[0]
            equal = all(value == first for value in values)
            copy = self._known.get(name)
            if copy is None:
                copy = self._known[name] = _Copy(first)
            if equal:
                copy.rows += first != copy.value
                copy.apart = 0
            elif copy.rows < self._settled_rows:
                del self._known[name]
                self._others.add(name)
                continue
            else:
                copy.since = copy.since if copy.apart else step
                copy.apart += 1
            copy.value = first

    def follows(self, name: str) -> bool:
        """Whether it may still be one of several copies."""
        return name not in self._others

    def apart(self, rows: int) -> dict[str, int]:
        """Those that have been apart for so many rows, and since which step."""
        return {name: copy.since for name, copy in self._known.items() if copy.apart >= rows}

    def state(self) -> Any:
        """Everything that `restore` needs."""
        return {
            "known": {n: [c.value, c.rows, c.apart, c.since] for n, c in self._known.items()},
            "others": sorted(self._others),
        }

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._known = {
            name: _Copy(float(value), int(rows), int(apart), int(since))
            for name, (value, rows, apart, since) in state["known"].items()
        }
        self._others = set(state["others"])
