"""The guard: nothing that Foreshock does raises into training, and its time is accounted for."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final, ParamSpec

from foreshock.logs import logger

_P = ParamSpec("_P")
_MAX_PARTS: Final = 256
"""Beyond it failures are only counted: a loop may make up a new name for a bad scalar each step."""


_VITAL: Final = frozenset({"step", "frame"})
"""Without these nothing that is measured can be sent."""
_ENDING: Final = frozenset(
    {"note", "change", "checkpoint", "exception", "events", "hooks", "close"}
)
"""Parts that still work then: they tell what happened, and end the run."""


class _Thread(threading.local):
    """Whether this thread is inside a part."""

    inside = False


class Guard:
    """Runs parts of the monitor; a part that raises is switched off, logged once and reported.
    When a part fails without which no frame is made, measuring ends as a whole.

    `seconds` is the wall time that the training spent in parts, each counted once however deeply
    parts call one another; those of autograd's threads, in which a backward pass on a device runs
    its hooks, are the training's time too, because the training waits for them. Work that a part
    only launches on a device is not in it. `dead` stops every part, which is how a forked child is
    kept quiet.
    """

    def __init__(self, report: Callable[[str, Exception], None]) -> None:
        self._report = report
        self._disabled: set[str] = set()
        self._thread = _Thread()
        self._lock = threading.Lock()
        self.num_errors = 0
        self.seconds = 0.0
        self.dead = False
        self._measuring = True

    def run(
        self, part: str, action: Callable[_P, object], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Do `action` as `part`, unless that part has failed before."""
        if self.dead or part in self._disabled:
            return
        if not self._measuring and part not in _ENDING:
            return
        thread = self._thread
        outermost, started = not thread.inside, time.perf_counter()
        thread.inside = True
        try:
            action(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # it is logged, as text
            with self._lock:
                self.num_errors += 1
            if self._switch_off(part):
                # As text: whoever keeps the record must not keep the tensors of its frames.
                trace = traceback.format_exc().rstrip()
                logger.error("%s failed and is switched off; training goes on\n%s", part, trace)
                with suppress(Exception):  # the way to the service may be what has failed
                    self._report(part, error)
        finally:
            if outermost:
                thread.inside = False
                with self._lock:
                    self.seconds += time.perf_counter() - started

    def _switch_off(self, part: str) -> bool:
        """Whether to tell of it."""
        if part in _VITAL:
            self._measuring = False
        elif len(self._disabled) >= _MAX_PARTS:
            return False
        self._disabled.add(part)
        return True
