"""Whether tensors have joined those that a median or a norm is of, as layers that thaw do."""

from __future__ import annotations

from typing import Any, Final

JOINED: Final = 1.25
"""Times as many as ever before: less than that are experts that come and go."""


class Membership:
    """How many tensors there were on a row at the most. A median or a norm of more is one of
    others, and what it was before is no measure of it."""

    def __init__(self) -> None:
        self._most = 0

    def grows(self, num: int) -> bool:
        """Take in that of the row; whether so many have joined that levels begin anew."""
        before, self._most = self._most, max(self._most, num)
        return 0 < JOINED * before < self._most

    def state(self) -> int:
        """The number."""
        return self._most

    def restore(self, state: Any) -> None:
        """Take up a state."""
        self._most = int(state)
