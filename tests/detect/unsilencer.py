"""A process that tells what silences withheld, for a test that kills it.

Usage: python -m tests.detect.unsilencer URL NOW
"""

from __future__ import annotations

import sys

from foreshock_service.pipeline.unsilence import unsilence_once
from foreshock_service.store.session import Store

from tests.detect.runs import settings_with_webhook


def main() -> None:
    """Round after round until nothing is due, from the moment that it says it is ready."""
    store = Store(sys.argv[1])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while unsilence_once(store, settings_with_webhook(), float(sys.argv[2])):
        pass


if __name__ == "__main__":
    main()
