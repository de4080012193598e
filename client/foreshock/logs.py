"""The client's log: one logger that never raises, and a bound on how often a lasting failure is
told."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Any, Final


class _HarmlessLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers may fail: a closed stderr, a full disk or a broken formatter of the
    user's must not raise into training."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Pass a message on; every other method of a logger comes here as well."""
        # Beyond this method, so that a record names the line that had something to say.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        with suppress(Exception):
            super().log(level, msg, *args, **kwargs)


logger: Final = _HarmlessLogger(logging.getLogger("foreshock"), {})


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
