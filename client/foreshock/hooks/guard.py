"""The guard: nothing that Foreshock does raises into training, and its time is accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, ParamSpec

from foreshock.logs import logger

_P = ParamSpec("_P")
_MAX_PARTS: Final = 256
"""Beyond it failures are only counted: a loop may make up a new name for a bad scalar each step."""


class Guard:
    """Runs parts of the monitor; a part that raises is switched off, logged once and reported.

    `seconds` is the training thread's time spent in parts. `dead` stops every part, which is how a
    forked child is kept quiet.
    """

    def __init__(self, report: Callable[[str, Exception], None]) -> None:
        self._report = report
        self._disabled: set[str] = set()
        self._running = False
        self.num_errors = 0
        self.seconds = 0.0
        self.dead = False

    def run(
        self, part: str, action: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Do `action` as `part`, unless that part has failed before."""
        if self.dead or part in self._disabled:
            return
        outermost, started = not self._running, time.perf_counter()
        self._running = True
        try:
            action(*args, **kwargs)
        except Exception as error:
            self.num_errors += 1
            if len(self._disabled) < _MAX_PARTS:
                self._disabled.add(part)
                logger.exception("%s failed and is switched off; training goes on", part)
                self._report(part, error)
        finally:
            if outermost:
                self._running = False
                self.seconds += time.perf_counter() - started
