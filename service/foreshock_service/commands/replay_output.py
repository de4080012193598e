"""What `foreshock replay` says: sentences, its progress on stderr, JSON in a file or on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TextIO

from foreshock_service.clipping.account import CANNOT_TELL
from foreshock_service.domain.incidents import IncidentChange
from foreshock_service.incidents.comparison import compare
from foreshock_service.incidents.notification import NOTIFIED, notification
from foreshock_service.pipeline.clipping import ShadowReport
from foreshock_service.pipeline.replay import Replayed, RunReplay

OTHER_VERSION: Final = (
    "another version or configuration of detection recorded them, or something that frames do not "
    "tell"
)
WORST_TENSORS: Final = 3


class ReplayOutput:
    """Where the words of a replay go; it adds up the alerts of all runs."""

    def __init__(self, lines: TextIO, notes: TextIO) -> None:
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal's encoding lacks must not end the replay.
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="backslashreplace")
        self._lines, self._notes = lines, notes
        self._num_runs = self._num_steps = self._before = self._after = 0
        self._on_terminal = notes.isatty()

    @contextmanager
    def notifications(
        self, path: str | None
    ) -> Iterator[Callable[[str, int, IncidentChange], None]]:
        """What takes the changes of the new configuration, and writes those that call a person.

        Raises:
            OSError: the file cannot be written.
        """
        if path is None:
            yield lambda _run, _rank, _change: None
            return
        with ExitStack() as stack:
            file = sys.stdout
            if path != "-":
                file = stack.enter_context(Path(path).open("w", encoding="utf-8"))

            def write(run: str, rank: int, change: IncidentChange) -> None:
                if change.transition in NOTIFIED:
                    line = json.dumps({**notification(run, change), "rank": rank}, allow_nan=False)
                    file.write(line + "\n")

            yield write

    def at(self, run_id: str, rank: int, num_frames: int) -> None:
        """Where the replay is; nothing is drawn where stderr is no terminal."""
        if self._on_terminal:
            self._notes.write(f"\r\x1b[K{run_id}, rank {rank}: {num_frames} frames")
            self._notes.flush()

    def replayed(self, replay: RunReplay, config: str | None) -> None:
        """One run; `config` is what the new configuration is called, None without one."""
        before, after = replay.replayed[0], replay.replayed[-1]
        self._num_runs += 1
        self._num_steps += before.num_steps
        self._before += len(before.incidents)
        self._after += len(after.incidents)
        named = "" if replay.name == replay.run_id else f" ({replay.name})"
        ranks = "" if len(replay.ranks) < 2 else f" on {len(replay.ranks)} ranks"
        self._say(f"{replay.run_id}{named}: {_count(before.num_steps, 'step')}{ranks}")
        self._recorded(replay)
        self._say(f"  in force: {_alerts(before)}")
        if config is None:
            return
        self._say(f"  {config}: {_alerts(after)}")
        difference = compare(before.incidents, after.incidents)
        for text in difference.sentences():
            self._say(f"    {text}")
        if difference.is_equal:
            self._say("    No incident is gained, lost or changed.")

    def budget(self, budget: float) -> int:
        """The line at the end; 1 if the new configuration alerts more often than accepted."""
        rate = _rate(self._after, self._num_steps)
        kept = rate <= budget
        runs = f"{_count(self._num_runs, 'run')}, {_count(self._num_steps, 'step')}"
        self._say(
            f"{runs}: {_rate(self._before, self._num_steps):.3g} alerts per 1000 steps before, "
            f"{rate:.3g} after; the budget of {budget:g} is {'kept' if kept else 'exceeded'}."
        )
        return 0 if kept else 1

    def clipped(self, run_id: str, report: ShadowReport) -> None:
        """What each rule would have done to one run."""
        self._say(f"{run_id}: {_count(report.num_frames, 'frame')} of rank {report.rank}")
        notes: dict[str, list[str]] = {}
        for result in report.results:
            self._say(f"  {result.sentence}")
            if result.tensors:
                worst = [f"{t.name} ({t.num_steps})" for t in result.tensors[:WORST_TENSORS]]
                self._say(f"    most often: {', '.join(worst)}")
            for text in result.approximate:
                notes.setdefault(text, []).append(result.algorithm)
        for text, algorithms in notes.items():
            self._say(f"  {', '.join(algorithms)}: {text}.")
        self._say(f"  {CANNOT_TELL}")

    def empty(self, run_id: str) -> None:
        """A run that has sent nothing."""
        self._say(f"{run_id}: no frames")

    def refuse(self, reason: str) -> int:
        """Say why nothing comes of it."""
        self._clear()
        self._notes.write(f"foreshock replay: {_shown(reason)}\n")
        return 2

    def _recorded(self, replay: RunReplay) -> None:
        recorded = replay.recorded
        difference = compare(recorded.incidents, replay.replayed[0].incidents)
        count = _count(len(recorded.incidents), "incident")
        if difference.is_equal:
            self._say(f"  recorded: {count}; the one in force finds the same")
            return
        reasons = "; ".join(recorded.reasons) or OTHER_VERSION
        self._say(f"  recorded: {count}; the one in force differs: {reasons}")
        for text in difference.sentences():
            self._say(f"    {text}")

    def _say(self, text: str) -> None:
        self._clear()
        self._lines.write(_shown(text) + "\n")
        self._lines.flush()

    def _clear(self) -> None:
        if self._on_terminal:
            self._notes.write("\r\x1b[K")
            self._notes.flush()


def _alerts(replayed: Replayed) -> str:
    count = _count(len(replayed.incidents), "incident")
    return f"{count}, {replayed.alerts_per_1000:.3g} alerts per 1000 steps"


def _rate(alerts: int, steps: int) -> float:
    return 1000.0 * alerts / steps if steps else 0.0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shown(text: str) -> str:
    """On one line, and without what would steer a terminal: names come from people's runs."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
