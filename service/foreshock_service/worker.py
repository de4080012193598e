"""The background stages of a process: each is a thread that survives its failures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from foreshock_service.logs import RepeatedFailure

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 15.0
"""A stage gets this long to finish its unit of work; what it has not committed is done again."""
LONGEST_FAILING_SECONDS: Final = 30.0
"""A stage that goes on failing is tried this often, so that it returns soon after its cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: `run_once` does what there is to do and returns how much that was.

    The next round follows at once while there is work, and after `interval_seconds` when not.
    """

    name: str
    run_once: Callable[[], int]
    interval_seconds: float


class Worker:
    """Runs the stages of one process."""

    def __init__(
        self, stages: list[Stage], *, on_work: Callable[[str], None] | None = None
    ) -> None:
        self._stop = threading.Event()
        self._on_work = on_work
        self._threads = {
            stage.name: threading.Thread(
                target=self._run, args=(stage,), name=f"foreshock-{stage.name}", daemon=True
            )
            for stage in stages
        }

    def start(self) -> None:
        """Start every stage."""
        for thread in self._threads.values():
            thread.start()

    def stop(self) -> None:
        """Ask every stage to end after its unit of work, and wait for it."""
        self._stop.set()
        for name, thread in self._threads.items():
            thread.join(STOP_SECONDS)
            if thread.is_alive():
                logger.warning("stage %s did not end in %.0f s; left behind", name, STOP_SECONDS)

    def stopped_stages(self) -> list[str]:
        """Names of the stages that do not run."""
        return [name for name, thread in self._threads.items() if not thread.is_alive()]

    def _run(self, stage: Stage) -> None:
        failure = RepeatedFailure(logger)
        pause = stage.interval_seconds
        while not self._stop.is_set():
            try:
                done = stage.run_once()
            except Exception as error:  # noqa: BLE001 - a stage outlives whatever happens to it
                failure.log(f"stage {stage.name} failed and will be tried again", error)
                pause = min(max(pause, 0.1) * 2, LONGEST_FAILING_SECONDS)
                self._stop.wait(pause)
                continue
            pause = stage.interval_seconds
            if done and self._on_work is not None:
                self._on_work(stage.name)
            if not done:
                self._stop.wait(pause)
