"""A detection process for tests that kill it: works until it is killed or nothing is left.

Usage: python -m tests.detect.worker URL FRAMES_A_COMMIT
"""

from __future__ import annotations

import sys
import time

from foreshock_service.pipeline import detect
from foreshock_service.store.detection import backlogs
from foreshock_service.store.session import Store

from tests.detect.runs import settings_with_webhook


def main() -> None:
    """Read everything, in small commits, under a lease that a killed worker loses at once."""
    store = Store(sys.argv[1])
    worker = detect.Detection(
        store,
        settings_with_webhook(),
        lease_seconds=0.05,
        frames_a_commit=int(sys.argv[2]),
    )
    while True:
        done = worker.run_once()
        with store.read() as session:
            if not backlogs(session):
                return
        if not done:
            time.sleep(0.01)


if __name__ == "__main__":
    main()
