"""A watchdog's process for tests that kill it: looks until it is killed.

Usage: python -m tests.silent_client.worker URL SECONDS

Its clock begins at SECONDS since the epoch and goes on by 50 s a round.
"""

from __future__ import annotations

import sys
import time

from foreshock_service.pipeline.watchdog import Watchdog
from foreshock_service.store.session import Store

from tests.detect.runs import settings_with_webhook

ROUND_SECONDS = 50.0


def main() -> None:
    """Rounds without a pause to speak of."""
    now = float(sys.argv[2])

    def clock() -> float:
        nonlocal now
        now += ROUND_SECONDS
        return now

    watchdog = Watchdog(Store(sys.argv[1]), settings_with_webhook(), clock=clock)
    while True:
        watchdog.run_once()
        time.sleep(0.002)


if __name__ == "__main__":
    main()
