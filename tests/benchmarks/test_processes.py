"""The processes of a benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_they_end_with_the_one_that_started_them() -> None:
    """Killed without a chance to tell them, at work: what they print to is held by nobody."""
    command = [sys.executable, "-m", "tests.benchmarks.killed"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        workers = [int(owner.stdout.readline()) for _ in range(2)]
        owner.kill()
        try:
            assert owner.stdout.read() == ""
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
