"""The client's log: one logger, and a bound on how often a lasting failure is told."""

from __future__ import annotations

import logging
import time
from typing import Final

logger: Final = logging.getLogger("foreshock")


class OncePer:
    """Lets a message of one key through once in `seconds`, so that a lasting failure is told and
    does not fill the disk."""

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def due(self, key: str) -> bool:
        """Whether to tell `key` now; says yes at most once in the period."""
        now = time.monotonic()
        last = self._last.get(key)
        if last is not None and now - last < self._seconds:
            return False
        self._last[key] = now
        return True
