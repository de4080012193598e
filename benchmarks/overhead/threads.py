"""The CPU time of every thread of this process, charged to whoever started it.

A watched training works in the background too. Reading each thread's own clock charges that work to
its cause, whenever it runs, so that trainings can take turns step by step.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")


class ThreadLedger:
    """Charges threads by first sight: a thread belongs to the owner whose turn it was."""

    def __init__(self) -> None:
        self._main = threading.get_native_id()
        self._owners: dict[int, str] = {}
        self._seconds: dict[int, float] = {}

    def claim(self, owner: str) -> None:
        """Give every thread that nobody owns to `owner`, and read all clocks."""
        for task in _TASKS.iterdir():
            thread = int(task.name)
            if thread != self._main:
                self._owners.setdefault(thread, owner)
        for thread in self._owners:
            self._read(thread)

    def seconds(self) -> dict[str, float]:
        """CPU seconds of each owner's threads so far, those that have ended included."""
        totals: dict[str, float] = defaultdict(float)
        for thread, owner in self._owners.items():
            self._read(thread)
            totals[owner] += self._seconds.get(thread, 0.0)
        return totals

    def _read(self, thread: int) -> None:
        # What pthread_getcpuclockid computes; unlike that it is safe for a thread that has ended.
        clock = (~thread << 3) | 6
        with suppress(OSError):
            self._seconds[thread] = time.clock_gettime(clock)
