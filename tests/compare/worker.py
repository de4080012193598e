"""A comparing process for tests that kill it: works until it is killed or nothing is left.

Usage: python -m tests.compare.worker URL ROWS_A_UNIT
"""

from __future__ import annotations

import sys
import time

from foreshock_service.pipeline.compare import Compare
from foreshock_service.store.session import Store

from tests.detect.runs import settings_with_webhook


def main() -> None:
    """Small units of work, under a lease that a killed worker loses at once."""
    compare = Compare(
        Store(sys.argv[1]),
        settings_with_webhook(),
        lease_seconds=0.05,
        rows_a_unit=int(sys.argv[2]),
    )
    while True:
        compare.run_once()
        time.sleep(0.002)


if __name__ == "__main__":
    main()
