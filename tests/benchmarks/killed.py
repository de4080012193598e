"""Owns two busy processes until it is killed: `python -m tests.benchmarks.killed`."""

from __future__ import annotations

import os
import signal
import sys

from benchmarks.processes import processes


def work_for_ever() -> None:
    """Say who works, and do not come back."""
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    with processes(2) as pool:
        pool.submit(work_for_ever)
        pool.submit(work_for_ever).result()
