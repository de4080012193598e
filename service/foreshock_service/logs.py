"""Logging: set up once by the process, and kept readable when one failure repeats."""

from __future__ import annotations

import logging
import threading
import time

REPEAT_SECONDS = 60.0
"""A failure that goes on is written this often: enough to be seen, too little to fill a disk."""


def set_up_logging(*, verbose: bool = False) -> None:
    """Write log lines to stderr; called once, by the process that owns it."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # One line a request would drown the lines that matter; uvicorn's own errors still show.
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)


class RepeatedFailure:
    """Logs a failure at once, and then at most once a minute with the number it stands for."""

    def __init__(self, logger: logging.Logger, *, every_seconds: float = REPEAT_SECONDS) -> None:
        self._logger = logger
        self._every_seconds = every_seconds
        self._next_at = 0.0
        self._held_back = 0
        self._lock = threading.Lock()

    def log(self, message: str, error: BaseException) -> None:
        """Report `error`, with its traceback when it is written."""
        with self._lock:
            now = time.monotonic()
            if now < self._next_at:
                self._held_back += 1
                return
            held_back, self._held_back = self._held_back, 0
            self._next_at = now + self._every_seconds
        more = f" ({held_back} more since the last such line)" if held_back else ""
        self._logger.error("%s: %s%s", message, error, more, exc_info=error)
